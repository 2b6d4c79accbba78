//! The types of org.avocado.Runtimes.

use avocado_device::{Listing, RuntimeEntry};
use avocado_events::{Event, Unit};
use avocado_manifest::Manifest;
use serde::{Deserialize, Serialize};

use super::{Plan, Verification};

/// `Runtime` of org.avocado.Runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Runtime {
    pub(crate) id: String,
    pub(crate) manifest_version: i64,
    pub(crate) built_at: String,
    pub(crate) runtime: RuntimeInfo,
    pub(crate) extensions: Vec<ManifestExtension>,
    pub(crate) active: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os_build_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) initramfs_build_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pinned: Option<bool>,
}

/// `UnreadableRuntime` of org.avocado.Runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct UnreadableRuntime {
    pub(crate) id: String,
    pub(crate) why: String,
}

/// `RuntimeInfo` of org.avocado.Runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuntimeInfo {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// `ManifestExtension` of org.avocado.Runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManifestExtension {
    pub(crate) name: String,
    pub(crate) version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image_id: Option<String>,
}

impl From<RuntimeEntry> for Runtime {
    fn from(entry: RuntimeEntry) -> Self {
        Runtime {
            previous: entry.previous.then_some(true),
            pinned: entry.pinned.then_some(true),
            ..Runtime::new(entry.manifest, entry.active)
        }
    }
}

impl Runtime {
    pub(super) fn new(manifest: Manifest, active: bool) -> Self {
        let bundle = manifest.os_bundle;
        let (os_build_id, initramfs_build_id) =
            bundle.map_or((None, None), |b| (b.os_build_id, b.initramfs_build_id));
        let extensions = manifest.extensions.into_iter().map(|e| ManifestExtension {
            name: e.name.into(),
            version: e.version.into(),
            image_id: e.image_id.map(Into::into),
        });
        Runtime {
            id: manifest.id.into(),
            manifest_version: manifest.manifest_version.into(),
            built_at: manifest.built_at,
            runtime: RuntimeInfo {
                name: manifest.runtime.name,
                version: manifest.runtime.version,
            },
            extensions: extensions.collect(),
            active,
            os_build_id,
            initramfs_build_id,
            previous: None,
            pinned: None,
        }
    }

    /// The first eight characters of the id.
    pub(crate) fn short_id(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

/// The result of `List`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) runtimes: Vec<Runtime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unreadable: Option<Vec<UnreadableRuntime>>,
}

impl From<Listing> for Listed {
    fn from(listing: Listing) -> Self {
        let unreadable = listing
            .unreadable
            .into_iter()
            .map(|found| UnreadableRuntime {
                id: found.id,
                why: found.why,
            });
        let unreadable: Vec<_> = unreadable.collect();
        Listed {
            runtimes: listing.runtimes.into_iter().map(Runtime::from).collect(),
            unreadable: (!unreadable.is_empty()).then_some(unreadable),
        }
    }
}

/// The result of `Inspect`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inspected {
    pub(crate) runtime: Runtime,
}

/// One of the replies of a method that takes long, in either interface.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Progressed {
    pub(crate) message: String,
    pub(crate) done: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) runtime: Option<Runtime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<Plan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verification: Option<Verification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<Progress>,
}

/// `Progress` of org.avocado.Runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    stage: String,
    item: String,
    done: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    unit: Unit,
}

impl Progress {
    /// What `event` says about how far the work is, if it says anything.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        Some(Progress {
            done: event.done?,
            stage: event.stage.clone(),
            item: event.item.clone(),
            total: event.total,
            unit: event.unit,
        })
    }

    /// The event that it was made of.
    pub(crate) fn event(self) -> Event {
        Event {
            unit: self.unit,
            ..Event::bytes(self.stage, self.item, self.done, self.total)
        }
    }
}

/// The parameters of `AddFromUrl`. Without `Debug`, because of the token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddFromUrl {
    pub(crate) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifacts_url: Option<String>,
}
