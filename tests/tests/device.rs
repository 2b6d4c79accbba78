//! A device boots, is reachable, and leaves nothing behind, however its owner ends.

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use avocado_testbed::claim;
use avocado_testbed::device::{DeviceOptions, TestDevice};
use avocado_testbed::host::HostState;
use avocado_testbed::keys::SshKeys;
use avocado_testbed::shared_fixture::SharedFixture;
use avocado_testbed::tools::{self, TestNeed, ToolCall};
use rustix::process::{Pid, Signal, kill_process};

/// The image and the tree to boot.
struct Built {
    rootfs: PathBuf,
    var: PathBuf,
    _sandbox: Option<common::Sandbox>,
}

/// What the environment names instead of a build.
fn named() -> Option<Built> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    Some(Built {
        rootfs: variable("AVOCADO_TEST_ROOTFS")?,
        var: variable("AVOCADO_TEST_VAR")?,
        _sandbox: None,
    })
}

fn cannot_build(name: &str) -> bool {
    named().is_none() && common::cannot_build(name)
}

/// What the environment names, or else what a build makes.
fn built() -> Built {
    if let Some(named) = named() {
        return named;
    }
    let sandbox = common::Sandbox::built();
    let artifacts = sandbox.project.events(&["build"]).unwrap().artifacts();
    let rootfs = artifacts.into_iter().find(|a| a.kind == "rootfs").unwrap();
    Built {
        rootfs: rootfs.path,
        var: sandbox.project.state().join("runtimes/dev/var-staging"),
        _sandbox: Some(sandbox),
    }
}

/// Compares with `before` until nothing is left: the kernel takes its time over some ends, and
/// devices of other processes, which cannot be told apart everywhere, have to end first.
fn assert_as_before(before: &HostState, what: &str) {
    let begin = Instant::now();
    loop {
        let now = HostState::now();
        let left = now.left_since(before);
        if left.is_empty() {
            return;
        }
        let limit = if another_process_has_a_device(&now) {
            300
        } else {
            30
        };
        assert!(begin.elapsed().as_secs() < limit, "{what}: {left:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether another process has a device: the claims have its number in their names.
fn another_process_has_a_device(now: &HostState) -> bool {
    now.claims.iter().any(|claim| {
        let name = claim.file_name().and_then(|name| name.to_str());
        let process = name
            .and_then(|name| name.strip_prefix("avo"))
            .and_then(|name| name.split('-').next())
            .unwrap_or_default();
        process != std::process::id().to_string() && Path::new("/proc").join(process).exists()
    })
}

/// What every case boots. They take turns, because each compares the whole host before and after.
static BUILT: SharedFixture<Built> = SharedFixture::new();

/// Runs a case, after which nothing may be left.
fn on_this_host(name: &str, case: impl FnOnce(&DeviceOptions, &HostState)) {
    let needs = [
        TestNeed::Root,
        TestNeed::Tool("systemd-nspawn"),
        TestNeed::Tool("nsenter"),
        TestNeed::Tool("ip"),
        TestNeed::Tool("ssh"),
        TestNeed::Tool("ssh-keygen"),
        TestNeed::Tool("mksquashfs"),
    ];
    if tools::skip_without(name, &needs) || cannot_build(name) {
        return;
    }
    BUILT.run(built, |built| {
        let work = tempfile::tempdir().unwrap();
        let keys = SshKeys::create(work.path()).unwrap();
        let options = DeviceOptions::new(&built.rootfs, &built.var, work.path(), keys);
        claim::reap().unwrap();
        let before = HostState::now();
        case(&options, &before);
        assert_as_before(&before, name);
        // Nothing but the key.
        let left: Vec<_> = std::fs::read_dir(work.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    });
}

#[test]
fn a_device_is_reachable_and_keeps_what_it_wrote() {
    on_this_host(
        "a_device_is_reachable_and_keeps_what_it_wrote",
        |options, _| {
            let mut device = TestDevice::boot(options.clone()).unwrap();
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
        },
    );
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
    ToolCall::new("mksquashfs")
        .args([&tree, &image])
        .args(["-quiet", "-noappend", "-all-root"])
        .ok()
        .unwrap();
    image
}

fn merge(device: &TestDevice, image: &Path, name: &str) {
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

#[test]
fn a_device_that_is_dropped_takes_its_loop_devices_along() {
    on_this_host(
        "a_device_that_is_dropped_takes_its_loop_devices_along",
        |options, _| {
            let made = tempfile::tempdir().unwrap();
            let image = extension(made.path(), "app");
            let device = TestDevice::boot(options.clone()).unwrap();
            // Dropped while a loop device is in use.
            merge(&device, &image, "app");
        },
    );
}

#[test]
fn two_devices_at_once_do_not_meet() {
    on_this_host("two_devices_at_once_do_not_meet", |options, _| {
        let made = tempfile::tempdir().unwrap();
        let image = extension(made.path(), "app");
        let addresses: Vec<_> = std::thread::scope(|scope| {
            let boot = || {
                let device = TestDevice::boot(options.clone()).unwrap();
                merge(&device, &image, "app");
                device.shutdown().unwrap();
            };
            let use_one = || {
                let device = TestDevice::boot(options.clone()).unwrap();
                merge(&device, &image, "app");
                device.address()
            };
            let threads = [scope.spawn(use_one), scope.spawn(use_one)];
            boot();
            threads.map(|thread| thread.join().unwrap()).into()
        });
        assert_eq!(addresses.len(), 2);
    });
}

#[test]
fn a_device_that_does_not_start_says_why() {
    on_this_host("a_device_that_does_not_start_says_why", |options, _| {
        let made = tempfile::tempdir().unwrap();
        let bad = |options: DeviceOptions| TestDevice::boot(options).unwrap_err().to_string();
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
        // There is no init in it.
        let error = bad(DeviceOptions {
            rootfs_image: extension(made.path(), "app"),
            ..options.clone()
        });
        assert!(error.contains("console"), "{error}");
    });
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

#[test]
fn a_signal_to_the_owner_ends_its_device() {
    on_this_host(
        "a_signal_to_the_owner_ends_its_device",
        |options, before| {
            for signal in [Signal::INT, Signal::TERM] {
                let mut child = keeper(options);
                assert!(!HostState::now().left_since(before).is_empty());
                kill_process(Pid::from_child(&child), signal).unwrap();
                let status = child.wait().unwrap();
                let ended_by = std::os::unix::process::ExitStatusExt::signal(&status);
                assert_eq!(ended_by, Some(signal.as_raw()));
                assert_as_before(before, "after a signal to the owner");
            }
        },
    );
}

#[test]
fn a_signal_ends_a_device_at_any_moment_of_its_start() {
    on_this_host(
        "a_signal_ends_a_device_at_any_moment_of_its_start",
        |options, before| {
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
        },
    );
}

#[test]
fn what_a_killed_owner_leaves_is_reaped() {
    on_this_host("what_a_killed_owner_leaves_is_reaped", |options, before| {
        let mut child = keeper(options);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!HostState::now().processes.is_empty());
        assert_eq!(claim::reap().unwrap().len(), 1);
        assert_as_before(before, "after a SIGKILL of the owner");
    });
}
