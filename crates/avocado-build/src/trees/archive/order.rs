//! The order of entries, by which an archive has each path once, and no path through anything but
//! directories of its own.

use std::path::{Path, PathBuf};

use super::strange;
use crate::error::BuildError;

/// The way of a walk that goes through the names of a directory in their order, and into each directory
/// at once.
#[derive(Debug, Default)]
pub(super) struct EntryOrder {
    last: Option<PathBuf>,
    /// The directories on the way to it, itself too if it is one.
    directories: Vec<PathBuf>,
}

impl EntryOrder {
    /// Takes the next path of the archive, relative to its tree.
    pub(super) fn take(&mut self, path: &Path, is_directory: bool) -> Result<(), BuildError> {
        let last = self.last.as_deref();
        if last.is_some_and(|last| path <= last) {
            return Err(strange(&format!(
                "has {} twice, or out of order",
                path.display()
            )));
        }
        while self
            .directories
            .pop_if(|top| !path.starts_with(&*top))
            .is_some()
        {}
        let parent = path.parent();
        if parent != self.directories.last().map(PathBuf::as_path) {
            return Err(strange(&format!(
                "has {} in no directory of its own",
                path.display()
            )));
        }
        if is_directory {
            self.directories.push(path.to_owned());
        } else if parent.is_none() {
            return Err(strange("has a file in the place of its tree"));
        }
        self.last = Some(path.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_once_and_behind_its_directory() {
        // A slash is a directory.
        for (paths, is_good) in [
            (&["/"][..], true),
            (&["/", "a/", "a/b", "a.b", "c"], true),
            (&["/", "a/", "a/b/", "a/b/c", "a/d", "b"], true),
            (&[""], false),
            (&["a"], false),
            (&["/", "/"], false),
            (&["/", "a", "a"], false),
            (&["/", "a/", "a/"], false),
            (&["/", "b", "a"], false),
            (&["/", "a", "a/b"], false),
            (&["/", "a/b"], false),
            (&["/", "a/", "b/c"], false),
            (&["/", "a/", "b", "a/c"], false),
        ] {
            let mut order = EntryOrder::default();
            let mut taken = paths.iter().map(|path| {
                let bare = path.trim_end_matches('/');
                order.take(Path::new(bare), bare != *path)
            });
            assert_eq!(taken.all(|taken| taken.is_ok()), is_good, "{paths:?}");
        }
    }
}
