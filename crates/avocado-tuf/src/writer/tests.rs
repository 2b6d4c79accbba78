use avocado_fs::crash::{Disk, Recorder};

use super::*;
use crate::testing;

struct Publisher {
    dir: tempfile::TempDir,
    desk: testing::TestPublisher,
}

impl Publisher {
    fn new() -> Self {
        // In memory where that is possible: hundreds of publications, each with many an fsync.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.unwrap();
        let desk = testing::TestPublisher::new(dir.path(), 1);
        Publisher { dir, desk }
    }

    fn copy(&self) -> Self {
        let copy = Publisher::new();
        for part in ["metadata/delegations", "metadata", "targets"] {
            let part = Path::new("repository").join(part);
            let to = copy.dir.path().join(&part);
            fs::create_dir_all(&to).unwrap();
            for entry in fs::read_dir(self.dir.path().join(&part)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
                }
            }
        }
        copy
    }

    fn repository(&self) -> std::path::PathBuf {
        self.desk.repository()
    }

    /// Publishes, and is killed after so many steps. Whether it was done by then.
    fn killed(&self, steps: usize, files: &[&str]) -> bool {
        let recorder = Recorder::new(&self.repository()).limit(steps);
        let (result, _) = recorder.run(|| self.run(files, publish));
        result.is_ok()
    }

    fn run<T>(&self, files: &[&str], f: impl Fn(&Publication<'_>) -> T) -> T {
        let names = ["manifest.json", "a.raw", "b.raw"];
        let files: Vec<_> = names.into_iter().zip(files).collect();
        let now = "2025-06-01T00:00:00Z".parse().unwrap();
        self.desk.with(testing::ROLE, &files, now, f)
    }

    fn is_whole(&self, files: &[&str]) -> bool {
        self.run(files, is_current)
    }
}

#[test]
fn a_crash_at_any_point_leaves_the_old_or_the_new_publication() {
    let (first, old, new) = (["m1", "x", "y"], ["m2", "x", "z"], ["m3", "x", "w"]);
    let before = Publisher::new();
    let one = before.run(&first, publish).unwrap();
    let two = before.run(&old, publish).unwrap();
    assert!(two.snapshot_version > one.snapshot_version);

    let mut seen = [0, 0];
    for points in 0.. {
        let desk = before.copy();
        let done = desk.killed(points, &new);

        // The unversioned names of the old publication may be gone to the new one already;
        // the chain that consistent clients follow is whole.
        let layout = RepositoryLayout::new(&desk.repository());
        let signers = RoleSigners::one(&desk.desk.key);
        let root = state::root(&layout, &signers).unwrap().unwrap().content;
        let visible = VisiblePublication::read(&layout, &root).unwrap().unwrap();
        let role = visible.role(&layout, "runtime-dev").unwrap().unwrap();
        for (name, target) in &role.content.targets {
            let prefix = target.hashes.file_prefix().unwrap();
            let bytes = fs::read(layout.targets.join(format!("{prefix}.{name}"))).unwrap();
            assert!(target.hashes.match_bytes(&bytes), "{points}: {name}");
        }
        let is_new = desk.is_whole(&new);
        assert!(
            is_new || role.content.version() == two.role_version,
            "{points}"
        );
        seen[usize::from(is_new)] += 1;

        // Repeating it works, with versions that no reader can have seen.
        let next = desk.run(&new, publish).unwrap();
        assert!(desk.is_whole(&new));
        assert!(next.snapshot_version > two.snapshot_version);
        assert!(next.timestamp_version > visible.timestamp.content.version());
        for directory in [&layout.metadata, &layout.targets, &layout.delegations] {
            assert!(!directory.join(".new").exists(), "{points}");
        }
        if done {
            break;
        }
    }
    assert!(seen[0] > 20 && seen[1] > 5, "{seen:?}");
}

#[test]
fn a_crash_in_the_first_publication_shows_nothing_and_is_repeated() {
    for points in 0.. {
        let desk = Publisher::new();
        let done = desk.killed(points, &["m1"]);
        let timestamp = desk.dir.path().join("repository/metadata/timestamp.json");
        assert_eq!(timestamp.exists(), desk.is_whole(&["m1"]), "{points}");
        desk.run(&["m1"], publish).unwrap();
        assert!(desk.is_whole(&["m1"]));
        if done {
            break;
        }
    }
}

/// What a power cut leaves: the files of a publication that is whole, as consistent clients see it.
fn what_is_seen(repository: &Path, key: &crate::SigningKey) -> Option<Vec<Vec<u8>>> {
    let layout = RepositoryLayout::new(repository);
    let root = state::root(&layout, &RoleSigners::one(key)).unwrap()?;
    let visible = VisiblePublication::read(&layout, &root.content).unwrap()?;
    let role = visible.role(&layout, "runtime-dev").unwrap().unwrap();
    let files = role.content.targets.iter().map(|(name, target)| {
        let prefix = target.hashes.file_prefix().unwrap();
        let bytes = fs::read(layout.targets.join(format!("{prefix}.{name}"))).unwrap();
        assert!(target.hashes.match_bytes(&bytes), "{name}");
        bytes
    });
    Some(files.collect())
}

#[test]
fn a_power_cut_at_any_point_leaves_the_old_or_the_new_publication() {
    let (old, new) = (["m1", "x", "y"], ["m2", "x", "z"]);
    // In the order of their names.
    let bytes = |[manifest, a, b]: [&str; 3]| [a, b, manifest].map(|text| text.as_bytes().to_vec());
    let desk = Publisher::new();
    desk.run(&old, publish).unwrap();
    let mut disk = Disk::of(&desk.repository());
    let (result, ops) = Recorder::new(&desk.repository()).run(|| desk.run(&new, publish));
    result.unwrap();

    let mut number = 7_u64;
    let mut random = move || {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        number >> 33
    };
    let mut seen = [0, 0];
    for done in 0..=ops.len() {
        disk.crash(12, &mut random, |state| {
            let left = tempfile::tempdir_in(desk.dir.path()).unwrap();
            state.restore(left.path());
            let files = what_is_seen(left.path(), &desk.desk.key).unwrap();
            let is_new = files == bytes(new);
            assert!(is_new || files == bytes(old), "after {done} steps");
            // What was said to be done lasts.
            assert!(is_new || done < ops.len(), "after everything");
            seen[usize::from(is_new)] += 1;
        });
        if let Some(op) = ops.get(done) {
            disk.apply(op);
        }
    }
    assert!(seen[0] > 100 && seen[1] > 1, "{seen:?}");
}

/// A signer that does what a token or a server may do.
#[derive(Debug)]
struct Token {
    shows: crate::SigningKey,
    signs: Option<crate::SigningKey>,
}

impl Signer for Token {
    fn public(&self) -> &crate::PublicKey {
        self.shows.public()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let key = self.signs.as_ref().ok_or("the token is not plugged in")?;
        Ok(key.sign(message))
    }
}

fn token(shows: u8, signs: Option<u8>) -> Token {
    let key = |seed| crate::SigningKey::from_seed(&[seed; 32]).unwrap();
    Token {
        shows: key(shows),
        signs: signs.map(key),
    }
}

#[test]
fn each_role_has_a_signer_of_its_own() {
    let [root, timestamp, snapshot, targets, delegated] =
        [1, 2, 3, 4, 5].map(|seed| token(seed, Some(seed)));
    let signers = RoleSigners {
        root: &root,
        timestamp: &timestamp,
        snapshot: &snapshot,
        targets: &targets,
        delegated: &delegated,
    };
    let desk = Publisher::new();
    let with = |signers| {
        desk.run(&["m1", "x"], |publication| {
            let publication = Publication {
                signers,
                ..*publication
            };
            publish(&publication).map(|_| is_current(&publication))
        })
    };
    assert!(with(signers).unwrap());

    // A root that is fresh needs no signature, so its key can be locked away.
    let locked = token(1, None);
    let signers = RoleSigners {
        root: &locked,
        ..signers
    };
    assert!(with(signers).unwrap());
    let later = "2025-06-07T12:00:00Z".parse().unwrap();
    assert!(renew(&desk.repository(), signers, later).unwrap());

    // Another signer is another owner.
    let stranger = token(6, Some(6));
    let error = with(RoleSigners {
        snapshot: &stranger,
        ..signers
    });
    assert!(matches!(error, Err(WriterError::OtherKey { .. })));
}

#[test]
fn nothing_is_published_that_no_device_would_take() {
    let good = token(1, Some(1));
    for (bad, unsigned) in [(token(2, None), true), (token(2, Some(3)), false)] {
        for role in ["timestamp", "snapshot", "targets"] {
            let desk = Publisher::new();
            let mut signers = RoleSigners::one(&good);
            match role {
                "timestamp" => signers.timestamp = &bad,
                "snapshot" => signers.snapshot = &bad,
                _ => signers.targets = &bad,
            }
            let error = desk.run(&["m1"], |publication| {
                publish(&Publication {
                    signers,
                    ..*publication
                })
            });
            match error.unwrap_err() {
                WriterError::Signer { role: named, .. } if unsigned => assert_eq!(named, role),
                WriterError::Signature { role: named } if !unsigned => assert_eq!(named, role),
                other => panic!("{role}: {other:?}"),
            }
            assert!(!desk.repository().join("metadata/timestamp.json").exists());
        }
    }
}

#[test]
fn every_kind_of_file_is_published_and_covered() {
    let desk = Publisher::new();
    let files = [
        ("manifest.json", "m"),
        ("a.raw", "image"),
        ("a.aos", "bundle"),
        ("a.raw.chunks", "index"),
    ];
    let now = "2025-06-01T00:00:00Z".parse().unwrap();
    desk.desk.with(testing::ROLE, &files, now, publish).unwrap();
    let layout = RepositoryLayout::new(&desk.repository());
    let signers = RoleSigners::one(&desk.desk.key);
    let root = state::root(&layout, &signers).unwrap().unwrap().content;
    let visible = VisiblePublication::read(&layout, &root).unwrap().unwrap();
    let delegations = visible.targets.content.delegations.unwrap();
    for (name, _) in files {
        assert!(delegations.roles[0].covers(name), "{name}");
    }
    let error = desk
        .desk
        .with(testing::ROLE, &[("a.txt", "x")], now, publish);
    assert!(matches!(error, Err(WriterError::Uncovered(_))));
}
