//! Going back in time, and staying there.

use std::fs;

use avocado_tuf::TufError;
use serde_json::json;

use super::{Attack, TOP, attack, upward};
use crate::support::{Forge, PAST};

/// Publishes version 3 of the role under the name and the announcement of version 4.
fn other_version(f: &mut Forge, role: &str) {
    upward(f, role);
    f.role("snapshot")["meta"][format!("{role}.json")] = json!({"version": 4});
    fs::copy(
        f.path(&format!("metadata/3.{role}.json")),
        f.path(&format!("metadata/4.{role}.json")),
    )
    .unwrap();
    upward(f, "snapshot");
}

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        // Expiry.
        attack(
            "expired root",
            |f| {
                f.bump("root");
                f.role("root")["expires"] = json!(PAST);
                f.publish(&["root"]);
            },
            |e| matches!(e, TufError::Expired { role, .. } if role == "root"),
            &["root"],
        ),
        attack(
            "expired timestamp",
            |f| {
                f.role("timestamp")["expires"] = json!(PAST);
                upward(f, "timestamp");
            },
            |e| matches!(e, TufError::Expired { role, .. } if role == "timestamp"),
            &[],
        ),
        attack(
            "expired snapshot",
            |f| {
                f.role("snapshot")["expires"] = json!(PAST);
                upward(f, "snapshot");
            },
            |e| matches!(e, TufError::Expired { role, .. } if role == "snapshot"),
            &["timestamp"],
        ),
        attack(
            "expired targets",
            |f| {
                f.role("targets")["expires"] = json!(PAST);
                upward(f, "targets");
            },
            |e| matches!(e, TufError::Expired { role, .. } if role == "targets"),
            &["timestamp", "snapshot"],
        ),
        attack(
            "expired delegated role",
            |f| {
                f.role("app")["expires"] = json!(PAST);
                upward(f, "app");
            },
            |e| matches!(e, TufError::Expired { role, .. } if role == "app"),
            TOP,
        ),
        // Rollback.
        attack(
            "older timestamp",
            |f| {
                f.role("timestamp")["version"] = json!(1);
                f.publish(&["timestamp"]);
            },
            |e| matches!(e, TufError::Rollback { role, trusted: 2, offered: 1 } if role == "timestamp"),
            &[],
        ),
        attack(
            "older snapshot",
            |f| {
                f.role("snapshot")["version"] = json!(1);
                f.publish(&["snapshot"]);
                upward(f, "timestamp");
            },
            |e| matches!(e, TufError::Rollback { role, trusted: 2, offered: 1 } if role == "snapshot"),
            &[],
        ),
        attack(
            "older targets",
            |f| {
                f.role("targets")["version"] = json!(1);
                f.publish(&["targets"]);
                upward(f, "snapshot");
            },
            |e| matches!(e, TufError::Rollback { role, .. } if role == "targets"),
            &["timestamp"],
        ),
        attack(
            "older delegated role",
            |f| {
                f.role("app")["version"] = json!(1);
                f.publish(&["app"]);
                upward(f, "snapshot");
            },
            |e| matches!(e, TufError::Rollback { role, .. } if role == "app"),
            &["timestamp"],
        ),
        attack(
            "vanished role",
            |f| {
                f.role("snapshot")["meta"]
                    .as_object_mut()
                    .unwrap()
                    .remove("app.json");
                upward(f, "snapshot");
            },
            |e| matches!(e, TufError::Vanished { file } if file == "app.json"),
            &["timestamp"],
        ),
        attack(
            "skipped root version",
            |f| {
                f.role("root")["version"] = json!(3);
                let bytes = f.bytes("root");
                fs::write(f.path("metadata/2.root.json"), bytes).unwrap();
            },
            |e| matches!(e, TufError::Version { role, expected: 2, found: 3 } if role == "root"),
            &[],
        ),
        attack(
            "root that repeats its version",
            |f| {
                let bytes = f.bytes("root");
                fs::write(f.path("metadata/2.root.json"), bytes).unwrap();
            },
            |e| matches!(e, TufError::Version { role, expected: 2, found: 1 } if role == "root"),
            &[],
        ),
        attack(
            "targets of another version than announced",
            |f| other_version(f, "targets"),
            |e| matches!(e, TufError::Version { role, expected: 4, found: 3 } if role == "targets"),
            &["timestamp", "snapshot"],
        ),
        attack(
            "delegated role of another version than announced",
            |f| other_version(f, "app"),
            |e| matches!(e, TufError::Version { role, expected: 4, found: 3 } if role == "app"),
            TOP,
        ),
        attack(
            "snapshot of another version than announced",
            |f| {
                upward(f, "snapshot");
                let meta = &mut f.role("timestamp")["meta"]["snapshot.json"];
                *meta = json!({"version": 4});
                fs::copy(
                    f.path("metadata/3.snapshot.json"),
                    f.path("metadata/4.snapshot.json"),
                )
                .unwrap();
                upward(f, "timestamp");
            },
            |e| matches!(e, TufError::Version { role, expected: 4, found: 3 } if role == "snapshot"),
            &["timestamp"],
        ),
    ]
}
