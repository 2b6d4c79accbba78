//! What an extension hides of the rootfs. Merged, a directory lies over a directory of the same
//! name; over anything else it takes the place, and what was behind that is gone.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use walkdir::WalkDir;

use super::{Tree, is};
use crate::error::{At as _, BuildError};

/// Where packages may still say `/bin` or `/lib`: these lead to the merged directories.
pub(crate) const MERGED_DIRECTORIES: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Something in an extension that takes the place of a part of the rootfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HiddenPart {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    /// Where it leads to in the rootfs, if it is a link there; a directory otherwise.
    pub(crate) link: Option<PathBuf>,
}

impl HiddenPart {
    /// Whether everything on the device hangs on it: `/usr/bin`, `/usr/lib`.
    pub(crate) fn is_vital(&self) -> bool {
        self.path.parent() == Some(Path::new("usr"))
    }

    /// What happens, for people.
    pub(crate) fn describe(&self) -> String {
        let path = self.path.display();
        match &self.link {
            Some(link) => format!(
                "has a directory /{path}, which is a link to {} in the rootfs: merged, it hides \
                 everything behind that link; put the files where the link leads to",
                link.display()
            ),
            None => format!(
                "has /{path}, which is a directory in the rootfs: merged, it hides everything in it"
            ),
        }
    }
}

/// Removes the merged directories that an install began with and that got no content, and the
/// links to them.
pub(crate) fn remove_unused_directories(root: &Tree) -> Result<(), BuildError> {
    for name in MERGED_DIRECTORIES {
        let directory = Path::new("usr").join(name);
        let link = fs::read_link(root.shown(name));
        if link.is_ok_and(|to| to == directory) {
            root.remove_if_empty(&directory);
            if !root.has(&directory) {
                root.clear(name)?;
            }
        }
    }
    // Empty only where none of them was needed.
    root.remove_if_empty("usr");
    Ok(())
}

/// What the tree of an extension hides of a rootfs, in the order of the paths.
pub(crate) fn hidden_parts(rootfs: &Path, extension: &Path) -> Result<Vec<HiddenPart>, BuildError> {
    let rootfs = Tree::open(rootfs)?;
    let mut hidden = Vec::new();
    for hierarchy in ["usr", "opt", "etc"] {
        let top = extension.join(hierarchy);
        let mut walk = WalkDir::new(&top).sort_by_file_name().into_iter();
        // No link is followed: neither here, nor in the rootfs, where nothing is looked at that is
        // not below directories alone.
        while let Some(entry) = walk.next() {
            let entry = match entry.map_err(std::io::Error::from) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => break,
                other => other.at("read", &top)?,
            };
            let ours = entry.file_type();
            let relative = entry.path().strip_prefix(extension).unwrap_or(entry.path());
            let there = rootfs.look(relative)?;
            let over = |kind| there.as_ref().is_some_and(|there| is(there, kind));
            // A link to a file hides no more than the file that a package replaces.
            let (directory, link) = (over(FileType::Directory), over(FileType::Symlink));
            let link = link && rootfs.is_directory(relative);
            if if ours.is_dir() { link } else { directory } {
                let to = fs::read_link(rootfs.shown(relative)).ok();
                hidden.push(HiddenPart {
                    path: relative.to_owned(),
                    link: to,
                });
            }
            if ours.is_dir() && !directory {
                walk.skip_current_dir();
            }
        }
    }
    Ok(hidden)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directories_that_nothing_was_put_into_go() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in MERGED_DIRECTORIES {
            fs::create_dir_all(root.join("usr").join(name)).unwrap();
            symlink(Path::new("usr").join(name), root.join(name)).unwrap();
        }
        fs::write(root.join("usr/bin/app"), "").unwrap();
        remove_unused_directories(&Tree::open(root).unwrap()).unwrap();
        assert!(root.join("bin/app").is_file());
        for gone in ["usr/sbin", "usr/lib", "usr/lib64", "sbin", "lib", "lib64"] {
            assert!(!root.join(gone).exists() && !root.join(gone).is_symlink());
        }
        // Nothing was prepared here: the user put these.
        let other = root.join("other");
        fs::create_dir_all(other.join("usr/lib64")).unwrap();
        remove_unused_directories(&Tree::open(&other).unwrap()).unwrap();
        assert!(other.join("usr/lib64").is_dir());
    }

    #[test]
    fn what_takes_the_place_of_a_part_of_the_rootfs_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (rootfs, extension) = (dir.path().join("rootfs"), dir.path().join("extension"));
        for path in ["usr/bin", "usr/lib/deep/docs", "usr/share", "etc"] {
            fs::create_dir_all(rootfs.join(path)).unwrap();
        }
        for (target, link) in [
            ("bin", "usr/sbin"),
            ("lib", "usr/lib64"),
            ("/usr/lib/deep", "usr/lib/link"),
            ("nowhere", "usr/lib/dangling"),
        ] {
            symlink(target, rootfs.join(link)).unwrap();
        }
        for path in [
            "usr/bin",
            "usr/sbin/more",
            "usr/lib/link",
            "usr/lib/dangling",
            "usr/lib/new/bin",
            "etc",
            "opt/app",
        ] {
            fs::create_dir_all(extension.join(path)).unwrap();
        }
        // The same link is no change; a file in the place of a directory is.
        symlink("lib", extension.join("usr/lib64")).unwrap();
        fs::write(extension.join("usr/share"), "").unwrap();
        fs::write(extension.join("usr/bin/app"), "").unwrap();
        let hidden = hidden_parts(&rootfs, &extension).unwrap();
        let found: Vec<_> = hidden
            .iter()
            .map(|part| (part.path.to_str().unwrap(), part.is_vital()))
            .collect();
        assert_eq!(
            found,
            [
                ("usr/lib/link", false),
                ("usr/sbin", true),
                ("usr/share", true)
            ]
        );
        assert!(
            hidden[1]
                .describe()
                .contains("/usr/sbin, which is a link to bin")
        );
    }
}
