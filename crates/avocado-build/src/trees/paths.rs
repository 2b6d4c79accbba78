//! The paths of a tree: all of them, and what links among them mean.

use std::io;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use crate::error::{At as _, BuildError};

/// The path of everything below `directory`, relative to it, in the order of the names: a directory
/// before what is in it, and first the empty path of `directory` itself. No link is followed.
pub(crate) fn paths_of(directory: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let walk = WalkDir::new(directory).sort_by_file_name();
    let mut paths = Vec::new();
    for entry in walk {
        let entry = entry.map_err(io::Error::from).at("read", directory)?;
        let path = entry.path().strip_prefix(directory);
        paths.push(path.unwrap_or(entry.path()).to_owned());
    }
    Ok(paths)
}

/// Whether a link at `path` leads to something below the directory that `path` is relative to.
pub(crate) fn link_stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}
