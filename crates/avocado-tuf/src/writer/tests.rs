use super::*;
use crate::files::crash;
use crate::testing;

struct Desk {
    dir: tempfile::TempDir,
    desk: testing::Desk,
}

impl Desk {
    fn new() -> Self {
        // In memory where that is possible: hundreds of publications, each with many an fsync.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.unwrap();
        let desk = testing::Desk::new(dir.path(), 1);
        Desk { dir, desk }
    }

    fn copy(&self) -> Self {
        let copy = Desk::new();
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
    let before = Desk::new();
    let one = before.run(&first, publish).unwrap();
    let two = before.run(&old, publish).unwrap();
    assert!(two.snapshot_version > one.snapshot_version);

    let mut seen = [0, 0];
    for points in 0.. {
        let desk = before.copy();
        crash::after(Some(points));
        let done = desk.run(&new, publish).is_ok();
        crash::after(None);

        // The unversioned names of the old publication may be gone to the new one already;
        // the chain that consistent clients follow is whole.
        let layout = Layout::new(&desk.dir.path().join("repository"));
        let root = state::root(&layout, &desk.desk.key)
            .unwrap()
            .unwrap()
            .content;
        let visible = Visible::read(&layout, &root).unwrap().unwrap();
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

        // Repeating it works, with versions that nobody can have seen.
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
        let desk = Desk::new();
        crash::after(Some(points));
        let done = desk.run(&["m1"], publish).is_ok();
        crash::after(None);
        let timestamp = desk.dir.path().join("repository/metadata/timestamp.json");
        assert_eq!(timestamp.exists(), desk.is_whole(&["m1"]), "{points}");
        desk.run(&["m1"], publish).unwrap();
        assert!(desk.is_whole(&["m1"]));
        if done {
            break;
        }
    }
}
