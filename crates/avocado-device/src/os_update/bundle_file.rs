//! An OS bundle in the pool: a tar, compressed with zstd, of `bundle.json` and the artifacts.
//!
//! Its bytes are those that were signed before it is opened here. It is read from front to back, and
//! nothing of it is kept but the description: an artifact goes from the archive to its partition.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use avocado_manifest::os_bundle::{
    LARGEST_OS_BUNDLE_DESCRIPTION, OS_BUNDLE_FILE, OS_BUNDLE_IMAGES, OsArtifact,
    OsBundleDescription,
};
use avocado_manifest::{Digest, Name};
use tar::{Archive, Entry, EntryType};

use super::error::OsUpdateError;
use super::zstd_reader::ZstdReader;
use crate::error::FailureReason;

/// What is done with an artifact, its size in bytes and its bytes.
type ArtifactWork<'a> =
    dyn FnMut(&OsArtifact, u64, &mut dyn Read) -> Result<(), FailureReason> + 'a;

/// A bundle, with its description read.
#[derive(Debug)]
pub(super) struct BundleFile {
    path: PathBuf,
    pub(super) description: OsBundleDescription,
}

impl BundleFile {
    /// Reads the description of the bundle at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, FailureReason> {
        let mut archive = archive(path)?;
        let mut entries = archive.entries().map_err(unreadable(path, "the archive"))?;
        let first = entries.next().transpose();
        let mut first = first
            .map_err(unreadable(path, "the first file"))?
            .ok_or_else(|| content(format!("it is empty; {OS_BUNDLE_FILE} should be in it")))?;
        if file_name(&first).as_deref() != Some(OS_BUNDLE_FILE) {
            return Err(content(format!("its first file is not {OS_BUNDLE_FILE}")));
        }
        let mut bytes = Vec::new();
        let limit = LARGEST_OS_BUNDLE_DESCRIPTION as u64 + 1;
        let read = first.by_ref().take(limit).read_to_end(&mut bytes);
        read.map_err(unreadable(path, OS_BUNDLE_FILE))?;
        let description = OsBundleDescription::parse(&bytes).map_err(OsUpdateError::Description)?;
        Ok(BundleFile {
            path: path.to_owned(),
            description,
        })
    }

    /// Calls `each` with every artifact, its size in bytes and its bytes, in the order of the archive.
    /// All of them have to be there, each once.
    pub(super) fn artifacts(&self, each: &mut ArtifactWork<'_>) -> Result<(), FailureReason> {
        let path = &self.path;
        let update = self.description.update.as_ref();
        let wanted = update.map_or(&[][..], |update| &update.artifacts);
        let mut by_file: BTreeMap<&Name, Vec<&OsArtifact>> = BTreeMap::new();
        for artifact in wanted {
            by_file.entry(&artifact.file).or_default().push(artifact);
        }
        let mut archive = archive(path)?;
        let entries = archive.entries().map_err(unreadable(path, "the archive"))?;
        for entry in entries {
            let mut entry = entry.map_err(unreadable(path, "the next file"))?;
            let kind = entry.header().entry_type();
            if kind == EntryType::Directory {
                continue;
            }
            let Some(name) = file_name(&entry) else {
                continue;
            };
            let Some(artifacts) = name
                .parse()
                .ok()
                .and_then(|name: Name| by_file.remove(&name))
            else {
                continue;
            };
            if kind != EntryType::Regular {
                return Err(content(format!("{name} is no file")));
            }
            let [artifact] = artifacts.as_slice() else {
                return Err(content(format!("{name} is more than one artifact")));
            };
            let size = entry.size();
            if artifact.size.is_some_and(|stated| stated != size) {
                return Err(content(format!("{name} has {size} bytes")));
            }
            each(artifact, size, &mut entry)?;
        }
        match by_file.keys().next() {
            Some(missing) => Err(content(format!("{missing} is missing"))),
            None => Ok(()),
        }
    }

    /// The sizes of the artifacts in bytes, after each was compared with its digest.
    pub(super) fn verify(&self) -> Result<BTreeMap<Name, u64>, FailureReason> {
        let mut sizes = BTreeMap::new();
        self.artifacts(&mut |artifact, size, bytes| {
            let (digest, read) =
                Digest::of_reader(bytes).map_err(unreadable(&self.path, "an artifact"))?;
            if read != size || digest != artifact.sha256 {
                return Err(content(format!("{} has another digest", artifact.file)));
            }
            sizes.insert(artifact.name.clone(), size);
            Ok(())
        })?;
        Ok(sizes)
    }
}

fn archive(path: &Path) -> Result<Archive<ZstdReader<BufReader<File>>>, FailureReason> {
    let file = File::open(path).map_err(FailureReason::file("open", path))?;
    Ok(Archive::new(ZstdReader::new(BufReader::new(file))))
}

/// The name of a file that is beside the description, or in the directory for images.
fn file_name<R: Read>(entry: &Entry<'_, R>) -> Option<String> {
    let path = entry.path_bytes();
    let path = std::str::from_utf8(&path).ok()?;
    let path = path.strip_prefix("./").unwrap_or(path);
    let name = path
        .strip_prefix(OS_BUNDLE_IMAGES)
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(path);
    Some(name.to_owned())
}

fn content(why: String) -> FailureReason {
    OsUpdateError::Content(why).into()
}

fn unreadable(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> FailureReason {
    let path = path.to_owned();
    move |source| OsUpdateError::Archive { path, what, source }.into()
}
