//! The cache of metadata and packages that all trees share, and what the feed is found to be where
//! dnf failed. dnf ends with the same status whatever the reason is, and its words are for people:
//! what happens next hangs on what it has of the feed, compared with what the feed has now.

use std::fs;

use avocado_backend::ToolError;
use avocado_events::Silent;
use avocado_fs::{FileLock, LockPlace};
use avocado_project::PackageHeaders;

use super::Dnf;
use super::indexes::Indexes;
use super::output::failure;
use crate::error::BuildError;

/// What dnf ends with where something failed that it knows of. Of arguments that make no sense, say,
/// it says so with another status.
const FAILED: i32 = 1;

/// How dnf asks for metadata where that has just failed: it need not try for as long again.
const ONCE_MORE: [&str; 3] = ["--refresh", "--setopt=timeout=20", "--setopt=retries=2"];

/// What a feed is found to be after dnf failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FeedState {
    /// It has the metadata that dnf had.
    Same,
    /// It has other metadata than dnf had, or some where dnf had none.
    Moved,
    /// It gives dnf no metadata that is whole.
    Unreachable,
    /// It was not to be asked, or the failure was none that it can be the reason of.
    NotAsked,
}

impl Dnf<'_> {
    /// Asks dnf something while no other step uses the cache, in which it finds no index that is
    /// not as a dnf that succeeded left it.
    pub(in crate::packages) fn with_cache<T>(
        &self,
        ask: impl Fn() -> Result<T, ToolError>,
    ) -> Result<T, BuildError> {
        self.with_cache_for(&[], ask)
    }

    /// The same where `specs` are to be installed.
    pub(super) fn with_cache_for<T>(
        &self,
        specs: &[String],
        ask: impl Fn() -> Result<T, ToolError>,
    ) -> Result<T, BuildError> {
        let _lock = self.lock_cache()?;
        let indexes = Indexes::of(&self.cache);
        indexes.drop_damaged()?;
        let before = self.found_installed();
        let mut is_again = false;
        loop {
            let error = match ask() {
                Ok(answer) => {
                    indexes.record()?;
                    return Ok(answer);
                }
                Err(error) => error,
            };
            // What was installed is not to be installed once more: a failure after that is none of the
            // feed's.
            let is_untouched = before.is_some() && self.found_installed() == before;
            if !self.may_ask && is_untouched && has_failed(&error) {
                let missing = self.missing_in_cache(specs)?;
                if !missing.is_empty() {
                    return Err(BuildError::NotInCache { missing });
                }
            }
            let feed = if is_untouched {
                self.feed_after(&error, &indexes)?
            } else {
                FeedState::NotAsked
            };
            // The head of a feed may move on between its index and the packages: the new index can
            // be asked.
            if feed != FeedState::Moved || is_again {
                return Err(failure(error, feed));
            }
            is_again = true;
        }
    }

    /// What is installed in the tree, which may not be there yet; nothing where that cannot be told.
    fn found_installed(&self) -> Option<PackageHeaders> {
        if !self.root.exists() {
            return Some(PackageHeaders::new());
        }
        self.installed(&Silent).ok()
    }

    /// Has dnf itself fetch the metadata once more, from the repositories and as whom it failed to
    /// use them, and compares it with what it had then.
    fn feed_after(&self, error: &ToolError, indexes: &Indexes) -> Result<FeedState, BuildError> {
        if !self.may_ask || !has_failed(error) {
            return Ok(FeedState::NotAsked);
        }
        let before = indexes.metadata()?;
        // What it says has been said.
        match self.dnf("makecache").args(ONCE_MORE).run(&Silent) {
            Ok(()) if indexes.metadata()? == before => Ok(FeedState::Same),
            Ok(()) => Ok(FeedState::Moved),
            Err(error) if has_failed(&error) => Ok(FeedState::Unreachable),
            Err(_) => Ok(FeedState::NotAsked),
        }
    }

    /// Waits until no other step uses the shared cache. dnf has locks of its own for that, but
    /// they hold process numbers, which mean nothing to a step in another process namespace, or
    /// after its dnf was killed.
    pub(super) fn lock_cache(&self) -> Result<FileLock, BuildError> {
        let path = crate::trees::hidden(&self.cache, ".lock");
        let lock = LockPlace::file(&path).lock()?;
        for entry in fs::read_dir(&self.cache).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with("_lock.pid") {
                crate::trees::clear(&entry.path())?;
            }
        }
        Ok(lock)
    }
}

/// Whether dnf ended with [`FAILED`].
pub(super) fn has_failed(error: &ToolError) -> bool {
    matches!(error, ToolError::Failed { status, .. } if status.code() == Some(FAILED))
}
