//! What the file system says of a tree. Where that is what it was, the contents are too, and need not
//! be read again.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use avocado_manifest::{Digest, DigestHasher};
use walkdir::WalkDir;

use crate::error::{At as _, BuildError};

/// The change times of files have steps of at most 10 ms on Linux: what is written to a file this
/// long after its change time gives it another one.
const STEP: Duration = Duration::from_millis(20);
/// Where a file system has whole seconds only.
const COARSE_STEP: Duration = Duration::from_secs(2);

/// The digest of what the file system says of everything in a tree, read before its contents are.
/// None where a file changed so shortly before that it may change again without another change time.
pub(crate) fn state_before_reading(root: &Path) -> Result<Option<Digest>, BuildError> {
    let (state, newest) = walk(root)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now
        .is_ok_and(|now| is_settled(newest, now))
        .then_some(state))
}

fn is_settled(newest: Duration, now: Duration) -> bool {
    let step = if newest.subsec_nanos() == 0 {
        COARSE_STEP
    } else {
        STEP
    };
    newest + step < now
}

/// Whether the tree is what it was when that was its state.
pub(crate) fn has_state(root: &Path, state: Option<Digest>) -> Result<bool, BuildError> {
    match state {
        Some(state) => Ok(walk(root)?.0 == state),
        None => Ok(false),
    }
}

/// The state, and the newest change time of a file.
fn walk(root: &Path) -> Result<(Digest, Duration), BuildError> {
    let mut hasher = DigestHasher::default();
    let mut newest = Duration::ZERO;
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry = entry.map_err(io::Error::from).at("read", root)?;
        let metadata = entry.metadata().map_err(io::Error::from);
        let metadata = metadata.at("look at", entry.path())?;
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        hasher.update(relative.as_os_str().as_bytes());
        hasher.update(b"\0");
        // Reading the root itself by its new name changes nothing in it.
        let of_root = if relative.as_os_str().is_empty() {
            0
        } else {
            1
        };
        for number in [
            metadata.dev(),
            metadata.ino(),
            metadata.mode().into(),
            metadata.nlink(),
            metadata.size(),
            metadata.mtime() as u64,
            metadata.mtime_nsec() as u64,
            metadata.ctime() as u64 * of_root,
            metadata.ctime_nsec() as u64 * of_root,
        ] {
            hasher.update(&number.to_le_bytes());
        }
        if !metadata.is_dir() {
            let changed = Duration::new(
                u64::try_from(metadata.ctime()).unwrap_or(0),
                u32::try_from(metadata.ctime_nsec()).unwrap_or(0),
            );
            newest = newest.max(changed);
        }
    }
    Ok((hasher.finish(), newest))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::trees::Tree;

    #[test]
    fn a_state_is_that_of_this_tree_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::fresh(&dir.path().join("tree")).unwrap();
        tree.write("d/f", "1", 0o644).unwrap();
        tree.write("d/g", "2", 0o644).unwrap();
        symlink("f", tree.shown("d/l")).unwrap();
        let mut seen = vec![walk(tree.path()).unwrap().0];
        let file = tree.shown("d/f");
        let changes: [&dyn Fn(); 6] = [
            &|| fs::write(&file, "22").unwrap(),
            &|| tree.set_time("d/f", 1).unwrap(),
            // The same content in another file.
            &|| tree.write("d/g", "2", 0o644).unwrap(),
            &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap(),
            &|| fs::hard_link(&file, tree.shown("d/h")).unwrap(),
            &|| fs::rename(tree.shown("d/h"), tree.shown("d/i")).unwrap(),
        ];
        for (nth, change) in changes.iter().enumerate() {
            change();
            let now = walk(tree.path()).unwrap().0;
            assert!(!seen.contains(&now), "{nth}");
            assert!(!has_state(tree.path(), seen.last().copied()).unwrap());
            assert!(has_state(tree.path(), Some(now)).unwrap());
            seen.push(now);
        }
        assert!(!has_state(tree.path(), None).unwrap());
        // As a result is put in its place.
        let place = dir.path().join("place");
        fs::rename(tree.path(), &place).unwrap();
        assert!(has_state(&place, seen.last().copied()).unwrap());
    }

    #[test]
    fn a_file_that_changed_just_now_may_change_again() {
        for (changed, now, settled) in [
            (1500, 1510, false),
            (1500, 1530, true),
            (1500, 1400, false),
            // Of a file system that has whole seconds only, or by chance.
            (1000, 1530, false),
            (1000, 3001, true),
        ] {
            let [changed, now] = [changed, now].map(Duration::from_millis);
            assert_eq!(is_settled(changed, now), settled, "{changed:?} {now:?}");
        }
    }
}
