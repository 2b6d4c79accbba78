//! An operating system is written to the slot that does not run while it comes, and is nowhere else.
//!
//! It is the first part of an update, done when a runtime is added. The slot is forbidden before, as
//! [`apply`](super::apply) does it, and nothing of the marker or of what is started is touched: the second
//! part is the activation, which finds the slot written. Every chunk is compared with the digest that was signed
//! before it is unpacked, and what a partition has already is not fetched: that is how a stream that was
//! cut off goes on, after a cut of the power too.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

use avocado_events::{Cancel, Event, Sink, StepStatus};
use avocado_manifest::os_bundle::{ChunkedArtifact, OsArtifact};
use avocado_manifest::{Digest, Manifest, Name};

use super::boot_entry;
use super::chunk_fetch::ChunkFetch;
use super::chunk_writer::ChunkWriter;
use super::chunked_bundle::ChunkedBundle;
use super::error::OsUpdateError;
use super::partition::{PartitionPlace, PartitionWriter};
use super::plan::{self, FoundSlots};
use super::slot_contents::{PartitionContent, SlotContent, SlotContents};
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::store::lock;

/// The stage that its events name.
pub(super) const STAGE: &str = "os-update";

/// How many chunks that came wait for the one that is written: each takes a MiB of memory.
const CHUNKS_AHEAD: usize = 1;

/// Fills a buffer with the bytes of a bundle from an offset on.
pub(crate) type BundleParts<'a> =
    dyn FnMut(u64, &mut [u8]) -> Result<(), FailureReason> + Send + 'a;

/// The work on an operating system that comes.
pub(crate) struct OsStream<'a, 'b> {
    context: &'a DeviceContext,
    bundle: &'a ChunkedBundle,
    parts: &'a mut BundleParts<'b>,
    cancel: &'a Cancel,
    sink: &'a dyn Sink,
}

impl<'a, 'b> OsStream<'a, 'b> {
    /// Work on the bundle whose chunks these are, which `parts` brings.
    pub(crate) fn new(
        context: &'a DeviceContext,
        bundle: &'a ChunkedBundle,
        parts: &'a mut BundleParts<'b>,
        cancel: &'a Cancel,
        sink: &'a dyn Sink,
    ) -> Self {
        OsStream {
            context,
            bundle,
            parts,
            cancel,
            sink,
        }
    }

    /// Writes the operating system of `manifest` to the slot that does not run, unless it is there. Nothing
    /// else on the device changes.
    pub(crate) fn write(mut self, manifest: &Manifest) -> Result<(), FailureReason> {
        let sink = self.sink;
        let message = format!("writing the OS of runtime {} while it comes", manifest.id);
        sink.emit(Event::step(STAGE, StepStatus::Running, message));
        let written = self.write_slot(manifest);
        let (status, message) = match &written {
            Ok(true) => (StepStatus::Success, String::new()),
            Ok(false) => (StepStatus::Skipped, "already in the other slot".to_owned()),
            Err(reason) => (StepStatus::Failed, reason.to_string()),
        };
        sink.emit(Event::step(STAGE, status, message));
        written.map(drop)
    }

    /// As [`OsStream::write`]; whether anything was to be written.
    fn write_slot(&mut self, manifest: &Manifest) -> Result<bool, FailureReason> {
        let OsStream {
            context,
            bundle,
            sink,
            ..
        } = *self;
        let refused = |why: &str| OsUpdateError::Refused(vec![why.to_owned()]);
        let named = manifest.os_bundle.as_ref();
        let named = named.ok_or_else(|| refused("the runtime has no OS bundle"))?;
        let base = context.base();
        let _slots = lock::try_lock_slots(base)?
            .ok_or_else(|| refused("the other slot is being written at the moment"))?;
        let looked = plan::look_at_stream(context, named, bundle)?;
        if looked.is_there {
            return Ok(false);
        }
        let (Some(found), []) = (looked.found, looked.plan.problems.as_slice()) else {
            return Err(OsUpdateError::Refused(looked.plan.problems).into());
        };
        for note in looked.plan.notes {
            sink.emit(Event::warning(note));
        }
        let target = found.running.other();
        let slot = found.target_name();
        tell_what_goes(context, slot, sink);
        SlotContents::forget(base, slot)?;
        found.loader.forbid(target)?;
        found.loader.make_entries(target)?;
        for (artifact, chunked) in bundle.artifacts() {
            if let Some(place) = found.places.get(&artifact.name) {
                self.write_artifact(artifact, chunked, place)?;
            }
        }
        boot_entry::name_root_of(context, &bundle.description, &found.places, target)?;
        SlotContents::keep(base, slot, bundle.content(&found)?)?;
        Ok(true)
    }

    /// Brings an artifact to its partition. While a chunk is written the next ones come.
    fn write_artifact(
        &mut self,
        artifact: &OsArtifact,
        chunked: &ChunkedArtifact,
        place: &PartitionPlace,
    ) -> Result<(), FailureReason> {
        let partition = PartitionWriter::open(place, &artifact.name)?;
        let writer = ChunkWriter {
            partition: &partition,
            artifact,
            size: chunked.size,
            sink: self.sink,
        };
        let fetch = ChunkFetch {
            artifact,
            chunked,
            chunk_bytes: self.bundle.chunks.chunk_bytes,
            partition: &partition,
            cancel: self.cancel,
        };
        let parts = &mut *self.parts;
        thread::scope(|scope| {
            let (chunks, come) = mpsc::sync_channel(CHUNKS_AHEAD);
            let fetched = thread::Builder::new()
                .spawn_scoped(scope, move || fetch.all(parts, &chunks))
                .map_err(FailureReason::file("start to read", &place.device))?;
            let written = writer.write_all(come);
            let fetched = fetched
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            fetched.and(written)
        })?;
        match partition.finish(artifact.sha256, chunked.size) {
            Err(FailureReason::OsUpdate(error))
                if matches!(*error, OsUpdateError::ReadBack { .. }) =>
            {
                self.blame(artifact, chunked, place)?;
                Err(FailureReason::OsUpdate(error))
            }
            other => other,
        }
    }

    /// Where the partition has every chunk, it is the bundle that says something else of their whole.
    fn blame(
        &self,
        artifact: &OsArtifact,
        chunked: &ChunkedArtifact,
        place: &PartitionPlace,
    ) -> Result<(), FailureReason> {
        let partition = PartitionWriter::open(place, &artifact.name)?;
        let mut content = Vec::new();
        for (begin, bytes, chunk) in chunked.places(self.bundle.chunks.chunk_bytes) {
            content.resize(usize::try_from(bytes).unwrap_or(0), 0);
            partition.read_at(begin, &mut content)?;
            if Digest::of(&content) != chunk.content_sha256 {
                return Ok(());
            }
        }
        let why = format!("the chunks of {} are another file", artifact.file);
        Err(OsUpdateError::Content(why).into())
    }
}

/// Tells of runtimes whose OS is about to be lost.
fn tell_what_goes(context: &DeviceContext, slot: &str, sink: &dyn Sink) {
    let contents = SlotContents::load(context.base());
    let Some(content) = contents.of(slot) else {
        return;
    };
    for runtime in context.runtimes().all().unwrap_or_default() {
        let bundle = runtime.os_bundle.as_ref();
        if bundle.is_some_and(|bundle| bundle.image_id == content.bundle) {
            sink.emit(Event::warning(format!(
                "the OS of runtime {} was in the slot {slot} and is replaced: going back to that runtime will take \
                 another download",
                runtime.id
            )));
        }
    }
}

impl ChunkedBundle {
    /// Whether a slot was written with it, and has it still.
    pub(super) fn is_in_slot(
        &self,
        context: &DeviceContext,
        slot: &str,
        places: &BTreeMap<Name, PartitionPlace>,
    ) -> Result<bool, FailureReason> {
        let contents = SlotContents::load(context.base());
        match contents.of(slot) {
            Some(content) if content.bundle == self.image_id => {
                content.is_in(places, &Cancel::new())
            }
            _ => Ok(false),
        }
    }

    /// What is in the partitions now.
    fn content(&self, found: &FoundSlots<'_>) -> Result<SlotContent, FailureReason> {
        let mut artifacts = BTreeMap::new();
        for (artifact, chunked) in self.artifacts() {
            if let Some(place) = found.places.get(&artifact.name) {
                // The entry of a boot loader was changed in it.
                let sha256 = if boot_entry::is_changed(&self.description, artifact) {
                    place.read_digest(chunked.size, &Cancel::new())?
                } else {
                    artifact.sha256
                };
                let bytes = chunked.size;
                artifacts.insert(artifact.name.clone(), PartitionContent { bytes, sha256 });
            }
        }
        Ok(SlotContent {
            bundle: self.image_id.clone(),
            artifacts,
        })
    }
}
