//! An OS bundle that this device does not have: what is signed of its chunks, which go to their partitions
//! while they come.

use std::collections::BTreeMap;
use std::path::Path;

use avocado_manifest::os_bundle::{
    ChunkedArtifact, LARGEST_CHUNK_INDEX, OsArtifact, OsBundleChunks, OsBundleDescription,
};
use avocado_manifest::{ImageId, Name, OsBundle};

use super::error::OsUpdateError;
use crate::error::FailureReason;
use crate::store::files;

/// The index of a bundle, and what the bundle says of itself. Everything in it was signed.
#[derive(Debug)]
pub(crate) struct ChunkedBundle {
    pub(super) chunks: OsBundleChunks,
    pub(super) description: OsBundleDescription,
    /// The bundle.
    pub(super) image_id: ImageId,
}

impl ChunkedBundle {
    /// Reads the index of the bundle that a manifest names. That its bytes are those that were signed is
    /// for the caller to know.
    pub(crate) fn read(path: &Path, named: &OsBundle) -> Result<Self, FailureReason> {
        ChunkedBundle::parse(&files::read_regular(path, LARGEST_CHUNK_INDEX)?, named)
    }

    fn parse(bytes: &[u8], named: &OsBundle) -> Result<Self, FailureReason> {
        let chunks = OsBundleChunks::parse(bytes).map_err(OsUpdateError::Description)?;
        let archive = chunks.bundle.sha256;
        if ImageId::from_digest(archive) != named.image_id
            || named.sha256.is_some_and(|sha256| sha256 != archive)
        {
            return Err(content("the index of its chunks is one of another bundle"));
        }
        let description = OsBundleDescription::parse(chunks.description.as_bytes());
        let description = description.map_err(OsUpdateError::Description)?;
        let bundle = ChunkedBundle {
            chunks,
            description,
            image_id: named.image_id.clone(),
        };
        bundle.check()?;
        Ok(bundle)
    }

    /// The size of the archive, in bytes.
    pub(crate) fn archive_length(&self) -> u64 {
        self.chunks.bundle.length
    }

    /// Each artifact is there, once.
    fn check(&self) -> Result<(), FailureReason> {
        for artifact in self.stated() {
            let file = &artifact.file;
            let mut found = self.chunks.artifacts.iter().filter(|c| c.file == *file);
            let size = match (found.next(), found.next()) {
                (Some(one), None) => one.size,
                _ => return Err(content(&format!("{file} is not there, or twice"))),
            };
            if artifact.size.is_some_and(|stated| stated != size) {
                return Err(content(&format!("{file} has {size} bytes")));
            }
        }
        Ok(())
    }

    fn stated(&self) -> &[OsArtifact] {
        let update = self.description.update.as_ref();
        update.map_or(&[], |update| &update.artifacts)
    }

    /// The artifacts with their chunks, in the order of the archive.
    pub(super) fn artifacts(&self) -> impl Iterator<Item = (&OsArtifact, &ChunkedArtifact)> {
        self.chunks.artifacts.iter().filter_map(|chunked| {
            let artifact = self.stated().iter().find(|a| a.file == chunked.file)?;
            Some((artifact, chunked))
        })
    }

    /// The sizes of the artifacts, in bytes.
    pub(super) fn sizes(&self) -> BTreeMap<Name, u64> {
        let artifacts = self.artifacts();
        artifacts
            .map(|(artifact, chunked)| (artifact.name.clone(), chunked.size))
            .collect()
    }
}

fn content(why: &str) -> FailureReason {
    OsUpdateError::Content(why.to_owned()).into()
}
