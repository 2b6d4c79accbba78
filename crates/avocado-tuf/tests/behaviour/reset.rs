//! Forgetting trusted metadata on purpose: what it is good for, and what stays safe.

use std::fs;

use avocado_tuf::TufError;
use avocado_tuf::client::{ForgetLevel, reset};
use serde_json::json;

use crate::support::{Device, Forge, PAST, now};

fn forget(device: &Device, what: ForgetLevel) {
    reset(&device.trusted().directory, what).unwrap();
}

/// A device that knows two versions of everything, a root among them.
fn known() -> (Forge, Device) {
    let mut forge = Forge::new();
    let device = forge.device();
    device.fetch("manifest.json").unwrap();
    forge.bump("root");
    forge.publish(&["root"]);
    forge.publish_all();
    device.fetch("manifest.json").unwrap();
    (forge, device)
}

/// The repository is set up anew with another role, from these versions on.
fn begin_anew(forge: &mut Forge, timestamp: u64, others: u64) {
    forge.role("targets")["delegations"]["roles"][0]["name"] = json!("new");
    forge.role("snapshot")["meta"] = json!({});
    let app = forge.signed.remove("app").unwrap();
    forge.signed.insert("new".into(), app);
    forge.signers.insert("new".into(), vec![5]);
    for role in ["new", "targets", "snapshot"] {
        forge.role(role)["version"] = json!(others);
        forge.publish(&[role]);
    }
    forge.role("timestamp")["version"] = json!(timestamp);
    forge.publish(&["timestamp"]);
}

#[test]
fn roles_that_vanished_are_forgotten_and_nothing_goes_back() {
    let (mut forge, device) = known();
    let old = fs::read(forge.path("metadata/timestamp.json")).unwrap();
    begin_anew(&mut forge, 3, 3);
    assert!(matches!(
        device.fetch("manifest.json"),
        Err(TufError::Vanished { file }) if file == "app.json"
    ));
    forget(&device, ForgetLevel::Roles);
    assert_eq!(
        device.stored().into_keys().collect::<Vec<_>>(),
        ["anchor.sha256", "clock", "root.json", "timestamp.json"]
    );

    // Whoever is between cannot use the moment to offer what was before.
    let new = fs::read(forge.path("metadata/timestamp.json")).unwrap();
    fs::write(forge.path("metadata/timestamp.json"), old).unwrap();
    assert!(matches!(
        device.fetch("manifest.json"),
        Err(TufError::Rollback { role, trusted: 3, offered: 2 }) if role == "timestamp"
    ));
    fs::write(forge.path("metadata/timestamp.json"), new).unwrap();
    device.files.take_log();
    assert!(device.fetch("manifest.json").unwrap().is_some());
    // And the root is still the newest.
    assert_eq!(device.files.take_log()[0], "metadata/3.root.json");
}

#[test]
fn versions_that_count_anew_are_forgotten_and_time_is_not() {
    let (mut forge, device) = known();
    begin_anew(&mut forge, 1, 1);
    for what in [None, Some(ForgetLevel::Roles)] {
        what.into_iter().for_each(|what| forget(&device, what));
        let error = device.fetch("manifest.json").unwrap_err();
        assert!(matches!(error, TufError::Rollback { .. }), "{error:?}");
    }
    forget(&device, ForgetLevel::Versions);
    // What had expired stays expired, also for a device whose clock begins anew.
    let device = Device {
        start_time: jiff::Timestamp::UNIX_EPOCH,
        ..device
    };
    let expires = forge.role("timestamp")["expires"].clone();
    forge.role("timestamp")["expires"] = json!(PAST);
    forge.publish(&["timestamp"]);
    assert!(matches!(
        device.fetch("manifest.json"),
        Err(TufError::Expired { .. })
    ));
    forge.role("timestamp")["expires"] = expires;
    forge.publish(&["timestamp"]);
    device.files.take_log();
    assert!(device.fetch("manifest.json").unwrap().is_some());
    assert_eq!(device.files.take_log()[0], "metadata/3.root.json");
}

#[test]
fn a_time_that_was_too_high_is_forgotten_last() {
    let mut forge = Forge::new();
    let ahead = "2026-03-01T00:00:00Z".parse().unwrap();
    let device = Device {
        start_time: ahead,
        ..forge.device()
    };
    device.fetch("manifest.json").unwrap();
    forge.role("timestamp")["expires"] = json!("2025-06-08T00:00:00Z");
    forge.publish_all();
    let device = Device {
        start_time: now(),
        ..device
    };
    for what in [ForgetLevel::Roles, ForgetLevel::Versions] {
        forget(&device, what);
        let error = device.fetch("manifest.json").unwrap_err();
        assert!(matches!(error, TufError::Expired { .. }), "{error:?}");
    }
    forget(&device, ForgetLevel::Time);
    assert!(device.fetch("manifest.json").unwrap().is_some());
}

#[test]
fn a_reset_takes_nothing_else_and_needs_nothing() {
    let (_forge, device) = known();
    let directory = device.trusted().directory;
    fs::write(directory.join("notes.txt"), "mine").unwrap();
    forget(&device, ForgetLevel::Time);
    assert_eq!(
        device.stored().into_keys().collect::<Vec<_>>(),
        ["anchor.sha256", "notes.txt", "root.json"]
    );
    forget(&device, ForgetLevel::Time);
    reset(&directory.join("none"), ForgetLevel::Time).unwrap();
    assert!(!directory.join("none").exists());
}

#[test]
fn an_interrupted_reset_leaves_what_works() {
    let (forge, device) = known();
    let whole = device.stored();
    let metadata: Vec<_> = whole.keys().filter(|name| *name != "root.json").collect();
    let one = metadata.iter().map(|name| vec![*name]);
    let several = (2..=metadata.len()).map(|n| metadata[..n].to_vec());
    for gone in one.chain(several) {
        let device = forge.device();
        fs::create_dir(device.trusted().directory).unwrap();
        for (name, bytes) in whole.iter().filter(|(name, _)| !gone.contains(name)) {
            fs::write(device.trusted().directory.join(name), bytes).unwrap();
        }
        assert!(device.fetch("manifest.json").unwrap().is_some(), "{gone:?}");
        assert_eq!(device.stored(), whole, "{gone:?}");
    }
}
