//! A device boots, is reachable, and leaves nothing behind, however its owner ends.
//!
//! One test runs all of it: each part compares the whole host before and after.

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use avocado_testbed::claim;
use avocado_testbed::device::{Device, DeviceOptions};
use avocado_testbed::host::State;
use avocado_testbed::keys::Keys;
use avocado_testbed::tools::{self, Call, Need};
use rustix::process::{Pid, Signal, kill_process};

/// The image and the tree to boot.
struct Built {
    rootfs: PathBuf,
    var: PathBuf,
    _sandbox: Option<common::Sandbox>,
}

/// What the environment names, or else what a build makes.
fn built() -> Option<Built> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    if let Some(rootfs) = variable("AVOCADO_TEST_ROOTFS") {
        return Some(Built {
            rootfs,
            var: variable("AVOCADO_TEST_VAR")?,
            _sandbox: None,
        });
    }
    if common::cannot_build("device") {
        return None;
    }
    let sandbox = common::Sandbox::built();
    let artifacts = sandbox.project.events(&["build"]).unwrap().artifacts();
    let rootfs = artifacts.into_iter().find(|a| a.kind == "rootfs").unwrap();
    Some(Built {
        rootfs: rootfs.path,
        var: sandbox.project.state().join("runtimes/dev/var-staging"),
        _sandbox: Some(sandbox),
    })
}

/// Compares with `before` until nothing is left: the kernel takes its time over some ends, and
/// devices of other processes, which cannot be told apart everywhere, have to end first.
fn assert_as_before(before: &State, what: &str) {
    let begin = Instant::now();
    loop {
        let now = State::now();
        let left = now.left_since(before);
        if left.is_empty() {
            return;
        }
        let limit = if somebody_else(&now) { 300 } else { 30 };
        assert!(begin.elapsed().as_secs() < limit, "{what}: {left:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether another process has a device: the claims have its number in their names.
fn somebody_else(now: &State) -> bool {
    now.claims.iter().any(|claim| {
        let name = claim.file_name().and_then(|name| name.to_str());
        let process = name
            .and_then(|name| name.strip_prefix("avo"))
            .and_then(|name| name.split('-').next())
            .unwrap_or_default();
        process != std::process::id().to_string() && Path::new("/proc").join(process).exists()
    })
}

#[test]
fn a_device() {
    let needs = [
        Need::Root,
        Need::Tool("systemd-nspawn"),
        Need::Tool("nsenter"),
        Need::Tool("ip"),
        Need::Tool("ssh"),
        Need::Tool("ssh-keygen"),
    ];
    if tools::skip("device", &needs) {
        return;
    }
    let Some(built) = built() else {
        return;
    };
    claim::reap().unwrap();
    let before = State::now();
    let work = tempfile::tempdir().unwrap();
    let keys = Keys::create(work.path()).unwrap();
    let options = DeviceOptions::new(&built.rootfs, &built.var, work.path(), keys);

    lives(&options);
    assert_as_before(&before, "after a shutdown");
    is_dropped(&options);
    assert_as_before(&before, "after a drop");
    two_at_once(&options);
    assert_as_before(&before, "after two at once");
    does_not_start(&options);
    assert_as_before(&before, "after a failed start");
    owner_is_interrupted(&options, &before);
    owner_is_killed(&options, &before);
    // Nothing but the key.
    let left: Vec<_> = std::fs::read_dir(work.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

fn lives(options: &DeviceOptions) {
    let mut device = Device::boot(options.clone()).unwrap();
    assert_eq!(device.failed_units().unwrap(), "");
    assert_eq!(device.state().unwrap(), "running");

    let version = device.exec(&["systemctl", "--version"]).unwrap();
    assert!(version.starts_with("systemd 257 "), "{version}");
    assert_eq!(device.ssh(&["id", "-un"]).unwrap().trim(), "root");
    let status = device.ssh(&["systemd-sysext", "status"]).unwrap();
    assert!(status.contains("/usr"), "{status}");
    let host = device.host_address().to_string();
    let peer = device.ssh(&["echo", "$SSH_CONNECTION"]).unwrap();
    assert_eq!(peer.split(' ').next(), Some(host.as_str()));

    // The root is read-only, /var is not, and the artifact does not change.
    assert!(device.exec(&["touch", "/x"]).is_err());
    device.exec(&["touch", "/var/written"]).unwrap();
    assert!(device.var().join("written").exists());
    assert!(!options.var.join("written").exists());

    let first = device.pid1_start().unwrap();
    device.exec(&["true"]).unwrap();
    assert_eq!(device.pid1_start().unwrap(), first);
    device.reboot().unwrap();
    let second = device.pid1_start().unwrap();
    assert_ne!(first, second);
    device.exec(&["test", "-e", "/var/written"]).unwrap();
    device.power_cycle().unwrap();
    assert_ne!(device.pid1_start().unwrap(), second);
    device.exec(&["test", "-e", "/var/written"]).unwrap();
    assert!(
        device.logs().contains("Startup finished"),
        "{}",
        device.logs()
    );

    let call = device.enter(&["sleep", "1000"]);
    assert!(call.limit(Duration::from_millis(50)).run().is_err());
    device.shutdown().unwrap();
}

/// An extension whose only file is `usr/share/{name}/greeting`.
fn extension(directory: &Path, name: &str) -> PathBuf {
    let tree = directory.join(name);
    let release = tree.join("usr/lib/extension-release.d");
    std::fs::create_dir_all(&release).unwrap();
    let release = release.join(format!("extension-release.{name}"));
    std::fs::write(release, "ID=_any\n").unwrap();
    let share = tree.join("usr/share").join(name);
    std::fs::create_dir_all(&share).unwrap();
    std::fs::write(share.join("greeting"), "hello").unwrap();
    let image = directory.join(format!("{name}.raw"));
    Call::new("mksquashfs")
        .args([&tree, &image])
        .args(["-quiet", "-noappend", "-all-root"])
        .ok()
        .unwrap();
    image
}

fn merge(device: &Device, image: &Path, name: &str) {
    let extensions = device.var().join("lib/extensions");
    std::fs::create_dir_all(&extensions).unwrap();
    std::fs::copy(image, extensions.join(format!("{name}.raw"))).unwrap();
    let file = format!("/usr/share/{name}/greeting");
    for _ in 0..5 {
        device.exec(&["systemd-sysext", "refresh"]).unwrap();
        assert_eq!(device.exec(&["cat", &file]).unwrap(), "hello");
        device.exec(&["systemd-sysext", "unmerge"]).unwrap();
        assert!(device.exec(&["cat", &file]).is_err());
    }
    device.exec(&["systemd-sysext", "refresh"]).unwrap();
}

fn is_dropped(options: &DeviceOptions) {
    if tools::skip("device with an extension", &[Need::Tool("mksquashfs")]) {
        return;
    }
    let made = tempfile::tempdir().unwrap();
    let image = extension(made.path(), "app");
    let device = Device::boot(options.clone()).unwrap();
    // Dropped while a loop device is in use.
    merge(&device, &image, "app");
}

fn two_at_once(options: &DeviceOptions) {
    if tools::skip("two devices with extensions", &[Need::Tool("mksquashfs")]) {
        return;
    }
    let made = tempfile::tempdir().unwrap();
    let image = extension(made.path(), "app");
    let addresses: Vec<_> = std::thread::scope(|scope| {
        let boot = || {
            let device = Device::boot(options.clone()).unwrap();
            merge(&device, &image, "app");
            device.shutdown().unwrap();
        };
        let use_one = || {
            let device = Device::boot(options.clone()).unwrap();
            merge(&device, &image, "app");
            device.address()
        };
        let threads = [scope.spawn(use_one), scope.spawn(use_one)];
        boot();
        threads.map(|thread| thread.join().unwrap()).into()
    });
    assert_eq!(addresses.len(), 2);
}

fn does_not_start(options: &DeviceOptions) {
    let made = tempfile::tempdir().unwrap();
    let bad = |options: DeviceOptions| Device::boot(options).unwrap_err().to_string();
    let error = bad(DeviceOptions {
        rootfs_image: made.path().join("no-image"),
        ..options.clone()
    });
    assert!(error.contains("no-image"), "{error}");
    let error = bad(DeviceOptions {
        var: made.path().join("no-var"),
        ..options.clone()
    });
    assert!(error.contains("no-var"), "{error}");
    if !tools::skip("device without an init", &[Need::Tool("mksquashfs")]) {
        let image = extension(made.path(), "app");
        let error = bad(DeviceOptions {
            rootfs_image: image,
            ..options.clone()
        });
        assert!(error.contains("console"), "{error}");
    }
}

/// Starts the program that keeps a device, and returns it when the device runs.
fn keeper(options: &DeviceOptions) -> std::process::Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_avocado-testbed-device"))
        .args([&options.rootfs_image, &options.var])
        .arg("--workdir")
        .arg(&options.workdir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("root@10.231."), "{line}");
    child
}

fn owner_is_interrupted(options: &DeviceOptions, before: &State) {
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = keeper(options);
        assert!(!State::now().left_since(before).is_empty());
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        let ended_by = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(ended_by, Some(signal.as_raw()));
        assert_as_before(before, "after a signal to the owner");
    }
    // At any moment of the start, too.
    for delay in [1, 100, 400] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_avocado-testbed-device"))
            .args([&options.rootfs_image, &options.var])
            .arg("--workdir")
            .arg(&options.workdir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        child.wait().unwrap();
        assert_as_before(before, &format!("after SIGINT at {delay} ms"));
    }
}

fn owner_is_killed(options: &DeviceOptions, before: &State) {
    let mut child = keeper(options);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!State::now().processes.is_empty());
    assert_eq!(claim::reap().unwrap().len(), 1);
    assert_as_before(before, "after a SIGKILL of the owner");
}
