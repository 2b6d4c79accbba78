//! What an honest repository may do, and what the client asks for on the way.

use std::fs;

use avocado_tuf::{Digests, TufError};
use serde_json::json;

use crate::support::{Device, Forge, LATER, PAST, hex, key, sha512, sign, tuf_key};

#[test]
fn only_what_is_needed_is_fetched_and_kept_as_it_came() {
    let mut forge = Forge::new();
    let device = forge.device();
    assert_eq!(
        device.fetch("manifest.json").unwrap().unwrap(),
        b"the manifest"
    );
    let log = device.files.take_log();
    let names: Vec<_> = log
        .iter()
        .filter_map(|path| path.strip_prefix("metadata/"))
        .collect();
    assert_eq!(
        names,
        [
            "2.root.json",
            "timestamp.json",
            "1.snapshot.json",
            "1.targets.json",
            "1.app.json"
        ]
    );
    let stored = device.stored();
    for role in ["root", "timestamp", "snapshot", "targets", "app"] {
        let received = fs::read(forge.path(&format!("metadata/{role}.json"))).unwrap();
        assert_eq!(stored[&format!("{role}.json")], received, "{role}");
    }
    assert_eq!(
        stored.keys().filter(|name| name.ends_with(".json")).count(),
        5
    );

    // Nothing new: a timestamp is all it takes.
    device.fetch("manifest.json").unwrap();
    assert_eq!(
        device.files.take_log()[..2],
        ["metadata/2.root.json", "metadata/timestamp.json"]
    );

    // A new delegated role only.
    forge.bump("app");
    forge.publish(&["app"]);
    forge.bump("snapshot");
    forge.bump("timestamp");
    forge.publish(&["snapshot", "timestamp"]);
    device.fetch("manifest.json").unwrap();
    assert_eq!(
        device.files.take_log()[..4],
        [
            "metadata/2.root.json",
            "metadata/timestamp.json",
            "metadata/2.snapshot.json",
            "metadata/2.app.json"
        ]
    );
}

#[test]
fn the_same_version_of_a_timestamp_stays_what_it_was() {
    let mut forge = Forge::new();
    let device = forge.device();
    device.fetch("manifest.json").unwrap();
    let before = device.stored();
    forge.role("timestamp")["meta"]["snapshot.json"] = json!({"version": 100});
    forge.publish(&["timestamp"]);
    device.fetch("manifest.json").unwrap();
    assert_eq!(device.stored(), before);
}

#[test]
fn roots_are_taken_one_by_one_and_only_the_last_has_to_be_fresh() {
    let mut forge = Forge::new();
    let device = forge.device();
    // 1 is signed by key 1, 2 by 1 and 6, 3 by 6 and 7; no step can be left out.
    for (old, new, expires) in [(1, 6, PAST), (6, 7, LATER)] {
        forge.bump("root");
        let id = key(new).id();
        let root = forge.role("root");
        root["expires"] = json!(expires);
        root["keys"][&id] = tuf_key(&key(new));
        root["roles"]["root"]["keyids"] = json!([id]);
        forge.signers.insert("root".into(), vec![old, new]);
        forge.publish(&["root"]);
    }
    let mut client = device.client().unwrap();
    assert_eq!(client.root(), device.anchor);
    client.refresh().unwrap();
    let third = fs::read(forge.path("metadata/3.root.json")).unwrap();
    assert_eq!(client.root(), third);
    assert!(!client.is_relaxed());
    assert_eq!(device.stored()["root.json"], third);
    device.files.take_log();

    // The newest root is where the next refresh begins.
    device.client().unwrap().refresh().unwrap();
    assert_eq!(device.files.take_log()[0], "metadata/4.root.json");

    // Another anchor begins anew, and one that cannot get there stays where it is.
    let other = Device {
        anchor: fs::read(forge.path("metadata/2.root.json")).unwrap(),
        ..device
    };
    other.client().unwrap().refresh().unwrap();
    assert_eq!(other.files.take_log()[0], "metadata/3.root.json");
}

#[test]
fn a_bounded_number_of_roots_is_taken_at_once() {
    let mut forge = Forge::new();
    let mut device = forge.device();
    for _ in 0..3 {
        forge.bump("root");
        forge.publish(&["root"]);
    }
    device.limits.root_rotations = 2;
    device.client().unwrap().refresh().unwrap();
    assert_eq!(
        device.stored()["root.json"],
        fs::read(forge.path("metadata/3.root.json")).unwrap()
    );
    device.client().unwrap().refresh().unwrap();
    assert_eq!(
        device.stored()["root.json"],
        fs::read(forge.path("metadata/4.root.json")).unwrap()
    );
}

#[test]
fn a_spoiled_store_is_no_obstacle() {
    let mut forge = Forge::new();
    forge.publish_all();
    let device = forge.device();
    device.fetch("manifest.json").unwrap();
    let good = device.stored();
    for file in good.keys() {
        for content in ["", "{}", "\0"] {
            fs::write(device.dir.path().join("trusted").join(file), content).unwrap();
            assert_eq!(
                device.fetch("manifest.json").unwrap().unwrap(),
                b"the manifest"
            );
            assert_eq!(device.stored(), good, "{file}");
        }
    }
}

#[test]
fn replaced_keys_undo_versions_that_were_made_too_high() {
    for role in ["timestamp", "snapshot"] {
        let mut forge = Forge::new();
        let device = forge.device();
        for role in ["targets", "snapshot", "timestamp"] {
            forge.role(role)["version"] = json!(1_000_000);
            forge.publish(&[role]);
        }
        device.fetch("manifest.json").unwrap();

        forge.bump("root");
        for (n, role) in [(6, "timestamp"), (7, "snapshot")] {
            let id = key(n).id();
            let root = forge.role("root");
            root["keys"][&id] = tuf_key(&key(n));
            root["roles"][role]["keyids"] = json!([id]);
            forge.signers.insert(role.into(), vec![n]);
        }
        forge.publish(&["root"]);
        forge.role("targets")["version"] = json!(2);
        forge.role(role)["version"] = json!(2);
        forge.publish(&["targets", "snapshot"]);
        forge.role("timestamp")["version"] = json!(2);
        forge.publish(&["timestamp"]);
        assert_eq!(
            device.fetch("manifest.json").unwrap().unwrap(),
            b"the manifest",
            "{role}"
        );
    }
}

/// Delegations: who delegates, to whom, for what, terminating. Each role has its own key.
fn delegate(forge: &mut Forge, graph: &[(&str, &str, &str, bool)]) {
    for (_, name, _, _) in graph {
        let n = name.as_bytes()[0];
        forge.signers.insert((*name).to_owned(), vec![n]);
        forge.signed.entry((*name).to_owned()).or_insert_with(|| {
            json!({"_type": "targets", "spec_version": "1.0", "version": 1, "expires": LATER, "targets": {}})
        });
    }
    let mut delegators: Vec<&str> = graph.iter().map(|d| d.0).collect();
    delegators.sort_unstable();
    delegators.dedup();
    for delegator in delegators {
        let delegations: Vec<_> = graph.iter().filter(|d| d.0 == delegator).collect();
        let keys: serde_json::Map<_, _> = delegations
            .iter()
            .map(|d| key(d.1.as_bytes()[0]))
            .map(|key| (key.id(), tuf_key(&key)))
            .collect();
        let roles: Vec<_> = delegations
            .iter()
            .map(|(_, name, paths, terminating)| {
                json!({"name": name, "keyids": [key(name.as_bytes()[0]).id()], "threshold": 1,
                    "terminating": terminating, "paths": [paths]})
            })
            .collect();
        forge.role(delegator)["delegations"] = json!({"keys": keys, "roles": roles});
    }
    let names: Vec<String> = forge.signed.keys().cloned().collect();
    for role in names
        .iter()
        .filter(|r| !["root", "snapshot", "timestamp"].contains(&r.as_str()))
    {
        forge.publish(&[role]);
    }
    forge.publish(&["snapshot", "timestamp"]);
}

#[test]
fn delegations_are_walked_depth_first_in_order() {
    type Graph = &'static [(&'static str, &'static str, &'static str, bool)];
    let cases: [(Graph, &[&str]); 7] = [
        (
            &[("targets", "A", "*", false), ("targets", "B", "*", false)],
            &["A", "B"],
        ),
        (
            &[
                ("targets", "A", "*", false),
                ("targets", "B", "*", false),
                ("A", "C", "*", false),
                ("A", "D", "*", false),
            ],
            &["A", "C", "D", "B"],
        ),
        (
            &[
                ("targets", "A", "*", false),
                ("targets", "B", "*", false),
                ("A", "C", "*", true),
                ("A", "D", "*", false),
            ],
            &["A", "C"],
        ),
        (
            &[
                ("targets", "A", "*.py", false),
                ("targets", "B", "*", false),
                ("A", "C", "*", false),
            ],
            &["B"],
        ),
        // A path that is not delegated does not terminate either.
        (
            &[("targets", "A", "*.py", true), ("targets", "B", "*", false)],
            &["B"],
        ),
        // Circles end.
        (
            &[
                ("targets", "A", "*", false),
                ("A", "B", "*", false),
                ("B", "A", "*", false),
                ("B", "B", "*", false),
            ],
            &["A", "B"],
        ),
        (
            &[
                ("targets", "A", "*", false),
                ("targets", "B", "*", false),
                ("A", "C", "*", false),
                ("B", "C", "*", false),
            ],
            &["A", "C", "B"],
        ),
    ];
    for (graph, expected) in cases {
        let mut forge = Forge::new();
        delegate(&mut forge, graph);
        let device = forge.device();
        let mut client = device.client().unwrap();
        assert_eq!(client.target("missing").unwrap(), None);
        let log = device.files.take_log();
        let visited: Vec<_> = log[4..]
            .iter()
            .map(|path| {
                path.trim_start_matches("metadata/1.")
                    .trim_end_matches(".json")
            })
            .collect();
        assert_eq!(visited, expected, "{graph:?}");
        // All of it is remembered.
        assert_eq!(client.target("missing").unwrap(), None);
        assert_eq!(device.files.take_log(), [""; 0]);
    }
}

#[test]
fn the_search_is_bounded() {
    let mut forge = Forge::new();
    delegate(
        &mut forge,
        &[
            ("targets", "A", "*", false),
            ("A", "B", "*", false),
            ("B", "C", "*", false),
        ],
    );
    let mut device = forge.device();
    device.limits.delegations = 3;
    assert_eq!(device.client().unwrap().target("x").unwrap(), None);
    device.limits.delegations = 2;
    let error = device.client().unwrap().target("x").unwrap_err();
    assert!(matches!(error, TufError::TooManyRoles { visited: 2, .. }));
}

#[test]
fn a_role_is_verified_for_each_that_delegates_to_it() {
    let mut forge = Forge::new();
    delegate(
        &mut forge,
        &[
            ("targets", "A", "a*", false),
            ("targets", "B", "b*", false),
            ("A", "C", "a*", false),
            ("B", "C", "b*", false),
        ],
    );
    forge.add("C", "a1", b"by A");
    forge.add("C", "b1", b"by B");
    // B names another key for C than A does.
    forge.role("B")["delegations"]["keys"] = json!({key(99).id(): tuf_key(&key(99))});
    forge.role("B")["delegations"]["roles"][0]["keyids"] = json!([key(99).id()]);
    for role in ["C", "B", "snapshot", "timestamp"] {
        forge.bump(role);
        forge.publish(&[role]);
    }
    let device = forge.device();
    let mut client = device.client().unwrap();
    assert!(client.target("a1").unwrap().is_some());
    assert!(matches!(client.target("b1"), Err(TufError::Metadata { role, .. }) if role == "C"));
}

#[test]
fn role_names_are_one_segment_of_a_url_and_one_file() {
    let mut forge = Forge::new();
    let name = "../x?#";
    let mut role = forge.signed["app"].clone();
    role["targets"] = json!({});
    let bytes = sign(&role, &[key(5)]);
    fs::write(forge.path("metadata/1...%2Fx%3F%23.json"), &bytes).unwrap();
    forge.role("targets")["delegations"]["roles"][0]["name"] = json!(name);
    forge.publish(&["targets"]);
    forge.role("snapshot")["meta"][format!("{name}.json")] = json!({"version": 1});
    forge.publish(&["snapshot", "timestamp"]);
    let mut device = forge.device();
    // The transport of the tests refuses every `..`; here it is part of one harmless name.
    let directory = forge.dir.path().join("metadata/1...%2Fx%3F%23.json");
    assert!(directory.exists());
    device.files.allow_dots = true;
    assert_eq!(
        device.client().unwrap().target("manifest.json").unwrap(),
        None
    );
    assert_eq!(device.stored()["..%2Fx%3F%23.json"], bytes);
}

#[test]
fn target_paths_with_directories_and_other_digests() {
    let mut forge = Forge::new();
    let text = b"deep";
    let sha512 = hex(&sha512(text));
    forge.role("targets")["targets"]["a/b/c.txt"] =
        json!({"length": 4, "hashes": {"sha512": sha512}});
    fs::create_dir_all(forge.path("targets/a/b")).unwrap();
    fs::write(forge.path(&format!("targets/a/b/{sha512}.c.txt")), text).unwrap();
    forge.publish_all();
    let device = forge.device();
    assert_eq!(device.fetch("a/b/c.txt").unwrap().unwrap(), text);
    let info = device
        .client()
        .unwrap()
        .target("a/b/c.txt")
        .unwrap()
        .unwrap();
    assert!(matches!(
        info.digests,
        Digests {
            sha256: None,
            sha512: Some(_)
        }
    ));
    assert!(info.describes(&device.partial()).unwrap());
    fs::write(device.partial(), "deeq").unwrap();
    assert!(!info.describes(&device.partial()).unwrap());
}
