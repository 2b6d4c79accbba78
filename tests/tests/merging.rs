//! Merging on a real device, with systemd as PID 1 and the agent where it is in the field.

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use avocado_manifest::{Digest, Extension, ImageId, Manifest, RuntimeId};
use avocado_testbed::device::{Device, DeviceOptions};
use avocado_testbed::keys::Keys;
use avocado_testbed::tools::{self, Call, Need, Output};

/// A file of an extension that every runtime here has, and one of the OS.
const PROBED: [&str; 2] = ["usr/bin/hello", "usr/bin/systemctl"];

struct World {
    device: Device,
    work: tempfile::TempDir,
    _sandbox: common::Sandbox,
}

#[test]
fn merging_on_a_device() {
    let needs = [
        Need::Root,
        Need::Tool("systemd-nspawn"),
        Need::Tool("nsenter"),
        Need::Tool("ip"),
        Need::Tool("losetup"),
        Need::Tool("ssh-keygen"),
    ];
    if common::cannot_build("merging") || tools::skip("merging", &needs) {
        return;
    }
    let sandbox = common::Sandbox::built();
    let artifacts = sandbox.project.events(&["build"]).unwrap().artifacts();
    let rootfs = artifacts.into_iter().find(|a| a.kind == "rootfs").unwrap();
    let var = sandbox.project.state().join("runtimes/dev/var-staging");
    let work = tempfile::tempdir().unwrap();
    let keys = Keys::create(work.path()).unwrap();
    let options = DeviceOptions::new(&rootfs.path, &var, work.path(), keys);
    let world = World {
        device: Device::boot(options).unwrap(),
        work,
        _sandbox: sandbox,
    };
    assert_eq!(world.device.failed_units().unwrap(), "");
    world.refreshes_leak_nothing();
    world.nobody_sees_an_exchange();
    world.what_is_written_is_gone_with_the_set();
    world.every_way_of_taking_writes();
    world.what_is_bad_leaves_the_set_as_it_was();
    world.an_active_that_leads_nowhere_is_an_error();
    assert_eq!(world.device.failed_units().unwrap(), "");
    world.device.shutdown().unwrap();
}

impl World {
    fn base(&self) -> PathBuf {
        self.device.var().join("lib/avocado")
    }

    fn agent(&self, arguments: &[&str]) -> Call {
        let words = [&["avocadoctl"], arguments].concat();
        self.device.enter(&words)
    }

    fn active(&self) -> Manifest {
        let bytes = fs::read(self.base().join("active/manifest.json")).unwrap();
        Manifest::parse(&bytes).unwrap()
    }

    /// What systemd has merged, by hierarchy.
    fn merged(&self) -> String {
        ["systemd-sysext", "systemd-confext"]
            .map(|program| {
                let output = self.device.exec(&[program, "status", "--json=short"]);
                output.unwrap()
            })
            .map(|json| without_times(&json))
            .join("\n")
    }

    /// Stages a runtime that differs from the active one, and returns its id.
    fn stage(&self, id: &str, change: impl FnOnce(&mut Manifest)) -> RuntimeId {
        let mut manifest = self.active();
        manifest.id = id.parse().unwrap();
        manifest.runtime.version = id.to_owned();
        change(&mut manifest);
        fs::write(self.device.var().join("lib/new.json"), manifest.to_json()).unwrap();
        let add = ["runtime", "add", "--manifest", "/var/lib/new.json"];
        self.agent(&add).ok().unwrap();
        manifest.id
    }

    fn activate(&self, id: &RuntimeId) {
        self.agent(&["runtime", "activate", id.as_str()])
            .ok()
            .unwrap();
    }

    /// Puts bytes into the pool as an image of an extension.
    fn image(&self, name: &str, bytes: &[u8]) -> Extension {
        let sha256 = Digest::of(bytes);
        let image_id = ImageId::from_digest(sha256);
        fs::write(self.base().join("images").join(image_id.file_name()), bytes).unwrap();
        Extension {
            name: name.parse().unwrap(),
            version: "1.0".parse().unwrap(),
            image_id: Some(image_id),
            sha256: Some(sha256),
            image_type: None,
            enabled: true,
        }
    }

    /// The loop devices over images of this device's pool, also those that nothing uses.
    fn loops(&self) -> usize {
        let images = fs::read_dir(self.base().join("images")).unwrap();
        let inodes: BTreeSet<_> = images
            .map(|entry| entry.unwrap().metadata().unwrap().ino().to_string())
            .collect();
        let listed = Call::new("losetup")
            .args(["--list", "--noheadings", "--output", "BACK-INO"])
            .ok()
            .unwrap();
        let mut lines = listed.stdout.lines().map(str::trim);
        lines
            .by_ref()
            .filter(|inode| inodes.contains(*inode))
            .count()
    }

    fn mounts(&self) -> usize {
        let table = self.device.exec(&["cat", "/proc/self/mountinfo"]);
        table.unwrap().lines().count()
    }

    fn refreshes_leak_nothing(&self) {
        let count = self.active().extensions.len();
        let before = (self.loops(), self.mounts(), self.merged());
        assert_eq!(before.0, count, "one for each extension");
        for _ in 0..200 {
            self.agent(&["refresh"]).ok().unwrap();
        }
        assert_eq!((self.loops(), self.mounts(), self.merged()), before);
    }

    /// What two runtimes have in common is there at any time while one takes the place of the
    /// other.
    fn nobody_sees_an_exchange(&self) {
        let one = self.active().id;
        let two = self.stage("two", |manifest| {
            manifest.extensions.retain(|e| e.name.as_str() == "hello");
            manifest
                .extensions
                .push(self.image("more", &image(self.work.path(), "more", "")));
        });
        // Through the root directory of its first process, a path is looked up on the device.
        let root = format!("/proc/{}/root", self.device.pid1_start().unwrap().process);
        let done = AtomicBool::new(false);
        let probe = |file: &str| {
            let path = Path::new(&root).join(file);
            let (mut opened, mut missed) = (0_u64, 0_u64);
            while !done.load(Ordering::Relaxed) {
                match File::open(&path) {
                    Ok(_) => opened += 1,
                    Err(_) => missed += 1,
                }
            }
            (opened, missed)
        };
        std::thread::scope(|scope| {
            let probes = PROBED.map(|file| (file, scope.spawn(move || probe(file))));
            for _ in 0..20 {
                self.activate(&two);
                self.agent(&["refresh"]).ok().unwrap();
                self.activate(&one);
            }
            done.store(true, Ordering::Relaxed);
            for (file, probe) in probes {
                let (opened, missed) = probe.join().unwrap();
                note(&format!(
                    "during 60 exchanges /{file} was opened {opened} times and missed {missed} times"
                ));
                assert!(opened > 1000, "{file}: {opened}");
                assert_eq!(missed, 0, "{file}");
            }
        });
        assert_eq!(self.active().id, one);
    }

    /// `ephemeral`, the default.
    fn what_is_written_is_gone_with_the_set(&self) {
        for file in ["/usr/written", "/etc/written"] {
            self.device.exec(&["touch", file]).unwrap();
            self.device.exec(&["test", "-e", file]).unwrap();
            self.agent(&["refresh"]).ok().unwrap();
            assert!(self.device.exec(&["test", "-e", file]).is_err(), "{file}");
        }
    }

    /// All values of `mutable`, for both kinds of extensions.
    fn every_way_of_taking_writes(&self) {
        const KEPT: &str = "/var/lib/extensions.mutable";
        let refresh = |mode: &str| {
            let config = format!("[avocado.ext]\nmutable = \"{mode}\"\n");
            fs::write(self.device.var().join("lib/mutable.conf"), config).unwrap();
            // The service has another configuration; who names the store does without it.
            let call = self.device.enter(&[
                "env",
                "AVOCADO_BASE_DIR=/var/lib/avocado",
                "avocadoctl",
                "--config=/var/lib/mutable.conf",
                "refresh",
            ]);
            call.ok().unwrap_or_else(|e| panic!("{mode}: {e}"));
        };
        let works = |words: &[&str]| self.device.exec(words).is_ok();
        let there = |name: &str| {
            let found =
                ["/usr", "/etc"].map(|place| works(&["test", "-e", &format!("{place}/{name}")]));
            assert_eq!(found[0], found[1], "{name} in /usr and in /etc");
            found[0]
        };
        let write = |name: &str| {
            let done = ["/usr", "/etc"].map(|place| works(&["touch", &format!("{place}/{name}")]));
            assert_eq!(done[0], done[1], "{name} in /usr and in /etc");
            done[0]
        };
        assert!(!works(&["test", "-e", KEPT]));
        // Whether it takes writes, and whether they are there after the next refresh; before and
        // after there is a place for writes that are kept.
        for (mode, writable, stays) in [
            ("no", false, false),
            ("auto", false, false),
            ("import", false, false),
            ("ephemeral", true, false),
            ("ephemeral-import", true, false),
            ("yes", true, true),
            ("auto", true, true),
            ("import", false, false),
            ("ephemeral", true, false),
            ("ephemeral-import", true, false),
            ("no", false, false),
        ] {
            refresh(mode);
            assert_eq!(write("now"), writable, "{mode}");
            assert_eq!(there("now"), writable, "{mode}");
            self.device.exec(&["hello"]).unwrap();
            refresh(mode);
            assert_eq!(there("now"), stays, "{mode}");
            // What `yes` has kept is seen by those who look for it.
            let kept = works(&["test", "-e", &format!("{KEPT}/usr/kept")]);
            let looks = matches!(mode, "yes" | "auto" | "import" | "ephemeral-import");
            assert_eq!(there("kept"), kept && looks, "{mode}");
            if mode == "yes" {
                assert!(write("kept"));
            }
            if stays {
                self.device.exec(&["rm", "/usr/now", "/etc/now"]).unwrap();
            }
        }
        refresh("ephemeral");
        self.device.exec(&["rm", "-r", KEPT]).unwrap();
    }

    fn what_is_bad_leaves_the_set_as_it_was(&self) {
        let (active, merged, loops) = (self.active(), self.merged(), self.loops());
        let junk = self.image("junk", &[7; 8192]);
        let half = image(self.work.path(), "half", "");
        let half = self.image("half", &half[..half.len() / 2]);
        let hooked = |name: &str, command: &str| {
            let hook = format!("AVOCADO_ON_MERGE=\"{command}\"\n");
            self.image(name, &image(self.work.path(), name, &hook))
        };
        let picky = hooked("picky", "/usr/bin/false");
        let absent = hooked("absent", "/no/such/program");
        let stranger = image(self.work.path(), "somebody", "");
        let stranger = self.image("stranger", &stranger);
        for bad in [junk, half, picky, absent, stranger] {
            let name = bad.name.clone();
            let id = self.stage(&format!("with-{name}"), |manifest| {
                // First, so that everything after it is exchanged as well.
                manifest.extensions.insert(0, bad);
            });
            let output = self
                .agent(&["runtime", "activate", id.as_str()])
                .run()
                .unwrap();
            assert!(!output.status.success(), "{name}");
            assert!(
                said(&output, name.as_str()),
                "{name} is not named: {output}"
            );
            assert_eq!(self.active(), active, "{name}");
            assert_eq!(self.merged(), merged, "{name}");
            assert_eq!(self.loops(), loops, "{name}");
            self.device.exec(&["hello"]).unwrap();
        }
    }

    fn an_active_that_leads_nowhere_is_an_error(&self) {
        let merged = self.merged();
        let active = self.base().join("active");
        let right = fs::read_link(&active).unwrap();
        for target in ["runtimes/gone", "/etc"] {
            fs::remove_file(&active).unwrap();
            symlink(target, &active).unwrap();
            let output = self.agent(&["refresh"]).run().unwrap();
            assert!(!output.status.success(), "{target}");
            assert!(said(&output, "does not lead to a runtime"), "{output}");
            assert_eq!(self.merged(), merged);
            self.agent(&["runtime", "list"]).ok().unwrap();
        }
        let id = right
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        self.activate(&id);
        assert_eq!(fs::read_link(&active).unwrap(), right);
        assert_eq!(self.merged(), merged);
    }
}

fn said(output: &Output, text: &str) -> bool {
    output.stderr.contains(text) || output.stdout.contains(text)
}

/// Since when something is merged does not matter.
fn without_times(json: &str) -> String {
    let mut document: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    for hierarchy in document.as_array_mut().into_iter().flatten() {
        hierarchy["since"].take();
    }
    document.to_string()
}

/// The bytes of an extension with one file, and more lines in what it says about itself.
fn image(directory: &Path, name: &str, more: &str) -> Vec<u8> {
    let tree = directory.join(name);
    let release = tree.join("usr/lib/extension-release.d");
    fs::create_dir_all(&release).unwrap();
    let text = format!("ID=_any\n{more}");
    fs::write(release.join(format!("extension-release.{name}")), text).unwrap();
    fs::create_dir_all(tree.join("usr/share")).unwrap();
    // What cannot be compressed, so that half of the image is no image.
    let bytes: Vec<u8> = (0..2000_u32)
        .flat_map(|n| *Digest::of(&n.to_le_bytes()).as_bytes())
        .collect();
    fs::write(tree.join("usr/share").join(name), bytes).unwrap();
    let image = directory.join(format!("{name}.raw"));
    Call::new("mksquashfs")
        .args([&tree, &image])
        .args(["-quiet", "-noappend", "-all-root"])
        .limit(Duration::from_secs(60))
        .ok()
        .unwrap();
    fs::read(image).unwrap()
}

/// Says something past the test runner, which keeps the output of a passing test to itself.
fn note(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
