//! The directory for what is on its way.

use std::fs;
use std::path::{Path, PathBuf};

use avocado_manifest::Name;

use super::manifest::archive_file;
use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::trees;

/// Where it is, seen from the parent. Removed in the end, whatever the end is; what a killed process left
/// goes with the next one.
pub(super) struct MovingPlace {
    directory: PathBuf,
}

impl MovingPlace {
    /// An empty one. The caller holds the lock of the state.
    pub(super) fn new(layout: &Layout) -> Result<Self, BuildError> {
        let directory = layout.moving();
        trees::clear(&directory)?;
        fs::create_dir(&directory).at("create", &directory)?;
        Ok(MovingPlace { directory })
    }

    pub(super) fn archive(&self, target: &Name) -> PathBuf {
        archive_in(&self.directory, target)
    }

    pub(super) fn tree(&self, target: &Name) -> PathBuf {
        tree_in(&self.directory, target)
    }

    /// What is unpacked, as if it were in use.
    pub(super) fn layout(&self, target: &Name) -> Layout {
        Layout::new(&self.directory, target)
    }
}

impl Drop for MovingPlace {
    fn drop(&mut self) {
        // The error that led here is the one to tell, and the next run removes it as well.
        let _ = avocado_fs::remove_tree(&self.directory);
    }
}

/// The packed state of a target, in the place as a process sees it.
pub(super) fn archive_in(place: &Path, target: &Name) -> PathBuf {
    place.join(archive_file(target))
}

/// The same unpacked.
pub(super) fn tree_in(place: &Path, target: &Name) -> PathBuf {
    place.join(target)
}
