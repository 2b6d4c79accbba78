//! The types of org.avocado.Runtimes.

use std::borrow::Cow;

use avocado_device::{RuntimeEntry, RuntimeList};
use avocado_events::{AmountUnit, Event};
use avocado_manifest::{Manifest, OsBundle};
use serde::{Deserialize, Serialize};

use super::{Plan, Verification};

/// `Runtime` of org.avocado.Runtimes. Those of a listing borrow their texts: there may be many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuntimeRef<'a> {
    pub(crate) id: Cow<'a, str>,
    pub(crate) manifest_version: i64,
    pub(crate) built_at: Cow<'a, str>,
    pub(crate) runtime: RuntimeInfo<'a>,
    pub(crate) extensions: Vec<ManifestExtension<'a>>,
    pub(crate) active: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os_build_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) initramfs_build_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pinned: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) on_trial: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) update_failed: Option<Cow<'a, str>>,
}

/// A `Runtime` that has its texts itself.
pub(crate) type Runtime = RuntimeRef<'static>;

/// `UnreadableRuntime` of org.avocado.Runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct UnreadableRuntime<'a> {
    pub(crate) id: Cow<'a, str>,
    pub(crate) why: Cow<'a, str>,
}

/// `RuntimeInfo` of org.avocado.Runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuntimeInfo<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) version: Cow<'a, str>,
}

/// `ManifestExtension` of org.avocado.Runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManifestExtension<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) version: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image_type: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) overridden: Option<bool>,
}

impl<'a> From<&'a RuntimeEntry> for RuntimeRef<'a> {
    fn from(entry: &'a RuntimeEntry) -> Self {
        let mut extensions = RuntimeRef::new(&entry.manifest, entry.active).extensions;
        for extension in &mut extensions {
            if let Some(enabled) = entry.decided.get(extension.name.as_ref()) {
                extension.enabled = (!enabled).then_some(false);
                extension.overridden = Some(true);
            }
        }
        RuntimeRef {
            extensions,
            previous: entry.previous.then_some(true),
            pinned: entry.pinned.then_some(true),
            waiting: entry.waiting.then_some(true),
            on_trial: entry.on_trial.then_some(true),
            update_failed: entry.update_failed.as_deref().map(Cow::Borrowed),
            ..RuntimeRef::new(&entry.manifest, entry.active)
        }
    }
}

impl From<RuntimeEntry> for Runtime {
    fn from(entry: RuntimeEntry) -> Self {
        RuntimeRef::from(&entry).into_owned()
    }
}

impl<'a> RuntimeRef<'a> {
    pub(super) fn new(manifest: &'a Manifest, active: bool) -> Self {
        let bundle = manifest.os_bundle.as_ref();
        let of_bundle = |id: fn(&OsBundle) -> &Option<String>| {
            bundle.and_then(|b| id(b).as_deref()).map(Cow::Borrowed)
        };
        let extensions = manifest.extensions.iter().map(|e| ManifestExtension {
            name: e.name.as_str().into(),
            version: e.version.as_str().into(),
            image_id: e.image_id.as_ref().map(|id| id.as_str().into()),
            image_type: e.image_type.as_deref().map(Into::into),
            sha256: e.sha256.map(|digest| digest.to_string().into()),
            enabled: (!e.enabled).then_some(false),
            overridden: None,
        });
        RuntimeRef {
            id: manifest.id.as_str().into(),
            manifest_version: manifest.manifest_version.into(),
            built_at: manifest.built_at.as_str().into(),
            runtime: RuntimeInfo {
                name: manifest.runtime.name.as_str().into(),
                version: manifest.runtime.version.as_str().into(),
            },
            extensions: extensions.collect(),
            active,
            os_build_id: of_bundle(|b| &b.os_build_id),
            initramfs_build_id: of_bundle(|b| &b.initramfs_build_id),
            previous: None,
            pinned: None,
            waiting: None,
            on_trial: None,
            update_failed: None,
        }
    }

    pub(super) fn into_owned(self) -> Runtime {
        let extensions = self.extensions.into_iter().map(|e| ManifestExtension {
            name: owned(e.name),
            version: owned(e.version),
            image_id: e.image_id.map(owned),
            image_type: e.image_type.map(owned),
            sha256: e.sha256.map(owned),
            enabled: e.enabled,
            overridden: e.overridden,
        });
        Runtime {
            id: owned(self.id),
            built_at: owned(self.built_at),
            runtime: RuntimeInfo {
                name: owned(self.runtime.name),
                version: owned(self.runtime.version),
            },
            extensions: extensions.collect(),
            os_build_id: self.os_build_id.map(owned),
            initramfs_build_id: self.initramfs_build_id.map(owned),
            manifest_version: self.manifest_version,
            active: self.active,
            previous: self.previous,
            pinned: self.pinned,
            waiting: self.waiting,
            on_trial: self.on_trial,
            update_failed: self.update_failed.map(owned),
        }
    }

    /// The first eight characters of the id.
    pub(crate) fn short_id(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// The result of `List`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListReply<'a> {
    pub(crate) runtimes: Vec<RuntimeRef<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unreadable: Option<Vec<UnreadableRuntime<'a>>>,
}

impl<'a> From<&'a RuntimeList> for ListReply<'a> {
    fn from(listing: &'a RuntimeList) -> Self {
        let unreadable = listing.unreadable.iter().map(|found| UnreadableRuntime {
            id: found.id.as_str().into(),
            why: found.why.as_str().into(),
        });
        let unreadable: Vec<_> = unreadable.collect();
        ListReply {
            runtimes: listing.runtimes.iter().map(RuntimeRef::from).collect(),
            unreadable: (!unreadable.is_empty()).then_some(unreadable),
        }
    }
}

impl ListReply<'_> {
    pub(crate) fn into_owned(self) -> ListReply<'static> {
        let unreadable = self.unreadable.map(|all| {
            let all = all.into_iter().map(|found| UnreadableRuntime {
                id: owned(found.id),
                why: owned(found.why),
            });
            all.collect()
        });
        let runtimes = self.runtimes.into_iter().map(RuntimeRef::into_owned);
        ListReply {
            runtimes: runtimes.collect(),
            unreadable,
        }
    }
}

/// The result of `Inspect`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InspectReply {
    pub(crate) runtime: Runtime,
}

/// One of the replies of a method that takes long, in either interface.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ProgressReply {
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
    unit: AmountUnit,
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
pub(crate) struct AddFromUrlParameters {
    pub(crate) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifacts_url: Option<String>,
}
