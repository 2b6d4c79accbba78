use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::{AtPath as _, PathError, remove_file_if_there};

/// How old a file under a temporary name is whose writer must have been cut off.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes files of these directories, those that were changed first, until the rest has no more than
/// `max_size` bytes. What is in their directories, and what is being written under a name with a dot, is
/// left alone.
///
/// # Errors
/// When a directory cannot be read, or a file not be removed.
pub fn remove_oldest(directories: &[PathBuf], max_size: u64) -> Result<(), PathError> {
    let mut files = Vec::new();
    for directory in directories {
        files.extend(files_of(directory)?);
    }
    let mut size: u64 = files.iter().map(|file| file.size).sum();
    files.sort_by(|a, b| (a.changed, &a.path).cmp(&(b.changed, &b.path)));
    for file in files {
        if size <= max_size {
            break;
        }
        remove_file_if_there(&file.path)?;
        size -= file.size;
    }
    Ok(())
}

struct AgedFile {
    path: PathBuf,
    size: u64,
    changed: SystemTime,
}

fn files_of(directory: &Path) -> Result<Vec<AgedFile>, PathError> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("read", directory)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.at("read", directory)?;
        let is_temporary = entry.file_name().to_string_lossy().starts_with('.');
        // One that is gone meanwhile was removed by another process.
        let metadata = entry.metadata().ok();
        let Some(metadata) = metadata.filter(Metadata::is_file) else {
            continue;
        };
        let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let is_written = changed.elapsed().map_or(true, |age| age < ABANDONED);
        if is_temporary && is_written {
            continue;
        }
        files.push(AgedFile {
            path: entry.path(),
            size: metadata.len(),
            changed,
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn the_oldest_leave_and_what_is_being_written_stays() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) = (place.path().join("one"), place.path().join("two"));
        let write = |path: PathBuf, age: u64| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "0123456789").unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            File::open(&path).unwrap().set_modified(then).unwrap();
        };
        for (path, age) in [
            (one.join("old"), 30),
            (two.join("older"), 40),
            (two.join("new"), 1),
            (one.join(".writing"), 50),
            (one.join(".abandoned"), 2 * 24 * 60 * 60),
            (one.join("directory/file"), 90),
        ] {
            write(path, age);
        }
        let directories = [one.clone(), two.clone(), place.path().join("none")];
        remove_oldest(&directories, 25).unwrap();
        for (path, is_there) in [
            (one.join("old"), true),
            (two.join("older"), false),
            (two.join("new"), true),
            (one.join(".writing"), true),
            (one.join(".abandoned"), false),
            (one.join("directory/file"), true),
        ] {
            assert_eq!(path.exists(), is_there, "{path:?}");
        }
        remove_oldest(&directories, 0).unwrap();
        assert!(!two.join("new").exists());
    }
}
