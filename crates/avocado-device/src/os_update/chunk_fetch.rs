//! The chunks of an artifact come, as far as its partition does not have them.

use std::sync::mpsc::SyncSender;

use avocado_events::Cancel;
use avocado_manifest::Digest;
use avocado_manifest::os_bundle::{ChunkedArtifact, OsArtifact};

use super::error::OsUpdateError;
use super::partition::PartitionWriter;
use super::stream::BundleParts;
use crate::cancel;
use crate::error::FailureReason;

/// A chunk that was looked at.
#[derive(Debug)]
pub(super) struct FetchedChunk {
    /// Where in the artifact it begins, in bytes.
    pub(super) begin: u64,
    /// How many bytes of the artifact it has.
    pub(super) bytes: u64,
    /// Its frame, which is the one that was signed. None: the partition has its content.
    pub(super) frame: Option<Vec<u8>>,
    /// The digest of its content.
    pub(super) content_sha256: Digest,
}

/// What fetches the chunks of an artifact.
pub(super) struct ChunkFetch<'a> {
    pub(super) artifact: &'a OsArtifact,
    pub(super) chunked: &'a ChunkedArtifact,
    /// How many bytes a chunk has.
    pub(super) chunk_bytes: u64,
    pub(super) partition: &'a PartitionWriter<'a>,
    pub(super) cancel: &'a Cancel,
}

impl ChunkFetch<'_> {
    /// Hands on each chunk, until nobody takes them any more: who did so has failed, and says why.
    pub(super) fn all(
        self,
        parts: &mut BundleParts<'_>,
        chunks: &SyncSender<FetchedChunk>,
    ) -> Result<(), FailureReason> {
        let mut content = Vec::new();
        for (begin, bytes, chunk) in self.chunked.places(self.chunk_bytes) {
            cancel::check(self.cancel)?;
            content.resize(usize::try_from(bytes).unwrap_or(0), 0);
            self.partition.read_at(begin, &mut content)?;
            let is_there = Digest::of(&content) == chunk.content_sha256;
            let mut frame = None;
            if !is_there {
                let frame = frame.insert(vec![0; usize::try_from(chunk.length).unwrap_or(0)]);
                parts(chunk.offset, frame)?;
                if Digest::of(frame) != chunk.sha256 {
                    return Err(OsUpdateError::Chunk(self.artifact.file.to_string()).into());
                }
            }
            let fetched = FetchedChunk {
                begin,
                bytes,
                frame,
                content_sha256: chunk.content_sha256,
            };
            if chunks.send(fetched).is_err() {
                break;
            }
        }
        Ok(())
    }
}
