//! The runtimes of the device, with what is said about each besides its manifest.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use avocado_events::chain;
use avocado_manifest::{Manifest, RuntimeExtension, RuntimeId};

use crate::context::DeviceContext;
use crate::error::{DeviceError, FailureReason};
use crate::extension_set;
use crate::os_update::failed_update::FailedUpdate;
use crate::os_update::pending_update::PendingUpdate;
use crate::store::history::ActivationHistory;
use crate::store::pins::PinnedRuntimes;
use crate::store::runtimes::StoredRuntime;

/// A runtime of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuntimeEntry {
    /// Its manifest. Entries share it with what this process remembers of the store.
    pub manifest: Arc<Manifest>,
    /// Whether it is the active one.
    pub active: bool,
    /// Whether it was active before the active one: [`Device::rollback`](crate::Device::rollback)
    /// goes back to it.
    pub previous: bool,
    /// Whether it must not be removed: [`Device::pin`](crate::Device::pin).
    pub pinned: bool,
    /// Whether its OS is written, and waits for the reboot or for its proof.
    pub waiting: bool,
    /// Whether its OS runs on trial: its health decides.
    pub on_trial: bool,
    /// Why the last update to its OS failed.
    pub update_failed: Option<String>,
    /// Which of its extensions are merged or not because that was decided on this device, whatever the
    /// manifest says, by their names: [`Device::set_extensions_enabled`](crate::Device::set_extensions_enabled).
    pub decided: BTreeMap<String, bool>,
}

/// The runtimes of the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuntimeList {
    /// The active one first, then the one built last.
    pub runtimes: Vec<RuntimeEntry>,
    /// What lies among the runtimes and cannot be used, by name.
    pub unreadable: Vec<UnreadableRuntime>,
}

/// A runtime that is damaged, or a link `active` that leads nowhere. Adding it again repairs it, and it can be removed by its full name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct UnreadableRuntime {
    /// The name of its directory: the id, if it is one; or `active`.
    pub id: String,
    /// What is wrong with it, in words.
    pub why: String,
}

/// Every runtime, and what lies among them and cannot be used.
pub(crate) fn list(context: &DeviceContext) -> Result<RuntimeList, DeviceError> {
    let flags = RuntimeFlags::load(context);
    let everything = context
        .runtimes()
        .everything()
        .map_err(DeviceError::Store)?;
    let mut list = RuntimeList {
        runtimes: Vec::with_capacity(everything.len()),
        ..RuntimeList::default()
    };
    for stored in everything {
        match stored {
            StoredRuntime::Whole(manifest) => list.runtimes.push(flags.entry(context, manifest)),
            StoredRuntime::Unreadable(id, reason) => list.unreadable.push(UnreadableRuntime {
                id,
                why: chain(&reason),
            }),
        }
    }
    if let Err(reason @ FailureReason::Active { .. }) = context.runtimes().active() {
        list.unreadable.push(UnreadableRuntime {
            id: "active".to_owned(),
            why: chain(&reason),
        });
    }
    // They come by id, and those built at the same time stay like that.
    list.runtimes
        .sort_by_cached_key(|e| (!e.active, Reverse(built_at(&e.manifest))));
    Ok(list)
}

/// A runtime by its id or the beginning of it, or the active one.
pub(crate) fn inspect(
    context: &DeviceContext,
    id: Option<&str>,
) -> Result<RuntimeEntry, DeviceError> {
    let runtimes = context.runtimes();
    let manifest = match id {
        Some(id) => runtimes.resolve(id)?,
        None => match runtimes.active().map_err(DeviceError::Store)? {
            Some(manifest) => manifest,
            None => {
                return Err(DeviceError::RuntimeNotFound {
                    id: "active".to_owned(),
                });
            }
        },
    };
    let mut entry = entry(context, manifest);
    // Another one may have become active since, and this is the answer to that question.
    entry.active |= id.is_none();
    Ok(entry)
}

/// A runtime with what is said about it now.
pub(crate) fn entry(context: &DeviceContext, manifest: Arc<Manifest>) -> RuntimeEntry {
    RuntimeFlags::load(context).entry(context, manifest)
}

/// The runtime that was active before the active one, and still exists.
pub(crate) fn previous(context: &DeviceContext) -> Option<RuntimeId> {
    let active = context.runtimes().active_id().ok().flatten();
    active_before(context, active.as_ref())
}

/// The runtime that was active before `active`, and still exists.
fn active_before(context: &DeviceContext, active: Option<&RuntimeId>) -> Option<RuntimeId> {
    let runtimes = context.runtimes();
    let history = ActivationHistory::load(context.base());
    let mut before = history.before(active).into_iter();
    before.find(|id| runtimes.exists(id)).cloned()
}

/// When a runtime was built; one that does not say is older than all others.
pub(crate) fn built_at(manifest: &Manifest) -> Option<jiff::Timestamp> {
    manifest.built_at.parse().ok()
}

/// What is said about runtimes besides their manifests.
struct RuntimeFlags {
    active: Option<RuntimeId>,
    previous: Option<RuntimeId>,
    pins: PinnedRuntimes,
    waiting: Option<RuntimeId>,
    on_trial: bool,
    failed: Option<FailedUpdate>,
}

impl RuntimeFlags {
    fn load(context: &DeviceContext) -> Self {
        let active = context.runtimes().active_id().ok().flatten();
        let pending = PendingUpdate::load(context.base()).ok().flatten();
        RuntimeFlags {
            previous: active_before(context, active.as_ref()),
            active,
            pins: PinnedRuntimes::load(context.base()).unwrap_or_default(),
            on_trial: pending
                .as_ref()
                .is_some_and(|pending| pending.is_on_trial(&context.paths)),
            waiting: pending.and_then(|pending| pending.runtime_id),
            failed: FailedUpdate::load(context.base()),
        }
    }

    fn entry(&self, context: &DeviceContext, manifest: Arc<Manifest>) -> RuntimeEntry {
        // Decisions that cannot be read are told by the merge, and count for nothing.
        let overrides = extension_set::decisions_of(context, &manifest).unwrap_or_default();
        let decided = |extension: &RuntimeExtension| {
            let enabled = overrides.enabled(extension.name.as_str())?;
            Some((extension.name.to_string(), enabled))
        };
        let id = Some(&manifest.id);
        RuntimeEntry {
            active: self.active.as_ref() == id,
            previous: self.previous.as_ref() == id,
            pinned: self.pins.contains(&manifest.id),
            waiting: self.waiting.as_ref() == id,
            on_trial: self.on_trial && self.waiting.as_ref() == id,
            update_failed: self
                .failed
                .as_ref()
                .filter(|failed| failed.runtime_id.as_ref() == id)
                .map(|failed| failed.why.clone()),
            decided: manifest.extensions.iter().filter_map(decided).collect(),
            manifest,
        }
    }
}
