//! What was written to the slots while it came: `<base>/os-slots.json`.
//!
//! The bundle of such an OS is not in the pool. So this is what tells that a slot has it: which bytes were
//! read back when it had been written. It is believed only together with the partitions, which are read
//! and compared before the boot loader is told.

use std::collections::BTreeMap;
use std::path::Path;

use avocado_events::Cancel;
use avocado_manifest::{Digest, ImageId, Name};
use serde::{Deserialize, Serialize};

use super::partition::PartitionPlace;
use crate::error::FailureReason;
use crate::store::files;
use crate::store::reserve::with_reserve;

/// The largest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

const FILE: &str = "os-slots.json";

/// What is known of the slots, by their names.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SlotContents {
    slots: BTreeMap<String, SlotContent>,
}

/// What was written to a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SlotContent {
    /// The bundle that it was.
    pub(super) bundle: ImageId,
    /// What is in the partition of each artifact.
    pub(super) artifacts: BTreeMap<Name, PartitionContent>,
}

/// The first bytes of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartitionContent {
    /// How many they are.
    pub(super) bytes: u64,
    /// Their digest.
    pub(super) sha256: Digest,
}

impl SlotContents {
    /// What is kept in the store at `base`. What cannot be read tells nothing: that costs another download.
    pub(super) fn load(base: &Path) -> Self {
        let bytes = files::read(&base.join(FILE), LIMIT).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// What was written to a slot.
    pub(super) fn of(&self, slot: &str) -> Option<&SlotContent> {
        self.slots.get(slot)
    }

    /// The slots that a bundle was written to.
    pub(super) fn with<'a>(&'a self, bundle: &'a ImageId) -> impl Iterator<Item = &'a str> {
        let has_it = |(_, content): &(&String, &SlotContent)| content.bundle == *bundle;
        let slots = self.slots.iter().filter(has_it);
        slots.map(|(slot, _)| slot.as_str())
    }

    /// Something else is about to be written to a slot.
    pub(super) fn forget(base: &Path, slot: &str) -> Result<(), FailureReason> {
        let mut contents = SlotContents::load(base);
        match contents.slots.remove(slot) {
            Some(_) => with_reserve(base, || files::write_json(&base.join(FILE), &contents)),
            None => Ok(()),
        }
    }

    /// Keeps what was written to a slot.
    pub(super) fn keep(base: &Path, slot: &str, content: SlotContent) -> Result<(), FailureReason> {
        let mut contents = SlotContents::load(base);
        contents.slots.insert(slot.to_owned(), content);
        with_reserve(base, || files::write_json(&base.join(FILE), &contents))
    }
}

impl SlotContent {
    /// Whether the partitions still have it.
    pub(super) fn is_in(
        &self,
        places: &BTreeMap<Name, PartitionPlace>,
        cancel: &Cancel,
    ) -> Result<bool, FailureReason> {
        if !self.artifacts.keys().eq(places.keys()) {
            return Ok(false);
        }
        for (content, place) in self.artifacts.values().zip(places.values()) {
            if place.length < content.bytes
                || place.read_digest(content.bytes, cancel)? != content.sha256
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
