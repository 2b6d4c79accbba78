//! Whether a slot has an OS still that was written to it while it came.

use std::collections::BTreeMap;

use avocado_events::Cancel;
use avocado_manifest::os_bundle::OsSlot;
use avocado_manifest::{Name, OsBundle};

use super::chunked_bundle::ChunkedBundle;
use super::partition::PartitionPlace;
use super::slot_contents::SlotContents;
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::store::pool::{ImagePool, RequiredImage};

/// What became of an OS that the pool has only the index of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamedOs {
    /// A slot has it.
    InSlot,
    /// No slot is known to have it: another one was written there since, as is usual.
    Replaced,
    /// A slot should have it, and has something else. Which one.
    Gone(String),
    /// A slot should have it, and could not be read. Why.
    Unknown(String),
}

impl StreamedOs {
    /// Reads the slots that should have the OS. The index of its chunks was compared with the manifest.
    pub(crate) fn look(
        context: &DeviceContext,
        named: &OsBundle,
        cancel: &Cancel,
    ) -> Result<Self, FailureReason> {
        let contents = SlotContents::load(context.base());
        let mut found = None;
        let mut unknown = None;
        for slot in contents.with(&named.image_id) {
            match has(context, named, &contents, slot, cancel) {
                Ok(true) => return Ok(StreamedOs::InSlot),
                Ok(false) => {
                    let why = format!("the slot {slot} does not have what was written to it");
                    found = Some(StreamedOs::Gone(why));
                }
                Err(FailureReason::Cancelled) => return Err(FailureReason::Cancelled),
                Err(reason) => unknown = Some(StreamedOs::Unknown(avocado_events::chain(&reason))),
            }
        }
        // Before a slot is written it is not said any more what it has.
        // While one slot could not be read, that another one has something else does not make it gone.
        Ok(match unknown.or(found) {
            Some(found) if SlotContents::load(context.base()) == contents => found,
            _ => StreamedOs::Replaced,
        })
    }
}

/// Whether the partitions of a slot have what was written to them.
fn has(
    context: &DeviceContext,
    named: &OsBundle,
    contents: &SlotContents,
    slot: &str,
    cancel: &Cancel,
) -> Result<bool, FailureReason> {
    let Some(chunks) = RequiredImage::chunks(named) else {
        return Ok(false);
    };
    let index = ImagePool::open(context.base()).path(&chunks);
    let bundle = ChunkedBundle::read(&index, named)?;
    let places = places(context, &bundle, slot)?;
    Ok(match (contents.of(slot), places) {
        (Some(content), Some(places)) => content.is_in(&places, cancel)?,
        _ => false,
    })
}

/// Where the artifacts of a bundle are in a slot. None: it has no such slot.
fn places(
    context: &DeviceContext,
    bundle: &ChunkedBundle,
    slot: &str,
) -> Result<Option<BTreeMap<Name, PartitionPlace>>, FailureReason> {
    let Some(update) = &bundle.description.update else {
        return Ok(None);
    };
    let Some(slot): Option<OsSlot> = update.strategy.naming().slot(slot) else {
        return Ok(None);
    };
    let layout = bundle.description.layout.as_ref();
    let place = |artifact: &avocado_manifest::os_bundle::OsArtifact| {
        let partition = artifact.partitions.get(slot);
        let place = PartitionPlace::find(&context.paths, layout, partition)?;
        Ok((artifact.name.clone(), place))
    };
    update
        .artifacts
        .iter()
        .map(place)
        .collect::<Result<_, _>>()
        .map(Some)
}
