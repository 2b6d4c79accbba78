use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Instant;

use avocado_events::Silent;
use avocado_fs::crash::Op;
use avocado_manifest::{Digest, Manifest};
use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_tuf::testing::{self, TestPublisher, image_name};
use jiff::Timestamp;

use super::scenario::{CrashCount, Scenario, device, memory};
use crate::upkeep;
use crate::{
    AddRequest, Cancel, Device, DeviceConfig, DeviceError, ExtensionSelection, PruneOptions,
    RuntimeSource,
};

/// The images, by what they are made of.
const IMAGES: [&[u8]; 4] = [
    b"the first app",
    b"what both share",
    b"the second app",
    b"no one's",
];

/// An extension without a runtime.
const TOOL: &[u8] = b"a tool";

/// A runtime with these images. None is merged: that is no matter of the disk.
fn runtime(version: &str, images: &[&[u8]]) -> Manifest {
    let extensions = images.iter().enumerate().map(|(n, bytes)| {
        let mut extension = testing::extension(&format!("e{n}"), "1", bytes);
        extension.enabled = false;
        extension
    });
    let built_at = format!("2026-01-0{version}T00:00:00Z");
    testing::runtime("dev", version, &built_at, extensions.collect())
}

struct World {
    dir: tempfile::TempDir,
    runtimes: [Manifest; 3],
    images: BTreeMap<String, Vec<u8>>,
    /// Whom devices trust.
    desk: TestPublisher,
    /// The repositories of the runtimes.
    servers: [TestServer; 3],
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        let dir = memory();
        let [one, shared, two, none] = IMAGES;
        let runtimes = [
            runtime("1", &[one, shared]),
            runtime("2", &[two, shared]),
            runtime("3", &[]),
        ];
        let now = Timestamp::now();
        let servers = runtimes.each_ref().map(|manifest| {
            let directory = format!("desk-{}", manifest.runtime.version);
            serve(
                &TestPublisher::new(dir.path().join(directory), 7),
                manifest,
                now,
            )
        });
        for manifest in &runtimes {
            let file = manifest_file(dir.path(), manifest);
            fs::write(file, manifest.to_json().unwrap()).unwrap();
        }
        World {
            runtimes,
            images: [one, shared, two, none]
                .map(|b| (image_name(b), b.to_vec()))
                .into(),
            desk: TestPublisher::new(dir.path().join("desk"), 7),
            servers,
            now,
            dir,
        }
    }

    /// A store with these images, these runtimes added, and the last of `active` active.
    fn store(&self, what: &str, images: &[&[u8]], runtimes: &[&str], active: &[&str]) -> PathBuf {
        let base = self.dir.path().join(what.replace(' ', "-"));
        self.desk.trust(&base, self.now);
        if !images.is_empty() {
            fs::create_dir(base.join("images")).unwrap();
        }
        for bytes in images {
            fs::write(base.join("images").join(image_name(bytes)), bytes).unwrap();
        }
        let device = device(&base);
        for version in runtimes {
            self.add(&device, version).unwrap();
        }
        for version in active {
            device.activate(self.id(version), &Silent).unwrap();
        }
        base
    }

    fn manifest(&self, version: &str) -> &Manifest {
        let mut all = self.runtimes.iter();
        all.find(|m| m.runtime.version == version).unwrap()
    }

    fn id(&self, version: &str) -> &str {
        self.manifest(version).id.as_str()
    }

    fn add(&self, device: &Device, version: &str) -> Result<(), DeviceError> {
        let file = manifest_file(self.dir.path(), self.manifest(version));
        let source = RuntimeSource::Manifest(&file);
        device.add(source, &Cancel::new(), &Silent).map(drop)
    }

    fn request(&self, version: &str) -> AddRequest {
        let at = self
            .runtimes
            .iter()
            .position(|m| m.runtime.version == version);
        AddRequest {
            url: self.servers[at.unwrap()].url(),
            auth_token: None,
            artifacts_url: None,
            now: self.now,
        }
    }

    fn fetch(&self, device: &Device, version: &str) -> Result<(), DeviceError> {
        let request = self.request(version);
        let source = RuntimeSource::Repository(&request);
        device.add(source, &Cancel::new(), &Silent).map(drop)
    }
}

fn manifest_file(dir: &Path, manifest: &Manifest) -> PathBuf {
    dir.join(format!("{}.json", manifest.id))
}

/// Publishes a runtime, and serves it.
fn serve(desk: &TestPublisher, manifest: &Manifest, now: Timestamp) -> TestServer {
    let wanted = |bytes: &&[u8]| {
        let digest = Digest::of(bytes);
        manifest.extensions.iter().any(|e| e.sha256 == Some(digest))
    };
    let images: Vec<_> = IMAGES.into_iter().filter(wanted).collect();
    desk.publish_runtime(manifest, &images, now);
    TestServer::start(ServeOptions::new(desk.repository())).unwrap()
}

/// Whether it is done already.
fn or_gone(result: Result<(), DeviceError>) -> Result<(), DeviceError> {
    match result {
        Err(DeviceError::RuntimeNotFound { .. }) => Ok(()),
        other => other,
    }
}

#[test]
fn the_store_survives_every_crash() {
    let begun = Instant::now();
    let world = World::new();
    let [one, shared, two, none] = IMAGES;
    let count = CrashCount::default();
    let plain = Scenario {
        name: "",
        work: &|_| Ok(()),
        known: &world.runtimes,
        images: &world.images,
        always: &[],
        finally: &[],
        active: (None, None),
        enabled: &[],
        clean: true,
        limits: (1000, 100),
        every: (1, 1),
    };
    // These are looked at over HTTP.
    let fetched = Scenario {
        limits: (150, 9),
        every: (3, 8),
        ..plain
    };
    let activating = |device: &Device| {
        let config = DeviceConfig {
            activate_on_add: true,
            ..DeviceConfig::default()
        };
        Device::with_paths(config, device.paths().clone())
    };
    let both = [one, shared, two];
    let tooled = |what: &str| {
        let base = world.store(what, &[], &[], &[]);
        fs::create_dir(base.join("images")).unwrap();
        fs::write(base.join("images/tool.raw"), TOOL).unwrap();
        base
    };
    let scenarios = [
        (
            world.store("add first", &[one, shared], &[], &[]),
            Scenario {
                name: "add from a manifest to an empty store",
                work: &|device| world.add(device, "1"),
                finally: &["1"],
                ..plain
            },
        ),
        (
            world.store("add second", &both, &["1"], &["1"]),
            Scenario {
                name: "add from a manifest",
                work: &|device| world.add(device, "2"),
                always: &["1"],
                finally: &["1", "2"],
                active: (Some("1"), Some("1")),
                ..plain
            },
        ),
        (
            world.store("fetch first", &[], &[], &[]),
            Scenario {
                name: "add from a repository to an empty store",
                work: &|device| world.fetch(device, "1"),
                finally: &["1"],
                ..fetched
            },
        ),
        (
            {
                let base = world.store("fetch second", &[one, shared], &["1"], &["1"]);
                fs::write(base.join("images").join(image_name(two)), "rotten").unwrap();
                fs::create_dir(base.join(".update-staging")).unwrap();
                fs::write(base.join(".update-staging/old.raw"), "left over").unwrap();
                base
            },
            Scenario {
                name: "add from a repository over a rotten image",
                work: &|device| world.fetch(device, "2"),
                always: &["1"],
                finally: &["1", "2"],
                active: (Some("1"), Some("1")),
                ..fetched
            },
        ),
        (
            world.store("fetch and activate", &[one, shared], &["1"], &["1"]),
            Scenario {
                name: "add from a repository and activate",
                work: &|device| world.fetch(&activating(device), "2"),
                always: &["1"],
                finally: &["1", "2"],
                active: (Some("1"), Some("2")),
                ..fetched
            },
        ),
        (
            world.store("download", &[one, shared], &["1"], &["1"]),
            Scenario {
                name: "download only",
                work: &|device| {
                    let request = world.request("2");
                    device.download(&request, &Cancel::new(), &Silent).map(drop)
                },
                always: &["1"],
                finally: &["1"],
                active: (Some("1"), Some("1")),
                clean: false,
                ..fetched
            },
        ),
        (
            world.store("activate first", &both, &["1", "2"], &[]),
            Scenario {
                name: "activate where nothing was active",
                work: &|device| device.activate(world.id("1"), &Silent).map(drop),
                always: &["1", "2"],
                finally: &["1", "2"],
                active: (None, Some("1")),
                ..plain
            },
        ),
        (
            world.store("activate second", &both, &["1", "2"], &["2", "1"]),
            Scenario {
                name: "activate",
                work: &|device| {
                    device.activate(world.id("2"), &Silent)?;
                    // Whenever the crash came, the way back is the right one.
                    assert_eq!(device.previous().unwrap().as_str(), world.id("1"));
                    Ok(())
                },
                always: &["1", "2"],
                finally: &["1", "2"],
                active: (Some("1"), Some("2")),
                ..plain
            },
        ),
        (
            world.store("roll back", &both, &["1", "2", "3"], &["3", "1", "2"]),
            Scenario {
                name: "roll back",
                work: &|device| match device.inspect(None)?.manifest.runtime.version.as_str() {
                    "2" => {
                        let activation = device.rollback(&Silent)?;
                        assert_eq!(activation.runtime().manifest.runtime.version, "1");
                        Ok(())
                    }
                    _ => device.activate(world.id("1"), &Silent).map(drop),
                },
                always: &["1", "2", "3"],
                finally: &["1", "2", "3"],
                active: (Some("2"), Some("1")),
                ..plain
            },
        ),
        (
            world.store("make room", &both, &["1", "2"], &["1"]),
            Scenario {
                name: "add where that is one too many",
                work: &|device| {
                    world.add(device, "3")?;
                    // Adding does this, and is no failure where this is.
                    let config = DeviceConfig {
                        runtime_retention: 1,
                        ..DeviceConfig::default()
                    };
                    let small = Device::with_paths(config, device.paths().clone());
                    let id = &world.manifest("3").id;
                    upkeep::make_room(small.context(), id, &Cancel::new(), &Silent)?;
                    // What is remembered of images comes last, and may fail: killed there it is killed.
                    let runtimes = small.context().runtimes();
                    runtimes.sync_to_disk().map_err(DeviceError::Store)
                },
                always: &["1"],
                finally: &["1", "3"],
                active: (Some("1"), Some("1")),
                // What a runtime needed that was removed just before waits for the next pruning.
                clean: false,
                ..plain
            },
        ),
        (
            world.store("decide", &both, &["1", "2"], &["1"]),
            Scenario {
                name: "keep something of a runtime, and switch an extension",
                work: &|device| {
                    let id = world.id("1");
                    // Whole or not there, whenever the crash came.
                    let before = device.metadata(id)?;
                    assert!(before.is_empty() || before["site"] == "mast 7");
                    device.set_metadata(id, "site", Some("mast 7"), &Silent)?;
                    let all = device.inspect(Some(id))?.manifest.extensions.clone();
                    let names: Vec<_> = all.iter().map(|e| e.name.to_string()).collect();
                    let decided = device.set_extensions_enabled(&names, true, &Silent)?;
                    assert_eq!(decided, names.len() as u64);
                    Ok(())
                },
                always: &["1", "2"],
                finally: &["1", "2"],
                active: (Some("1"), Some("1")),
                ..plain
            },
        ),
        (
            world.store("remove", &both, &["1", "2"], &["1"]),
            Scenario {
                name: "remove",
                work: &|device| or_gone(device.remove(world.id("2"), &Silent)),
                always: &["1"],
                finally: &["1"],
                active: (Some("1"), Some("1")),
                clean: false,
                ..plain
            },
        ),
        (
            {
                let base = world.store("prune", &IMAGES, &["1", "2", "3"], &["1"]);
                fs::create_dir(base.join(".update-staging")).unwrap();
                fs::write(base.join(".update-staging/old.raw"), "left over").unwrap();
                base
            },
            Scenario {
                name: "prune",
                work: &|device| {
                    let options = PruneOptions {
                        keep: Some(1),
                        ..PruneOptions::default()
                    };
                    device.prune(&options, &Silent).map(drop)
                },
                always: &["1"],
                finally: &["1"],
                active: (Some("1"), Some("1")),
                ..plain
            },
        ),
        (
            world.store("pin", &both, &["1", "2"], &["1"]),
            Scenario {
                name: "pin",
                work: &|device| device.pin(world.id("2"), &Silent).map(drop),
                always: &["1", "2"],
                finally: &["1", "2"],
                active: (Some("1"), Some("1")),
                ..plain
            },
        ),
        (
            tooled("enable"),
            Scenario {
                name: "enable",
                work: &|device| {
                    device.enable(&["tool".to_owned()], Some("7"), &Silent)?;
                    let link = device.paths().base.join("os-releases/7/tool.raw");
                    assert_eq!(fs::read(link).unwrap(), TOOL);
                    Ok(())
                },
                enabled: &["tool"],
                clean: false,
                ..plain
            },
        ),
        (
            {
                let base = tooled("disable");
                let names = ["tool".to_owned()];
                device(&base).enable(&names, Some("7"), &Silent).unwrap();
                base
            },
            Scenario {
                name: "disable",
                work: &|device| {
                    device.disable(ExtensionSelection::All, Some("7"), &Silent)?;
                    let left = fs::read_dir(device.paths().base.join("os-releases/7"));
                    assert_eq!(left.unwrap().count(), 0);
                    Ok(())
                },
                clean: false,
                ..plain
            },
        ),
    ];
    let _ = none;
    // The test sees what it should see.
    let named = |name: &str| scenarios.iter().find(|(_, s)| s.name == name).unwrap();
    let needs = |name: &str, kind: &dyn Fn(&Op) -> bool| {
        let (start, scenario) = named(name);
        assert!(scenario.needs(start, kind), "{name} goes without");
    };
    let dir = |dir: &'static str| move |op: &Op| *op == Op::SyncDirectory(dir.into());
    let fetch = "add from a repository to an empty store";
    needs("add from a manifest", &|op| matches!(op, Op::Sync(_)));
    needs("add from a manifest", &dir("runtimes"));
    needs(
        fetch,
        &|op| matches!(op, Op::Sync(path) if path.ends_with(".manifest.json.tmp")),
    );
    needs(fetch, &dir("images"));
    needs("activate", &dir(""));
    needs(
        "activate",
        &|op| matches!(op, Op::Sync(path) if path.ends_with(".history.json.tmp")),
    );
    needs("prune", &dir("runtimes"));
    needs("enable", &dir("os-releases/7"));
    let left = Mutex::new(scenarios.iter());
    std::thread::scope(|scope| {
        let worker = || {
            loop {
                let next = left.lock().unwrap().next();
                let Some((start, scenario)) = next else { break };
                scenario.run(start, &count);
            }
        };
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let (states, steps) = (&count.states, &count.steps);
    let states = states.load(Ordering::Relaxed);
    // Past the test runner, which keeps the output of a passing test to itself.
    let _ = writeln!(
        std::io::stderr().lock(),
        "crash states: {states} after {} steps in {:.1} s",
        steps.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64()
    );
    assert!(states > 10_000, "{states} are too few to mean anything");
}
