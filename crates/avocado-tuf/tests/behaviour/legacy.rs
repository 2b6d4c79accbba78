//! The layout of older publishers: what is tolerated there, and what is not.

use std::fs;

use avocado_tuf::Error;
use serde_json::json;

use crate::support::{Device, Forge, LATER, now};

/// Makes the repository what an older publisher would write: version 1 throughout, no consistent
/// snapshot, one role per runtime id in the directory `delegations`.
fn publish_legacy(forge: &mut Forge, runtime: &str, manifest: &[u8], expires: &str) {
    forge.role("app")["targets"] = json!({});
    forge.add("app", "manifest.json", manifest);
    let delegation = &mut forge.role("targets")["delegations"]["roles"][0];
    delegation["name"] = json!(format!("runtime-{runtime}"));
    forge.role("timestamp")["expires"] = json!(expires);
    forge.role("snapshot")["meta"] = json!({});
    forge.publish(&["app", "targets"]);
    let app = fs::read(forge.path("metadata/app.json")).unwrap();
    let file = format!("delegations/runtime-{runtime}.json");
    fs::write(forge.path(&format!("metadata/{file}")), app).unwrap();
    let meta = forge.role("snapshot")["meta"].as_object_mut().unwrap();
    let app = meta.remove("app.json").unwrap();
    meta.insert(file, app);
    forge.publish(&["snapshot", "timestamp"]);
}

fn legacy() -> (Forge, Device) {
    let mut forge = Forge::new();
    forge.role("root")["consistent_snapshot"] = json!(false);
    forge.publish(&["root"]);
    publish_legacy(&mut forge, "one", b"first", "2025-06-08T00:00:00Z");
    let device = Device {
        relax_legacy: true,
        ..forge.device()
    };
    assert_eq!(device.fetch("manifest.json").unwrap().unwrap(), b"first");
    (forge, device)
}

#[test]
fn the_older_layout_is_read_twice_in_a_row() {
    let (mut forge, device) = legacy();
    publish_legacy(&mut forge, "two", b"second", "2025-06-08T00:00:01Z");
    assert_eq!(device.fetch("manifest.json").unwrap().unwrap(), b"second");
    let mut client = device.client().unwrap();
    assert!(!client.is_relaxed());
    client.refresh().unwrap();
    assert!(client.is_relaxed());
    assert_eq!(
        device.stored()["timestamp.json"],
        fs::read(forge.path("metadata/timestamp.json")).unwrap()
    );
}

#[test]
fn without_the_relaxation_the_older_layout_is_not_read() {
    let (_forge, device) = legacy();
    let strict = Device {
        relax_legacy: false,
        ..device
    };
    let error = strict.fetch("manifest.json").unwrap_err();
    assert!(matches!(error, Error::NotInSnapshot { role } if role == "runtime-one"));
}

#[test]
fn the_older_layout_may_not_go_back_in_time() {
    let (mut forge, device) = legacy();
    let before = device.stored();
    publish_legacy(&mut forge, "two", b"second", "2025-06-07T23:59:59Z");
    assert!(matches!(
        device.fetch("manifest.json"),
        Err(Error::Changed { .. })
    ));
    assert_eq!(device.stored(), before);
}

#[test]
fn the_relaxation_is_bound_to_the_layout() {
    let mut forge = Forge::new();
    forge.role("root")["consistent_snapshot"] = json!(false);
    forge.publish(&["root"]);
    let device = Device {
        relax_legacy: true,
        ..forge.device()
    };
    device.fetch("manifest.json").unwrap();
    let before = device.stored();
    // The standard layout, changed without a new version.
    forge.add("app", "manifest.json", b"changed");
    forge.publish(&["app", "targets", "snapshot", "timestamp"]);
    assert!(matches!(
        device.fetch("manifest.json"),
        Err(Error::Changed { .. })
    ));
    assert_eq!(device.stored(), before);

    // And with a new version, but without a role that was there.
    for role in ["snapshot", "timestamp"] {
        forge.bump(role);
    }
    forge.role("snapshot")["meta"]
        .as_object_mut()
        .unwrap()
        .remove("app.json");
    forge.publish(&["snapshot", "timestamp"]);
    assert!(matches!(
        device.fetch("manifest.json"),
        Err(Error::Vanished { .. })
    ));
}

#[test]
fn the_older_layout_is_signed_dated_and_measured_like_any_other() {
    type Tamper = fn(&mut Forge);
    let attacks: [(&str, Tamper); 4] = [
        ("delegation", |f| {
            fs::write(f.path("metadata/delegations/runtime-two.json"), "{}").unwrap();
        }),
        ("target", |f| {
            fs::write(f.path("targets/manifest.json"), "evil!!").unwrap()
        }),
        ("timestamp", |f| {
            f.role("timestamp")["expires"] = json!(now().to_string());
            f.publish(&["timestamp"]);
        }),
        ("no digest", |f| {
            f.role("snapshot")["meta"]["delegations/runtime-two.json"] = json!({"version": 1});
            f.publish(&["snapshot", "timestamp"]);
        }),
    ];
    for (name, tamper) in attacks {
        let (mut forge, device) = legacy();
        publish_legacy(&mut forge, "two", b"second", "2025-06-08T00:00:01Z");
        tamper(&mut forge);
        assert!(device.fetch("manifest.json").is_err(), "{name}");
    }
}

#[test]
fn a_repository_with_consistent_snapshots_is_never_of_the_older_layout() {
    let mut forge = Forge::new();
    publish_legacy(&mut forge, "one", b"first", LATER);
    let device = Device {
        relax_legacy: true,
        ..forge.device()
    };
    let error = device.fetch("manifest.json").unwrap_err();
    assert!(matches!(error, Error::NotInSnapshot { role } if role == "runtime-one"));
}
