use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use avocado_cache::{ActionKey, BlobId};

/// What a run found in the cache and did not use: what is made in its place goes there, though there is
/// something by its name.
#[derive(Default)]
pub(super) struct Refused {
    pub(super) entries: RefusedNames<ActionKey>,
    pub(super) blobs: RefusedNames<BlobId>,
}

pub(super) struct RefusedNames<N>(Mutex<HashSet<N>>);

impl<N> Default for RefusedNames<N> {
    fn default() -> Self {
        RefusedNames(Mutex::default())
    }
}

impl<N: Eq + Hash> RefusedNames<N> {
    pub(super) fn add(&self, name: N) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name);
    }

    pub(super) fn has(&self, name: &N) -> bool {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.contains(name)
    }

    /// There is a good one now.
    pub(super) fn remove(&self, name: &N) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.remove(name);
    }
}
