//! The lock file on disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use super::document::Misfit;
use super::json::Json;
use super::{LOCK_VERSION, LockFile, document, json, migrate};
use crate::Error;

const FILE: &str = "avocado.lock";
const LEGACY: &str = ".avocado/lock.json";

/// The largest lock file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

pub(super) fn load(src_dir: &Path) -> Result<LockFile, Error> {
    let src_dir = std::path::absolute(src_dir).map_err(|source| Error::Read {
        path: src_dir.to_owned(),
        source,
    })?;
    let path = src_dir.join(FILE);
    let old = src_dir.join(LEGACY);
    if let Some(bytes) = read(&path)? {
        // A legacy file beside it is a leftover: it is not read, and goes with the next save.
        let legacy = old.is_file().then_some(old);
        let mut lock = parse(&path, &path, &bytes)?;
        lock.legacy = legacy;
        lock.on_disk = Some(bytes);
        return Ok(lock);
    }
    if let Some(bytes) = read(&old)? {
        let mut lock = parse(&path, &old, &bytes)?;
        lock.legacy = Some(old);
        return Ok(lock);
    }
    Ok(empty(&path))
}

pub(super) fn save(lock: &mut LockFile) -> Result<bool, Error> {
    let failed = |path: &Path, source| Error::LockWrite {
        path: path.to_owned(),
        source,
    };
    let bytes = lock.to_bytes();
    // Nothing locked and no file: there is nothing to write down.
    let nothing = lock.on_disk.is_none() && lock.legacy.is_none() && lock.is_empty();
    let write = lock.on_disk.as_ref() != Some(&bytes) && !nothing;
    if write {
        replace(&lock.path, &bytes).map_err(|source| failed(&lock.path, source))?;
        lock.on_disk = Some(bytes);
    }
    if let Some(legacy) = lock.legacy.take() {
        match std::fs::remove_file(&legacy) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&legacy, error));
            }
            _ => {}
        }
    }
    Ok(write)
}

impl LockFile {
    fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.other.is_empty() && self.distro_release.is_none()
    }
}

fn empty(path: &Path) -> LockFile {
    LockFile {
        path: path.to_owned(),
        legacy: None,
        on_disk: None,
        distro_release: None,
        targets: Default::default(),
        other: Default::default(),
    }
}

/// The bytes of a file; `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(failed(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is larger than 64 MiB",
        )));
    }
    Ok(Some(bytes))
}

/// `from` is the file that was read, `path` the one that will be written.
fn parse(path: &Path, from: &Path, bytes: &[u8]) -> Result<LockFile, Error> {
    let root: &RawValue = serde_json::from_slice(bytes).map_err(|source| Error::LockSyntax {
        path: from.to_owned(),
        line: source.line(),
        column: source.column(),
        source,
    })?;
    let shape = |at: &str, expected| Error::LockShape {
        path: from.to_owned(),
        at: at.to_owned(),
        expected,
    };
    let misfit = |misfit: Misfit| shape(&misfit.at, misfit.expected);
    let Json::Map(mut root) = Json::read(root).map_err(misfit)? else {
        return Err(shape("the document", "an object"));
    };
    let version = root.get("version").and_then(Json::as_u64);
    let version = version
        .filter(|version| *version > 0)
        .ok_or_else(|| shape("version", "a version number"))?;
    if version > LOCK_VERSION {
        return Err(Error::LockVersion {
            path: from.to_owned(),
            version,
        });
    }
    migrate::migrate(version, &mut root);
    json::check_depth(&root).map_err(misfit)?;
    let (distro_release, targets, other) = document::read(root).map_err(misfit)?;
    Ok(LockFile {
        distro_release,
        targets,
        other,
        ..empty(path)
    })
}

/// Writes beside the file, brings it to disk, and renames it into place.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link stays a link.
    let path: PathBuf = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".avocado.lock.");
    // The umask takes from it what it takes from any file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temp = builder.tempfile_in(dir)?;
    temp.write_all(bytes)?;
    temp.as_file().sync_all()?;
    temp.persist(&path)?;
    // Elsewhere a directory is nothing that could be opened.
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}
