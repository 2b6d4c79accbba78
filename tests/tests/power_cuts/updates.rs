//! What the machine of these tests is updated with: three builds of an OS, and any number of runtimes that
//! need one of them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, ImageId};
use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_testbed::cut_guest::CutGuest;
use avocado_testbed::published::PublishedRepository;
use avocado_testbed::published_os::{PublishedOs, ROOTFS, bundle_of};
use avocado_testbed::volatile_disk::NamedDisks;
use jiff::Timestamp;
use serde_json::{Value, json};

/// A runtime that needs a build of the OS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) id: String,
    /// Which of the builds.
    pub(crate) system: usize,
    /// Where it can be had.
    pub(crate) place: String,
}

/// A build of the OS.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) build: String,
    pub(crate) image: Vec<u8>,
}

/// Makes updates, and serves them.
#[derive(Debug)]
pub(crate) struct Updates {
    pub(crate) systems: Vec<System>,
    place: PathBuf,
    server: TestServer,
    made: usize,
    /// All are published then, so that all have one root.
    now: Timestamp,
}

impl Updates {
    pub(crate) fn new(guest: &CutGuest, place: &Path) -> Self {
        let system = |number: usize| {
            let build = format!("build-{number}");
            let image = guest.system(&build).unwrap();
            System { build, image }
        };
        fs::create_dir_all(place).unwrap();
        Updates {
            systems: (0..3).map(system).collect(),
            server: TestServer::start(ServeOptions::new(place)).unwrap(),
            place: place.to_owned(),
            made: 0,
            now: Timestamp::now(),
        }
    }

    /// Publishes another runtime, with a bundle of its own.
    pub(crate) fn publish(&mut self, system: usize) -> Update {
        self.made += 1;
        let directory = self.place.join(self.made.to_string());
        fs::create_dir_all(&directory).unwrap();
        let published = self.repository(&directory, system);
        // Those that nothing asks for any more.
        if let Some(old) = self.made.checked_sub(4) {
            let _ = fs::remove_dir_all(self.place.join(old.to_string()));
        }
        let port = self.server.address().port();
        Update {
            id: published.manifest.id.to_string(),
            system,
            place: format!("{port}/{}/repository", self.made),
        }
    }

    fn repository(&self, directory: &Path, system: usize) -> PublishedRepository {
        let system = &self.systems[system];
        let os = PublishedOs {
            version: &format!("1.0.{}", self.made),
            build: &system.build,
            description: description(system, self.made),
            rootfs: &system.image,
            now: self.now,
        };
        os.publish(directory).unwrap()
    }

    /// The disks of a machine that was provisioned with a runtime.
    pub(crate) fn provision(&mut self, guest: &CutGuest) -> (Update, NamedDisks) {
        let first = self.publish(0);
        let source = self.place.join(self.made.to_string());
        let var = self.place.join("var");
        let base = var.join("lib/avocado");
        let runtime = base.join("runtimes").join(&first.id);
        for directory in [&runtime, &base.join("images"), &base.join("metadata")] {
            fs::create_dir_all(directory).unwrap();
        }
        symlink("/run/lock", var.join("lock")).unwrap();
        symlink(Path::new("runtimes").join(&first.id), base.join("active")).unwrap();
        fs::copy(source.join("manifest.json"), runtime.join("manifest.json")).unwrap();
        let bundle = bundle_of(&source);
        let digest = Digest::of(&fs::read(&bundle).unwrap());
        let image = ImageId::from_digest(digest).file_name();
        fs::copy(bundle, base.join("images").join(image)).unwrap();
        let root = source.join("repository/metadata/root.json");
        fs::copy(root, base.join("metadata/root.json")).unwrap();
        let disks = guest.disks(&self.systems[0].image, &var).unwrap();
        fs::remove_dir_all(&var).unwrap();
        (first, disks)
    }
}

/// What the bundle of a system says. Its number makes it another one than any before.
fn description(system: &System, number: usize) -> Value {
    let slot = |slot: &str| json!({"partition": format!("rootfs-{slot}")});
    let set = |slot: &str, on_trial: &str| {
        let variables = json!({"slot": slot, "upgrade_available": on_trial});
        json!({"type": "uboot-env", "set": variables})
    };
    json!({
        "format_version": 1, "platform": "board", "architecture": "x86_64",
        "os_build_id": system.build, "number": number,
        "verify": {"type": "os-release", "field": "AVOCADO_OS_BUILD_ID", "expected": system.build},
        "update": {
            "strategy": "uboot-ab",
            "slot_detection": {"type": "uboot-env", "var": "slot"},
            "artifacts": [{"name": "rootfs", "file": format!("images/{ROOTFS}"),
                "sha256": Digest::of(&system.image), "size": system.image.len(),
                "slot_targets": {"a": slot("a"), "b": slot("b")}}],
            "activate": [set("{inactive_slot}", "1")],
            "commit": [set("{inactive_slot}", "0")],
            "rollback": [set("{previous_slot}", "0")],
        },
    })
}
