//! Each way in which a repository can lie, and that nothing of it is believed or kept.

mod content;
mod names;
mod signatures;
mod time;

use std::fs;

use crate::support::{Device, Forge, key, now, sign};
use avocado_tuf::TufError;
use serde_json::{Value, json};

/// What the attack does to a repository that the device already knows, how it has to be refused,
/// and the roles whose stored metadata may still move forward.
struct Attack {
    name: &'static str,
    tamper: fn(&mut Forge),
    refused: fn(&TufError) -> bool,
    moved: &'static [&'static str],
}

fn unsigned(error: &TufError, role: &str) -> bool {
    matches!(error, TufError::Metadata { role: r, .. } if r == role) && {
        let source = std::error::Error::source(error).unwrap().to_string();
        source.contains("needed signatures")
    }
}

fn unacceptable(error: &TufError, role: &str) -> bool {
    matches!(error, TufError::Metadata { role: r, .. } if r == role) && !unsigned(error, role)
}

/// Signs the role with what it has now, and everything above it.
fn upward(forge: &mut Forge, role: &str) {
    let order = ["app", "targets", "snapshot", "timestamp"];
    let from = order.iter().position(|r| *r == role).unwrap();
    for role in &order[from..] {
        forge.bump(role);
        forge.publish(&[role]);
    }
}

/// Replaces the signatures of a published role by a tampering of its own, announced as it is.
fn resign(forge: &mut Forge, role: &str, change: fn(&mut Value)) {
    forge.bump(role);
    let mut envelope: Value = serde_json::from_slice(&forge.bytes(role)).unwrap();
    change(&mut envelope);
    let bytes = serde_json::to_vec(&envelope).unwrap();
    forge.put(role, &bytes);
    let above = match role {
        "app" => &["targets", "snapshot", "timestamp"][..],
        "targets" => &["snapshot", "timestamp"],
        "snapshot" => &["timestamp"],
        _ => &[],
    };
    for role in above {
        forge.bump(role);
        forge.publish(&[role]);
    }
}

fn drop_signature(envelope: &mut Value) {
    envelope["signatures"] = json!([]);
}

fn change_content(envelope: &mut Value) {
    envelope["signed"]["extra"] = json!("added after signing");
}

/// Requires two signatures by two keys of which only one is there, repeated.
fn two_needed(forge: &mut Forge, role: &str, keyids: Value) {
    forge.bump("root");
    forge.role("root")["roles"][role] = json!({"keyids": keyids, "threshold": 2});
    forge.publish(&["root"]);
}

const TOP: &[&str] = &["timestamp", "snapshot", "targets"];

fn attack(
    name: &'static str,
    tamper: fn(&mut Forge),
    refused: fn(&TufError) -> bool,
    moved: &'static [&'static str],
) -> Attack {
    Attack {
        name,
        tamper,
        refused,
        moved,
    }
}

fn attacks() -> Vec<Attack> {
    let mut all = time::attacks();
    all.extend(signatures::attacks());
    all.extend(content::attacks());
    all.extend(names::attacks());
    all
}

#[test]
fn every_attack_is_refused_and_leaves_no_trace() {
    for Attack {
        name,
        tamper,
        refused,
        moved,
    } in attacks()
    {
        let mut forge = Forge::new();
        forge.publish_all();
        let device = forge.device();
        assert_eq!(
            device.fetch("manifest.json").unwrap().unwrap(),
            b"the manifest",
            "{name}"
        );
        fs::remove_file(device.partial()).unwrap();
        let before = device.stored();

        tamper(&mut forge);
        let error = device.fetch("manifest.json").expect_err(name);
        assert!(refused(&error), "{name}: {error:?}");
        let after = device.stored();
        assert_eq!(
            before.keys().collect::<Vec<_>>(),
            after.keys().collect::<Vec<_>>(),
            "{name}"
        );
        for (file, bytes) in &after {
            let role = file.strip_suffix(".json").unwrap_or(file);
            assert_eq!(
                before[file] != *bytes,
                moved.contains(&role),
                "{name}: {file}"
            );
        }
        assert!(!device.partial().exists(), "{name}");
    }
}

#[test]
fn a_new_device_believes_nothing_of_it_either() {
    for Attack { name, tamper, .. } in attacks() {
        // What only rolls back cannot be noticed by a device that has seen nothing.
        if name.starts_with("older") || name == "vanished role" {
            continue;
        }
        let mut forge = Forge::new();
        forge.publish_all();
        tamper(&mut forge);
        let device = forge.device();
        assert!(device.fetch("manifest.json").is_err(), "{name}");
        assert!(!device.partial().exists(), "{name}");
    }
}

#[test]
fn a_delegate_speaks_only_of_its_paths() {
    let mut forge = Forge::new();
    for name in ["other.json", "dir/a.raw", "a.kab"] {
        forge.add("app", name, b"not delegated");
    }
    forge.add("app", "a.raw", b"delegated");
    forge.publish_all();
    let device = forge.device();
    for name in ["other.json", "dir/a.raw", "a.kab", "none.raw"] {
        assert_eq!(device.fetch(name).unwrap(), None, "{name}");
    }
    assert_eq!(device.fetch("a.raw").unwrap().unwrap(), b"delegated");
}

#[test]
fn an_anchor_that_is_no_root_is_refused_before_anything_is_written() {
    let forge = Forge::new();
    let root = &forge.signed["root"];
    let mut other_type = root.clone();
    other_type["_type"] = json!("targets");
    for anchor in [
        b"".to_vec(),
        b"{}".to_vec(),
        sign(root, &[key(2)]),
        sign(root, &[]),
        sign(&other_type, &[key(1)]),
    ] {
        let device = Device::new(&anchor, forge.dir.path());
        assert!(matches!(device.client(), Err(TufError::Anchor(_))));
        assert!(!device.dir.path().join("trusted").exists());
    }
}

#[test]
fn the_start_time_itself_is_too_late() {
    let mut forge = Forge::new();
    forge.role("timestamp")["expires"] = json!(now().to_string());
    forge.publish_all();
    assert!(matches!(
        forge.device().fetch("manifest.json"),
        Err(TufError::Expired { .. })
    ));
}
