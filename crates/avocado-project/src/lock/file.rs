//! The lock file on disk.

use std::io;
use std::path::{Path, PathBuf};

use avocado_manifest::Name;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::change;
use super::diff::{self, LockChange};
use super::document::{LOCK_VERSION, LockDocument, TargetLock};
use super::error::LockFileError;
use super::json_text::{self, JsonPlace};
use super::migrate;
use crate::model::Project;

const FILE: &str = "avocado.lock";
const LEGACY: &str = ".avocado/lock.json";

/// The largest lock file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// The lock file of one project. What it holds that is not known here is kept.
#[derive(Debug, Clone)]
pub struct LockFile {
    path: PathBuf,
    /// `.avocado/lock.json`, where that is what was read; removed by the next save.
    legacy: Option<PathBuf>,
    /// The bytes of the file as it is.
    on_disk: Option<Vec<u8>>,
    document: LockDocument,
    /// It is not to change.
    locked: bool,
    /// It changes in memory alone.
    unsaved: bool,
}

impl LockFile {
    /// Reads `<src_dir>/avocado.lock`, else `<src_dir>/.avocado/lock.json`; without either the
    /// lock is empty. Versions 1 to 7 are read.
    ///
    /// # Errors
    /// Any [`LockFileError`] but [`LockFileError::Write`].
    pub fn load(src_dir: &Path) -> Result<Self, LockFileError> {
        let src_dir = std::path::absolute(src_dir).map_err(|source| LockFileError::Read {
            path: src_dir.to_owned(),
            source,
        })?;
        let mut lock = LockFile {
            path: src_dir.join(FILE),
            legacy: None,
            on_disk: None,
            document: LockDocument {
                version: LOCK_VERSION,
                ..LockDocument::default()
            },
            locked: false,
            unsaved: false,
        };
        let old = src_dir.join(LEGACY);
        if let Some(bytes) = read(&lock.path)? {
            lock.document = parse(&lock.path, &bytes)?;
            lock.on_disk = Some(bytes);
            // A legacy file beside it is a leftover: it is not read, and goes with the next save.
            lock.legacy = old.is_file().then_some(old);
        } else if let Some(bytes) = read(&old)? {
            lock.document = parse(&old, &bytes)?;
            lock.legacy = Some(old);
        }
        let targets = lock.document.targets.values_mut();
        targets.for_each(TargetLock::adopt_sources);
        Ok(lock)
    }

    /// The lock file with these bytes, which is at `path` only in what is said of it.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for [`LockFileError::Read`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, LockFileError> {
        Ok(LockFile {
            path: path.to_owned(),
            legacy: None,
            on_disk: Some(bytes.to_owned()),
            document: parse(path, bytes)?,
            locked: true,
            unsaved: false,
        })
    }

    /// In what `new` differs from this one.
    pub fn changes_to(&self, new: &LockFile) -> Vec<LockChange> {
        // What was read has a JSON form.
        diff::between(&self.document, &new.document).unwrap_or_default()
    }

    /// The same file; with `locked` a save that would change it fails.
    #[must_use]
    pub fn locked(self, locked: bool) -> Self {
        LockFile { locked, ..self }
    }

    /// The same file; with `unsaved` a save leaves what is on disk.
    #[must_use]
    pub fn unsaved(self, unsaved: bool) -> Self {
        LockFile { unsaved, ..self }
    }

    /// Writes `<src_dir>/avocado.lock` if its bytes change, and removes the legacy file. Answers
    /// whether it was written. The old file stays whole until the new one is.
    ///
    /// # Errors
    /// [`LockFileError::Write`], and [`LockFileError::Locked`].
    pub fn save(&mut self) -> Result<bool, LockFileError> {
        let failed = |path: &Path, source| LockFileError::Write {
            path: path.to_owned(),
            source,
        };
        let bytes = self.to_bytes().map_err(|e| failed(&self.path, e.into()))?;
        // Nothing locked and no file: there is nothing to write down.
        let nothing = self.on_disk.is_none() && self.legacy.is_none() && self.is_empty();
        let write = self.on_disk.as_ref() != Some(&bytes) && !nothing;
        if write && self.locked {
            return Err(self.would_change());
        }
        if self.unsaved {
            return Ok(false);
        }
        if write {
            // A link stays a link.
            let path = std::fs::canonicalize(&self.path);
            avocado_fs::write(path.as_deref().unwrap_or(&self.path), &bytes)
                .map_err(|error| failed(&self.path, error.source))?;
            self.on_disk = Some(bytes);
        }
        if let Some(legacy) = self.legacy.take() {
            avocado_fs::remove_file_if_there(&legacy)
                .map_err(|error| failed(&legacy, error.source))?;
        }
        Ok(write)
    }

    /// For those who know already that it would change.
    ///
    /// # Errors
    /// [`LockFileError::Locked`], where it is not to.
    pub fn refuse_if_locked(&self, what: &str) -> Result<(), LockFileError> {
        if !self.locked {
            return Ok(());
        }
        Err(LockFileError::Locked {
            path: self.path.clone(),
            what: what.to_owned(),
        })
    }

    fn would_change(&self) -> LockFileError {
        let old = self.on_disk.as_deref();
        let old = old.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        let new = serde_json::to_value(&self.document).ok();
        let changes = change::changes(old.as_ref(), new.as_ref());
        let what = match changes.split_first() {
            None => "its form".to_owned(),
            Some((first, [])) => first.to_string(),
            Some((first, more)) => format!("{first}, and {} more", more.len()),
        };
        LockFileError::Locked {
            path: self.path.clone(),
            what,
        }
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is locked for a target.
    pub fn target(&self, target: &Name) -> Option<&TargetLock> {
        self.document.targets.get(target.as_str())
    }

    /// What is locked for a target, to change it.
    pub fn target_mut(&mut self, target: &Name) -> &mut TargetLock {
        let targets = &mut self.document.targets;
        targets.entry(target.as_str().to_owned()).or_default()
    }

    /// Forgets packages, kernels and the snapshot of a target. `boot` stays.
    pub fn clear_target(&mut self, target: &Name) {
        let targets = &mut self.document.targets;
        if let Some(lock) = targets.get_mut(target.as_str()) {
            lock.clear();
            if lock.is_empty() {
                targets.remove(target.as_str());
            }
        }
    }

    /// Drops what is locked for the target of a project and for trees that the project does not have
    /// any more; answers with their names. Nothing is dropped where only a part of the project could
    /// be read, and nothing where the file is not to change. What was in memory alone goes unsaid.
    pub fn drop_gone(&mut self, project: &Project) -> Vec<String> {
        let before = self.to_bytes().ok();
        let targets = &mut self.document.targets;
        let lock = targets.get_mut(project.target.as_str());
        match lock {
            Some(lock) if project.is_complete && !self.locked && !self.unsaved => {
                let gone = lock.drop_gone(project);
                if lock.is_empty() {
                    targets.remove(project.target.as_str());
                }
                if self.to_bytes().ok() == before {
                    return Vec::new();
                }
                gone
            }
            _ => Vec::new(),
        }
    }

    /// The bytes of the file: pretty JSON, sorted keys, a final line end.
    fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut document = serde_json::to_value(&self.document)?;
        document.sort_all_objects();
        let mut bytes = serde_json::to_vec_pretty(&document)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn is_empty(&self) -> bool {
        let empty = LockDocument {
            version: self.document.version,
            ..LockDocument::default()
        };
        self.document == empty
    }
}

/// The bytes of a file; `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, LockFileError> {
    avocado_fs::read_if_there(path, MAX_BYTES).map_err(|error| LockFileError::Read {
        path: error.path,
        source: error.source,
    })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<LockDocument, LockFileError> {
    let mut root: Map<String, Value> = decode(path, bytes, bytes)?;
    if let Some((JsonPlace { line, column }, key)) = json_text::duplicate(bytes) {
        return Err(LockFileError::Duplicate {
            path: path.to_owned(),
            line,
            column,
            key,
        });
    }
    let version = root.get("version").and_then(Value::as_u64);
    let JsonPlace { line, column } = json_text::place_of(bytes, &["version".to_owned()]);
    let Some(version) = version.filter(|version| *version > 0) else {
        return Err(LockFileError::NoVersion {
            path: path.to_owned(),
            line,
            column,
        });
    };
    if version > LOCK_VERSION {
        return Err(LockFileError::Version {
            path: path.to_owned(),
            line,
            column,
            version,
        });
    }
    if version == LOCK_VERSION {
        return decode(path, bytes, bytes);
    }
    migrate::migrate(version, &mut root);
    root.insert("version".to_owned(), LOCK_VERSION.into());
    // By way of its text: a migration nests, and what is saved has to be read again.
    let migrated = serde_json::to_vec(&root).map_err(|source| LockFileError::Read {
        path: path.to_owned(),
        source: io::Error::from(source),
    })?;
    decode(path, &migrated, bytes)
}

/// Reads a document that is that of `written`, or follows from it.
fn decode<'de, T: serde::Deserialize<'de>>(
    path: &Path,
    bytes: &'de [u8],
    written: &[u8],
) -> Result<T, LockFileError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut deserializer);
    read.map_err(|error| (keys_of(error.path()), error.into_inner()))
        .and_then(|value| match deserializer.end() {
            Ok(()) => Ok(value),
            Err(error) => Err((Vec::new(), error)),
        })
        .map_err(|(keys, source)| match merge_mark(bytes) {
            // No JSON has a line that begins so.
            Some(line) if !source.is_data() => LockFileError::MergeConflict {
                path: path.to_owned(),
                line,
            },
            _ => LockFileError::damaged(path, written, &keys, source),
        })
}

fn keys_of(path: &serde_path_to_error::Path) -> Vec<String> {
    let keys = path.iter().filter_map(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    keys.collect()
}

/// The line of the first mark that git leaves where a merge is not finished.
fn merge_mark(bytes: &[u8]) -> Option<usize> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let marks: [&[u8]; 3] = [b"<<<<<<<", b"=======", b">>>>>>>"];
    let is_mark = |line: &[u8]| marks.iter().any(|mark| line.starts_with(mark));
    lines.position(is_mark).map(|index| index + 1)
}
