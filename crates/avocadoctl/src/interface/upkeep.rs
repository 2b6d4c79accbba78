//! The types of org.avocado.Runtimes that say what is to be done with the store, and what was.

use std::collections::BTreeMap;

use avocado_manifest::RuntimeId;
use serde::{Deserialize, Serialize};

use super::runtimes::{Runtime, RuntimeInfo, RuntimeRef};

/// `Plan`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    pub(crate) runtime: Runtime,
    pub(crate) staged: bool,
    pub(crate) images: Vec<PlannedImage>,
    pub(crate) fetch_bytes: u64,
    pub(crate) shared_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) reboot: bool,
    pub(crate) relaxed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os_update: Option<OsUpdatePlan>,
}

/// `OsUpdatePlan`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OsUpdatePlan {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) slot: Option<String>,
    pub(crate) artifacts: Vec<PlannedArtifact>,
    pub(crate) problems: Vec<String>,
    pub(crate) notes: Vec<String>,
}

/// `PlannedArtifact`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlannedArtifact {
    pub(crate) name: String,
    pub(crate) partition: String,
    pub(crate) bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partition_bytes: Option<u64>,
}

impl From<avocado_device::OsUpdatePlan> for OsUpdatePlan {
    fn from(plan: avocado_device::OsUpdatePlan) -> Self {
        let artifacts = plan.artifacts.into_iter().map(|artifact| PlannedArtifact {
            name: artifact.name.into(),
            partition: artifact.partition.into(),
            bytes: artifact.bytes,
            partition_bytes: artifact.partition_bytes,
        });
        OsUpdatePlan {
            slot: plan.slot,
            artifacts: artifacts.collect(),
            problems: plan.problems,
            notes: plan.notes,
        }
    }
}

/// `PlannedImage`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlannedImage {
    pub(crate) label: String,
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) fetch_bytes: u64,
    pub(crate) shared: bool,
}

impl From<avocado_device::AddPlan> for Plan {
    fn from(plan: avocado_device::AddPlan) -> Self {
        let images = plan.images.into_iter().map(|image| PlannedImage {
            label: image.label,
            file: image.file,
            bytes: image.bytes,
            fetch_bytes: image.fetch_bytes,
            shared: image.shared,
        });
        Plan {
            runtime: RuntimeRef::new(&plan.manifest, plan.active).into_owned(),
            staged: plan.staged,
            images: images.collect(),
            fetch_bytes: plan.fetch_bytes,
            shared_bytes: plan.shared_bytes,
            disk_bytes: plan.disk_bytes,
            free_bytes: plan.free_bytes,
            reboot: plan.reboot,
            relaxed: plan.relaxed,
            os_update: plan.os_update.map(OsUpdatePlan::from),
        }
    }
}

/// The result of `PlanFromUrl` and `PlanFromManifest`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PlanReply {
    pub(crate) plan: Plan,
}

/// The parameters of `Prune`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PruneParameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dry_run: Option<bool>,
}

/// The result of `Prune`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PruneReply {
    pub(crate) runtimes: Vec<PrunedRuntime>,
    pub(crate) images: Vec<PrunedImage>,
    pub(crate) leftover_bytes: u64,
    pub(crate) freed_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spared: Option<String>,
}

/// `PrunedRuntime`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PrunedRuntime {
    pub(crate) id: String,
    pub(crate) runtime: RuntimeInfo<'static>,
}

/// `PrunedImage`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PrunedImage {
    pub(crate) file: String,
    pub(crate) bytes: u64,
}

impl From<avocado_device::PruneReport> for PruneReply {
    fn from(pruned: avocado_device::PruneReport) -> Self {
        let runtimes = pruned.runtimes.into_iter().map(|runtime| PrunedRuntime {
            id: runtime.id.into(),
            runtime: RuntimeInfo {
                name: runtime.name.into(),
                version: runtime.version.into(),
            },
        });
        let images = pruned.images.into_iter().map(|image| PrunedImage {
            file: image.file,
            bytes: image.bytes,
        });
        PruneReply {
            runtimes: runtimes.collect(),
            images: images.collect(),
            leftover_bytes: pruned.leftover_bytes,
            freed_bytes: pruned.freed_bytes,
            spared: pruned.spared,
        }
    }
}

/// The result of `GarbageCollect`.
#[derive(Debug, Serialize)]
pub(crate) struct GarbageCollectReply {
    result: GcResult,
}

/// `GcResult`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GcResult {
    removed_runtimes: Vec<String>,
    removed_images: Vec<String>,
}

impl From<avocado_device::PruneReport> for GarbageCollectReply {
    fn from(pruned: avocado_device::PruneReport) -> Self {
        let runtimes = pruned.runtimes.into_iter().map(|runtime| runtime.id.into());
        let images = pruned.images.into_iter().map(|image| image.file);
        GarbageCollectReply {
            result: GcResult {
                removed_runtimes: runtimes.collect(),
                removed_images: images.collect(),
            },
        }
    }
}

/// The result of `MetadataList`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetadataListReply {
    pub(crate) entries: Vec<MetadataEntry>,
}

/// `MetadataEntry`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetadataEntry {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl From<BTreeMap<String, String>> for MetadataListReply {
    fn from(all: BTreeMap<String, String>) -> Self {
        let entries = all.into_iter();
        let entries = entries.map(|(key, value)| MetadataEntry { key, value });
        MetadataListReply {
            entries: entries.collect(),
        }
    }
}

/// The result of `MetadataGet`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetadataGetReply {
    pub(crate) value: String,
}

/// `Verification`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verification {
    pub(crate) runtimes: u64,
    pub(crate) images: u64,
    pub(crate) bytes: u64,
    pub(crate) good: bool,
    pub(crate) problems: Vec<Problem>,
}

/// `Problem`.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) runtimes: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

impl From<avocado_device::VerificationReport> for Verification {
    fn from(found: avocado_device::VerificationReport) -> Self {
        Verification {
            runtimes: found.runtimes as u64,
            images: found.images as u64,
            bytes: found.bytes,
            good: found.is_good(),
            problems: found.problems.into_iter().map(Problem::from).collect(),
        }
    }
}

const BRINGS_IT: &str = "adding the runtime again brings it";

impl From<avocado_device::StoreProblem> for Problem {
    fn from(problem: avocado_device::StoreProblem) -> Self {
        use avocado_device::StoreProblem as Found;
        let new = |kind: &str| Problem {
            kind: kind.to_owned(),
            ..Problem::default()
        };
        let ids = |runtimes: Vec<RuntimeId>| Some(runtimes.into_iter().map(String::from).collect());
        let of_image = |kind, file, image, runtimes: Vec<_>| Problem {
            file: Some(file),
            image: Some(image),
            runtimes: ids(runtimes),
            ..new(kind)
        };
        match problem {
            Found::Unreadable { id, why } => Problem {
                runtimes: Some(vec![id]),
                why: Some(why),
                ..new("unreadable")
            },
            Found::Active { why } => Problem {
                why: Some(why),
                ..new("active")
            },
            Found::Missing {
                file,
                image,
                runtimes,
            } => of_image("missing", file, image, runtimes),
            Found::Corrupt {
                file,
                image,
                runtimes,
            } => of_image("corrupt", file, image, runtimes),
            Found::Unreferenced { file } => Problem {
                file: Some(file),
                ..new("unreferenced")
            },
            Found::OsGone { runtimes, why } => Problem {
                runtimes: ids(runtimes),
                why: Some(format!("{why}; {BRINGS_IT}")),
                ..new("os_gone")
            },
            Found::OsUnknown { runtimes, why } => Problem {
                runtimes: ids(runtimes),
                why: Some(format!(
                    "it is not known whether the slot has its OS: {why}"
                )),
                ..new("os_unknown")
            },
            Found::OsReplaced { runtimes } => Problem {
                runtimes: ids(runtimes),
                why: Some(format!(
                    "another OS was written to its slot since; {BRINGS_IT}"
                )),
                ..new("os_replaced")
            },
            // What only a newer device knows.
            other => Problem {
                why: Some(format!("{other:?}")),
                ..new("other")
            },
        }
    }
}
