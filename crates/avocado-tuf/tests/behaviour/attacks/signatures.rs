//! Metadata of those who have no say.

use serde_json::json;

use super::{
    Attack, TOP, attack, change_content, drop_signature, resign, two_needed, unacceptable,
    unsigned, upward,
};
use crate::support::{key, tuf_key};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        // Signatures.
        attack(
            "unsigned timestamp",
            |f| resign(f, "timestamp", drop_signature),
            |e| unsigned(e, "timestamp"),
            &[],
        ),
        attack(
            "unsigned snapshot",
            |f| resign(f, "snapshot", drop_signature),
            |e| unsigned(e, "snapshot"),
            &["timestamp"],
        ),
        attack(
            "unsigned targets",
            |f| resign(f, "targets", drop_signature),
            |e| unsigned(e, "targets"),
            &["timestamp", "snapshot"],
        ),
        attack(
            "unsigned delegated role",
            |f| resign(f, "app", drop_signature),
            |e| unsigned(e, "app"),
            TOP,
        ),
        attack(
            "timestamp changed after signing",
            |f| resign(f, "timestamp", change_content),
            |e| unsigned(e, "timestamp"),
            &[],
        ),
        attack(
            "delegated role changed after signing",
            |f| resign(f, "app", change_content),
            |e| unsigned(e, "app"),
            TOP,
        ),
        attack(
            "timestamp of another role's key",
            |f| {
                f.signers.insert("timestamp".into(), vec![3]);
                upward(f, "timestamp");
            },
            |e| unsigned(e, "timestamp"),
            &[],
        ),
        attack(
            "delegated role signed by the delegator",
            |f| {
                f.signers.insert("app".into(), vec![4]);
                upward(f, "app");
            },
            |e| unsigned(e, "app"),
            TOP,
        ),
        attack(
            "root of an unknown key",
            |f| {
                f.bump("root");
                f.role("root")["keys"][key(9).id()] = tuf_key(&key(9));
                f.role("root")["roles"]["root"] = json!({"keyids": [key(9).id()], "threshold": 1});
                f.signers.insert("root".into(), vec![9]);
                f.publish(&["root"]);
            },
            |e| unsigned(e, "root"),
            &[],
        ),
        attack(
            "root that does not sign for itself",
            |f| {
                f.bump("root");
                f.role("root")["keys"][key(9).id()] = tuf_key(&key(9));
                f.role("root")["roles"]["root"] = json!({"keyids": [key(9).id()], "threshold": 1});
                f.publish(&["root"]);
            },
            |e| unsigned(e, "root"),
            &[],
        ),
        attack(
            "key missing from the root",
            |f| {
                f.bump("root");
                f.role("root")["keys"]
                    .as_object_mut()
                    .unwrap()
                    .remove(&key(2).id());
                f.publish(&["root"]);
                upward(f, "timestamp");
            },
            |e| unsigned(e, "timestamp"),
            &["root"],
        ),
        attack(
            "key missing from the delegation",
            |f| {
                f.role("targets")["delegations"]["keys"] = json!({});
                upward(f, "app");
            },
            |e| unsigned(e, "app"),
            TOP,
        ),
        attack(
            "threshold by one signature twice",
            |f| {
                two_needed(f, "timestamp", json!([key(2).id(), key(3).id()]));
                f.signers.insert("timestamp".into(), vec![2, 2]);
                upward(f, "timestamp");
            },
            |e| unacceptable(e, "timestamp"),
            &["root"],
        ),
        attack(
            "threshold by one of two",
            |f| {
                two_needed(f, "timestamp", json!([key(2).id(), key(3).id()]));
                upward(f, "timestamp");
            },
            |e| unsigned(e, "timestamp"),
            &["root"],
        ),
        attack(
            "one signature too many",
            |f| {
                f.signers.insert("snapshot".into(), vec![3, 3]);
                upward(f, "snapshot");
            },
            |e| unacceptable(e, "snapshot"),
            &["timestamp"],
        ),
        attack(
            "threshold by one key under two ids",
            |f| {
                f.role("root")["keys"]["alias"] = tuf_key(&key(2));
                two_needed(f, "timestamp", json!([key(2).id(), "alias"]));
                resign(f, "timestamp", |envelope| {
                    let mut again = envelope["signatures"][0].clone();
                    again["keyid"] = json!("alias");
                    envelope["signatures"].as_array_mut().unwrap().push(again);
                });
            },
            |e| unsigned(e, "timestamp"),
            &["root"],
        ),
        attack(
            "threshold of nought",
            |f| {
                f.role("targets")["delegations"]["roles"][0]["threshold"] = json!(0);
                f.signers.insert("app".into(), vec![]);
                upward(f, "app");
            },
            |e| unacceptable(e, "targets"),
            &["timestamp", "snapshot"],
        ),
    ]
}
