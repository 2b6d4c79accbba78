//! What a device believes about time when its clock is of no use.

use avocado_tuf::TufError;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{Device, Forge, PAST, key, now, tuf_key};

/// A clock that began anew.
const START: &str = "1970-01-01T00:00:10Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The same device after a power cut.
fn without_clock(device: Device) -> Device {
    Device {
        start_time: at(START),
        ..device
    }
}

/// The manifest now has a role that expired a second before `now()`.
fn expire_the_role(forge: &mut Forge) {
    forge.role("app")["expires"] = json!(PAST);
    forge.publish_all();
}

fn is_expired(error: &TufError, role: &str) -> bool {
    matches!(error, TufError::Expired { role: r, .. } if r == role)
}

#[test]
fn a_clock_that_begins_anew_does_not_revive_what_had_expired() {
    let mut forge = Forge::new();
    let device = forge.device();
    device.fetch("manifest.json").unwrap();
    expire_the_role(&mut forge);

    let device = without_clock(device);
    let error = device.fetch("manifest.json").unwrap_err();
    assert!(is_expired(&error, "app"), "{error:?}");
    assert_eq!(device.client().unwrap().judged_by(), now());

    // A device that has never refreshed has nothing but its clock.
    let other = without_clock(forge.device());
    assert!(other.fetch("manifest.json").unwrap().is_some());
}

#[test]
fn every_role_is_judged_by_the_newest_trusted_time() {
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let mut forge = Forge::new();
        let device = forge.device();
        device.fetch("manifest.json").unwrap();
        forge.role(role)["expires"] = json!(PAST);
        if role == "root" {
            forge.bump("root");
            forge.publish(&["root"]);
        }
        forge.publish_all();
        let error = without_clock(device).fetch("manifest.json").unwrap_err();
        assert!(is_expired(&error, role), "{role}: {error:?}");
    }
}

#[test]
fn a_device_that_never_knows_the_time_learns_it_from_the_publisher() {
    let mut forge = Forge::new();
    forge.role("timestamp")["x-avocado-issued"] = json!(now().to_string());
    forge.publish_all();
    let device = without_clock(forge.device());
    device.fetch("manifest.json").unwrap();
    assert_eq!(device.client().unwrap().judged_by(), now());
    expire_the_role(&mut forge);
    let error = device.fetch("manifest.json").unwrap_err();
    assert!(is_expired(&error, "app"), "{error:?}");
}

#[test]
fn a_time_of_issue_that_cannot_be_is_no_time_and_no_reason_to_refuse() {
    for issued in [
        json!("2099-01-01T00:00:00Z"), // After its own expiry.
        json!("yesterday"),
        json!(1_800_000_000),
        json!(null),
    ] {
        let mut forge = Forge::new();
        forge.role("timestamp")["x-avocado-issued"] = issued.clone();
        forge.publish_all();
        let device = forge.device();
        device.fetch("manifest.json").unwrap();
        assert_eq!(device.client().unwrap().judged_by(), now(), "{issued}");
    }
}

#[test]
fn of_a_clock_that_is_ahead_nothing_is_remembered() {
    let forge = Forge::new();
    let device = forge.device();
    device.fetch("manifest.json").unwrap();
    let before = device.stored();
    let ahead = Device {
        start_time: at("2099-01-01T00:00:00Z"),
        ..device
    };
    assert!(is_expired(
        &ahead.fetch("manifest.json").unwrap_err(),
        "root"
    ));
    assert_eq!(ahead.stored(), before);
    let right = Device {
        start_time: now(),
        ..ahead
    };
    assert!(right.fetch("manifest.json").unwrap().is_some());
}

#[test]
fn replaced_keys_undo_a_time_that_was_set_too_high() {
    let mut forge = Forge::new();
    let device = forge.device();
    device.fetch("manifest.json").unwrap();
    // Whoever has the key of the timestamp says that it is 2080.
    let (expires, version) = (forge.role("timestamp")["expires"].clone(), 2);
    forge.role("timestamp")["expires"] = json!("2099-01-01T00:00:00Z");
    forge.role("timestamp")["x-avocado-issued"] = json!("2080-01-01T00:00:00Z");
    forge.publish_all();
    device.fetch("manifest.json").unwrap();
    assert_eq!(
        device.client().unwrap().judged_by(),
        at("2080-01-01T00:00:00Z")
    );
    let timestamp = forge.role("timestamp");
    timestamp["expires"] = expires;
    timestamp
        .as_object_mut()
        .unwrap()
        .remove("x-avocado-issued");
    forge.publish_all();
    assert!(is_expired(
        &device.fetch("manifest.json").unwrap_err(),
        "root"
    ));

    // The key is replaced, and all is well again.
    forge.bump("root");
    let root = forge.role("root");
    root["keys"][key(6).id()] = tuf_key(&key(6));
    root["roles"]["timestamp"]["keyids"] = json!([key(6).id()]);
    forge.signers.insert("timestamp".into(), vec![6]);
    forge.publish(&["root"]);
    forge.role("timestamp")["version"] = json!(version);
    forge.publish(&["timestamp"]);
    assert!(device.fetch("manifest.json").unwrap().is_some());
    assert_eq!(device.client().unwrap().judged_by(), now());
}

#[test]
fn the_time_is_written_down_to_the_hour() {
    let mut forge = Forge::new();
    let mut device = forge.device();
    let mut written = Vec::new();
    for minutes in [0, 59, 60, 61, 121] {
        device.start_time = now() + SignedDuration::from_mins(minutes);
        device.fetch("manifest.json").unwrap();
        forge.publish_all();
        let clock = String::from_utf8(device.stored()["clock"].clone()).unwrap();
        let time = at(clock.split_once(' ').unwrap().0);
        written.push(time.duration_since(now()).as_secs() / 60);
        // Never back, whatever the clock says.
        device.start_time = at(START);
        device.fetch("manifest.json").unwrap();
        assert_eq!(device.stored()["clock"], clock.as_bytes());
    }
    assert_eq!(written, [0, 0, 60, 60, 121]);
}

#[test]
fn a_time_that_was_remembered_is_named_where_it_decides() {
    let mut forge = Forge::new();
    let ahead = Device {
        start_time: at("2026-03-01T00:00:00Z"),
        ..forge.device()
    };
    ahead.fetch("manifest.json").unwrap();
    forge.role("timestamp")["expires"] = json!("2025-06-08T00:00:00Z");
    forge.publish_all();
    let right = Device {
        start_time: now(),
        ..ahead
    };
    let error = right.fetch("manifest.json").unwrap_err();
    assert!(is_expired(&error, "timestamp"), "{error:?}");
    let told = error.to_string();
    for time in ["2025-06-08", "2026-03-01T00:00:00Z", "2025-06-01T00:00:00Z"] {
        assert!(told.contains(time), "{told}");
    }
    // Where the clock itself says so, it alone is named.
    let late = Device {
        start_time: at("2026-04-01T00:00:00Z"),
        ..right
    };
    let told = late.fetch("manifest.json").unwrap_err().to_string();
    assert!(
        told.contains("2026-04-01") && !told.contains("remembered"),
        "{told}"
    );
}

#[test]
fn a_publisher_takes_back_a_time_that_was_ahead() {
    // The shortest of its files lives for a week; its clock was ahead by half a year.
    let says = |forge: &mut Forge, issued: &str, expires: &str| {
        for role in ["timestamp", "snapshot"] {
            forge.role(role)["expires"] = json!(expires);
        }
        forge.role("timestamp")["x-avocado-issued"] = json!(issued);
        forge.publish_all();
    };
    for start_time in [now(), at(START)] {
        let mut forge = Forge::new();
        let device = Device {
            start_time,
            ..forge.device()
        };
        says(&mut forge, "2026-01-01T00:00:00Z", "2026-01-08T00:00:00Z");
        device.fetch("manifest.json").unwrap();
        assert_eq!(
            device.client().unwrap().judged_by(),
            at("2026-01-01T00:00:00Z")
        );
        let ahead = std::fs::read(forge.path("metadata/timestamp.json")).unwrap();

        says(&mut forge, "2025-06-01T00:00:00Z", "2025-06-08T00:00:00Z");
        assert!(
            device.fetch("manifest.json").unwrap().is_some(),
            "{start_time}"
        );
        assert_eq!(device.client().unwrap().judged_by(), now());
        // And it is no way back.
        std::fs::write(forge.path("metadata/timestamp.json"), ahead).unwrap();
        let error = device.fetch("manifest.json").unwrap_err();
        assert!(matches!(error, TufError::Rollback { .. }), "{error:?}");
    }
}
