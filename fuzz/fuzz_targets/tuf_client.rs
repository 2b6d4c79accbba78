//! The client against a repository whose owner is the enemy; see `avocado_fuzz::hostile`.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use avocado_events::Event;
use avocado_fuzz::hostile::{Hostile, Input, URL};
use avocado_fuzz::{scratch, told};
use avocado_manifest::Digest;
use avocado_tuf::{ClientLimits, ClientOptions, RemoteRepository, TrustedMetadata, TufClient};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const KIB: u64 = 1024;

fn open(input: &Arc<Input>, pass: u64, place: &Path) -> Option<TufClient> {
    let (_, root) = input.file("metadata/anchor.json", 1)?;
    let trusted = TrustedMetadata {
        directory: place.join("trusted"),
        root_directory: place.join("trusted-root"),
        root,
    };
    let remote = RemoteRepository {
        metadata_url: format!("{URL}/metadata").parse().unwrap(),
        targets_url: format!("{URL}/targets/").parse().unwrap(),
        auth_token: Some("token".to_owned()),
    };
    let limits = ClientLimits {
        root: 16 * KIB,
        timestamp: 16 * KIB,
        snapshot: 16 * KIB,
        targets: 16 * KIB,
        root_rotations: 4,
        delegations: 8,
        attempts: 2,
        pause: Duration::ZERO,
        ..ClientLimits::default()
    };
    let options = ClientOptions {
        // 2024-06-01
        start_time: jiff::Timestamp::constant(1_717_200_000, 0),
        limits,
        relax_legacy: input.file("relax", pass).is_some(),
    };
    let transport = Hostile {
        input: input.clone(),
        pass,
        asked: Default::default(),
    };
    match TufClient::with_transport(trusted, &remote, options, Box::new(transport)) {
        Ok(client) => Some(client),
        Err(error) => {
            told(&error);
            None
        }
    }
}

/// Updates, and downloads everything that there may be.
fn run(client: &mut TufClient, input: &Input, place: &Path) {
    if let Err(error) = client.refresh() {
        told(&error);
        return;
    }
    for name in input.targets() {
        let target = match client.target(name) {
            Ok(Some(target)) => target,
            Ok(None) => continue,
            Err(error) => {
                told(&error);
                continue;
            }
        };
        assert_eq!(target.name, name);
        let partial = place.join("partial");
        let _ = fs::remove_file(&partial);
        let result = client.download(&target, &partial, &|_: Event| {});
        let there = fs::read(&partial).unwrap_or_default();
        assert!(there.len() as u64 <= target.length, "more than announced");
        match result {
            Ok(()) => {
                assert_eq!(there.len() as u64, target.length);
                if let Some(sha256) = target.digests.sha256 {
                    assert_eq!(sha256, Digest::of(&there));
                }
                assert!(target.describes(&partial).unwrap());
            }
            Err(error) => drop(told(&error)),
        }
    }
}

/// The versions that are trusted, by file: of the repository, whose directory comes with the first
/// of its files, and of the root beside it. Whatever is there was verified, so it is metadata.
fn trusted(place: &Path) -> BTreeMap<String, u64> {
    let mut versions = BTreeMap::new();
    let repository = fs::read_dir(place.join("trusted")).into_iter().flatten();
    let root = fs::read_dir(place.join("trusted-root")).unwrap();
    // The root last: the other place has a copy, for older versions of the client.
    for entry in repository.chain(root) {
        let entry = entry.unwrap();
        assert!(entry.file_type().unwrap().is_file());
        let name = entry.file_name().into_string().unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        if name.ends_with(".json") {
            let value: Value = serde_json::from_slice(&bytes).expect("metadata");
            let version = value.pointer("/signed/version").and_then(Value::as_u64);
            versions.insert(name, version.expect("a version"));
        }
    }
    versions
}

fuzz_target!(|text: &str| {
    let input = Arc::new(Input::new(text));
    let place = scratch();
    let Some(mut client) = open(&input, 1, &place) else {
        return;
    };
    run(&mut client, &input, &place);
    let (root, before) = (client.root().to_vec(), trusted(&place));
    // As after a restart of the device.
    let mut client = open(&input, 2, &place).expect("what is trusted stays so");
    assert_eq!(client.root(), root);
    run(&mut client, &input, &place);
    let after = trusted(&place);
    assert!(after["root.json"] >= before["root.json"]);
    if client.root() == root {
        // The same keys: nothing goes back.
        for role in ["timestamp.json", "snapshot.json", "targets.json"] {
            assert!(after.get(role) >= before.get(role), "{role} went back");
        }
    }
});
