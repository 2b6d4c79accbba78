//! An OS update that is written and waits for the reboot: `<base>/pending-update.json`.

use std::io;
use std::path::{Path, PathBuf};

use avocado_manifest::os_bundle::{
    DiskLayout, OsBundleDescription, OsBundleError, OsSlot, ReleaseCheck, SlotAction, SlotNaming,
};
use avocado_manifest::{Manifest, RuntimeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::boot_loader::BootLoader;
use super::bundle_source::BundleSource;
use super::error::OsUpdateError;
use super::slot_policy::MarkerFacts;
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::os_release;
use crate::paths::DevicePaths;
use crate::store::files;
use crate::store::reserve::with_reserve;

/// The largest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// An update of the operating system that is written to the inactive slot, and that the next boot
/// has to prove. Fields and file are those that published agents use, and what is ours besides, which
/// they ignore; fields that are not listed here are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PendingUpdate {
    /// The build of the operating system that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_build_id: Option<String>,
    /// The build of the initial RAM file system that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initramfs_build_id: Option<String>,
    /// What the operating system has to say about itself when it has come up.
    #[serde(default)]
    pub verify: Option<ReleaseCheck>,
    /// What the initial RAM file system has to say about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_initramfs: Option<ReleaseCheck>,
    /// The actions that go back to the slot before, as the bundle has them.
    #[serde(default)]
    pub rollback: Option<Value>,
    /// The slot that ran when the update was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_slot: Option<String>,
    /// The layout of the disk, as the bundle has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Value>,
    /// The runtime that is to become active when the update has proven itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_id: Option<RuntimeId>,
    /// The boot in which it was written. Older agents do not say that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The whole description of the bundle. Older agents do not keep that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Value>,
    /// What the reboot has to carry, so that the boot loader tries the slot: the value of
    /// `systemctl reboot --reboot-argument=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_argument: Option<String>,
    /// The boots of it that were on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<OsTrial>,
}

/// The boots in which an update of the operating system was on trial: what was written runs, and its health
/// decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OsTrial {
    /// How many they are.
    pub boots: u32,
    /// The last one.
    pub boot_id: Option<String>,
    /// Whether it was found healthy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub healthy: bool,
}

impl PendingUpdate {
    /// The update that is pending in the store at `base`, if there is one. One that cannot be
    /// understood is an error: an agent that does not know what is under way must not remove what
    /// that may need.
    pub(crate) fn load(base: &Path) -> Result<Option<Self>, FailureReason> {
        let path = path(base);
        let bytes = match files::read(&path, LIMIT) {
            Err(FailureReason::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        // By way of an object: a list would do as well for a structure whose fields all may be missing.
        let pending = serde_json::from_slice(&bytes)
            .and_then(|fields| serde_json::from_value(Value::Object(fields)));
        pending.map_err(|e| FailureReason::file("understand", &path)(e.into()))
    }

    /// The marker of an update with a bundle, to be written in this boot.
    pub(super) fn new(
        bundle: &OsBundleDescription,
        previous: OsSlot,
        runtime: &RuntimeId,
        boot_id: Option<String>,
    ) -> Result<Self, FailureReason> {
        let failed = OsUpdateError::Description;
        let whole = bundle.to_json().map_err(failed)?;
        let whole: Value = serde_json::from_slice(&whole)
            .map_err(OsBundleError::Write)
            .map_err(failed)?;
        let naming = bundle.update.as_ref().map(|u| u.strategy.naming());
        Ok(PendingUpdate {
            os_build_id: bundle.os_build_id.clone(),
            initramfs_build_id: bundle.initramfs_build_id.clone(),
            verify: bundle.verify.clone(),
            verify_initramfs: bundle.verify_initramfs.clone(),
            rollback: whole.pointer("/update/rollback").cloned(),
            previous_slot: naming.map(|naming| naming.name(previous).to_owned()),
            layout: whole.get("layout").cloned(),
            runtime_id: Some(runtime.clone()),
            boot_id,
            bundle: Some(whole),
            reboot_argument: None,
            trial: None,
        })
    }

    /// Makes it last.
    pub(super) fn save(&self, base: &Path) -> Result<(), FailureReason> {
        files::write_json(&path(base), self)
    }

    /// Its runtime is not to become active.
    pub(crate) fn without_runtime(self, base: &Path) -> Result<(), FailureReason> {
        let pending = PendingUpdate {
            runtime_id: None,
            ..self
        };
        pending.save(base)
    }

    /// Counts this boot among those on trial, on a full disk too.
    pub(super) fn count_boot(
        &self,
        base: &Path,
        boot_id: Option<String>,
    ) -> Result<(), FailureReason> {
        let before = self.trial.as_ref().map_or(0, |trial| trial.boots);
        let trial = OsTrial {
            boots: before.saturating_add(1),
            boot_id,
            healthy: false,
        };
        let pending = PendingUpdate {
            trial: Some(trial),
            ..self.clone()
        };
        with_reserve(base, || pending.save(base))
    }

    /// Notes that this boot was found healthy: what follows is completed after a cut, and not tried again.
    pub(super) fn keep_healthy(&self, base: &Path) -> Result<(), FailureReason> {
        let trial = self.trial.clone().unwrap_or_default();
        let pending = PendingUpdate {
            trial: Some(OsTrial {
                healthy: true,
                ..trial
            }),
            ..self.clone()
        };
        with_reserve(base, || pending.save(base))
    }

    /// Whether this boot is on trial.
    pub(crate) fn is_on_trial(&self, paths: &DevicePaths) -> bool {
        let facts = self.facts(os_release::boot_id(paths).as_deref());
        facts.is_some_and(|(_, facts)| facts.on_trial)
    }

    /// Keeps it under another name, where it decides nothing any more.
    pub(super) fn set_aside(base: &Path) -> Result<(), FailureReason> {
        files::rename(&path(base), &base.join("pending-update.json.damaged"))?;
        files::sync_dir(base)
    }

    /// Ends it.
    pub(super) fn remove(base: &Path) -> Result<(), FailureReason> {
        files::remove(&path(base))
    }

    /// Whether it is known that it was written since the device was started.
    pub(crate) fn is_of_this_boot(&self, paths: &DevicePaths) -> bool {
        self.boot_id.is_some() && self.boot_id == os_release::boot_id(paths)
    }

    /// Whether it names the slot that ran.
    pub(crate) fn names_a_slot(&self) -> bool {
        self.facts(None).is_some()
    }

    /// What it says that decides what is done with it. None: it names no slot that there is.
    pub(super) fn facts(&self, boot_id: Option<&str>) -> Option<(SlotNaming, MarkerFacts)> {
        let (naming, previous) = SlotNaming::of(self.previous_slot.as_deref()?)?;
        let of_this_boot = match (self.boot_id.as_deref(), boot_id) {
            (Some(written), Some(now)) => Some(written == now),
            _ => None,
        };
        let trial = self.trial.as_ref();
        let facts = MarkerFacts {
            previous,
            of_this_boot,
            healthy: trial.is_some_and(|trial| trial.healthy),
            trial_boots: trial.map_or(0, |trial| trial.boots),
            on_trial: boot_id.is_some()
                && trial.and_then(|trial| trial.boot_id.as_deref()) == boot_id,
        };
        Some((naming, facts))
    }

    /// The boot loader that it tells of. Of an update that an older agent has written the bundle of its
    /// runtime tells it, or else only the way back is known.
    pub(super) fn boot_loader<'a>(
        &self,
        context: &'a DeviceContext,
        naming: SlotNaming,
    ) -> Result<BootLoader<'a>, FailureReason> {
        let failed = OsUpdateError::Description;
        let paths = &context.paths;
        let described = match &self.bundle {
            Some(bundle) => {
                let text = serde_json::to_vec(bundle)
                    .map_err(OsBundleError::Write)
                    .map_err(failed)?;
                Some(OsBundleDescription::parse(&text).map_err(failed)?)
            }
            None => self.bundle_of_runtime(context),
        };
        let described = described.and_then(|bundle| BootLoader::of(paths, &bundle));
        if let Some(loader) = described {
            return Ok(loader);
        }
        let rollback = self.rollback.as_ref();
        let rollback = rollback.map(|list| SlotAction::list_from_json(list, naming));
        let layout = self.layout.clone().map(DiskLayout::from_json);
        Ok(BootLoader::of_rollback(
            paths,
            naming,
            rollback.transpose().map_err(failed)?.unwrap_or_default(),
            layout.transpose().map_err(failed)?,
        ))
    }

    /// Which slot runs, while it waits or after it could not be settled. A boot loader that knows only
    /// what is started next may have been switched, or have gone back without a word: there the
    /// operating system tells, by its build.
    pub(super) fn running(
        &self,
        context: &DeviceContext,
        facts: MarkerFacts,
        loader: &BootLoader<'_>,
    ) -> Result<OsSlot, FailureReason> {
        if facts.of_this_boot == Some(true) {
            return Ok(facts.previous);
        }
        if loader.says_what_runs() {
            return loader.running();
        }
        let runs = os_release::build_id(&context.paths);
        let initramfs = os_release::initramfs_build_id(&context.paths);
        let same_initramfs = [&self.initramfs_build_id, &initramfs].contains(&&None)
            || self.initramfs_build_id == initramfs;
        match (&self.os_build_id, runs) {
            (Some(written), Some(runs)) if *written == runs && same_initramfs => {
                Ok(facts.previous.other())
            }
            (Some(_), Some(_)) => Ok(facts.previous),
            // It may not have been started since.
            _ if facts.of_this_boot.is_none() => Err(OsUpdateError::Slot(
                "the boot loader says what it starts next, and the OS not which build it is".into(),
            )
            .into()),
            _ => loader.running(),
        }
    }

    fn bundle_of_runtime(&self, context: &DeviceContext) -> Option<OsBundleDescription> {
        let manifest = context.runtimes().read(self.runtime_id.as_ref()?).ok()?;
        let named = manifest.os_bundle.as_ref()?;
        let bundle = BundleSource::open(context, named).ok()?;
        Some(bundle.description().clone())
    }

    /// Whether it brings the build that `manifest` needs, for that runtime.
    pub(crate) fn is_for(&self, manifest: &Manifest) -> bool {
        let bundle = manifest.os_bundle.as_ref();
        self.runtime_id.as_ref() == Some(&manifest.id)
            && bundle.is_some_and(|bundle| {
                // Older agents do not always keep the build of the initial RAM file system.
                let initramfs = self.initramfs_build_id.as_ref();
                bundle.os_build_id == self.os_build_id
                    && (initramfs.is_none() || bundle.initramfs_build_id.as_ref() == initramfs)
            })
    }
}

/// The file of it in the store at `base`.
pub(super) fn path(base: &Path) -> PathBuf {
    base.join("pending-update.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Option<PendingUpdate>, FailureReason> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pending-update.json"), text).unwrap();
        PendingUpdate::load(dir.path())
    }

    #[test]
    fn what_published_agents_write_is_read() {
        let text = r#"{
            "os_build_id": "new", "initramfs_build_id": "init",
            "verify": {"type": "os-release", "field": "AVOCADO_OS_BUILD_ID", "expected": "new"},
            "verify_initramfs": {"type": "os-release", "field": "X", "expected": "init"},
            "rollback": [{"type": "uboot-env", "set": {"slot": "a"}}],
            "previous_slot": "a", "layout": {"device": "/dev/x", "partitions": []},
            "runtime_id": "r1", "of_a_later_version": 1
        }"#;
        let pending = load(text).unwrap().unwrap();
        assert_eq!(pending.os_build_id.as_deref(), Some("new"));
        assert_eq!(pending.verify.as_ref().unwrap().expected, "new");
        assert_eq!(pending.previous_slot.as_deref(), Some("a"));
        let needs = |runtime: &str, os: &str, initramfs: &str| {
            let text = serde_json::json!({
                "manifest_version": 2, "id": runtime, "built_at": "",
                "runtime": {"name": "x", "version": "1"},
                "os_bundle": {"image_id": "x", "os_build_id": os, "initramfs_build_id": initramfs},
            });
            pending.is_for(&Manifest::parse(text.to_string().as_bytes()).unwrap())
        };
        assert!(needs("r1", "new", "init"));
        assert!(!needs("r2", "new", "init") && !needs("r1", "old", "init"));
        assert!(!needs("r1", "new", "other"));
        assert_eq!(pending.facts(None).unwrap().1.of_this_boot, None);
        let paths = DevicePaths::new("/nonexistent");
        let context = DeviceContext::new(crate::DeviceConfig::default(), paths);
        pending.boot_loader(&context, SlotNaming::Letters).unwrap();
        // And it is written as it was read, but for what is not known.
        let again = serde_json::to_string(&pending).unwrap();
        assert_eq!(load(&again).unwrap().unwrap(), pending);
        // Without a bundle that can be verified or undone, published agents write null.
        let least = r#"{"os_build_id":"n","verify":null,"rollback":null,"previous_slot":"a"}"#;
        assert_eq!(load(least).unwrap().unwrap().runtime_id, None);
    }

    #[test]
    fn none_is_none_and_damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(PendingUpdate::load(dir.path()).unwrap(), None);
        for damage in [
            "",
            "{",
            "[]",
            r#"{"runtime_id":"../x"}"#,
            r#"{"verify":{}}"#,
        ] {
            assert!(load(damage).is_err(), "{damage}");
        }
    }
}
