//! Merging on a real device, with systemd as PID 1 and the agent where it is in the field.

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use avocado_manifest::Digest;
use avocado_testbed::shared_fixture::SharedFixture;
use avocado_testbed::tools::{ToolCall, ToolOutput};
use common::device::{BuiltDevice, cannot_boot};

/// A file of an extension that every runtime here has, and one of the OS.
const PROBED: [&str; 2] = ["usr/bin/hello", "usr/bin/systemctl"];

/// The device of all cases. Each leaves it as it found it.
static WORLD: SharedFixture<BuiltDevice> = SharedFixture::new();

fn on_a_device(name: &str, case: impl FnOnce(&BuiltDevice)) {
    if cannot_boot(name) {
        return;
    }
    WORLD.run(BuiltDevice::boot, |world| {
        case(world);
        assert_eq!(world.device.failed_units().unwrap(), "");
    });
}

#[test]
fn refreshes_leak_nothing() {
    on_a_device(
        "refreshes_leak_nothing",
        BuiltDevice::refreshes_leak_nothing,
    );
}

#[test]
fn no_process_misses_a_file_during_an_exchange() {
    on_a_device(
        "no_process_misses_a_file_during_an_exchange",
        BuiltDevice::no_process_misses_a_file_during_an_exchange,
    );
}

#[test]
fn what_is_written_is_gone_with_the_set() {
    on_a_device(
        "what_is_written_is_gone_with_the_set",
        BuiltDevice::what_is_written_is_gone_with_the_set,
    );
}

#[test]
fn every_way_of_taking_writes() {
    on_a_device(
        "every_way_of_taking_writes",
        BuiltDevice::every_way_of_taking_writes,
    );
}

#[test]
fn what_is_bad_leaves_the_set_as_it_was() {
    on_a_device(
        "what_is_bad_leaves_the_set_as_it_was",
        BuiltDevice::what_is_bad_leaves_the_set_as_it_was,
    );
}

#[test]
fn an_active_that_leads_nowhere_is_an_error() {
    on_a_device(
        "an_active_that_leads_nowhere_is_an_error",
        BuiltDevice::an_active_that_leads_nowhere_is_an_error,
    );
}

impl BuiltDevice {
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

    /// The loop devices over images of this device's pool, also those that nothing uses.
    fn loops(&self) -> usize {
        let images = fs::read_dir(self.base().join("images")).unwrap();
        let inodes: BTreeSet<_> = images
            .map(|entry| entry.unwrap().metadata().unwrap().ino().to_string())
            .collect();
        let listed = ToolCall::new("losetup")
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
    fn no_process_misses_a_file_during_an_exchange(&self) {
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
        let stranger = image(self.work.path(), "another", "");
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

fn said(output: &ToolOutput, text: &str) -> bool {
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
    ToolCall::new("mksquashfs")
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
