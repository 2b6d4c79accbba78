//! Disks that are full, read-only, or more than one: real file systems, as root in a mount
//! namespace of its own. Where that is not possible, the test is skipped.
#![allow(missing_docs)]

mod common;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/world.rs"]
mod world;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use avocado_device::{Cancel, Device, DeviceConfig, DeviceError, FailureReason, PruneOptions};
use avocado_events::Silent;
use avocado_manifest::{Manifest, RuntimeExtension};
use avocado_test_server::{Fault, FaultRule};
use common::*;
use namespace::{cases, with_own_mounts};
use world::{World, raw};

cases! { case(cases):
    a_full_disk_does_not_forbid_the_way_back,
    a_read_only_store_is_used_and_says_so,
    a_pool_of_its_own_file_system_takes_images,
    adding_leaves_room_on_the_disk,
    what_no_runtime_needs_gives_way_to_one_that_is_added,
}

fn case(name: &str, body: fn(&Path)) {
    with_own_mounts(name, &[], || body(tempfile::tempdir().unwrap().path()));
}

fn run(program: &str, args: &[&str]) {
    let mut command = Command::new(program);
    let status = command.args(args).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{program} {args:?}: {status}");
}

/// Mounts a new file system of 16 MiB at `at`.
fn mount(kind: &str, at: &Path) {
    fs::create_dir_all(at).unwrap();
    let at_text = at.to_str().unwrap();
    if kind == "tmpfs" {
        run("mount", &["-t", kind, "-o", "size=16m", kind, at_text]);
        return;
    }
    let file = at.with_extension(kind);
    File::create(&file).unwrap().set_len(16 << 20).unwrap();
    let file = file.to_str().unwrap();
    run(&format!("mkfs.{kind}"), &["-q", "-b", "1024", file]);
    run("mount", &["-o", "loop", file, at_text]);
}

/// A device whose store is a file system of 16 MiB.
fn world_on_a_small_disk() -> World {
    let world = World::new();
    let root = world.base().join("metadata/root.json");
    let anchor = fs::read(&root).unwrap();
    mount("tmpfs", world.base());
    fs::create_dir(world.base().join("metadata")).unwrap();
    fs::write(root, anchor).unwrap();
    world
}

fn remount(at: &Path, how: &str) {
    let how = format!("remount,{how}");
    run("mount", &["-o", &how, at.to_str().unwrap()]);
}

/// Takes every block that is free.
fn fill(dir: &Path) {
    let mut options = File::options();
    let mut file = options
        .append(true)
        .create(true)
        .open(dir.join("filler"))
        .unwrap();
    for size in [65_536, 1024, 1] {
        let chunk = vec![7; size];
        while file.write_all(&chunk).is_ok() {}
    }
    drop(file.sync_all());
    let probe = fs::write(dir.join("probe"), "x");
    assert_eq!(
        probe.unwrap_err().kind(),
        std::io::ErrorKind::StorageFull,
        "{}",
        dir.display()
    );
}

/// A runtime of one image that is not merged.
fn plain(version: &str, image: &[u8]) -> Manifest {
    let off = RuntimeExtension {
        enabled: false,
        ..extension("app", "1", image)
    };
    let built = format!("2026-01-0{version}T00:00:00Z");
    runtime(version, &built, vec![off])
}

fn add(dir: &Path, device: &Device, version: &str) -> Manifest {
    let manifest = plain(version, version.as_bytes());
    put_image(&device.paths().base, version.as_bytes());
    let file = manifest_file(dir, &manifest);
    device.add_from_manifest(&file, &Silent).unwrap();
    manifest
}

fn active(device: &Device) -> String {
    let active = device.inspect(None).unwrap();
    active.manifest.runtime.version.clone()
}

mod cases {
    use super::*;

    pub(crate) fn a_full_disk_does_not_forbid_the_way_back(dir: &Path) {
        for kind in ["tmpfs", "ext4"] {
            let dir = &dir.join(kind);
            let device = private_device(dir);
            let base = &device.paths().base;
            mount(kind, base);
            let all = ["1", "2", "3"].map(|version| add(dir, &device, version));
            for manifest in &all {
                device.activate(manifest.id.as_str(), &Silent).unwrap();
            }
            fill(base);
            device.rollback(&Silent).unwrap();
            assert_eq!(active(&device), "2", "{kind}");
            // And again, with what the first one left of the reserve.
            fill(base);
            let events = Events::default();
            device.activate(all[0].id.as_str(), &events).unwrap();
            assert_eq!(active(&device), "1", "{kind}");
            let reserve = base.join(".reserve");
            // Removing frees space, and with that there is a reserve again.
            fs::remove_file(base.join("filler")).unwrap();
            device.prune(&PruneOptions::default(), &Silent).unwrap();
            assert!(fs::metadata(&reserve).unwrap().len() > 0);
            run("umount", &[base.to_str().unwrap()]);
        }
    }

    pub(crate) fn a_read_only_store_is_used_and_says_so(dir: &Path) {
        let device = private_device(dir);
        let base = &device.paths().base;
        mount("tmpfs", base);
        let one = add(dir, &device, "1");
        device.activate(one.id.as_str(), &Silent).unwrap();
        put_image(base, b"unused");
        remount(base, "ro");
        device.merge(&Silent).unwrap();
        device.refresh(&Silent).unwrap();
        assert!(device.verify(&Cancel::new(), &Silent).unwrap().is_good());
        let mut options = PruneOptions {
            dry_run: true,
            ..PruneOptions::default()
        };
        let planned = device.prune(&options, &Silent).unwrap();
        assert_eq!(planned.images.len(), 1);
        options.dry_run = false;
        let file = manifest_file(dir, &plain("2", b"1"));
        for error in [
            device.prune(&options, &Silent).unwrap_err(),
            device.add_from_manifest(&file, &Silent).unwrap_err(),
        ] {
            let told = avocado_events::chain(&error);
            assert!(told.contains("Read-only file system"), "{told}");
        }
        assert_eq!(active(&device), "1");
        run("umount", &[base.to_str().unwrap()]);
    }

    pub(crate) fn a_pool_of_its_own_file_system_takes_images(_dir: &Path) {
        for kind in ["tmpfs", "the same one"] {
            let world = World::new();
            let base = world.base();
            let images = base.join("images");
            let pool = images.to_str().unwrap();
            if kind == "tmpfs" {
                mount(kind, &images);
            } else {
                // A rename does not lead from one mount to another, even of one file system.
                fs::create_dir_all(&images).unwrap();
                run("mount", &["--bind", pool, pool]);
            }
            fs::create_dir(images.join("lost+found")).unwrap();
            let manifest = plain("1", b"an image");
            world.publish(&manifest, &[b"an image"]);
            world.add().unwrap();
            let at = images.join(raw(b"an image"));
            assert_eq!(fs::read(&at).unwrap(), b"an image", "{kind}");
            // What an interrupted download leaves there is no image, and goes as elsewhere.
            let staging = images.join(".update-staging");
            fs::create_dir(&staging).unwrap();
            fs::write(staging.join("x.raw"), "part").unwrap();
            let found = world.device.verify(&Cancel::new(), &Silent).unwrap();
            assert_eq!((found.images, found.problems), (1, Vec::new()));
            let pruned = world.device.prune(&PruneOptions::default(), &Silent);
            assert_eq!(pruned.unwrap().images, []);
            assert!(at.exists() && !staging.exists());
            assert!(images.join("lost+found").exists());
            run("umount", &[pool]);
        }
    }

    pub(crate) fn what_no_runtime_needs_gives_way_to_one_that_is_added(_dir: &Path) {
        let world = world_on_a_small_disk();
        let base = world.base();
        let adding = |reserve, manifest: &Manifest, image: &[u8]| {
            world.publish(manifest, &[image]);
            let config = DeviceConfig {
                reserve,
                ..DeviceConfig::default()
            };
            let device = Device::with_paths(config, world.device.paths().clone());
            device.add_from_url(&world.request(), &Silent)
        };
        let old = vec![1; 1 << 20];
        adding(0, &plain("1", &old), &old).unwrap();
        // What an addition left that was cut off, and whose runtime nobody wants any more.
        let left = base.join("images").join(raw(b"left"));
        fs::write(&left, vec![3; 8 << 20]).unwrap();
        let new = vec![2; 10 << 20];
        let manifest = plain("2", &new);
        let refused = adding(8 << 20, &manifest, &new).unwrap_err();
        assert!(
            matches!(refused, DeviceError::Staging(FailureReason::NoSpace { .. })),
            "{refused}"
        );
        assert!(left.exists(), "it would not have been enough");
        adding(0, &manifest, &new).unwrap();
        assert!(!left.exists());
        assert!(base.join("images").join(raw(&old)).exists());
        run("umount", &[base.to_str().unwrap()]);
    }

    pub(crate) fn adding_leaves_room_on_the_disk(_dir: &Path) {
        let world = world_on_a_small_disk();
        let base = world.base();
        let image = vec![7; 10 << 20];
        let manifest = plain("1", &image);
        world.publish(&manifest, &[&image]);
        let keeping = |reserve| {
            let config = DeviceConfig {
                reserve,
                ..DeviceConfig::default()
            };
            Device::with_paths(config, world.device.paths().clone())
        };
        let add = |reserve| match keeping(reserve).add_from_url(&world.request(), &Silent) {
            Err(DeviceError::Staging(FailureReason::NoSpace {
                needed, reserve, ..
            })) => Err((needed, reserve)),
            other => Ok(other.unwrap()),
        };
        assert_eq!(add(8 << 20).unwrap_err(), (10 << 20, 8 << 20));
        assert_eq!(world.requests_for(&raw(&image)), 0);
        // Another program takes the rest meanwhile: what has come gives way to that.
        let faults = world.server.faults();
        faults.add(FaultRule::new(Fault::Stall(1 << 20), "*.raw"));
        let partial = base.join(".update-staging").join(raw(&image));
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| add(0));
            while fs::metadata(&partial).map_or(0, |meta| meta.len()) < 1 << 20 {
                std::thread::yield_now();
            }
            fill(base);
            faults.release();
            let (needed, _) = adding.join().unwrap().unwrap_err();
            assert_eq!(needed, 10 << 20);
        });
        assert!(!partial.exists());
        fs::write(base.join("probe"), "x").unwrap();
        // With room again, it goes as ever.
        fs::remove_file(base.join("filler")).unwrap();
        faults.clear();
        add(0).unwrap();
        run("umount", &[base.to_str().unwrap()]);
    }
}
