//! What a device comes up with, and that it is the same as what it had: with systemd as PID 1, and
//! the agent and its units where they are in the field. Each test has a device of its own.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use avocado_manifest::{RuntimeExtension, RuntimeId};
use avocado_testbed::tools::ToolCall;
use common::device::{BuiltDevice, cannot_boot};
use serde_json::Value;

/// A file of an extension, and its text.
type Files<'a> = &'a [(&'a str, &'a str)];

/// A device of the test's own.
fn boot(test: &str) -> Option<BuiltDevice> {
    (!cannot_boot(test)).then(BuiltDevice::boot)
}

impl BuiltDevice {
    fn status(&self) -> Value {
        let output = self.agent(&["status", "-o", "json"]).ok().unwrap();
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// Stages the active runtime with one more extension, which comes first, and returns its id.
    fn stage_with(&self, id: &str, extension: RuntimeExtension) -> RuntimeId {
        self.stage(id, |manifest| manifest.extensions.insert(0, extension))
    }

    fn pool_path(&self, extension: &RuntimeExtension) -> PathBuf {
        let file = extension.image_id.as_ref().unwrap().file_name();
        self.base().join("images").join(file)
    }

    /// Puts an extension with `files` and `links` (place and target) into the pool.
    fn extension(&self, name: &str, files: Files<'_>, links: Files<'_>) -> RuntimeExtension {
        let tree = self.work.path().join(name);
        let release = format!("usr/lib/extension-release.d/extension-release.{name}");
        for (path, text) in [(release.as_str(), "ID=_any\n")].iter().chain(files) {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        for (path, target) in links {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }
        let image = self.work.path().join(format!("{name}.raw"));
        ToolCall::new("mksquashfs")
            .args([&tree, &image])
            .args(["-quiet", "-noappend", "-all-root"])
            .ok()
            .unwrap();
        self.image(name, &fs::read(image).unwrap())
    }
}

/// Changes one byte in the middle of a file.
fn flip(path: &Path) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_device_boots_with_the_runtime_before_if_the_active_one_is_bad() {
    let Some(mut world) = boot("boot with the runtime before") else {
        return;
    };
    let leaves = [
        ("usr/share/leaves", "leaves"),
        (
            "usr/lib/extension-release.d/extension-release.leaves",
            "ID=_any\nAVOCADO_ON_UNMERGE=\"touch /var/lib/left\"\n",
        ),
    ];
    let one = world.stage_with("one", world.extension("leaves", &leaves, &[]));
    world.activate(&one);
    let more = world.extension("more", &[("usr/share/more", "more")], &[]);
    let two = world.stage_with("two", more.clone());
    world.activate(&two);
    assert_eq!(world.status()["degraded"], Value::Null);
    flip(&world.pool_path(&more));
    world.device.reboot().unwrap();

    // It is there, with its services, and it says that this is not what is wanted.
    world.device.exec(&["hello"]).unwrap();
    assert!(world.device.exec(&["cat", "/usr/share/more"]).is_err());
    let services = world
        .device
        .exec(&["systemctl", "is-active", "hello.service"]);
    assert_eq!(services.unwrap().trim(), "active");
    let status = world.status();
    assert_eq!(status["runtime"]["id"], two.as_str());
    assert_eq!(status["degraded"]["wanted"], two.as_str());
    assert_eq!(status["degraded"]["merged"], one.as_str());
    let failed = world.device.failed_units().unwrap();
    assert!(failed.contains("avocado-extension.service"), "{failed}");
    assert_eq!(failed.trim().lines().count(), 1, "{failed}");
    let logs = world.device.logs();
    assert!(
        logs.contains(&format!("runtime {one} is merged in its place")),
        "{logs}"
    );

    // Though that service failed, what it merged is unmerged at the end.
    let left = world.device.var().join("lib/left");
    fs::remove_file(&left).unwrap();
    world.device.reboot().unwrap();
    assert!(left.exists());
    assert_eq!(world.status()["degraded"]["merged"], one.as_str());

    // The way back makes it whole again.
    let back = world.agent(&["runtime", "rollback"]);
    back.ok().unwrap();
    assert_eq!(world.status()["degraded"], Value::Null);
    world.device.reboot().unwrap();
    assert_eq!(world.device.failed_units().unwrap(), "");
    assert_eq!(world.status()["runtime"]["id"], one.as_str());
    world.device.shutdown().unwrap();
}

/// Each boot tries a set of each of them, and then parts of the last one.
#[test]
fn a_device_boots_with_what_is_good_of_many_runtimes() {
    let Some(mut world) = boot("boot after many bad runtimes") else {
        return;
    };
    let stays = world.extension("stays", &[("usr/share/stays", "stays")], &[]);
    let one = world.stage_with("one", stays);
    world.activate(&one);
    let mut bad = Vec::new();
    let mut last = one.clone();
    for n in 2..=12 {
        let name = format!("more-{n}");
        let more = world.extension(&name, &[(&format!("usr/share/{name}"), &name)], &[]);
        last = world.stage_with(&format!("runtime-{n}"), more.clone());
        world.activate(&last);
        bad.push(more);
    }
    for more in &bad {
        flip(&world.pool_path(more));
    }
    world.device.reboot().unwrap();

    // Each but the first has one of them.
    let status = world.status();
    assert_eq!(status["degraded"]["wanted"], last.as_str());
    assert_eq!(status["degraded"]["merged"], one.as_str());
    world.device.exec(&["hello"]).unwrap();
    let failed = world.device.failed_units().unwrap();
    assert_eq!(failed.trim().lines().count(), 1, "{failed}");

    // Now none is whole, and the last one has most of what is good.
    let hello = world.active().extensions;
    let hello = hello.iter().find(|e| e.name.as_str() == "hello").unwrap();
    fs::remove_file(world.pool_path(hello)).unwrap();
    world.device.reboot().unwrap();
    let status = world.status();
    assert_eq!(status["runtime"]["id"], last.as_str());
    assert_eq!(status["degraded"]["wanted"], last.as_str());
    assert_eq!(status["degraded"]["merged"], last.as_str());
    let left_out = status["degraded"]["leftOut"].as_array().unwrap();
    let left_out: BTreeSet<_> = left_out.iter().map(|name| name.as_str().unwrap()).collect();
    let names = bad.iter().chain([hello]);
    let names: Vec<_> = names.map(|e| format!("{}-{}", e.name, e.version)).collect();
    assert_eq!(left_out, names.iter().map(String::as_str).collect());
    let text = world.device.exec(&["cat", "/usr/share/stays"]).unwrap();
    assert_eq!(text, "stays");
    assert!(world.device.exec(&["hello"]).is_err());
    world.device.shutdown().unwrap();
}

/// In the configuration that is the default: what is written to `/etc` is lost with every exchange.
#[test]
fn the_machine_id_stays_the_same_until_the_next_boot() {
    let Some(world) = boot("machine id") else {
        return;
    };
    let id = || world.device.exec(&["systemd-id128", "machine-id"]).unwrap();
    let file = || world.device.exec(&["cat", "/etc/machine-id"]).unwrap();
    let before = (id(), file());
    assert_eq!(before.1.trim().len(), 32, "{before:?}");
    let same = |when: &str| assert_eq!((id(), file()), before, "{when}");
    for _ in 0..3 {
        world.agent(&["refresh"]).ok().unwrap();
        same("refresh");
    }
    let more = world.extension("more", &[("usr/share/more", "more")], &[]);
    world.activate(&world.stage_with("two", more));
    same("activate");
    world.agent(&["runtime", "rollback"]).ok().unwrap();
    same("roll back");
    world.agent(&["unmerge"]).ok().unwrap();
    same("unmerge");
    world.agent(&["merge"]).ok().unwrap();
    same("merge");
    world.agent(&["refresh"]).ok().unwrap();
    same("refresh at last");
    world.device.shutdown().unwrap();
}

const SLEEPER: &str = "[Service]\nExecStart=/usr/bin/sleep infinity\n";
const SOCKET: &str = "[Socket]\nListenStream=/run/avo-socket\n";
const TIMER: &str = "[Timer]\nOnActiveSec=1d\n";

#[test]
fn units_of_extensions_are_the_same_live_and_after_a_boot() {
    let Some(mut world) = boot("units of extensions") else {
        return;
    };
    const UNITS: &str = "usr/lib/systemd/system";
    let files: Vec<_> = [
        ("avo-target.service", SLEEPER),
        ("avo-socket.socket", SOCKET),
        ("avo-socket.service", SLEEPER),
        ("avo-timer.timer", TIMER),
        ("avo-timer.service", SLEEPER),
        ("avo-unwanted.service", SLEEPER),
    ]
    .map(|(name, text)| (format!("{UNITS}/{name}"), text))
    .into();
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (path.as_str(), *text))
        .collect();
    let links: Vec<_> = [
        ("multi-user", "avo-target.service"),
        ("sockets", "avo-socket.socket"),
        ("timers", "avo-timer.timer"),
    ]
    .map(|(target, unit)| {
        (
            format!("{UNITS}/{target}.target.wants/{unit}"),
            format!("../{unit}"),
        )
    })
    .into();
    let links: Vec<_> = links
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let units = world.extension("units", &files, &links);
    let with_units = world.stage_with("with-units", units);

    let list = [
        "systemctl",
        "list-units",
        "--all",
        "--plain",
        "--no-legend",
        "avo-*",
    ];
    // What is loaded only because it was looked at does not count.
    let state = |world: &BuiltDevice| -> Vec<String> {
        let listed = world.device.exec(&list).unwrap();
        let lines = listed.lines().map(|line| {
            let words: Vec<_> = line.split_whitespace().take(4).collect();
            words.join(" ")
        });
        let mut lines: Vec<_> = lines.filter(|line| !line.contains(" inactive ")).collect();
        lines.sort();
        lines
    };
    assert_eq!(state(&world), [""; 0]);
    world.activate(&with_units);
    let wanted = [
        "avo-socket.socket loaded active listening",
        "avo-target.service loaded active running",
        "avo-timer.timer loaded active waiting",
    ];
    // Jobs are asked for, and not waited for.
    let limit = Instant::now() + Duration::from_secs(30);
    while state(&world) != wanted && Instant::now() < limit {}
    assert_eq!(state(&world), wanted, "live");
    world.device.reboot().unwrap();
    assert_eq!(state(&world), wanted, "after a boot");

    world.agent(&["runtime", "rollback"]).ok().unwrap();
    assert_eq!(state(&world), [""; 0], "after a rollback");
    let processes = world
        .device
        .exec(&["systemctl", "status", "--no-pager"])
        .unwrap();
    assert!(!processes.contains("avo-"), "{processes}");
    world.device.reboot().unwrap();
    assert_eq!(state(&world), [""; 0], "after a boot");
    assert_eq!(world.device.failed_units().unwrap(), "");
    world.device.shutdown().unwrap();
}
