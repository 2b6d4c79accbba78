//! Space for the way back: `<base>/.reserve`.
//!
//! A full disk must not keep a device on a runtime that it has to leave. What is written for that
//! is little (a line of the history, a link, an entry in a directory), but on most file systems
//! each takes a new block. So a file that means nothing holds some; where the disk is full it is
//! given up, and put back as soon as there is room again.

use std::path::{Path, PathBuf};

use avocado_fs::AtPath;
use avocado_fs::recorded::RecordedFile;
use rustix::fs::FallocateFlags;

use super::files;
use crate::error::FailureReason;

/// What is held, in bytes: many times what one activation writes.
const HELD: u64 = 128 << 10;

/// How much is written at once where a file system cannot promise space.
const CHUNK: usize = 16 << 10;

fn path(base: &Path) -> PathBuf {
    base.join(".reserve")
}

/// Does `work`, once more with the reserve where the disk is full.
pub(crate) fn with_reserve<T>(
    base: &Path,
    mut work: impl FnMut() -> Result<T, FailureReason>,
) -> Result<T, FailureReason> {
    match work() {
        Err(full) if full.is_disk_full() && path(base).exists() => {
            files::remove(&path(base))?;
            work()
        }
        other => other,
    }
}

/// Holds the reserve, where there is room for it. The caller holds the lock of the store. Without
/// it all goes on as well: what needs it says so when it comes to that.
pub(crate) fn keep(base: &Path) {
    let path = path(base);
    if files::length(&path) >= HELD {
        return;
    }
    if files::remove(&path).and_then(|()| hold(&path)).is_err() {
        let _ = files::remove(&path);
    }
}

/// Takes the space. What is in the file means nothing, so neither it nor its name has to last.
fn hold(path: &Path) -> Result<(), FailureReason> {
    let file = RecordedFile::create_new(path, Some(0o600)).at("create", path)?;
    let promised =
        rustix::fs::fallocate(file.file(), FallocateFlags::empty(), 0, HELD).map_err(Into::into);
    match promised {
        Err::<_, std::io::Error>(e) if e.kind() == std::io::ErrorKind::Unsupported => {
            // Such file systems often compress, and what is all the same would take nothing.
            let mut state = 0x9e37_79b9_u32;
            let chunk = [0_u8; CHUNK].map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state >> 8) as u8
            });
            while files::length(path) < HELD {
                file.append(&chunk).at("write", path)?;
            }
            Ok(())
        }
        other => Ok(other.at("write", path)?),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn full() -> FailureReason {
        FailureReason::file("write", Path::new("x"))(std::io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn the_reserve_holds_space_and_is_given_up_once() {
        let dir = tempfile::tempdir().unwrap();
        let held = path(dir.path());
        keep(dir.path());
        let meta = std::fs::metadata(&held).unwrap();
        assert!(meta.blocks() * 512 >= HELD, "{meta:?}");
        // What works, and what fails for another reason, leaves it alone.
        with_reserve(dir.path(), || Ok(())).unwrap();
        with_reserve(dir.path(), || Err::<(), _>(FailureReason::Cancelled)).unwrap_err();
        assert!(held.exists());
        let tries = Cell::new(0);
        let work = || {
            tries.set(tries.get() + 1);
            if held.exists() { Err(full()) } else { Ok(()) }
        };
        with_reserve(dir.path(), work).unwrap();
        assert_eq!(tries.get(), 2);
        let error = with_reserve(dir.path(), || Err::<(), _>(full())).unwrap_err();
        assert!(error.is_disk_full());
        // A crash left a part of one.
        std::fs::write(&held, "part").unwrap();
        keep(dir.path());
        assert_eq!(files::length(&held), HELD);
    }
}
