//! What the writer leaves on disk, seen by the client.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use avocado_manifest::Digest;
use avocado_tuf::writer::{RoleSigners, is_current, publish, renew, root};
use avocado_tuf::{Publication, PublicationTarget, PublishedVersions, WriterError, testing};
use jiff::SignedDuration;

use crate::support::{Device, key, now, tree};

/// A publisher, and its time.
struct TestPublisher {
    dir: tempfile::TempDir,
    desk: testing::TestPublisher,
    now: jiff::Timestamp,
}

impl TestPublisher {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        TestPublisher {
            desk: testing::TestPublisher::new(dir.path(), 1),
            dir,
            now: now(),
        }
    }

    fn repository(&self) -> PathBuf {
        self.desk.repository()
    }

    fn later(&mut self, days: i64) {
        self.now += SignedDuration::from_hours(24 * days);
    }

    fn with<T>(&self, role: &str, files: &[(&str, &str)], f: impl Fn(&Publication<'_>) -> T) -> T {
        self.desk.with(role, files, self.now, f)
    }

    fn publish(&self, role: &str, files: &[(&str, &str)]) -> PublishedVersions {
        self.with(role, files, publish).unwrap()
    }

    fn is_current(&self, role: &str, files: &[(&str, &str)]) -> bool {
        self.with(role, files, is_current)
    }

    fn device(&self) -> Device {
        let anchor = fs::read(self.repository().join("metadata/root.json")).unwrap();
        Device::new(&anchor, &self.repository())
    }

    fn at(&self, device: &mut Device) {
        device.start_time = self.now;
    }
}

const ONE: &[(&str, &str)] = &[
    ("manifest.json", "one"),
    ("a.raw", "image a"),
    ("b.raw", "image b"),
];
const TWO: &[(&str, &str)] = &[
    ("manifest.json", "two"),
    ("a.raw", "image a"),
    ("c.raw", "image c"),
];
const THREE: &[(&str, &str)] = &[("manifest.json", "three"), ("c.raw", "image c")];

fn assert_gets(device: &Device, files: &[(&str, &str)]) {
    for (name, text) in files {
        let _ = fs::remove_file(device.partial());
        assert_eq!(
            device.fetch(name).unwrap().as_deref(),
            Some(text.as_bytes()),
            "{name}"
        );
    }
}

#[test]
fn what_is_published_is_what_a_device_gets() {
    let mut desk = TestPublisher::new();
    let first = desk.publish("runtime-dev", ONE);
    assert_eq!(first.root_version, 1);
    let mut device = desk.device();
    assert_gets(&device, ONE);

    desk.later(1);
    let second = desk.publish("runtime-dev", TWO);
    assert!(second.timestamp_version > first.timestamp_version);
    assert!(second.role_version > first.role_version);
    assert_eq!(second.root_version, 1);
    desk.at(&mut device);
    assert_gets(&device, TWO);
    assert_eq!(device.fetch("b.raw").unwrap(), None);
}

#[test]
fn versions_rise_even_within_a_second() {
    let desk = TestPublisher::new();
    let mut last = desk.publish("runtime-dev", ONE);
    let device = desk.device();
    for _ in 0..3 {
        let next = desk.publish("runtime-dev", ONE);
        assert_eq!(next.timestamp_version, last.timestamp_version + 1);
        assert_eq!(next.snapshot_version, last.snapshot_version + 1);
        assert_eq!(next.targets_version, last.targets_version + 1);
        assert_eq!(next.role_version, last.role_version + 1);
        assert_gets(&device, ONE);
        last = next;
    }
}

#[test]
fn a_repository_made_anew_goes_on_from_the_old_one() {
    let mut desk = TestPublisher::new();
    desk.publish("runtime-dev", ONE);
    let mut device = desk.device();
    assert_gets(&device, ONE);
    fs::remove_dir_all(desk.repository()).unwrap();
    desk.later(1);
    desk.publish("runtime-dev", TWO);
    desk.at(&mut device);
    assert_gets(&device, TWO);
}

#[test]
fn the_layout_is_the_published_one() {
    let desk = TestPublisher::new();
    let p = desk.publish("runtime-dev", ONE);
    let metadata = tree(&desk.repository().join("metadata"));
    let mut expected = vec![
        "1.root.json".to_owned(),
        format!("{}.runtime-dev.json", p.role_version),
        format!("{}.snapshot.json", p.snapshot_version),
        format!("{}.targets.json", p.targets_version),
    ];
    let unversioned = ["root", "runtime-dev", "snapshot", "targets", "timestamp"];
    expected.extend(unversioned.map(|role| format!("{role}.json")));
    expected.sort();
    assert_eq!(metadata.keys().cloned().collect::<Vec<_>>(), expected);
    assert_eq!(metadata["1.root.json"], metadata["root.json"]);

    let delegations = tree(&desk.repository().join("metadata/delegations"));
    assert_eq!(
        delegations["runtime-dev.json"],
        metadata["runtime-dev.json"]
    );
    let snapshot: serde_json::Value = serde_json::from_slice(&metadata["snapshot.json"]).unwrap();
    let meta = &snapshot["signed"]["meta"];
    assert_eq!(
        meta["delegations/runtime-dev.json"],
        meta["runtime-dev.json"]
    );
    assert_eq!(
        meta["runtime-dev.json"]["length"],
        metadata["runtime-dev.json"].len()
    );

    let targets = tree(&desk.repository().join("targets"));
    assert_eq!(targets.len(), 6);
    for (name, text) in ONE {
        let hashed = format!("{}.{name}", Digest::of(text.as_bytes()));
        assert_eq!(targets[*name], text.as_bytes());
        assert_eq!(targets[&hashed], text.as_bytes());
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        let folder = desk.repository().join("targets");
        let source = inode(desk.desk.source(text.as_bytes()));
        assert_eq!(inode(folder.join(hashed)), source);
        assert_eq!(inode(folder.join(name)), source);
    }
}

#[test]
fn files_stay_for_one_more_publication() {
    let mut desk = TestPublisher::new();
    desk.publish("runtime-dev", ONE);
    let mut device = desk.device();
    let mut reader = device.client().unwrap();
    let b = reader.target("b.raw").unwrap().unwrap();

    desk.later(1);
    desk.publish("runtime-dev", TWO);
    // A device that is in the middle of the first publication can finish.
    reader
        .download(&b, &device.partial(), &avocado_events::Silent)
        .unwrap();

    desk.later(1);
    desk.publish("runtime-dev", THREE);
    desk.at(&mut device);
    assert_gets(&device, THREE);
    let targets = tree(&desk.repository().join("targets"));
    let images: Vec<_> = targets.keys().filter(|name| name.len() < 64).collect();
    assert_eq!(images, ["a.raw", "c.raw", "manifest.json"]);
    let manifests = targets
        .keys()
        .filter(|name| name.ends_with(".manifest.json"))
        .count();
    assert_eq!(manifests, 2);
    let metadata = tree(&desk.repository().join("metadata"));
    assert_eq!(
        metadata
            .keys()
            .filter(|name| name.ends_with(".snapshot.json"))
            .count(),
        2
    );
}

#[test]
fn another_runtime_keeps_its_role_and_the_last_one_published_is_served() {
    let mut desk = TestPublisher::new();
    desk.publish("runtime-dev", ONE);
    let mut device = desk.device();
    for (role, files) in [
        ("runtime-prod", THREE),
        ("runtime-dev", TWO),
        ("runtime-prod", ONE),
    ] {
        desk.later(1);
        desk.publish(role, files);
        desk.at(&mut device);
        assert_gets(&device, files);
        assert!(desk.is_current(role, files));
    }
    // Both are whole: the files of the other one were not removed.
    assert!(desk.repository().join("targets/c.raw").exists());
}

#[test]
fn current_is_what_readers_see_and_fresh_for_a_day() {
    let mut desk = TestPublisher::new();
    assert!(!desk.is_current("runtime-dev", ONE));
    assert!(!desk.repository().exists());
    desk.publish("runtime-dev", ONE);
    let before = tree(&desk.repository().join("metadata"));
    assert!(desk.is_current("runtime-dev", ONE));
    for (role, files) in [
        ("runtime-prod", ONE),
        ("runtime-dev", TWO),
        ("runtime-dev", &ONE[..2]),
    ] {
        assert!(!desk.is_current(role, files), "{role} {files:?}");
    }
    desk.later(5);
    assert!(desk.is_current("runtime-dev", ONE));
    desk.later(1);
    assert!(!desk.is_current("runtime-dev", ONE));
    desk.now = now();
    desk.desk.key = key(2);
    assert!(!desk.is_current("runtime-dev", ONE));
    desk.desk.key = key(1);
    assert_eq!(tree(&desk.repository().join("metadata")), before);

    for file in ["targets/a.raw", "metadata/timestamp.json"] {
        let path = desk.repository().join(file);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!desk.is_current("runtime-dev", ONE), "{file}");
        fs::write(&path, bytes).unwrap();
        assert!(desk.is_current("runtime-dev", ONE), "{file}");
    }
}

#[test]
fn renewing_keeps_a_repository_alive() {
    let mut desk = TestPublisher::new();
    assert!(matches!(
        renew(&desk.repository(), &desk.desk.key, desk.now),
        Err(WriterError::Empty { .. })
    ));
    desk.publish("runtime-dev", ONE);
    let mut device = desk.device();
    assert!(!renew(&desk.repository(), &desk.desk.key, desk.now).unwrap());
    let targets = tree(&desk.repository().join("metadata"))["targets.json"].clone();
    let mut snapshots = 0;
    for _ in 0..28 {
        desk.later(6);
        let before = tree(&desk.repository().join("metadata"))["snapshot.json"].clone();
        assert!(renew(&desk.repository(), &desk.desk.key, desk.now).unwrap());
        assert!(!renew(&desk.repository(), &desk.desk.key, desk.now).unwrap());
        desk.at(&mut device);
        device.client().unwrap().refresh().unwrap();
        snapshots +=
            usize::from(tree(&desk.repository().join("metadata"))["snapshot.json"] != before);
    }
    assert_gets(&device, ONE);
    assert_eq!(
        tree(&desk.repository().join("metadata"))["targets.json"],
        targets
    );
    assert_eq!(snapshots, 2);
}

#[test]
fn the_root_is_renewed_a_month_before_it_expires() {
    let mut desk = TestPublisher::new();
    desk.publish("runtime-dev", ONE);
    let mut device = desk.device();
    desk.later(334);
    assert_eq!(desk.publish("runtime-dev", ONE).root_version, 1);
    desk.later(1);
    assert_eq!(desk.publish("runtime-dev", TWO).root_version, 2);
    desk.later(4);
    desk.at(&mut device);
    assert_gets(&device, TWO);
    assert_eq!(
        device.stored()["root.json"],
        fs::read(desk.repository().join("metadata/root.json")).unwrap()
    );
    // Even a device that slept past the end of its root.
    desk.later(300);
    assert_eq!(desk.publish("runtime-dev", THREE).root_version, 2);
    let mut old = Device::new(&device.anchor, &desk.repository());
    desk.at(&mut old);
    assert_gets(&old, THREE);
}

#[test]
fn an_anchor_made_ahead_fits_a_repository_of_the_same_key() {
    let desk = TestPublisher::new();
    desk.publish("runtime-dev", ONE);
    let device = Device::new(&root(&desk.desk.key, desk.now).unwrap(), &desk.repository());
    assert_gets(&device, ONE);
    let other = Device::new(&root(&key(2), desk.now).unwrap(), &desk.repository());
    assert!(other.fetch("manifest.json").is_err());
}

#[test]
fn what_cannot_be_published_changes_nothing() {
    let desk = TestPublisher::new();
    desk.publish("runtime-dev", ONE);
    let all = |desk: &TestPublisher| {
        (
            tree(&desk.repository().join("metadata")),
            tree(&desk.repository().join("targets")),
        )
    };
    let before = all(&desk);
    let source = desk.desk.source(b"one");
    let target = |name: &str, source: &Path, length| PublicationTarget {
        name: name.to_owned(),
        source: Box::leak(source.to_owned().into_boxed_path()),
        digest: Digest::of(b"one"),
        length,
    };
    let good = target("manifest.json", &source, 3);
    let cases: Vec<(&str, &str, Vec<PublicationTarget<'_>>)> = vec![
        ("role", "../x", vec![good.clone()]),
        ("role", "targets", vec![good.clone()]),
        ("role", "3.targets", vec![good.clone()]),
        ("role", "3", vec![good.clone()]),
        ("name", "runtime-dev", vec![target("../x.raw", &source, 3)]),
        ("name", "runtime-dev", vec![target("a/x.raw", &source, 3)]),
        (
            "uncovered",
            "runtime-dev",
            vec![target("x.kab", &source, 3)],
        ),
        ("duplicate", "runtime-dev", vec![good.clone(), good.clone()]),
        (
            "length",
            "runtime-dev",
            vec![target("manifest.json", &source, 4)],
        ),
        (
            "missing",
            "runtime-dev",
            vec![target("x.raw", &desk.dir.path().join("none"), 4)],
        ),
    ];
    for (what, role, targets) in cases {
        let publication = Publication {
            directory: &desk.repository(),
            signers: RoleSigners::one(&desk.desk.key),
            role,
            targets: &targets,
            now: desk.now,
        };
        let error = publish(&publication).unwrap_err();
        let expected = match what {
            "role" => matches!(error, WriterError::Role(_) | WriterError::Name(_)),
            "name" => matches!(error, WriterError::Name(_)),
            "uncovered" => matches!(error, WriterError::Uncovered(_)),
            "duplicate" => matches!(error, WriterError::Duplicate(_)),
            "length" => matches!(
                error,
                WriterError::Length {
                    expected: 4,
                    found: 3,
                    ..
                }
            ),
            _ => matches!(error, WriterError::Io(_)),
        };
        assert!(expected, "{what}: {error:?}");
        assert!(!is_current(&publication));
    }
    let other = key(2);
    let publication = Publication {
        directory: &desk.repository(),
        signers: RoleSigners::one(&other),
        role: "runtime-dev",
        targets: &[good],
        now: desk.now,
    };
    assert!(matches!(
        publish(&publication),
        Err(WriterError::OtherKey { .. })
    ));
    assert_eq!(all(&desk), before);
}
