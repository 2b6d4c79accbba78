//! Directories for what is on its way from and to the cache.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use avocado_events::{Event, Sink, chain};

use super::BuildCache;
use crate::build_context::BuildContext;

/// Removes what runs left that were killed. No other run is here: each holds the lock of the state.
pub(super) fn remove_leftovers(context: &BuildContext<'_>, sink: &dyn Sink) {
    if let Err(error) = avocado_fs::remove_tree(&context.layout.cache_work()) {
        sink.emit(Event::warning(format!(
            "what an earlier run left on its way from and to the cache stays: {}",
            chain(&error)
        )));
    }
}

/// A directory for what is on its way, which is removed in the end.
pub(super) struct Arrived<'c> {
    /// Relative to the prefix.
    pub(super) directory: PathBuf,
    cache: &'c BuildCache<'c>,
}

impl<'c> Arrived<'c> {
    pub(super) fn new(cache: &'c BuildCache<'c>) -> Self {
        let directory = new_directory(cache);
        let arrived = Arrived { directory, cache };
        arrived.clear();
        arrived
    }

    fn clear(&self) {
        let path = self.cache.context.layout.prefix().join(&self.directory);
        // What is left is removed by the next one of its name.
        let _ = avocado_fs::remove_tree(&path);
    }
}

impl Drop for Arrived<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A directory for what is on its way, relative to the prefix.
fn new_directory(cache: &BuildCache<'_>) -> PathBuf {
    let nth = cache.next.fetch_add(1, Ordering::Relaxed);
    let work = cache.context.layout.cache_work();
    let work = work.join(nth.to_string());
    let prefix = cache.context.layout.prefix();
    work.strip_prefix(prefix).unwrap_or(&work).to_owned()
}
