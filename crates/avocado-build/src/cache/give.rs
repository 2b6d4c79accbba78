//! Results that were made here.

use std::fs::File;

use avocado_cache::{ActionKey, ActionResult, BlobId, CacheStoreError, sign, verify};
use avocado_engine::{Action, MadeResult};
use avocado_events::{Sink, chain};
use avocado_tuf::SigningKey;

use super::BuildCache;
use super::arrived::Arrived;
use super::request::{PackRequest, PackedFile};
use crate::error::{At as _, BuildError};

impl BuildCache<'_> {
    /// Gives the result of an action to the store, unless it has it.
    pub(super) fn push(
        &self,
        action: &Action<'_>,
        made: &MadeResult<'_>,
        signer: &SigningKey,
        sink: &dyn Sink,
    ) -> Result<(), PushFailure> {
        let Ok(key) = ActionKey::of(&action.description()) else {
            return Ok(());
        };
        if self.is_there(key)? {
            return Ok(());
        }
        let sent = Arrived::new(self);
        let request = PackRequest {
            paths: made.paths.to_vec(),
            to: sent.directory.clone(),
            contents: made.contents.to_vec(),
        };
        let packed = self.context.run_step(action.stage, request, sink);
        let packed = packed.map_err(PushFailure::Pack)?;
        let prefix = self.context.layout.prefix();
        let mut files = Vec::new();
        for PackedFile { file, bytes } in packed.files {
            if !self.has_good(file.blob)? {
                let path = prefix.join(bytes);
                let mut bytes = File::open(&path).at("open", &path)?;
                self.store.put_blob(file.blob, &mut bytes)?;
                self.refused.blobs.remove(&file.blob);
            }
            files.push(file);
        }
        let result = ActionResult {
            action: key,
            output: made.output.clone(),
            digest: made.digest,
            files,
        };
        let entry = sign(&result, signer)
            .map_err(|error| PushFailure::Pack(BuildError::Invalid(chain(&error))))?;
        // Last: what it names is there.
        self.store.put_entry(key, &entry)?;
        self.refused.entries.remove(&key);
        // Each is used once more: where the store grows too large, an entry leaves it before what it
        // names, of which nothing would be told.
        for file in &result.files {
            self.store.has_blob(file.blob)?;
        }
        Ok(())
    }

    /// Whether there is a good entry of an action already, with all that it names.
    fn is_there(&self, key: ActionKey) -> Result<bool, CacheStoreError> {
        if self.refused.entries.has(&key) {
            return Ok(false);
        }
        let Some(entry) = self.store.entry(key)? else {
            return Ok(false);
        };
        let Ok(result) = verify(&entry, key, &self.trusted) else {
            return Ok(false);
        };
        for file in &result.files {
            if !self.has_good(file.blob)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether there is a blob that is not known to be another one.
    fn has_good(&self, blob: BlobId) -> Result<bool, CacheStoreError> {
        Ok(!self.refused.blobs.has(&blob) && self.store.has_blob(blob)?)
    }
}

pub(super) enum PushFailure {
    Store(CacheStoreError),
    Pack(BuildError),
}

impl From<CacheStoreError> for PushFailure {
    fn from(error: CacheStoreError) -> Self {
        PushFailure::Store(error)
    }
}

impl From<BuildError> for PushFailure {
    fn from(error: BuildError) -> Self {
        PushFailure::Pack(error)
    }
}

/// Whether a server does not answer at all.
pub(super) fn is_unreachable(error: &CacheStoreError) -> bool {
    matches!(error, CacheStoreError::Server { source, .. } if source.is_temporary())
}
