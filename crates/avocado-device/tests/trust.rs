//! One root for all repositories, however their URLs are written.
#![allow(missing_docs)]

mod common;
#[path = "common/world.rs"]
mod world;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use avocado_device::{AddRequest, DeviceError, FailureReason};
use avocado_events::Silent;
use avocado_manifest::{Digest, Manifest};
use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_tuf::client::KnownMetadata;
use common::*;
use world::*;

fn bare(version: &str) -> Manifest {
    runtime(version, "2026-01-01T00:00:00Z", Vec::new())
}

/// A device that learnt at its repository that key 7 was replaced by key 8, and the repository of
/// somebody who has key 7.
fn after_a_rotation() -> (World, World) {
    let mut world = World::new();
    world.publish(&bare("1"), &[]);
    world.add().unwrap();
    world.desk.rotate(8, world.now);
    world.publish(&bare("2"), &[]);
    world.add().unwrap();
    let revoked = World::new();
    revoked.publish(&bare("stolen"), &[]);
    (world, revoked)
}

fn add_at(world: &World, url: &str) -> Result<(), DeviceError> {
    let request = AddRequest {
        url: url.to_owned(),
        ..world.request()
    };
    world.device.add_from_url(&request, &Silent).map(drop)
}

/// An error with everything that caused it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// The directories of repositories.
fn directories(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.base().join("metadata")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().len() == 64;
    paths.filter(named).collect()
}

/// The directory of a URL, as any version of the program names it.
fn directory(world: &World, url: &str) -> PathBuf {
    let name = Digest::of(url.as_bytes()).to_string();
    world.base().join("metadata").join(name)
}

/// Every file below a directory, with what is in it.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    all
}

#[test]
fn a_key_that_was_replaced_is_dead_at_every_url() {
    let (world, revoked) = after_a_rotation();
    let port = |world: &World| {
        let url = world.server.url();
        url.trim_end_matches('/')
            .rsplit(':')
            .next()
            .unwrap()
            .to_owned()
    };
    let refused = |url: &str| {
        let error = add_at(&world, url).unwrap_err();
        assert!(error.is_untrusted_signature(), "{url}: {}", chain(&error));
    };
    // At another port, and then in the place of the repository itself, by every name that it has.
    let other = port(&revoked);
    refused(&format!("http://127.0.0.1:{other}"));
    refused(&format!("http://localhost:{other}/"));
    let (old, new) = (revoked.desk.repository(), world.desk.repository());
    fs::rename(&new, world.dir.path().join("aside")).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&old, &new])
        .status();
    assert!(copied.unwrap().success());
    let own = port(&world);
    for url in [
        format!("http://127.0.0.1:{own}"),
        format!("HTTP://127.0.0.1:{own}/"),
        format!("http://localhost:{own}"),
        format!("http://LOCALHOST:{own}"),
        format!("http://127.0.0.1:{own}/x/.."),
    ] {
        refused(&url);
    }
    let error = add_at(&world, &format!("http://u:p@127.0.0.1:{own}")).unwrap_err();
    assert!(
        matches!(error, DeviceError::Staging(FailureReason::Url { .. })),
        "{error:?}"
    );
    let root = world.device.trusted_root().unwrap().unwrap();
    let root: serde_json::Value = serde_json::from_slice(&root).unwrap();
    let keys: Vec<_> = root["signed"]["keys"].as_object().unwrap().keys().collect();
    assert_eq!(keys, [&world.desk.key.id()]);
}

#[test]
fn what_older_versions_left_is_taken_up() {
    let (world, revoked) = after_a_rotation();
    // They kept the root with each repository, under the URL as it was written.
    fs::remove_dir_all(world.base().join("metadata/trusted-root")).unwrap();
    let url = world.server.url();
    let url = url.trim_end_matches('/');
    let written = url.replace("http://", "HTTP://user:secret@");
    let old = directory(&world, &written);
    fs::rename(directory(&world, url), &old).unwrap();
    fs::write(old.join("url"), &written).unwrap();
    // One that was never good for anything.
    let failed = directory(&world, "http://mistyped.example");
    fs::create_dir(&failed).unwrap();
    for file in ["root.json", "anchor.sha256"] {
        fs::copy(old.join(file), failed.join(file)).unwrap();
    }
    // It is told without its password even before anything is changed.
    let told = world.device.repositories().unwrap();
    assert!(
        told.iter().any(|r| r.url.as_deref() == Some(url)),
        "{told:?}"
    );

    let error = add_at(&world, &revoked.server.url()).unwrap_err();
    assert!(error.is_untrusted_signature(), "{}", chain(&error));
    assert_eq!(directories(&world), [directory(&world, url)]);
    for (path, bytes) in contents(&world.base().join("metadata")) {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("secret"), "{}", path.display());
    }
    // What was known of it is known still.
    let known = KnownMetadata::read(&directory(&world, url)).unwrap();
    assert!(
        known.timestamp.is_some() && known.root == Some(2),
        "{known:?}"
    );
    world.add().unwrap();
    // The newest of two spellings counts.
    let newest = KnownMetadata::read(&directory(&world, url)).unwrap();
    let older = directory(&world, &written);
    fs::create_dir(&older).unwrap();
    fs::write(older.join("url"), &written).unwrap();
    fs::write(
        older.join("timestamp.json"),
        r#"{"signed": {"version": 1}}"#,
    )
    .unwrap();
    world.add().unwrap();
    assert_eq!(
        KnownMetadata::read(&directory(&world, url)).unwrap(),
        newest
    );
    assert_eq!(directories(&world).len(), 1);
}

#[test]
fn a_url_at_which_nothing_was_verified_leaves_nothing() {
    let world = World::new();
    let empty = tempfile::tempdir().unwrap();
    let server = TestServer::start(ServeOptions::new(empty.path())).unwrap();
    for url in [server.url(), format!("{}/fleet", world.server.url())] {
        assert!(add_at(&world, &url).is_err());
    }
    assert_eq!(directories(&world), <[PathBuf; 0]>::default());
    world.publish(&bare("1"), &[]);
    let spelled = world.server.url().replace("http://", "HTTP://");
    add_at(&world, &spelled).unwrap();
    world.add().unwrap();
    assert_eq!(directories(&world).len(), 1);
}

#[test]
fn a_password_in_a_url_is_refused_and_goes_nowhere() {
    let world = World::new();
    world.publish(&bare("1"), &[]);
    let with = |url: &str| url.replace("http://", "http://user:secret@");
    let good = world.request();
    for request in [
        AddRequest {
            url: with(&good.url),
            ..good.clone()
        },
        AddRequest {
            artifacts_url: Some(with(&good.url)),
            ..good.clone()
        },
        AddRequest {
            url: format!("{}?token=secret", good.url),
            ..good.clone()
        },
    ] {
        assert!(!format!("{request:?}").contains("secret"));
        let events = Events::default();
        let error = world.device.add_from_url(&request, &events).unwrap_err();
        assert!(!chain(&error).contains("secret"), "{}", chain(&error));
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert!(!format!("{:?}", events.take()).contains("secret"));
    }
    assert_eq!(world.server.requests().len(), 0);
    for (path, bytes) in contents(world.base()) {
        assert!(
            !String::from_utf8_lossy(&bytes).contains("secret"),
            "{}",
            path.display()
        );
    }
}
