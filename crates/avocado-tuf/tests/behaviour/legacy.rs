//! The layout of older publishers: what is tolerated there, and what is not.

use std::fs;

use avocado_manifest::Digest;
use avocado_tuf::TufError;
use avocado_tuf::testing::TestPublisher;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::older::OlderPublisher;
use crate::support::{Device, Forge, key, now};

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// A publication that the device knows.
fn known() -> (OlderPublisher, Device) {
    let mut publisher = OlderPublisher::new(now());
    publisher.publish("one", b"first", now());
    let device = publisher.device();
    assert_eq!(device.fetch("manifest.json").unwrap().unwrap(), b"first");
    (publisher, device)
}

#[test]
fn the_older_layout_is_read_again_and_again() {
    let (mut publisher, device) = known();
    for (n, id) in ["two", "three", "four"].into_iter().enumerate() {
        let manifest = format!("the manifest of {id}");
        publisher.publish(id, manifest.as_bytes(), later(n as i64 + 1));
        let got = device.fetch("manifest.json").unwrap().unwrap();
        assert_eq!(got, manifest.as_bytes());

        // What is trusted is what came, and of the roles that vanished nothing is left.
        let stored = device.stored();
        let role = format!("runtime-{id}.json");
        assert_eq!(
            stored.keys().collect::<Vec<_>>(),
            [
                "anchor.sha256",
                "clock",
                "root.json",
                &role,
                "snapshot.json",
                "targets.json",
                "timestamp.json"
            ]
        );
        for file in ["snapshot", "targets", "timestamp"] {
            let came = fs::read(publisher.file(file)).unwrap();
            assert_eq!(stored[&format!("{file}.json")], came, "{file}");
        }
        // Nothing new is nothing to do.
        device.fetch("manifest.json").unwrap();
        assert_eq!(device.stored(), stored);
    }
}

#[test]
fn the_client_says_that_it_was_lenient() {
    let (_publisher, device) = known();
    let mut client = device.client().unwrap();
    assert!(!client.is_relaxed());
    client.refresh().unwrap();
    assert!(client.is_relaxed());

    // And that it was not, in front of a standard repository without consistent snapshots.
    let mut forge = Forge::new();
    forge.role("root")["consistent_snapshot"] = json!(false);
    forge.publish(&["root"]);
    let device = Device {
        relax_legacy: true,
        ..forge.device()
    };
    let mut client = device.client().unwrap();
    client.refresh().unwrap();
    assert!(!client.is_relaxed());
}

#[test]
fn without_the_relaxation_the_older_layout_is_not_read() {
    let (mut publisher, device) = known();
    let strict = Device {
        relax_legacy: false,
        ..device
    };
    let error = strict.fetch("manifest.json").unwrap_err();
    assert!(matches!(error, TufError::NotInSnapshot { role } if role == "runtime-one"));

    // And what it changes without a new version is not seen.
    let before = strict.stored();
    publisher.publish("two", b"second", later(1));
    let mut client = strict.client().unwrap();
    client.refresh().unwrap();
    assert!(!client.is_relaxed());
    assert_eq!(strict.stored(), before);
}

#[test]
fn the_older_layout_may_not_go_back_in_time() {
    let (mut publisher, device) = known();
    publisher.publish("two", b"second", later(1));
    device.fetch("manifest.json").unwrap();
    let before = device.stored();
    // The first publication as it was.
    publisher.publish("one", b"first", now());
    let error = device.fetch("manifest.json").unwrap_err();
    assert!(
        matches!(&error, TufError::Changed { role, version: 1 } if role == "timestamp"),
        "{error:?}"
    );
    assert_eq!(device.stored(), before);
}

#[test]
fn the_older_layout_is_signed_dated_and_measured_like_any_other() {
    type Tamper = fn(&OlderPublisher);
    type Refused = fn(&TufError) -> bool;
    let replace = |p: &OlderPublisher, file: &str| {
        let bytes = fs::read_to_string(p.file(file)).unwrap();
        fs::write(
            p.file(file),
            bytes.replacen("\"sig\": \"", "\"sig\": \"00", 1),
        )
        .unwrap();
    };
    let attacks: [(&str, Tamper, Refused); 10] = [
        (
            "delegated role that is not the announced one",
            |p| fs::write(p.file(&p.delegated()), "{}").unwrap(),
            |e| matches!(e, TufError::Announced { role } if role == "runtime-two"),
        ),
        (
            "delegated role of another key",
            |p| {
                let file = p.file(&p.delegated());
                let envelope = fs::read_to_string(&file).unwrap();
                fs::write(&file, envelope.replace(&key(1).id(), &key(2).id())).unwrap();
                p.announce();
            },
            |e| matches!(e, TufError::Metadata { role, .. } if role == "runtime-two"),
        ),
        (
            "target with another content",
            |p| fs::write(p.path("targets/manifest.json"), "evil!!").unwrap(),
            |e| matches!(e, TufError::Digest { .. }),
        ),
        (
            "target longer than stated",
            |p| fs::write(p.path("targets/manifest.json"), "second and more").unwrap(),
            |e| matches!(e, TufError::TooLong { limit: 6, .. }),
        ),
        (
            "expired timestamp",
            |p| p.change("timestamp", |s| s["expires"] = json!(now().to_string())),
            // It is older than the one before, too.
            |e| matches!(e, TufError::Changed { .. }),
        ),
        (
            "expired snapshot",
            |p| {
                p.change("snapshot", |s| s["expires"] = json!(now().to_string()));
                p.change("timestamp", |s| {
                    let bytes = fs::read(p.file("snapshot")).unwrap();
                    s["meta"]["snapshot.json"]["length"] = json!(bytes.len());
                    let digest = Digest::of(&bytes).to_string();
                    s["meta"]["snapshot.json"]["hashes"]["sha256"] = json!(digest);
                });
            },
            |e| matches!(e, TufError::Expired { role, .. } if role == "snapshot"),
        ),
        (
            "snapshot without a digest",
            |p| {
                p.change("timestamp", |s| {
                    s["meta"]["snapshot.json"] = json!({"version": 1});
                })
            },
            |e| matches!(e, TufError::Unbound { role } if role == "snapshot"),
        ),
        (
            "targets without a digest",
            |p| without_digest(p, "targets.json"),
            |e| matches!(e, TufError::Unbound { role } if role == "targets"),
        ),
        (
            "delegated role without a digest",
            |p| without_digest(p, &format!("{}.json", p.delegated())),
            |e| matches!(e, TufError::Unbound { role } if role == "runtime-two"),
        ),
        (
            "version nought",
            |p| p.change("timestamp", |s| s["version"] = json!(0)),
            |e| matches!(e, TufError::Metadata { role, .. } if role == "timestamp"),
        ),
    ];
    for (name, tamper, refused) in attacks {
        let (mut publisher, device) = known();
        publisher.publish("two", b"second", later(1));
        fs::remove_file(device.partial()).unwrap();
        tamper(&publisher);
        let error = device.fetch("manifest.json").unwrap_err();
        assert!(refused(&error), "{name}: {error:?}");
        assert!(!device.partial().exists(), "{name}");
    }
    for file in ["timestamp", "snapshot", "targets"] {
        let (mut publisher, device) = known();
        let before = device.stored();
        publisher.publish("two", b"second", later(1));
        replace(&publisher, file);
        assert!(device.fetch("manifest.json").is_err(), "{file}");
        if file != "targets" {
            assert_eq!(device.stored(), before, "{file}");
        }
    }
}

fn without_digest(p: &OlderPublisher, file: &str) {
    p.change("snapshot", |s| s["meta"][file] = json!({"version": 1}));
    let bytes = fs::read(p.file("snapshot")).unwrap();
    p.change("timestamp", |s| {
        s["meta"]["snapshot.json"] = json!({"version": 1, "length": bytes.len(),
            "hashes": {"sha256": Digest::of(&bytes).to_string()}});
    });
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
        Err(TufError::Changed { .. })
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
        Err(TufError::Vanished { .. })
    ));
}

#[test]
fn a_repository_with_consistent_snapshots_is_never_of_the_older_layout() {
    let mut publisher = OlderPublisher::new(now());
    publisher.publish("one", b"first", now());
    publisher.change("root", |root| root["consistent_snapshot"] = json!(true));
    for file in ["snapshot", "targets"] {
        let versioned = publisher.path(&format!("metadata/1.{file}.json"));
        fs::copy(publisher.file(file), versioned).unwrap();
    }
    let device = publisher.device();
    let error = device.fetch("manifest.json").unwrap_err();
    assert!(matches!(error, TufError::NotInSnapshot { role } if role == "runtime-one"));
}

#[test]
fn a_publisher_that_moves_on_is_followed_and_cannot_go_back() {
    let (mut publisher, mut device) = known();
    publisher.publish("two", b"second", later(1));
    device.fetch("manifest.json").unwrap();

    // The same key and the same URL, in the hands of our writer.
    let new = tempfile::tempdir().unwrap();
    let desk = TestPublisher::new(new.path(), 1);
    desk.publish(&[("manifest.json", "third")], later(2));
    let old = std::mem::replace(&mut device.files.root, desk.repository());
    assert_eq!(device.fetch("manifest.json").unwrap().unwrap(), b"third");
    let mut client = device.client().unwrap();
    client.refresh().unwrap();
    assert!(!client.is_relaxed());

    publisher.publish("four", b"fourth", later(3));
    device.files.root = old;
    assert!(matches!(
        device.fetch("manifest.json"),
        Err(TufError::Rollback { offered: 1, .. })
    ));
}
