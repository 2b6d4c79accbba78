//! The chunks of an artifact go to its partition, in their order.

use std::io::Read;
use std::sync::mpsc::Receiver;

use avocado_events::{Event, Sink};
use avocado_manifest::Digest;
use avocado_manifest::os_bundle::OsArtifact;

use super::chunk_fetch::FetchedChunk;
use super::error::OsUpdateError;
use super::partition::PartitionWriter;
use super::stream::STAGE;
use super::zstd_reader::ZstdReader;
use crate::error::FailureReason;

/// How much may be on its way to the disk, in bytes.
const SYNCED_EVERY: u64 = 4 << 20;

/// The writer of an artifact.
pub(super) struct ChunkWriter<'a> {
    pub(super) partition: &'a PartitionWriter<'a>,
    pub(super) artifact: &'a OsArtifact,
    /// The size of the artifact in bytes.
    pub(super) size: u64,
    pub(super) sink: &'a dyn Sink,
}

impl ChunkWriter<'_> {
    /// Writes what comes, until no more does.
    pub(super) fn write_all(self, chunks: Receiver<FetchedChunk>) -> Result<(), FailureReason> {
        let mut content = Vec::new();
        let mut unsynced = 0;
        for chunk in chunks {
            if let Some(frame) = &chunk.frame {
                self.unpack(&chunk, frame, &mut content)?;
                self.partition.write_at(chunk.begin, &content)?;
                unsynced += chunk.bytes;
            }
            // A cut of the power costs no more than this.
            if unsynced >= SYNCED_EVERY {
                self.partition.sync()?;
                unsynced = 0;
            }
            let done = chunk.begin.saturating_add(chunk.bytes);
            let name = self.artifact.name.as_str();
            self.sink
                .emit(Event::bytes(STAGE, name, done, Some(self.size)));
        }
        Ok(())
    }

    fn unpack(
        &self,
        chunk: &FetchedChunk,
        frame: &[u8],
        content: &mut Vec<u8>,
    ) -> Result<(), FailureReason> {
        content.clear();
        let unpacked = ZstdReader::new(frame);
        let mut unpacked = unpacked.take(chunk.bytes.saturating_add(1));
        let read = unpacked.read_to_end(content);
        if read.is_err() || Digest::of(content.as_slice()) != chunk.content_sha256 {
            let why = format!("a chunk of {} is damaged", self.artifact.file);
            return Err(OsUpdateError::Content(why).into());
        }
        Ok(())
    }
}
