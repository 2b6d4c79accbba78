//! SIGKILL at random moments: a process works on a store, over and over, and is killed. The seed
//! is printed, and taken from `AVOCADO_TEST_SEED`.
#![allow(missing_docs)]

mod common;
#[path = "common/world.rs"]
mod world;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use avocado_device::{AddRequest, Cancel, Device, DeviceError, PruneOptions};
use avocado_events::Silent;
use avocado_manifest::{Manifest, RuntimeExtension};
use common::*;
use world::*;

const DIRECTORY: &str = "AVOCADO_TEST_KILL_DIRECTORY";
const URL: &str = "AVOCADO_TEST_KILL_URL";
const KILLS: usize = 150;

/// The runtimes: two from manifest files, one from the repository.
fn runtimes() -> [(Manifest, Vec<Vec<u8>>); 3] {
    let image = |n: u8, length| -> Vec<u8> { vec![n; length] };
    let runtime_of = |version: &str, images: Vec<Vec<u8>>| {
        let extensions = images
            .iter()
            .enumerate()
            .map(|(n, bytes)| RuntimeExtension {
                enabled: false,
                ..extension(&format!("e{n}"), "1", bytes)
            });
        let extensions = extensions.collect();
        let built = format!("2026-01-0{version}T00:00:00Z");
        (runtime(version, &built, extensions), images)
    };
    [
        runtime_of("1", vec![image(1, 1000), image(9, 1000)]),
        runtime_of("2", vec![image(2, 1000), image(9, 1000)]),
        runtime_of(
            "3",
            vec![image(3, 3_000_000), image(4, 500_000), image(9, 1000)],
        ),
    ]
}

/// Everything that can be done to a store, once.
fn work(dir: &Path, device: &Device, url: &str) {
    let now = jiff::Timestamp::now();
    let all = runtimes();
    let add = |at: usize| {
        let (manifest, images) = &all[at];
        for bytes in images {
            // As a tool that provisions a device would.
            let path = put_image(&dir.join("provisioned"), bytes);
            let pool = device.paths().base.join("images");
            fs::create_dir_all(&pool).unwrap();
            let name = path.file_name().unwrap().to_owned();
            fs::rename(path, pool.join(name)).unwrap();
        }
        let file = dir.join(format!("{}.json", manifest.id));
        device.add_from_manifest(&file, &Silent).unwrap();
    };
    let activate = |at: usize| device.activate(all[at].0.id.as_str(), &Silent).unwrap();
    let request = AddRequest {
        url: url.to_owned(),
        auth_token: Some(TOKEN.to_owned()),
        artifacts_url: None,
        now,
    };
    add(0);
    activate(0);
    device.add_from_url(&request, &Silent).unwrap();
    activate(2);
    add(1);
    device.pin(all[1].0.id.as_str(), &Silent).unwrap();
    activate(1);
    device.rollback(&Silent).unwrap();
    device.unpin(all[1].0.id.as_str(), &Silent).unwrap();
    activate(0);
    match device.remove(all[1].0.id.as_str(), &Silent) {
        Ok(()) | Err(DeviceError::RuntimeNotFound { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
    let keep = Some(1);
    let dry_run = false;
    device
        .prune(&PruneOptions { keep, dry_run }, &Silent)
        .unwrap();
    activate(0);
    // Both others go, with what was downloaded.
    let previous = all[2].0.id.as_str();
    match device.remove(previous, &Silent) {
        Ok(()) | Err(DeviceError::RuntimeNotFound { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
    device
        .prune(&PruneOptions { keep, dry_run }, &Silent)
        .unwrap();
}

/// The body of the process that is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let url = std::env::var(URL).unwrap();
    let device = private_device(&dir);
    loop {
        work(&dir, &device, &url);
    }
}

/// What holds after any kill. Returns whether something was going on.
fn check(world: &World, was_active: &mut bool) -> bool {
    let all = runtimes();
    let base = world.base();
    let listing = world.device.listing().unwrap();
    assert_eq!(listing.unreadable, []);
    for entry in &listing.runtimes {
        let known = all
            .iter()
            .find(|(manifest, _)| *manifest == *entry.manifest);
        let (_, images) = known.unwrap();
        for bytes in images {
            let there = fs::read(base.join("images").join(raw(bytes)));
            assert!(
                there.unwrap() == *bytes,
                "{}",
                entry.manifest.runtime.version
            );
        }
    }
    match world.device.inspect(None) {
        Ok(active) => {
            *was_active = true;
            assert!(
                listing
                    .runtimes
                    .iter()
                    .any(|e| e.manifest == active.manifest)
            );
        }
        Err(error) => assert!(!*was_active, "{error:?}"),
    }
    let found = world.device.verify(&Cancel::new(), &Silent).unwrap();
    assert!(found.is_good(), "{found:?}");
    let left = |dir: &Path| {
        let names = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.any(|n| n.ends_with(".tmp") || n.ends_with(".new") || n.ends_with(".gone"))
    };
    base.join(".update-staging").exists() || left(base) || left(&base.join("runtimes"))
}

#[test]
fn a_process_may_be_killed_at_any_moment() {
    let given = std::env::var("AVOCADO_TEST_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap().as_nanos() as u64 | 1
    });
    let mut random = seed;
    let world = World::new();
    let all = runtimes();
    let images: Vec<_> = all[2].1.iter().map(Vec::as_slice).collect();
    world.publish(&all[2].0, &images);
    for (manifest, _) in &all {
        manifest_file(world.dir.path(), manifest);
    }
    // The server keeps an account of each request; it is not for us.
    let (mut was_active, mut interrupted) = (false, 0);
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(DIRECTORY, world.dir.path())
            .env(URL, world.server.url())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_micros(5_000 + random % 120_000));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !said.contains("panicked"),
            "seed {seed}, before kill {kill}: {said}"
        );
        interrupted += usize::from(check(&world, &mut was_active));
    }
    let _ = writeln!(
        std::io::stderr().lock(),
        "SIGKILL: {KILLS} times, {interrupted} in the middle of something (seed {seed})"
    );
    assert!(was_active && interrupted > 0, "seed {seed}");
    // Done once more and to the end, it ends as if nothing had happened.
    work(world.dir.path(), &world.device, &world.server.url());
    let left = world.device.list().unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(*left[0].manifest, all[0].0);
    let found = world.device.verify(&Cancel::new(), &Silent).unwrap();
    assert_eq!(found.problems, []);
    assert!(!check(&world, &mut was_active));
}
