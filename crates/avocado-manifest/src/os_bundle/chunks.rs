//! The chunks of an OS bundle: what a device needs to know of an archive that it does not have, to write it
//! to its partitions while it comes, each part checked before anything is done with it.
//!
//! Beside the bundle `<image id>.raw` a repository has the target `<image id>.raw.chunks`, whose digest is in the
//! manifest (`os_bundle.chunks_sha256`). It is JSON:
//!
//! | field | |
//! |---|---|
//! | `version` | 1 |
//! | `bundle` | `length` (in bytes) and `sha256` of the archive |
//! | `description` | the text of its `bundle.json` |
//! | `chunk_bytes` | how many bytes of an artifact a chunk has; the last one of each may have less |
//! | `artifacts` | the files of the archive, in its order: `file`, `size` in bytes, and `chunks` |
//!
//! A chunk is a frame of zstd: `offset` and `length` (in bytes) in the archive and the `sha256` of these
//! bytes, and `content_sha256`, that of what they hold.

use serde::{Deserialize, Serialize};

use super::OsBundleError;
use crate::{Digest, ImageId, Name};

/// The version of the format.
const VERSION: u32 = 1;

/// How many bytes of an artifact the chunks have that we write.
pub const OS_BUNDLE_CHUNK: usize = 1 << 20;

/// The largest chunk that is read, in bytes of the artifact.
const LARGEST_CHUNK: u64 = 4 << 20;

/// By how much a frame of zstd can be larger than what it holds, in bytes: `ZSTD_COMPRESSBOUND`, and more
/// than its checksum.
const LARGEST_EXCESS: u64 = 64 << 10;

/// The largest index that is read, in bytes.
pub const LARGEST_CHUNK_INDEX: u64 = 8 << 20;

/// Where the parts of an OS bundle are in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsBundleChunks {
    version: u32,
    /// The archive.
    pub bundle: ChunkedArchive,
    /// The text of its `bundle.json`.
    pub description: String,
    /// How many bytes of an artifact a chunk has. The last one of each may have less.
    pub chunk_bytes: u64,
    /// The files of the archive, in its order.
    pub artifacts: Vec<ChunkedArtifact>,
}

/// An archive that is made of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkedArchive {
    /// Its size in bytes.
    pub length: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkedArtifact {
    /// Its name, as [`OsArtifact::file`](super::OsArtifact::file).
    pub file: Name,
    /// Its size in bytes.
    pub size: u64,
    /// Its parts, from the first byte to the last.
    pub chunks: Vec<BundleChunk>,
}

/// A part of an artifact: a frame of zstd in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleChunk {
    /// Where the frame begins in the archive, in bytes.
    pub offset: u64,
    /// The size of the frame, in bytes.
    pub length: u64,
    /// The digest of the frame.
    pub sha256: Digest,
    /// The digest of what it holds.
    pub content_sha256: Digest,
}

impl ChunkedArtifact {
    /// The chunks, each with where in the artifact it begins and how many bytes of it it holds.
    pub fn places(&self, chunk_bytes: u64) -> impl Iterator<Item = (u64, u64, &BundleChunk)> {
        let mut at: u64 = 0;
        self.chunks.iter().map(move |chunk| {
            let begin = at;
            let bytes = self.size.saturating_sub(begin).min(chunk_bytes);
            at = begin.saturating_add(bytes);
            (begin, bytes, chunk)
        })
    }
}

impl OsBundleChunks {
    /// The index of an archive with these artifacts, in chunks of [`OS_BUNDLE_CHUNK`] bytes.
    pub fn new(
        bundle: ChunkedArchive,
        description: String,
        artifacts: Vec<ChunkedArtifact>,
    ) -> Self {
        OsBundleChunks {
            version: VERSION,
            bundle,
            description,
            chunk_bytes: OS_BUNDLE_CHUNK as u64,
            artifacts,
        }
    }

    /// The name of the index of a bundle, as a target and in a pool.
    pub fn file_name(bundle: &ImageId) -> String {
        format!("{}.chunks", bundle.file_name())
    }

    /// Reads an index.
    ///
    /// # Errors
    /// When it is not of this format, or says something that cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, OsBundleError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(bytes).map_err(OsBundleError::Chunks)?;
        if version != VERSION {
            return Err(OsBundleError::ChunksVersion(version));
        }
        let index: Self = serde_json::from_slice(bytes).map_err(OsBundleError::Chunks)?;
        index.check()?;
        Ok(index)
    }

    fn check(&self) -> Result<(), OsBundleError> {
        let wrong = |why: String| Err(OsBundleError::field("chunks", why));
        let size = self.chunk_bytes;
        if size == 0 || size > LARGEST_CHUNK {
            return wrong(format!("chunks of {size} bytes: {LARGEST_CHUNK} at most"));
        }
        let mut end = 0;
        for artifact in &self.artifacts {
            let file = &artifact.file;
            if artifact.size.div_ceil(size) != artifact.chunks.len() as u64 {
                return wrong(format!("{file} is not all of it in chunks"));
            }
            for chunk in &artifact.chunks {
                if chunk.length > size + LARGEST_EXCESS {
                    return wrong(format!("a chunk of {file} has {} bytes", chunk.length));
                }
                let next = chunk.offset.checked_add(chunk.length);
                match next.filter(|next| chunk.offset >= end && *next <= self.bundle.length) {
                    Some(next) => end = next,
                    None => return wrong(format!("a chunk of {file} is not where it can be")),
                }
            }
        }
        Ok(())
    }

    /// The bytes of the index.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, OsBundleError> {
        let mut bytes = serde_json::to_vec(self).map_err(OsBundleError::Write)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> OsBundleChunks {
        let chunk = |offset, length| BundleChunk {
            offset,
            length,
            sha256: Digest::of(b"frame"),
            content_sha256: Digest::of(b"content"),
        };
        let artifacts = vec![ChunkedArtifact {
            file: "rootfs.img".parse().unwrap(),
            size: OS_BUNDLE_CHUNK as u64 + 5,
            chunks: vec![chunk(100, 50), chunk(150, 10)],
        }];
        let bundle = ChunkedArchive {
            length: 200,
            sha256: Digest::of(b"bundle"),
        };
        OsBundleChunks::new(bundle, "{}".into(), artifacts)
    }

    #[test]
    fn what_is_written_is_read() {
        let index = index();
        let bytes = index.to_json().unwrap();
        assert_eq!(OsBundleChunks::parse(&bytes).unwrap(), index);
        let artifact = &index.artifacts[0];
        let places = artifact.places(index.chunk_bytes);
        let places: Vec<_> = places.map(|(at, bytes, _)| (at, bytes)).collect();
        assert_eq!(places, [(0, 1 << 20), (1 << 20, 5)]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        type Change = fn(&mut OsBundleChunks);
        let changes: [(&str, Change); 9] = [
            ("version 2", |i| i.version = 2),
            ("chunks of 0 bytes", |i| i.chunk_bytes = 0),
            ("chunks of 8388608 bytes", |i| i.chunk_bytes = 8 << 20),
            ("not all of it", |i| i.artifacts[0].size = 3 << 20),
            ("not all of it", |i| i.artifacts[0].size = u64::MAX),
            ("not where it can be", |i| i.bundle.length = 159),
            ("not where it can be", |i| {
                i.artifacts[0].chunks[1].offset = 149;
            }),
            ("not where it can be", |i| {
                i.artifacts[0].chunks[1].offset = u64::MAX;
            }),
            ("has 9999999 bytes", |i| {
                i.artifacts[0].chunks[0].length = 9_999_999;
            }),
        ];
        for (why, change) in changes {
            let mut index = index();
            change(&mut index);
            let bytes = index.to_json().unwrap();
            let error = OsBundleChunks::parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
        assert!(OsBundleChunks::parse(b"{\"version\": 1}").is_err());
        assert!(OsBundleChunks::parse(b"").is_err());
    }
}
