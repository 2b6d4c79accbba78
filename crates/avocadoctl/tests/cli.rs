//! What a user gets to see, through either door.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use avocado_manifest::{Digest, ImageId, OsBundle};
use common::*;
use insta::assert_snapshot;

/// A device with three runtimes, the middle one active.
fn device() -> Device {
    let device = Device::new();
    let app = extension("app", "1.0.0", b"an image");
    let tools = extension(
        "avocado-ext-dev",
        "2024.1.0-rc.1+build.17",
        b"another image",
    );
    let mut oldest = runtime("dev", "0.1.0", "2026-01-02T03:04:05Z", vec![app.clone()]);
    oldest.extensions[0].image_id = None;
    oldest.extensions[0].sha256 = None;
    oldest.manifest_version = 1;
    let mut active = runtime("dev", "0.2.0", "2026-02-03T04:05:06Z", vec![app, tools]);
    active.os_bundle = Some(OsBundle {
        image_id: ImageId::from_digest(Digest::of(b"an OS")),
        sha256: None,
        os_build_id: Some("os-20260203".to_owned()),
        initramfs_build_id: Some("initramfs-7".to_owned()),
        chunks_sha256: None,
    });
    let newest = runtime(
        "a-runtime-with-a-remarkably-long-name-that-nobody-would-type",
        "2026.3.4-nightly.20260304+g0123456789abcdef0123456789",
        "2026-03-04T05:06:07Z",
        Vec::new(),
    );
    device.put_runtime(&named("0b7c1f60-5a4e-4d0c-9f5e-2f1f6f0c9a11", oldest));
    let active = named(&format!("0b7c{}", "3".repeat(60)), active);
    device.put_runtime(&active);
    device.make_active(active.id.as_str());
    device.put_runtime(&named(&"e".repeat(64), newest));
    device
}

/// Through the own door and through the service's: the same words.
fn both(device: &Device, args: &[&str]) -> String {
    let here = device.show(args);
    let service = device.serve();
    assert_eq!(device.show(args), here, "the service answers as we do");
    let (code, _) = service.stop();
    assert_eq!(code, Some(0));
    here
}

#[test]
fn help() {
    let device = Device::new();
    assert_snapshot!("overview", device.show(&[]));
    assert_snapshot!("help", device.show(&["--help"]));
    assert_snapshot!("help_runtime", device.show(&["runtime", "--help"]));
    assert_snapshot!("help_runtime_add", device.show(&["runtime", "add", "-h"]));
    assert_snapshot!("help_serve", device.show(&["serve", "-h"]));
    assert_snapshot!("hint_runtime", device.show(&["runtime"]));
    assert_snapshot!("hint_ext", device.show(&["ext"]));
    assert!(device.json(&["runtime"])["hint"].is_string());
    assert_eq!(
        device.show(&["--version"]),
        "$ avocadoctl --version\navocadoctl 0.41.0\n--- stderr\n--- exit code 0\n"
    );
}

#[test]
fn lists() {
    let device = device();
    assert_snapshot!("list", both(&device, &["runtime", "list"]));
    assert_snapshot!(
        "list_json",
        both(&device, &["runtime", "list", "-o", "json"])
    );
    let empty = Device::new();
    assert_snapshot!("list_empty", both(&empty, &["runtime", "list"]));
    assert_eq!(empty.json(&["runtime", "list"]), serde_json::json!([]));
    assert!(!empty.base().exists(), "reading makes nothing");
}

#[test]
fn inspects() {
    let device = device();
    assert_snapshot!("inspect_active", both(&device, &["runtime", "inspect"]));
    assert_snapshot!(
        "inspect_json",
        both(&device, &["--output=json", "runtime", "inspect"])
    );
    assert_snapshot!(
        "inspect_old",
        both(&device, &["runtime", "inspect", "0b7c1"])
    );
    assert_snapshot!("inspect_bare", both(&device, &["runtime", "inspect", "e"]));
}

#[test]
fn everything_fits_80_columns() {
    let device = device();
    for args in [
        &["runtime", "list"][..],
        &["runtime", "inspect"],
        &["status"],
        &["ext", "list"],
        &["ext", "status"],
        &["root-authority"],
        &["--help"],
        &["runtime"],
        &["runtime", "--help"],
        &["runtime", "add", "--help"],
        &["ext"],
        &["ext", "--help"],
        &["enable", "--help"],
        &["disable", "--help"],
        &["root-authority", "--help"],
        &["root-authority", "forget", "--help"],
        &["serve", "--help"],
    ] {
        let output = device.run(args);
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            assert!(line.chars().count() <= 80, "{args:?}: {line}");
        }
    }
}

#[test]
fn statuses() {
    let device = device();
    device.put_image(b"an image");
    fs::write(device.base().join("images/legacy-tool.raw"), "x").unwrap();
    fs::create_dir_all(device.base().join("images/a-tree/etc/extension-release.d")).unwrap();
    assert_snapshot!("status", both(&device, &["status"]));
    assert_snapshot!("status_json", both(&device, &["status", "-o", "json"]));
    assert_snapshot!("ext_list", both(&device, &["ext", "list"]));
    assert_snapshot!(
        "ext_list_json",
        both(&device, &["ext", "list", "-o", "json"])
    );
    assert_snapshot!("ext_status", both(&device, &["ext", "status"]));
    let whole = device.json(&["status"]);
    assert_eq!(device.json(&["ext", "status"]), whole["extensions"]);
    let none = Device::new();
    assert_snapshot!("status_none", both(&none, &["status"]));
    assert_eq!(none.json(&["ext", "list"]), serde_json::json!([]));
}

#[test]
fn whom_the_device_trusts() {
    let device = Device::new();
    let show = |args: &[&str]| both(&device, &[&["root-authority"], args].concat());
    assert_snapshot!("root_authority_none", show(&[]));
    assert_eq!(device.json(&["root-authority"]), serde_json::json!(null));
    let key = avocado_tuf::SigningKey::from_seed(&[5; 32]).unwrap();
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let anchor = avocado_tuf::writer::root(&key, now).unwrap();
    let metadata = device.base().join("metadata");
    fs::create_dir_all(&metadata).unwrap();
    fs::write(metadata.join("root.json"), anchor).unwrap();
    assert_snapshot!("root_authority", show(&[]));
    assert_snapshot!("root_authority_json", show(&["-o", "json"]));
    fs::write(metadata.join("root.json"), "{}").unwrap();
    assert_snapshot!("root_authority_bad", show(&[]));
}

#[test]
fn enabling() {
    let device = device();
    let images = device.base().join("images");
    device.put_image(b"an image");
    fs::write(images.join("tool-1.0.raw"), "x").unwrap();
    fs::create_dir(images.join("tree")).unwrap();
    let enabled = device.base().join("os-releases/7");
    let links = || -> Vec<String> {
        let entries = fs::read_dir(&enabled).into_iter().flatten();
        let mut links: Vec<_> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                assert!(entry.path().exists(), "it leads somewhere: {entry:?}");
                entry.file_name().into_string().unwrap()
            })
            .collect();
        links.sort();
        links
    };
    for service in [false, true] {
        let _service = service.then(|| device.serve());
        let run = |args: &[&str]| {
            let (verb, names) = args.split_first().unwrap();
            device.json(&[&[verb, "--os-release", "7"], names].concat())
        };
        let done = run(&["enable", "tool-1.0", "tree"]);
        assert_eq!(done, serde_json::json!({"enabled": 2, "failed": 0}));
        assert_eq!(links(), ["tool-1.0.raw", "tree"]);
        assert_eq!(run(&["enable", "tree"])["enabled"], 1, "twice is a success");
        // All or nothing; what has only an id has no name.
        for bad in [
            "nope",
            "../images/tree",
            "",
            ".",
            "916b6366-42b4-5e2d-8576-e62113598e3f",
        ] {
            let failed = run(&["disable", "tree", bad]);
            assert_eq!(failed["error"]["kind"], "ExtensionNotFound", "{failed}");
            let failed = run(&["enable", bad, "tree"]);
            assert_eq!(failed["error"]["kind"], "ExtensionNotFound", "{failed}");
        }
        for bad in ["../7", "", "a/b", "."] {
            let failed = device.json(&["enable", "tree", "--os-release", bad]);
            assert_eq!(failed["error"]["kind"], "ConfigurationError", "{failed}");
        }
        let done = run(&["disable", "tree"]);
        assert_eq!(done, serde_json::json!({"disabled": 1, "failed": 0}));
        // One that leads nowhere can be enabled again, and disabled.
        std::os::unix::fs::symlink("gone", enabled.join("tree")).unwrap();
        assert_eq!(run(&["enable", "tree"])["enabled"], 1);
        assert_eq!(links().len(), 2);
        std::os::unix::fs::symlink("gone", enabled.join("gone")).unwrap();
        assert_eq!(run(&["disable", "--all"])["disabled"], 3);
        assert!(links().is_empty());
    }
    assert_snapshot!(
        "error_enable",
        both(&device, &["enable", "nope", "--os-release", "7"])
    );
    assert_snapshot!(
        "enable",
        both(&device, &["enable", "tree", "--os-release", "7"])
    );
}

#[test]
fn errors() {
    let device = device();
    let missing = runtime(
        "dev",
        "9",
        "2026-01-01T00:00:00Z",
        vec![extension("gone", "1", b"gone")],
    );
    device.manifest_file("missing.json", &missing);
    fs::write(device.path("bad.json"), "{\"manifest_version\": 7}").unwrap();
    let runtime = |args: &[&str]| both(&device, &[&["runtime"], args].concat());
    for (name, args) in [
        ("not_found", &["inspect", "ffff"][..]),
        ("empty_id", &["activate", ""]),
        ("ambiguous", &["activate", "0b7c"]),
        ("remove_active", &["remove", "0b7c3"]),
        ("missing_image", &["add", "--manifest", "missing.json"]),
        ("bad_manifest", &["add", "--manifest", "bad.json"]),
        ("no_manifest", &["add", "--manifest", "nothing.json"]),
        ("no_anchor", &["add", "--url", "http://127.0.0.1:1/"]),
        ("activate_missing_image", &["activate", "0b7c1"]),
        ("hostile", &["inspect", "\u{1b}[2J../../etc"]),
    ] {
        assert_snapshot!(format!("error_{name}"), runtime(args));
        let json = runtime(&[args, &["-o", "json"]].concat());
        assert_snapshot!(format!("error_{name}_json"), json);
    }
    let none = Device::new();
    assert_snapshot!("error_none_active", both(&none, &["runtime", "inspect"]));
}

#[test]
fn a_broken_active_is_an_error_of_status_and_refresh_and_not_of_list() {
    // A refresh writes down that nothing is merged, and each program has a `/run` of its own.
    let device = Device::private();
    device.put_runtime(&runtime("dev", "1", "2026-01-01T00:00:00Z", Vec::new()));
    device.make_active("gone");
    assert_snapshot!("dangling_status", both(&device, &["status"]));
    assert_snapshot!(
        "dangling_refresh",
        both(&device, &["refresh", "-o", "json"])
    );
    assert_snapshot!("dangling_inspect", both(&device, &["runtime", "inspect"]));
    assert_eq!(device.run(&["runtime", "list"]).status.code(), Some(0));
}

#[test]
fn wrong_usage() {
    let device = Device::new();
    assert_snapshot!("usage", device.show(&["runtime", "add"]));
    assert_snapshot!(
        "usage_both",
        device.show(&["runtime", "add", "--url", "http://a", "--manifest", "y"])
    );
    assert_snapshot!("usage_typo", device.show(&["runtme"]));
    assert_snapshot!(
        "usage_url",
        device.show(&["runtime", "add", "--url", "ftp://example.com/fleet"])
    );
    for args in [
        &["-o", "json", "runtime", "add"][..],
        &["--output", "json", "runtme"],
        &["runtime", "list", "--output=json", "--unknown"],
        &["runtime", "list", "-ojson", "extra"],
    ] {
        let output = device.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(error["error"]["kind"], "Usage");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn configuration() {
    let device = Device::new();
    device.configure("[avocado.ext]\nmutable = \"perhaps\"\n");
    assert_snapshot!("error_configuration", device.show(&["status"]));
    fs::remove_file(device.path("conf")).unwrap();
    assert_snapshot!(
        "error_no_configuration",
        device.show(&["status", "-o", "json"])
    );
}

/// The published program has them, in production as well.
#[test]
fn there_are_no_back_doors_for_tests() {
    let device = Device::private();
    device.put_image(b"an image");
    let app = extension("app", "1.0.0", b"an image");
    let manifest = runtime("dev", "1", "2026-01-01T00:00:00Z", vec![app]);
    device.put_runtime(&manifest);
    device.make_active(manifest.id.as_str());
    let mocks = device.path("mocks");
    fs::create_dir(&mocks).unwrap();
    let ran = device.path("ran");
    for name in ["systemd-sysext", "systemd-confext", "mount", "modprobe"] {
        let mock = mocks.join(format!("mock-{name}"));
        fs::write(&mock, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
        fs::set_permissions(&mock, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", mocks.display(), std::env::var("PATH").unwrap());
    let says = |args: &[&str], hooked: bool| {
        let mut command = device.command(args);
        if hooked {
            command
                .env("AVOCADO_TEST_MODE", "1")
                .env("AVOCADO_TEST_TMPDIR", device.path(""))
                .env("TMPDIR", device.path(""))
                .env("AVOCADO_EXTENSION_RELEASE_DIR", &mocks)
                .env("AVOCADO_EXTENSIONS_PATH", &mocks)
                .env("PATH", &path);
        }
        let output = command.output().unwrap();
        (output.status.code(), output.stdout, output.stderr)
    };
    let before: Vec<_> = fs::read_dir(device.path("")).unwrap().flatten().collect();
    for args in [
        &["status"][..],
        &["ext", "list", "-o", "json"],
        &["refresh"],
        &["runtime", "list"],
    ] {
        assert_eq!(says(args, true), says(args, false), "{args:?}");
    }
    assert!(!ran.exists());
    let after = fs::read_dir(device.path("")).unwrap().flatten();
    assert_eq!(after.count(), before.len());
}

#[test]
fn doors() {
    let device = device();
    let socket = format!("unix:{}", device.path("sock").display());

    // The service was asked for: no other door will do.
    assert_snapshot!(
        "error_no_service",
        device.show(&["--socket", &socket, "runtime", "list"])
    );
    assert_snapshot!(
        "error_address",
        device.show(&["--socket", "tcp:x", "runtime", "list"])
    );

    // A socket that a dead service left behind is as good as none.
    drop(std::os::unix::net::UnixListener::bind(device.path("sock")).unwrap());
    assert_eq!(device.run(&["runtime", "list"]).status.code(), Some(0));

    // A named store is that store, whatever the service serves.
    let service = device.serve();
    let other = Device::new();
    other.put_runtime(&runtime("other", "1", "2026-01-01T00:00:00Z", Vec::new()));
    let list = |args: &[&str]| {
        let mut command = device.command(&[args, &["runtime", "list", "-o", "json"]].concat());
        let output = command
            .env("AVOCADO_BASE_DIR", other.base())
            .output()
            .unwrap();
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        list.as_array().unwrap().len()
    };
    assert_eq!(list(&[]), 1);
    assert_eq!(list(&["--socket", &socket]), 3);

    // Something that is no service.
    drop(service);
    fs::remove_file(device.path("sock")).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(device.path("sock")).unwrap();
    let thread = std::thread::spawn(move || drop(listener.accept()));
    assert_snapshot!("error_hung_up", device.show(&["runtime", "list"]));
    thread.join().unwrap();
    // As a service manager that is stopping does it: merging works without the service.
    let private = Device::private();
    let listener = std::os::unix::net::UnixListener::bind(private.path("sock")).unwrap();
    let thread = std::thread::spawn(move || drop(listener.accept()));
    let merged = private.show(&["merge"]);
    assert!(merged.contains("The extensions are merged."), "{merged}");
    thread.join().unwrap();
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let device = device();
    for args in [
        &["runtime", "list"][..],
        &["status", "-o", "json"],
        &["--help"],
    ] {
        let mut child = device
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
    // A full disk is one.
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = device
        .command(&["runtime", "list"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: cannot write to stdout"));
}

/// Whoever starts the program, no other user can write to the store or read the images.
#[test]
fn the_store_does_not_follow_the_umask() {
    for (umask, root_only) in [(0o000, 0o077), (0o077, 0o077)] {
        let device = Device::new();
        device.put_image(b"an image");
        let app = avocado_manifest::RuntimeExtension {
            enabled: false,
            ..extension("app", "1", b"an image")
        };
        let manifest = runtime("dev", "1", "2026-01-02T03:04:05Z", vec![app]);
        let file = device.manifest_file("manifest.json", &manifest);
        let mode = |path: &str| {
            let meta = fs::metadata(device.base().join(path)).unwrap();
            meta.permissions().mode() & 0o777
        };
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        let added = device.run(&["runtime", "add", "--manifest", file.to_str().unwrap()]);
        let merged = device.run(&["merge"]);
        rustix::process::umask(before);
        assert!(added.status.success(), "{added:?}");
        assert!(merged.status.success(), "{merged:?}");
        let runtime = format!("runtimes/{}", manifest.id);
        assert_eq!(mode("runtimes"), 0o755);
        assert_eq!(mode(&runtime), 0o755);
        assert_eq!(mode(&format!("{runtime}/manifest.json")), 0o644);
        let image = format!("images/{}", image_name(b"an image"));
        for path in ["images", &image] {
            assert_eq!(mode(path) & root_only, 0, "{path}");
        }
    }
}

/// Root may do with a read-only store what needs no change.
#[test]
#[allow(unsafe_code)]
fn a_read_only_store_is_no_matter_of_rights() {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, mount_remount};
    let device = Device::new();
    device.put_image(b"an image");
    let alone = || {
        let apart = rustix::thread::UnshareFlags::NEWNS;
        // SAFETY: no descriptor is shared or closed by that; the thread only starts programs.
        unsafe { rustix::thread::unshare_unsafe(apart) }.ok()?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).ok()?;
        mount("test", device.base(), "tmpfs", MountFlags::empty(), None).ok()?;
        fs::create_dir(device.base().join("images")).unwrap();
        mount_remount(device.base(), MountFlags::RDONLY, "").unwrap();
        let commands: [&[&str]; 5] = [
            &["merge"],
            &["refresh"],
            &["runtime", "verify"],
            &["runtime", "prune", "--dry-run"],
            &["enable", "app"],
        ];
        Some(commands.map(|args| device.run(args)))
    };
    let outputs = std::thread::scope(|scope| scope.spawn(alone).join().unwrap());
    let Some([done @ .., refused]) = outputs else {
        let name = "a_read_only_store_is_no_matter_of_rights";
        return avocado_test_support::skip(name, "it needs root");
    };
    for output in done {
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(refused.status.code(), Some(1));
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("may not"));
}

#[test]
fn an_os_update_is_told() {
    let device = device();
    let pending = serde_json::json!({
        "os_build_id": "os-new", "previous_slot": "a", "reboot_argument": "0 tryboot",
        "runtime_id": format!("0b7c{}", "3".repeat(60)),
    });
    let failed = serde_json::json!({
        "os_build_id": "os-new", "why": "the OS that was started is \u{1b}[31manother one",
        "runtime_id": "e".repeat(64),
    });
    let (marker, record) = (
        device.base().join("pending-update.json"),
        device.base().join("failed-update.json"),
    );
    fs::write(&record, failed.to_string()).unwrap();
    let update = |args: &[&str]| {
        let text = both(&device, args);
        let about = text.lines().filter(|l| {
            ["Update:", "Waiting:", "Failed:"]
                .iter()
                .any(|w| l.starts_with(w))
        });
        about.collect::<Vec<_>>().join("\n")
    };
    assert_snapshot!(update(&["status"]), @r"Update:   OS build os-new FAILED: the OS that was started is \u{1b}[31manother one");
    assert_snapshot!(update(&["runtime", "inspect", "eeee"]), @r"Failed:    the OS that was started is \u{1b}[31manother one");
    fs::write(&marker, pending.to_string()).unwrap();
    assert_snapshot!(update(&["status"]), @"Update:   OS build os-new is written; reboot required (`systemctl reboot --reboot-argument='0 tryboot'`)");
    assert_snapshot!(update(&["runtime", "inspect"]), @"Waiting:   its OS is written; reboot required");
    assert_eq!(
        device.json(&["status"])["osUpdate"],
        serde_json::json!({
            "state": "waiting", "osBuildId": "os-new", "rebootArgument": "0 tryboot",
            "runtimeId": format!("0b7c{}", "3".repeat(60)),
        })
    );
    // It was started in this boot, and its health decides.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let mut pending = pending;
    pending["trial"] = serde_json::json!({"boots": 1, "boot_id": boot.trim()});
    fs::write(&marker, pending.to_string()).unwrap();
    assert_snapshot!(update(&["status"]), @"Update:   OS build os-new runs on trial, waiting for avocado-commit.service");
    assert_snapshot!(update(&["runtime", "inspect"]), @"Waiting:   its OS runs on trial");
    let told = &device.json(&["status"])["osUpdate"];
    assert_eq!(
        (&told["state"], &told["waitsFor"]),
        (&"onTrial".into(), &"avocado-commit.service".into())
    );
    fs::remove_file(&marker).unwrap();
    assert_snapshot!(both(&device, &["os", "commit"]), @r"
    $ avocadoctl os commit
    No OS update is on trial.
    --- stderr
    --- exit code 0
    ");
    assert!(device.show(&["os"]).contains("avocadoctl os commit"));
}
