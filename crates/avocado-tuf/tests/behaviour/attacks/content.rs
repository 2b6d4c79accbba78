//! Files that are not what they should be: shape, digest, length, presence.

use std::fs;

use avocado_manifest::Digest;
use avocado_tuf::TufError;
use serde_json::json;

use super::{Attack, TOP, attack, resign, unacceptable, upward};
use crate::support::{key, sign};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        // Shape.
        attack(
            "snapshot in place of a timestamp",
            |f| {
                f.bump("timestamp");
                let mut lie = f.signed["snapshot"].clone();
                lie["version"] = json!(3);
                lie["meta"] = f.signed["timestamp"]["meta"].clone();
                f.put("timestamp", &sign(&lie, &[key(2)]));
            },
            |e| unacceptable(e, "timestamp"),
            &[],
        ),
        attack(
            "root of another kind",
            |f| {
                f.bump("root");
                f.role("root")["_type"] = json!("targets");
                f.publish(&["root"]);
            },
            |e| unacceptable(e, "root"),
            &[],
        ),
        attack(
            "snapshot of another kind",
            |f| {
                f.role("snapshot")["_type"] = json!("timestamp");
                upward(f, "snapshot");
            },
            |e| unacceptable(e, "snapshot"),
            &["timestamp"],
        ),
        attack(
            "targets of another kind",
            |f| {
                f.role("targets")["_type"] = json!("snapshot");
                upward(f, "targets");
            },
            |e| unacceptable(e, "targets"),
            &["timestamp", "snapshot"],
        ),
        attack(
            "delegated role of another kind",
            |f| {
                f.role("app")["_type"] = json!("app");
                upward(f, "app");
            },
            |e| unacceptable(e, "app"),
            TOP,
        ),
        attack(
            "bottomless timestamp",
            |f| fs::write(f.path("metadata/timestamp.json"), vec![b'['; 60_000]).unwrap(),
            |e| unacceptable(e, "timestamp"),
            &[],
        ),
        attack(
            "timestamp that is no text",
            |f| {
                let mut bytes = f.bytes("timestamp");
                let at = bytes.iter().position(|b| *b == b'o').unwrap();
                bytes[at] = 0xff;
                fs::write(f.path("metadata/timestamp.json"), bytes).unwrap();
            },
            |e| unacceptable(e, "timestamp"),
            &[],
        ),
        attack(
            "another specification",
            |f| {
                f.role("timestamp")["spec_version"] = json!("2.0.0");
                upward(f, "timestamp");
            },
            |e| unacceptable(e, "timestamp"),
            &[],
        ),
        attack(
            "no version",
            |f| {
                resign(f, "timestamp", |envelope| {
                    envelope["signed"]
                        .as_object_mut()
                        .unwrap()
                        .remove("version");
                    *envelope =
                        serde_json::from_slice(&sign(&envelope["signed"], &[key(2)])).unwrap();
                });
            },
            |e| unacceptable(e, "timestamp"),
            &[],
        ),
        attack(
            "version nought",
            |f| {
                f.role("timestamp")["version"] = json!(0);
                f.publish(&["timestamp"]);
            },
            |e| unacceptable(e, "timestamp"),
            &[],
        ),
        attack(
            "timestamp cut short",
            |f| {
                upward(f, "timestamp");
                let bytes = fs::read(f.path("metadata/timestamp.json")).unwrap();
                fs::write(f.path("metadata/timestamp.json"), &bytes[..bytes.len() / 2]).unwrap();
            },
            |e| unacceptable(e, "timestamp"),
            &[],
        ),
        attack(
            "delegation to a top-level role",
            |f| {
                f.role("targets")["delegations"]["roles"][0]["name"] = json!("timestamp");
                upward(f, "targets");
            },
            |e| unacceptable(e, "targets"),
            &["timestamp", "snapshot"],
        ),
        attack(
            "fraction as a length",
            |f| {
                f.role("app")["targets"]["manifest.json"]["length"] = json!(12.5);
                upward(f, "app");
            },
            |e| unacceptable(e, "app"),
            TOP,
        ),
        // Digests and lengths of metadata.
        attack(
            "snapshot that is not the announced one",
            |f| {
                upward(f, "snapshot");
                f.role("snapshot")["x"] = json!(1);
                let other = f.bytes("snapshot");
                fs::write(f.path("metadata/3.snapshot.json"), other).unwrap();
            },
            |e| matches!(e, TufError::TooLong { .. } | TufError::Announced { .. }),
            &["timestamp"],
        ),
        attack(
            "snapshot longer than announced",
            |f| {
                upward(f, "snapshot");
                let mut bytes = fs::read(f.path("metadata/3.snapshot.json")).unwrap();
                bytes.push(b' ');
                fs::write(f.path("metadata/3.snapshot.json"), bytes).unwrap();
            },
            |e| matches!(e, TufError::TooLong { .. }),
            &["timestamp"],
        ),
        attack(
            "targets cut short",
            |f| {
                upward(f, "targets");
                let bytes = fs::read(f.path("metadata/3.targets.json")).unwrap();
                fs::write(f.path("metadata/3.targets.json"), &bytes[..9]).unwrap();
            },
            |e| matches!(e, TufError::Announced { role } if role == "targets"),
            &["timestamp", "snapshot"],
        ),
        attack(
            "delegated role with another digest",
            |f| {
                f.bump("app");
                f.publish(&["app"]);
                f.role("snapshot")["meta"]["app.json"]["hashes"] =
                    json!({"sha256": "0".repeat(64)});
                upward(f, "targets");
            },
            |e| matches!(e, TufError::Announced { role } if role == "app"),
            TOP,
        ),
        attack(
            "only a digest of an unknown kind",
            |f| {
                f.bump("app");
                f.publish(&["app"]);
                f.role("snapshot")["meta"]["app.json"]["hashes"] = json!({"crc32": "0"});
                upward(f, "targets");
            },
            |e| matches!(e, TufError::Announced { role } if role == "app"),
            TOP,
        ),
        attack(
            "endless timestamp",
            |f| {
                fs::write(f.path("metadata/timestamp.json"), vec![b' '; 100_000]).unwrap();
            },
            |e| matches!(e, TufError::TooLong { limit: 65536, .. }),
            &[],
        ),
        attack(
            "endless root",
            |f| fs::write(f.path("metadata/2.root.json"), vec![b' '; (1 << 20) + 1]).unwrap(),
            |e| matches!(e, TufError::TooLong { limit, .. } if *limit == 1 << 20),
            &[],
        ),
        attack(
            "endless snapshot of unannounced length",
            |f| {
                f.bump("snapshot");
                f.publish(&["snapshot"]);
                f.role("timestamp")["meta"]["snapshot.json"] = json!({"version": 3});
                upward(f, "timestamp");
                fs::write(
                    f.path("metadata/3.snapshot.json"),
                    vec![b' '; (2 << 20) + 1],
                )
                .unwrap();
            },
            |e| matches!(e, TufError::TooLong { limit, .. } if *limit == 2 << 20),
            &["timestamp"],
        ),
        attack(
            "endless targets of unannounced length",
            |f| {
                f.role("snapshot")["meta"]["targets.json"] = json!({"version": 3});
                upward(f, "snapshot");
                fs::write(f.path("metadata/3.targets.json"), vec![b' '; (2 << 20) + 1]).unwrap();
            },
            |e| matches!(e, TufError::TooLong { limit, .. } if *limit == 2 << 20),
            &["timestamp", "snapshot"],
        ),
        attack(
            "announced length beyond the bound",
            |f| {
                upward(f, "snapshot");
                f.role("timestamp")["meta"]["snapshot.json"]["length"] = json!(u64::MAX);
                upward(f, "timestamp");
                fs::write(
                    f.path("metadata/3.snapshot.json"),
                    vec![b' '; (4 << 20) + 1],
                )
                .unwrap();
            },
            |e| matches!(e, TufError::TooLong { limit, .. } if *limit == 4 << 20),
            &["timestamp"],
        ),
        attack(
            "targets that are not the announced ones",
            |f| {
                upward(f, "targets");
                // Well signed, and never meant to be seen together.
                f.role("targets")["expires"] = json!("2026-06-02T00:00:00Z");
                let other = f.bytes("targets");
                fs::write(f.path("metadata/3.targets.json"), other).unwrap();
            },
            |e| matches!(e, TufError::Announced { role } if role == "targets"),
            &["timestamp", "snapshot"],
        ),
        // Missing files.
        attack(
            "no timestamp",
            |f| fs::remove_file(f.path("metadata/timestamp.json")).unwrap(),
            |e| matches!(e, TufError::Fetch { .. }),
            &[],
        ),
        attack(
            "no snapshot",
            |f| {
                upward(f, "snapshot");
                fs::remove_file(f.path("metadata/3.snapshot.json")).unwrap();
            },
            |e| matches!(e, TufError::Fetch { .. }),
            &["timestamp"],
        ),
        attack(
            "delegated role that the snapshot never listed",
            |f| {
                f.role("targets")["delegations"]["roles"][0]["name"] = json!("new");
                upward(f, "targets");
            },
            |e| matches!(e, TufError::NotInSnapshot { role } if role == "new"),
            TOP,
        ),
        // The target itself.
        attack(
            "target with another content",
            |f| {
                f.add("app", "manifest.json", b"the 2nd one!");
                upward(f, "app");
                let name = format!("targets/{}.manifest.json", Digest::of(b"the 2nd one!"));
                fs::write(f.path(&name), b"an evil one!").unwrap();
            },
            |e| matches!(e, TufError::Digest { .. }),
            &["timestamp", "snapshot", "targets", "app"],
        ),
        attack(
            "target longer than stated",
            |f| {
                f.add("app", "manifest.json", b"the 2nd one!");
                upward(f, "app");
                let name = format!("targets/{}.manifest.json", Digest::of(b"the 2nd one!"));
                fs::write(f.path(&name), b"the 2nd one! and more").unwrap();
            },
            |e| matches!(e, TufError::TooLong { limit: 12, .. }),
            &["timestamp", "snapshot", "targets", "app"],
        ),
        attack(
            "target without a usable digest",
            |f| {
                f.role("app")["targets"]["manifest.json"]["hashes"] = json!({"md5": "0"});
                upward(f, "app");
            },
            |e| matches!(e, TufError::NoDigest { .. }),
            &["timestamp", "snapshot", "targets", "app"],
        ),
    ]
}
