//! Results that other machines made.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use avocado_cache::{ActionKey, ActionResult, CacheStoreError, CachedFile, verify};
use avocado_engine::{Action, FileContent, FoundResult};
use avocado_events::{Sink, chain};
use avocado_manifest::Digest;
use serde_json::Value;

use super::BuildCache;
use super::arrived::Arrived;
use super::request::{PackedFile, PlaceRequest};
use crate::error::{At as _, BuildError};

impl BuildCache<'_> {
    /// The result of an action, whole and good.
    pub(super) fn take(&self, action: &Action<'_>, sink: &dyn Sink) -> Option<CachedResult<'_>> {
        let (key, result) = self.entry(action, sink)?;
        let arrived = Arrived::new(self);
        let files = self.fetch(action, result.files, &arrived, sink)?;
        Some(CachedResult {
            cache: self,
            key,
            stage: action.stage.to_owned(),
            output: result.output,
            digest: result.digest,
            files,
            _arrived: arrived,
        })
    }

    /// The good entry of an action.
    fn entry(&self, action: &Action<'_>, sink: &dyn Sink) -> Option<(ActionKey, ActionResult)> {
        // What has no canonical form is not shared.
        let key = ActionKey::of(&action.description()).ok()?;
        let entry = match self.store.entry(key) {
            Ok(entry) => entry?,
            Err(error) if error.is_of_one_file() => {
                self.refused.entries.add(key);
                self.warn_of_entry(action.stage, &chain(&error), sink);
                return None;
            }
            Err(error) => {
                self.turn_off(&error, sink);
                return None;
            }
        };
        match verify(&entry, key, &self.trusted) {
            Ok(result) => Some((key, result)),
            Err(error) => {
                self.refused.entries.add(key);
                self.warn_of_entry(action.stage, &chain(&error), sink);
                None
            }
        }
    }

    fn fetch(
        &self,
        action: &Action<'_>,
        files: Vec<CachedFile>,
        arrived: &Arrived<'_>,
        sink: &dyn Sink,
    ) -> Option<Vec<PackedFile>> {
        let mut fetched = Vec::new();
        for (nth, file) in files.into_iter().enumerate() {
            let bytes = arrived.directory.join(nth.to_string());
            let place = self.context.layout.prefix().join(&bytes);
            let found = new_file(&place).and_then(|mut to| {
                let found = self.store.blob(file.blob, &mut to);
                found.map_err(FetchFailure::Store)
            });
            match found {
                Ok(true) => fetched.push(PackedFile { file, bytes }),
                // It left the cache: nothing is wrong with that.
                Ok(false) => return None,
                Err(FetchFailure::Store(error)) if error.is_of_one_file() => {
                    self.refused.blobs.add(file.blob);
                    self.warn_of_entry(action.stage, &chain(&error), sink);
                    return None;
                }
                Err(FetchFailure::Store(error)) => {
                    self.turn_off(&error, sink);
                    return None;
                }
                Err(FetchFailure::Place(error)) => {
                    self.warn_of_entry(action.stage, &chain(&error), sink);
                    return None;
                }
            }
        }
        Some(fetched)
    }
}

enum FetchFailure {
    Store(CacheStoreError),
    Place(BuildError),
}

fn new_file(path: &Path) -> Result<File, FetchFailure> {
    let made = (|| {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("create", parent)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        options.open(path).at("create", path)
    })();
    made.map_err(FetchFailure::Place)
}

/// A result that is here and whole.
pub(super) struct CachedResult<'c> {
    cache: &'c BuildCache<'c>,
    key: ActionKey,
    stage: String,
    output: Value,
    digest: Digest,
    files: Vec<PackedFile>,
    /// Where the files are.
    _arrived: Arrived<'c>,
}

impl FoundResult for CachedResult<'_> {
    fn output(&self) -> &Value {
        &self.output
    }

    fn digest(&self) -> Digest {
        self.digest
    }

    fn paths(&self) -> Vec<&Path> {
        let files = self.files.iter();
        files.map(|packed| Path::new(&packed.file.path)).collect()
    }

    fn refused(&self, why: &str, sink: &dyn Sink) {
        self.cache.refused.entries.add(self.key);
        self.cache.warn_of_entry(&self.stage, why, sink);
    }

    fn place(&self, contents: &[FileContent], sink: &dyn Sink) -> bool {
        let context = self.cache.context;
        let request = PlaceRequest {
            files: self.files.clone(),
            contents: contents.to_vec(),
        };
        match context.run_step(&self.stage, request, sink) {
            Ok(()) => true,
            Err(error) => {
                if !context.cancel.is_cancelled() {
                    self.refused(&chain(&error), sink);
                }
                false
            }
        }
    }
}
