//! Runtimes that come with an operating system: nothing of one is believed, opened or run before its
//! bytes are those that were signed, and what an update of another program has left stays as it is.
#![allow(missing_docs)]

mod common;
#[path = "common/world.rs"]
mod world;

use std::fs;

use avocado_device::{Activation, Device, DeviceConfig, DeviceError, FailureReason, PruneOptions};
use avocado_events::Silent;
use avocado_manifest::{Digest, ImageId, Manifest, OsBundle};
use avocado_test_server::{Fault, FaultRule};
use common::*;
use world::*;

const BUNDLE: &[u8] = b"an OS bundle, with commands in it";

/// A runtime that comes with an OS.
fn with_os(version: &str, os_build_id: &str) -> Manifest {
    let mut manifest = runtime(version, "2026-01-01T00:00:00Z", Vec::new());
    let digest = Digest::of(BUNDLE);
    manifest.os_bundle = Some(OsBundle {
        image_id: ImageId::from_digest(digest),
        sha256: Some(digest),
        os_build_id: Some(os_build_id.to_owned()),
        initramfs_build_id: None,
        chunks_sha256: None,
    });
    manifest.id = manifest.content_id().unwrap();
    manifest
}

/// The same device as of `world`, streaming or not; the OS that runs says `running`.
fn device(world: &World, stream: bool) -> Device {
    fs::write(
        world.dir.path().join("os-release"),
        "AVOCADO_OS_BUILD_ID=running\n",
    )
    .unwrap();
    let config = DeviceConfig {
        stream_os_to_partition: stream,
        ..DeviceConfig::default()
    };
    Device::with_paths(config, world.device.paths().clone())
}

#[test]
fn a_bundle_counts_only_with_the_bytes_that_were_signed() {
    for stream in [false, true] {
        let world = World::new();
        let device = device(&world, stream);
        let manifest = with_os("1", "running");
        let add = || device.add_from_url(&world.request(), &Silent);
        let before = world.visible();
        let refused = |what: &str| {
            let error = add().expect_err(what);
            assert!(
                matches!(error, DeviceError::Staging(_)),
                "{what}: {error:?}"
            );
            assert_eq!(world.visible(), before, "{what}");
        };
        world.publish(&manifest, &[]);
        refused("no bundle");
        let json = manifest.to_json().unwrap();
        world.publish_as(&[
            ("manifest.json".to_owned(), &json),
            (raw(BUNDLE), b"another bundle under its name"),
        ]);
        refused("another bundle, signed");
        world.publish(&manifest, &[BUNDLE]);
        let faults = world.server.faults();
        faults.add(FaultRule::new(Fault::Corrupt(3), "*.raw"));
        refused("changed on the way");
        faults.clear();
        // One that lies in the pool under its name is not it either.
        let path = put_image(world.base(), BUNDLE);
        fs::write(&path, vec![0; BUNDLE.len()]).unwrap();
        add().unwrap();
        assert_eq!(fs::read(path).unwrap(), BUNDLE);
    }
}

#[test]
fn a_runtime_of_another_os_is_staged_and_not_activated() {
    let world = World::new();
    let device = device(&world, false);
    let (mine, other) = (with_os("1", "running"), with_os("2", "other"));
    for manifest in [&mine, &other] {
        world.publish(manifest, &[BUNDLE]);
        device.add_from_url(&world.request(), &Silent).unwrap();
    }
    device.activate(mine.id.as_str(), &Silent).unwrap();
    let before = tree(world.base());
    for _ in 0..2 {
        let error = device.activate(other.id.as_str(), &Silent).unwrap_err();
        let DeviceError::Update {
            back_to, source, ..
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(back_to.as_ref(), Some(&mine.id));
        assert!(
            matches!(&*source, FailureReason::OtherOs { needed, running, .. } if needed == "the OS build other" && running == "running"),
            "{source:?}"
        );
        assert_eq!(tree(world.base()), before);
    }
}

#[test]
fn a_runtime_whose_os_is_written_waits_for_the_reboot() {
    let world = World::new();
    let device = device(&world, false);
    let (mine, other) = (with_os("1", "running"), with_os("2", "other"));
    for manifest in [&mine, &other] {
        world.publish(manifest, &[BUNDLE]);
        device.add_from_url(&world.request(), &Silent).unwrap();
    }
    device.activate(mine.id.as_str(), &Silent).unwrap();
    let marker = world.base().join("pending-update.json");
    let activate = || device.activate(other.id.as_str(), &Silent);
    let refused = |what: &str| match activate().unwrap_err() {
        DeviceError::Update { source, .. } => match *source {
            FailureReason::OtherOs { .. } | FailureReason::File { .. } => {}
            other => panic!("{what}: {other:?}"),
        },
        other => panic!("{what}: {other:?}"),
    };
    // Of another runtime, of another build, and one that cannot be understood.
    for text in [
        format!(r#"{{"os_build_id":"other","runtime_id":"{}"}}"#, mine.id),
        format!(r#"{{"os_build_id":"third","runtime_id":"{}"}}"#, other.id),
        "{".to_owned(),
    ] {
        fs::write(&marker, &text).unwrap();
        refused(&text);
    }
    let pending = format!(
        r#"{{"os_build_id":"other","previous_slot":"a","runtime_id":"{}"}}"#,
        other.id
    );
    fs::write(&marker, pending).unwrap();
    let before = tree(world.base());
    let Activation::RebootRequired { runtime, pending } = activate().unwrap() else {
        panic!("it became active");
    };
    assert_eq!(*runtime.manifest, other);
    assert!(!runtime.active);
    assert_eq!(pending.previous_slot.as_deref(), Some("a"));
    assert_eq!(tree(world.base()), before);
    assert_eq!(device.inspect(None).unwrap().manifest.id, mine.id);
    // After the reboot it is a runtime like any other.
    fs::write(
        world.dir.path().join("os-release"),
        "AVOCADO_OS_BUILD_ID=other\n",
    )
    .unwrap();
    assert!(matches!(activate().unwrap(), Activation::Active(entry) if entry.active));
}

#[test]
fn an_update_that_another_program_has_under_way_stays_as_it_is() {
    let world = World::new();
    let device = device(&world, false);
    let (first, second) = (with_os("1", "running"), with_os("2", "running"));
    for manifest in [&first, &second] {
        world.publish(manifest, &[BUNDLE]);
        device.add_from_url(&world.request(), &Silent).unwrap();
    }
    device.activate(first.id.as_str(), &Silent).unwrap();
    // As written before the reboot into another slot. Nothing of it may be run, least of all the
    // way back: the device has not even been started again.
    let ran = world.dir.path().join("ran");
    let touch = serde_json::json!({"type": "command", "command": ["touch", ran]});
    let marker = world.base().join("pending-update.json");
    let pending = serde_json::json!({
        "os_build_id": "other",
        "verify": {"type": "os-release", "field": "AVOCADO_OS_BUILD_ID", "expected": "other"},
        "rollback": [touch], "previous_slot": "a", "runtime_id": second.id,
    });
    fs::write(&marker, pending.to_string()).unwrap();
    let bytes = fs::read(&marker).unwrap();
    device.merge(&Silent).unwrap();
    device.refresh(&Silent).unwrap();
    device.unmerge(true, &Silent).unwrap();
    world.publish(&with_os("3", "running"), &[BUNDLE]);
    device.add_from_url(&world.request(), &Silent).unwrap();
    let options = PruneOptions {
        keep: Some(1),
        dry_run: false,
    };
    device.prune(&options, &Silent).unwrap();
    assert_eq!(fs::read(&marker).unwrap(), bytes);
    assert!(!ran.exists());
    assert_eq!(device.inspect(None).unwrap().manifest.id, first.id);
    let kept = device.list().unwrap().into_iter();
    let kept: Vec<_> = kept.map(|e| e.manifest.id.clone()).collect();
    assert_eq!(kept, [first.id, second.id]);
}
