//! An OS update that is written and waits for the reboot: `<base>/pending-update.json`.

use std::io;
use std::path::Path;

use avocado_manifest::RuntimeId;
use avocado_manifest::os_bundle::ReleaseCheck;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::FailureReason;
use crate::store::files;

/// The largest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// An update of the operating system that is written to the inactive slot, and that the next boot
/// has to prove. Fields and file are those that published agents use; fields that are not listed
/// here are ignored.
///
/// This version reads one and never writes, proves or removes one.
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
}

impl PendingUpdate {
    /// The update that is pending in the store at `base`, if there is one. One that cannot be
    /// understood is an error: an agent that does not know what is under way must not remove what
    /// that may need.
    pub(crate) fn load(base: &Path) -> Result<Option<Self>, FailureReason> {
        let path = base.join("pending-update.json");
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

    /// Whether it brings the build `os_build_id` for `runtime`.
    pub(crate) fn is_for(&self, runtime: &RuntimeId, os_build_id: &str) -> bool {
        self.runtime_id.as_ref() == Some(runtime)
            && self.os_build_id.as_deref() == Some(os_build_id)
    }
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
        let (r1, r2) = ("r1".parse().unwrap(), "r2".parse().unwrap());
        assert!(pending.is_for(&r1, "new"));
        assert!(!pending.is_for(&r2, "new") && !pending.is_for(&r1, "old"));
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
