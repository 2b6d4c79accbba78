//! A writer of the older layout: one key for everything, version 1 throughout, one delegated role
//! per runtime id, its metadata under `delegations/`, no consistent snapshots.

use std::fs;
use std::path::PathBuf;

use avocado_manifest::Digest;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{Device, key, sign, tuf_key};

pub(crate) struct OlderPublisher {
    pub(crate) dir: tempfile::TempDir,
    /// The delegated role of the last publication.
    role: String,
}

impl OlderPublisher {
    /// A repository with nothing but a root, which is good for a year.
    pub(crate) fn new(now: Timestamp) -> Self {
        let publisher = OlderPublisher {
            dir: tempfile::tempdir().unwrap(),
            role: String::new(),
        };
        let role = json!({"keyids": [key(1).id()], "threshold": 1});
        let root = json!({
            "consistent_snapshot": false,
            "keys": {key(1).id(): tuf_key(&key(1))},
            "roles": {"root": role, "snapshot": role, "targets": role, "timestamp": role},
        });
        fs::create_dir_all(publisher.path("metadata/delegations")).unwrap();
        fs::create_dir(publisher.path("targets")).unwrap();
        publisher.write("root", "root", root, now, 365);
        publisher
    }

    /// Replaces what is published by the runtime `id`, with one file `manifest.json`.
    pub(crate) fn publish(&mut self, id: &str, manifest: &[u8], now: Timestamp) {
        let old = self.path(&format!("metadata/delegations/{}.json", self.role));
        let _ = fs::remove_file(old);
        self.role = format!("runtime-{id}");
        fs::write(self.path("targets/manifest.json"), manifest).unwrap();

        let digest = Digest::of(manifest).to_string();
        let target = json!({"length": manifest.len(), "hashes": {"sha256": digest}});
        let five_years = 5 * 365;
        let body = json!({"targets": {"manifest.json": target}});
        self.write(&self.delegated(), "targets", body, now, five_years);
        let delegation = json!({"name": self.role, "keyids": [key(1).id()], "threshold": 1,
            "terminating": true, "paths": ["manifest.json", "*.raw"]});
        let delegations = json!({"keys": {key(1).id(): tuf_key(&key(1))}, "roles": [delegation]});
        let body = json!({"targets": {}, "delegations": delegations});
        self.write("targets", "targets", body, now, five_years);
        self.write("snapshot", "snapshot", json!({"meta": {}}), now, 90);
        self.write("timestamp", "timestamp", json!({"meta": {}}), now, 7);
        self.announce();
    }

    /// Says in the snapshot and the timestamp what the other files are now.
    pub(crate) fn announce(&self) {
        let delegated = self.delegated();
        let meta = json!({
            "targets.json": self.meta("targets"),
            format!("{delegated}.json"): self.meta(&delegated),
        });
        self.change("snapshot", |signed| signed["meta"] = meta);
        let meta = json!({"snapshot.json": self.meta("snapshot")});
        self.change("timestamp", |signed| signed["meta"] = meta);
    }

    /// Signs a file anew, after a change.
    pub(crate) fn change(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let bytes = fs::read(self.file(file)).unwrap();
        let mut envelope: Value = serde_json::from_slice(&bytes).unwrap();
        change(&mut envelope["signed"]);
        fs::write(self.file(file), sign(&envelope["signed"], &[key(1)])).unwrap();
    }

    /// The file of the delegated role, as `change` and `file` take it.
    pub(crate) fn delegated(&self) -> String {
        format!("delegations/{}", self.role)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path(&format!("metadata/{name}.json"))
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// A device that takes this layout, and has the root as its anchor.
    pub(crate) fn device(&self) -> Device {
        let anchor = fs::read(self.file("root")).unwrap();
        Device {
            relax_legacy: true,
            ..Device::new(&anchor, self.dir.path())
        }
    }

    fn write(&self, file: &str, kind: &str, mut body: Value, now: Timestamp, days: i64) {
        let expires = now + SignedDuration::from_hours(24 * days);
        let map = body.as_object_mut().unwrap();
        map.insert("_type".into(), json!(kind));
        map.insert("spec_version".into(), json!("1.0.0"));
        map.insert("version".into(), json!(1));
        map.insert("expires".into(), json!(expires.to_string()));
        fs::write(self.file(file), sign(&body, &[key(1)])).unwrap();
    }

    fn meta(&self, file: &str) -> Value {
        let bytes = fs::read(self.file(file)).unwrap();
        json!({"version": 1, "length": bytes.len(),
            "hashes": {"sha256": Digest::of(&bytes).to_string()}})
    }
}
