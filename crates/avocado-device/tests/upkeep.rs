//! Rolling back, pinning, removing, pruning and verifying.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use avocado_device::{
    Cancel, Device, DeviceConfig, DeviceError, FailureReason, PruneOptions, StoreProblem,
};
use avocado_events::Silent;
use avocado_manifest::{Manifest, RuntimeExtension};
use common::*;

struct Store {
    dir: tempfile::TempDir,
    device: Device,
}

/// An extension that is part of a runtime and not merged.
fn off(name: &str, bytes: &[u8]) -> RuntimeExtension {
    RuntimeExtension {
        enabled: false,
        ..extension(name, "1", bytes)
    }
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let device = private_device(dir.path());
        Store { dir, device }
    }

    fn base(&self) -> &Path {
        &self.device.paths().base
    }

    /// Adds a runtime whose image are the bytes of its version, and one that all share.
    fn add(&self, version: &str) -> Manifest {
        let built = format!("2026-01-{version:0>2}T00:00:00Z");
        let extensions = vec![off("own", version.as_bytes()), off("shared", b"shared")];
        put_image(self.base(), version.as_bytes());
        put_image(self.base(), b"shared");
        let manifest = runtime(version, &built, extensions);
        let file = manifest_file(self.dir.path(), &manifest);
        self.device.add_from_manifest(&file, &Silent).unwrap();
        manifest
    }

    fn activate(&self, manifest: &Manifest) {
        let id = manifest.id.as_str();
        self.device.activate(id, &Silent).unwrap();
    }

    /// The versions of the runtimes, with what is said of each.
    fn versions(&self) -> String {
        let all = self.device.list().unwrap().into_iter();
        let all = all.map(|e| {
            let marks = [(e.active, "*"), (e.previous, "-"), (e.pinned, "!")];
            let marks = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark);
            format!(
                "{}{}",
                e.manifest.runtime.version,
                marks.collect::<String>()
            )
        });
        all.collect::<Vec<_>>().join(" ")
    }

    fn images(&self) -> usize {
        fs::read_dir(self.base().join("images")).unwrap().count()
    }

    fn prune(&self, keep: usize) -> avocado_device::PruneReport {
        let keep = Some(keep);
        let before = tree(self.base());
        let dry_run = true;
        let options = PruneOptions { keep, dry_run };
        let planned = self.device.prune(&options, &Silent).unwrap();
        assert_eq!(tree(self.base()), before);
        let dry_run = false;
        let options = PruneOptions { keep, dry_run };
        let pruned = self.device.prune(&options, &Silent).unwrap();
        assert_eq!(pruned, planned);
        pruned
    }
}

#[test]
fn rolling_back_goes_to_what_was_active_before() {
    let store = Store::new();
    let (one, two, three) = (store.add("1"), store.add("2"), store.add("3"));
    let back = || store.device.rollback(&Silent);
    assert!(matches!(back(), Err(DeviceError::NoPreviousRuntime)));
    store.activate(&one);
    assert!(matches!(back(), Err(DeviceError::NoPreviousRuntime)));
    store.activate(&two);
    store.activate(&three);
    // Activating it again is no step.
    store.activate(&three);
    assert_eq!(store.versions(), "3* 2- 1");
    assert_eq!(*back().unwrap().runtime().manifest, two);
    assert_eq!(store.versions(), "2* 3- 1");
    // Back and forth.
    assert_eq!(*back().unwrap().runtime().manifest, three);
    // It outlives the process, and what was removed is passed over.
    let other = private_device(store.dir.path());
    other.remove(two.id.as_str(), &Silent).unwrap();
    assert_eq!(store.versions(), "3* 1-");
    assert_eq!(*other.rollback(&Silent).unwrap().runtime().manifest, one);
    // What cannot be activated is no step either.
    let broken = runtime(
        "4",
        "2026-01-04T00:00:00Z",
        vec![extension("app", "1", b"no image at all")],
    );
    put_image(store.base(), b"no image at all");
    let file = manifest_file(store.dir.path(), &broken);
    store.device.add_from_manifest(&file, &Silent).unwrap();
    store
        .device
        .activate(broken.id.as_str(), &Silent)
        .unwrap_err();
    assert_eq!(store.versions(), "1* 4 3-");
    // A device that was provisioned without any history.
    fs::remove_file(store.base().join("history.json")).unwrap();
    assert!(matches!(back(), Err(DeviceError::NoPreviousRuntime)));
    store.activate(&three);
    assert_eq!(*back().unwrap().runtime().manifest, one);
}

#[test]
fn runtimes_that_are_too_many_go_when_one_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let config = DeviceConfig {
        runtime_retention: 2,
        ..DeviceConfig::default()
    };
    let device = Device::with_paths(config, private_paths(dir.path()));
    let store = Store { dir, device };
    let (one, two) = (store.add("1"), store.add("2"));
    store.activate(&one);
    store.activate(&two);
    // What no runtime needs may be there for one that is to come.
    put_image(store.base(), b"downloaded");
    store.add("3");
    assert_eq!(store.versions(), "2* 3 1-", "those that are needed stay");
    store.device.rollback(&Silent).unwrap();
    store.device.rollback(&Silent).unwrap();
    store.add("4");
    assert_eq!(store.versions(), "2* 4 1-", "3 is the one too many");
    // Two of the kept, the active one, what all share, and what was downloaded.
    assert_eq!(store.images(), 5);
    // What is added stays, however old it is.
    let three = store.add("3");
    assert_eq!(store.versions(), "2* 3 1-");
    store.device.pin(three.id.as_str(), &Silent).unwrap();
    store.add("5");
    assert_eq!(store.versions(), "2* 5 3! 1-");
    // Asked for, what nothing needs goes as well.
    let removed = store.device.collect_garbage(&Silent).unwrap();
    assert_eq!(removed.runtimes.len(), 1);
    assert_eq!(store.versions(), "2* 3! 1-");
    assert_eq!(store.images(), 4);
}

#[test]
fn what_is_kept_of_a_runtime_goes_with_it() {
    let store = Store::new();
    let (one, two) = (store.add("1"), store.add("2"));
    let device = &store.device;
    let of = |manifest: &Manifest| device.metadata(manifest.id.as_str()).unwrap();
    assert!(of(&one).is_empty());
    let set = |key: &str, value| device.set_metadata(&one.id.as_str()[..9], key, value, &Silent);
    set("site", Some("mast 7")).unwrap();
    set("site", Some("mast 8")).unwrap();
    set("", Some("")).unwrap();
    assert_eq!((of(&one)["site"].as_str(), of(&two).len()), ("mast 8", 0));
    let missing = |error: Result<(), DeviceError>| {
        let Err(DeviceError::MetadataKeyNotFound { id, key }) = error else {
            panic!("{error:?}");
        };
        assert_eq!((id, key.as_str()), (one.id.clone(), "x"));
    };
    missing(set("x", None));
    missing(device.metadata_of_key(one.id.as_str(), "x").map(drop));
    set("", None).unwrap();
    assert_eq!(of(&one).len(), 1);
    // Adding it again, or repairing it, loses nothing of it.
    store.add("1");
    fs::write(
        store
            .base()
            .join(format!("runtimes/{}/manifest.json", one.id)),
        "",
    )
    .unwrap();
    store.add("1");
    assert_eq!(of(&one)["site"], "mast 8");
    device.remove(one.id.as_str(), &Silent).unwrap();
    store.add("1");
    assert!(of(&one).is_empty());
    // What cannot be understood is not written over.
    let file = store
        .base()
        .join(format!("runtimes/{}/metadata.json", one.id));
    fs::write(&file, "{\"version\":2}").unwrap();
    assert!(matches!(set("a", Some("b")), Err(DeviceError::Store(_))));
    assert_eq!(fs::read_to_string(file).unwrap(), "{\"version\":2}");
}

#[test]
fn what_is_pinned_stays() {
    let store = Store::new();
    let (one, two) = (store.add("1"), store.add("2"));
    store.activate(&one);
    let id = two.id.as_str();
    assert!(store.device.pin(&id[..9], &Silent).unwrap().pinned);
    store.device.pin(id, &Silent).unwrap();
    assert_eq!(store.versions(), "1* 2!");
    let error = store.device.remove(id, &Silent).unwrap_err();
    assert!(matches!(error, DeviceError::RemovePinnedRuntime { id } if id == two.id));
    assert_eq!(store.prune(0).runtimes, []);
    // Adding it again does not change that.
    store.add("2");
    assert_eq!(store.versions(), "1* 2!");
    assert!(!store.device.unpin(id, &Silent).unwrap().pinned);
    store.device.unpin(id, &Silent).unwrap();
    store.device.remove(id, &Silent).unwrap();
    assert!(matches!(
        store.device.pin(id, &Silent),
        Err(DeviceError::RuntimeNotFound { .. })
    ));
    assert!(store.device.pin("", &Silent).is_err());
}

#[test]
fn pruning_spares_what_is_needed() {
    let store = Store::new();
    let all: Vec<_> = (1..=7).map(|n| store.add(&n.to_string())).collect();
    store.activate(&all[1]);
    store.activate(&all[0]);
    store.device.pin(all[2].id.as_str(), &Silent).unwrap();
    let pending = format!("{{\"runtime_id\":\"{}\"}}", all[3].id);
    fs::write(store.base().join("pending-update.json"), pending).unwrap();
    let unused = put_image(store.base(), &[7; 100_000]);
    let staging = store.base().join(".update-staging");
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("x.raw"), [7; 10_000]).unwrap();
    // What another agent keeps beside an image of ours.
    let sidecar = put_image(store.base(), b"shared").with_extension("verity");
    fs::write(&sidecar, "tree").unwrap();

    // Without a number, runtimes stay.
    let options = PruneOptions::default();
    let pruned = store.device.prune(&options, &Silent).unwrap();
    assert_eq!((pruned.runtimes.len(), pruned.images.len()), (0, 1));
    assert!(pruned.freed_bytes >= 110_000, "{}", pruned.freed_bytes);
    assert!(pruned.leftover_bytes >= 10_000 && pruned.leftover_bytes < 100_000);
    assert!(!unused.exists() && !staging.exists() && sidecar.exists());
    assert_eq!(store.versions(), "1* 7 6 5 4 3! 2-");

    // Those that must stay count, and then the newest.
    let pruned = store.prune(5);
    let versions: Vec<_> = pruned.runtimes.iter().map(|r| r.version.as_str()).collect();
    assert_eq!(versions, ["6", "5"]);
    assert_eq!(pruned.images.len(), 2);
    assert_eq!(store.versions(), "1* 7 4 3! 2-");
    store.prune(0);
    assert_eq!(store.versions(), "1* 4 3! 2-");
    assert_eq!(store.images(), 4 + 1 + 1);
    let found = store.device.verify(&Cancel::new(), &Silent).unwrap();
    assert!(found.is_good(), "{found:?}");
    assert_eq!(store.prune(0).freed_bytes, 0);
}

#[test]
fn pruning_refuses_where_it_does_not_know() {
    let store = Store::new();
    let (one, two) = (store.add("1"), store.add("2"));
    store.activate(&one);
    let unused = put_image(store.base(), b"unused");
    // Nobody knows what a damaged runtime needs.
    let path = store
        .base()
        .join("runtimes")
        .join(&two.id)
        .join("manifest.json");
    fs::write(&path, "{").unwrap();
    let pruned = store.prune(0);
    assert!(pruned.spared.unwrap().contains(two.id.as_str()));
    assert!(unused.exists() && path.exists());
    // Nor which runtime is to become active, or is.
    let keep_none = PruneOptions {
        keep: Some(0),
        dry_run: false,
    };
    let before = tree(store.base());
    let marker = store.base().join("pending-update.json");
    for text in ["", "{", "{\"runtime_id\":\"../x\"}"] {
        fs::write(&marker, text).unwrap();
        assert!(store.device.prune(&keep_none, &Silent).is_err(), "{text}");
    }
    fs::remove_file(&marker).unwrap();
    let active = store.base().join("active");
    fs::remove_file(&active).unwrap();
    symlink("elsewhere", &active).unwrap();
    assert!(store.device.prune(&keep_none, &Silent).is_err());
    fs::remove_file(&active).unwrap();
    symlink(Path::new("runtimes").join(&one.id), &active).unwrap();
    assert_eq!(tree(store.base()), before);
    // A device that was never used.
    let empty = Store::new();
    empty.device.prune(&keep_none, &Silent).unwrap();
    empty.device.verify(&Cancel::new(), &Silent).unwrap();
    assert!(!empty.base().exists());
}

#[test]
fn pruning_spares_what_is_enabled() {
    let store = Store::new();
    let images = store.base().join("images");
    fs::create_dir_all(images.join("tree")).unwrap();
    for file in ["seven.raw", "eight.raw", "spare.raw"] {
        fs::write(images.join(file), file).unwrap();
    }
    // Nothing says what is wanted: then it is everything that has a name.
    assert_eq!(store.prune(0).images, []);
    let enable = |name: &str, release: &str| {
        let names = [name.to_owned()];
        store.device.enable(&names, Some(release), &Silent).unwrap();
    };
    enable("seven", "7");
    enable("eight", "8");
    enable("tree", "8");
    let one = store.add("1");
    store.activate(&one);
    let pruned = store.prune(0);
    let files: Vec<_> = pruned.images.iter().map(|i| i.file.as_str()).collect();
    assert_eq!(files, ["spare.raw"]);
    for release in [["7", "seven.raw"], ["8", "eight.raw"], ["8", "tree"]] {
        let link = store.base().join("os-releases").join(release.join("/"));
        assert!(link.exists(), "{release:?}");
    }
    let problems = || {
        let found = store.device.verify(&Cancel::new(), &Silent).unwrap();
        found.problems
    };
    assert_eq!(problems(), []);
    // One that was taken away by hand is missed.
    fs::remove_file(images.join("eight.raw")).unwrap();
    assert!(matches!(
        &problems()[..],
        [StoreProblem::Missing { file, image, .. }]
            if file == "eight" && image == "what is enabled for release 8"
    ));
}

#[test]
fn an_active_that_leads_nowhere_is_seen_and_nothing_is_pruned() {
    let store = Store::new();
    let (one, two) = (store.add("1"), store.add("2"));
    store.activate(&one);
    let active = store.base().join("active");
    let runtimes = store.base().join("runtimes");
    let keep_none = PruneOptions {
        keep: Some(0),
        dry_run: false,
    };
    for target in ["runtimes/gone", "/etc"] {
        fs::remove_file(&active).unwrap();
        symlink(target, &active).unwrap();
        let found = store.device.verify(&Cancel::new(), &Silent).unwrap();
        assert!(!found.is_good());
        let [StoreProblem::Active { why }] = &found.problems[..] else {
            panic!("{found:?}");
        };
        assert!(why.contains("does not lead to a runtime"), "{why}");
        let listing = store.device.listing().unwrap();
        assert_eq!(listing.runtimes.len(), 2);
        assert_eq!(listing.unreadable[0].id, "active");
        assert!(store.device.prune(&keep_none, &Silent).is_err());
    }
    // The same where it leads to one that cannot be read: the other one is the way out.
    store.activate(&one);
    fs::write(runtimes.join(&one.id).join("manifest.json"), "{").unwrap();
    assert!(store.device.prune(&keep_none, &Silent).is_err());
    assert!(runtimes.join(&two.id).exists());
    store.activate(&two);
    store.prune(0);
}

#[test]
fn what_is_no_runtime_does_not_hinder_pruning() {
    let store = Store::new();
    let one = store.add("1");
    store.activate(&one);
    let runtimes = store.base().join("runtimes");
    for directory in ["lost+found", "notes"] {
        fs::create_dir(runtimes.join(directory)).unwrap();
    }
    fs::write(runtimes.join("README"), "text").unwrap();
    let unused = put_image(store.base(), b"unused");
    let pruned = store.prune(0);
    assert_eq!((pruned.spared, pruned.images.len()), (None, 1));
    assert!(!unused.exists());
    // What was put there stays, and all but what belongs to the file system is told.
    let listing = store.device.listing().unwrap();
    let ids: Vec<_> = listing.unreadable.iter().map(|u| u.id.as_str()).collect();
    assert_eq!(ids, ["README", "notes"]);
    assert!(runtimes.join("lost+found").is_dir() && runtimes.join("README").is_file());
}

#[test]
fn damage_is_listed_and_can_be_repaired_or_removed() {
    let store = Store::new();
    let (one, two) = (store.add("1"), store.add("2"));
    let runtimes = store.base().join("runtimes");
    fs::write(runtimes.join(&two.id).join("manifest.json"), "{").unwrap();
    fs::create_dir(runtimes.join("stray thing")).unwrap();
    let listing = store.device.listing().unwrap();
    assert_eq!(listing.runtimes.len(), 1);
    let ids: Vec<_> = listing.unreadable.iter().map(|u| u.id.as_str()).collect();
    let mut expected = [two.id.as_str(), "stray thing"];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert!(listing.unreadable.iter().all(|u| !u.why.is_empty()));
    let id = two.id.as_str();
    for error in [
        store.device.inspect(Some(id)).unwrap_err(),
        store.device.activate(id, &Silent).unwrap_err(),
    ] {
        assert!(matches!(error, DeviceError::Store(_)), "{error:?}");
    }
    // Added again, it is whole.
    store.add("2");
    assert_eq!(store.device.listing().unwrap().unreadable.len(), 1);
    fs::write(runtimes.join(&two.id).join("manifest.json"), "{").unwrap();
    assert!(store.device.remove(&id[..10], &Silent).is_err());
    store.device.remove(id, &Silent).unwrap();
    assert!(!runtimes.join(&two.id).exists());
    assert_eq!(*store.device.list().unwrap()[0].manifest, one);
}

#[test]
fn verifying_reads_everything_and_names_what_is_wrong() {
    let store = Store::new();
    let (one, two) = (store.add("1"), store.add("2"));
    let verify = || store.device.verify(&Cancel::new(), &Silent).unwrap();
    let good = verify();
    assert_eq!((good.runtimes, good.images, good.bytes), (2, 3, 1 + 1 + 6));
    assert_eq!(good.problems, []);

    // The same length, and as if the times had not changed either: whoever believes the record
    // of what was hashed does not see it.
    let shared = put_image(store.base(), b"shared");
    verify();
    let record = store.base().join(".verified.json");
    let remembered = fs::read_to_string(&record).unwrap();
    fs::write(&shared, "sharEd").unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&remembered).unwrap();
    let name = shared.file_name().unwrap().to_str().unwrap();
    let meta = fs::metadata(&shared).unwrap();
    value["files"][name]["changed"] = vec![meta.ctime(), meta.ctime_nsec()].into();
    fs::write(&record, value.to_string()).unwrap();
    let own = put_image(store.base(), b"2");
    fs::remove_file(&own).unwrap();
    let unused = put_image(store.base(), b"unused");
    let broken = store.base().join("runtimes/broken");
    fs::create_dir(&broken).unwrap();
    let found = verify();
    assert!(!found.is_good());
    let file = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut ids = vec![one.id.clone(), two.id.clone()];
    ids.sort();
    assert_eq!(found.problems.len(), 4, "{found:?}");
    assert!(matches!(&found.problems[0], StoreProblem::Unreadable { id, .. } if id == "broken"));
    for expected in [
        StoreProblem::Corrupt {
            file: file(&shared),
            image: "shared 1".to_owned(),
            runtimes: ids,
        },
        StoreProblem::Missing {
            file: file(&own),
            image: "own 1".to_owned(),
            runtimes: vec![two.id.clone()],
        },
        StoreProblem::Unreferenced {
            file: file(&unused),
        },
    ] {
        assert!(found.problems.contains(&expected), "{found:?}");
    }
    // From now on it is known, also to those who do not read everything.
    let file = manifest_file(store.dir.path(), &one);
    assert!(store.device.add_from_manifest(&file, &Silent).is_err());
    // Repaired, all is well.
    put_image(store.base(), b"shared");
    put_image(store.base(), b"2");
    fs::remove_dir(&broken).unwrap();
    assert!(verify().is_good());

    let cancel = Cancel::new();
    cancel.cancel();
    assert!(
        store
            .device
            .verify(&cancel, &Silent)
            .unwrap_err()
            .is_cancelled()
    );
}

#[test]
fn everybody_at_once() {
    let store = Store::new();
    let all: Vec<_> = (1..=4).map(|n| store.add(&n.to_string())).collect();
    let file = |m: &Manifest| manifest_file(store.dir.path(), m);
    store.activate(&all[0]);
    let device = &store.device;
    let rounds = 25;
    std::thread::scope(|scope| {
        // Each of them may find that another one was faster, and nothing worse.
        scope.spawn(|| {
            for manifest in all.iter().cycle().take(rounds) {
                match device.add_from_manifest(&file(manifest), &Silent) {
                    Ok(_) | Err(DeviceError::Staging(FailureReason::ImageMissing { .. })) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        scope.spawn(|| {
            for manifest in all.iter().cycle().skip(1).take(rounds) {
                match device.activate(manifest.id.as_str(), &Silent) {
                    Ok(_) | Err(DeviceError::RuntimeNotFound { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        scope.spawn(|| {
            for manifest in all.iter().cycle().skip(2).take(rounds) {
                match device.remove(manifest.id.as_str(), &Silent) {
                    Ok(())
                    | Err(DeviceError::RuntimeNotFound { .. } | DeviceError::RemoveActiveRuntime) =>
                        {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        scope.spawn(|| {
            for _ in 0..rounds {
                let keep = Some(3);
                let dry_run = false;
                let options = PruneOptions { keep, dry_run };
                device.prune(&options, &Silent).unwrap();
            }
        });
        scope.spawn(|| {
            for _ in 0..rounds {
                device.merge(&Silent).unwrap();
                let listing = device.listing().unwrap();
                assert!(listing.runtimes.iter().filter(|e| e.active).count() <= 1);
                assert!(device.inspect(None).unwrap().active);
            }
        });
    });
    let found = device.verify(&Cancel::new(), &Silent).unwrap();
    assert!(found.is_good(), "{found:?}");
    assert!(device.inspect(None).is_ok());
}

#[test]
fn what_an_older_agent_fetched_besides_goes_when_pruned() {
    let store = Store::new();
    let kept = store.add("1");
    store.activate(&kept);
    // It took every target of the repository into the pool.
    let statement = store.base().join("images/provenance.intoto.jsonl");
    fs::write(&statement, "{}").unwrap();
    let pruned = store.prune(1);
    let files: Vec<_> = pruned.images.iter().map(|i| i.file.as_str()).collect();
    assert_eq!(files, ["provenance.intoto.jsonl"]);
    assert!(!statement.exists());
    assert_eq!(store.images(), 2);
}
