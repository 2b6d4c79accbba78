//! The last touch to a tree that becomes an image: times and extended attributes as an image holds
//! them, the same wherever and whenever it is built.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::attributes::{self, AttributeKinds};
use super::bytecode::{self, SourceTimes};
use super::{CopiedFiles, Tree, is, list_of};
use crate::error::{At as _, BuildError};

/// How far the clock of a file system may be behind the one of the system.
const COARSE: Duration = Duration::from_secs(2);

/// Notes in the directory of an installed tree when its install began: what has a later time was
/// written by a script or by us, and the wall clock is in no image.
pub(crate) fn began_at(tree: &Path, began: SystemTime) -> Result<(), BuildError> {
    let directory = File::open(tree).at("open", tree)?;
    let began = began.checked_sub(COARSE).unwrap_or(began);
    directory.set_modified(began).at("set the time of", tree)
}

/// Gives everything in a tree the time that an image holds: files as the tree `packages` has them
/// keep the time that their package gives them, if that is not after `epoch`; everything else,
/// which was written in this build or comes from a clone, gets `epoch`. Bytecode of Python that goes
/// by the time of its source goes on doing so. And takes away extended attributes that no image holds.
pub(crate) fn settle(
    root: &Tree,
    packages: Option<&Path>,
    epoch: u64,
) -> Result<TreeFeatures, BuildError> {
    settle_copied(root, packages, epoch, &mut CopiedFiles::default())
}

/// The same, where of files that were copied there the contents are known.
pub(crate) fn settle_copied(
    root: &Tree,
    packages: Option<&Path>,
    epoch: u64,
    copied: &mut CopiedFiles,
) -> Result<TreeFeatures, BuildError> {
    let mut features = FoundFeatures::default();
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let packages = packages.map(PackagedTimes::open).transpose()?;
    let (mut sources, mut compiled) = (HashMap::new(), Vec::new());
    // Bottom up: to write in a directory changes its time.
    let mut directories = Vec::new();
    // In the order in which it is read then: each file has had its time for as long as possible.
    let walk = WalkDir::new(root.path()).follow_root_links(false);
    for entry in walk.sort_by_file_name() {
        let entry = entry.map_err(io::Error::from).at("read", root.path())?;
        let relative = entry.path().strip_prefix(root.path());
        let relative = relative.unwrap_or(entry.path());
        let kind = entry.file_type();
        let attributes = attributes::remove_others(entry.path());
        let attributes = attributes.at("take extended attributes from", entry.path())?;
        features.add_attributes(relative, attributes);
        if kind.is_dir() {
            directories.push(relative.to_owned());
            continue;
        }
        let metadata = entry.metadata().map_err(io::Error::from);
        let metadata = metadata.at("look at", entry.path())?;
        let before = (metadata.mtime(), metadata.mtime_nsec());
        let is_packaged = |packages: &PackagedTimes| packages.has(relative, before);
        let is_kept = kind.is_file()
            && (0..=epoch).contains(&before.0)
            && packages.as_ref().is_some_and(is_packaged);
        let after = if is_kept { before.0 } else { epoch };
        features.tree.has_other_times |= after != epoch;
        if kind.is_file() && bytecode::is_source(relative) {
            let size = metadata.len();
            let before = before.0;
            let times = SourceTimes {
                before,
                after,
                size,
            };
            sources.insert(relative.to_owned(), times);
        } else if kind.is_file() && bytecode::is_compiled(relative) {
            let inode = (metadata.dev(), metadata.ino());
            // What follows writes to it.
            copied.forget(&metadata);
            compiled.push((relative.to_owned(), after, inode));
            continue;
        }
        copied.settle(&metadata, after);
        if before != (after, 0) {
            root.set_time(relative, after)?;
        }
    }
    let mut followed = HashSet::new();
    for (path, time, inode) in compiled {
        // Levels of optimisation may be one file.
        if followed.insert(inode) {
            bytecode::follow(root, &path, &sources)?;
        }
        root.set_time(&path, time)?;
    }
    for directory in directories.iter().rev() {
        root.set_time(directory, epoch)?;
    }
    Ok(features.finish())
}

/// What of a settled tree not every image has, and who writes one has to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeFeatures {
    /// A file has another time than the epoch.
    pub(crate) has_other_times: bool,
    /// What has extended attributes that an image holds, as a list for people.
    pub(crate) attributes: Option<String>,
    /// An attribute that no image holds and the system does not let us take away, and what has it.
    pub(crate) other_attribute: Option<(String, String)>,
}

impl TreeFeatures {
    /// Those of the tree `root`, of which these are, without what an image leaves out of it.
    pub(crate) fn without(
        &self,
        root: &Tree,
        left_out: &[PathBuf],
        epoch: u64,
    ) -> Result<TreeFeatures, BuildError> {
        // A part has no more than the whole.
        if *self == TreeFeatures::default() || left_out.is_empty() {
            return Ok(self.clone());
        }
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        let mut features = FoundFeatures::default();
        let walk = WalkDir::new(root.path()).follow_root_links(false);
        let walk = walk.sort_by_file_name().into_iter().filter_entry(|entry| {
            let relative = entry.path().strip_prefix(root.path());
            !left_out.iter().any(|out| relative == Ok(out))
        });
        for entry in walk {
            let entry = entry.map_err(io::Error::from).at("read", root.path())?;
            let relative = entry.path().strip_prefix(root.path());
            let relative = relative.unwrap_or(entry.path());
            let attributes = attributes::kinds(entry.path());
            let attributes = attributes.at("read extended attributes of", entry.path())?;
            features.add_attributes(relative, attributes);
            if !entry.file_type().is_dir() {
                let metadata = entry.metadata().map_err(io::Error::from);
                let metadata = metadata.at("look at", entry.path())?;
                features.tree.has_other_times |= metadata.mtime() != epoch;
            }
        }
        Ok(features.finish())
    }
}

/// Features, as a walk finds them.
#[derive(Default)]
struct FoundFeatures {
    tree: TreeFeatures,
    with_attributes: Vec<PathBuf>,
}

impl FoundFeatures {
    fn add_attributes(&mut self, path: &Path, attributes: AttributeKinds) {
        if attributes.kept {
            self.with_attributes.push(path.to_owned());
        }
        if let (None, Some(name)) = (&self.tree.other_attribute, attributes.other) {
            self.tree.other_attribute = Some((path.to_string_lossy().into_owned(), name));
        }
    }

    fn finish(mut self) -> TreeFeatures {
        if !self.with_attributes.is_empty() {
            self.tree.attributes = Some(list_of(&self.with_attributes));
        }
        self.tree
    }
}

/// The times that packages give their files.
struct PackagedTimes {
    tree: Tree,
    /// When the first of them was installed.
    began: i64,
}

impl PackagedTimes {
    fn open(path: &Path) -> Result<Self, BuildError> {
        let metadata = path.symlink_metadata().at("look at", path)?;
        Ok(PackagedTimes {
            tree: Tree::open(path)?,
            began: metadata.mtime(),
        })
    }

    /// Whether a package gives its file of that name that time. Times in packages are whole seconds.
    fn has(&self, path: &Path, (seconds, nanoseconds): (i64, i64)) -> bool {
        nanoseconds == 0
            && seconds < self.began
            && self.tree.look(path).ok().flatten().is_some_and(|found| {
                is(&found, FileType::RegularFile)
                    && (found.st_mtime, found.st_mtime_nsec) == (seconds, 0)
            })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::trees::{CopyModes, copy};

    fn set(path: &Path, seconds: u64) {
        let file = File::open(path).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        file.set_modified(time).unwrap();
    }

    fn time(path: &Path) -> (i64, i64) {
        let found = fs::symlink_metadata(path).unwrap();
        (found.mtime(), found.mtime_nsec())
    }

    /// An installed tree, and a copy of it to build on.
    fn trees(dir: &Path) -> (Tree, Tree) {
        let packages = Tree::fresh(&dir.join("packages")).unwrap();
        for name in [
            "usr/old",
            "usr/new",
            "usr/edited",
            "usr/copied",
            "usr/moved",
        ] {
            packages.write(name, name, 0o644).unwrap();
            set(&packages.shown(name), 1000);
        }
        set(&packages.shown("usr/new"), 3000);
        packages.write("etc/of-a-script", "", 0o644).unwrap();
        packages.symlink("old", "usr/link").unwrap();
        began_at(packages.path(), SystemTime::now()).unwrap();
        let root = Tree::fresh(&dir.join("root")).unwrap();
        copy(packages.path(), &root, Path::new(""), CopyModes::Keep).unwrap();
        (packages, root)
    }

    #[test]
    fn files_of_packages_keep_their_times_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let (packages, root) = trees(dir.path());
        // What hooks do.
        root.write("usr/edited", "another", 0o644).unwrap();
        root.write("usr/written", "", 0o644).unwrap();
        fs::rename(root.shown("usr/moved"), root.shown("usr/elsewhere")).unwrap();
        set(&root.shown("usr/copied"), 500);
        settle(&root, Some(packages.path()), 2000).unwrap();
        let times = |epoch| {
            [
                ("usr/old", 1000),
                // Clamped.
                ("usr/new", epoch),
                ("usr/edited", epoch),
                ("usr/written", epoch),
                ("usr/elsewhere", epoch),
                ("usr/copied", epoch),
                ("etc/of-a-script", epoch),
                ("usr/link", epoch),
                ("usr", epoch),
                ("", epoch),
            ]
        };
        for (name, expected) in times(2000) {
            assert_eq!(time(&root.shown(name)), (expected, 0), "{name}");
        }
        // After a time that lies ahead, what was written now is not told from what is packaged by
        // being later.
        let ahead = SystemTime::now() + Duration::from_secs(1 << 20);
        let ahead = ahead.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let dir = tempfile::tempdir().unwrap();
        let (packages, root) = trees(dir.path());
        settle(&root, Some(packages.path()), ahead).unwrap();
        for (name, expected) in [("usr/new", 3000), ("etc/of-a-script", ahead as i64)] {
            assert_eq!(time(&root.shown(name)), (expected, 0), "{name}");
        }
    }

    #[test]
    fn without_packages_all_times_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = Tree::fresh(&dir.path().join("root")).unwrap();
        root.write("d/f", "", 0o644).unwrap();
        set(&root.shown("d/f"), 5);
        symlink("nowhere", root.shown("d/l")).unwrap();
        settle(&root, None, 7).unwrap();
        for name in ["", "d", "d/f", "d/l"] {
            assert_eq!(time(&root.shown(name)), (7, 0), "{name}");
        }
    }

    #[test]
    fn what_is_left_out_of_an_image_gives_it_no_features() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Tree::fresh(&dir.path().join("packages")).unwrap();
        for name in ["var/lib/app/old", "usr/old"] {
            packages.write(name, name, 0o644).unwrap();
            set(&packages.shown(name), 1000);
            attributes::set_attribute(&packages.shown(name), "user.x", b"1").unwrap();
        }
        packages.write("var/lib/apps", "", 0o644).unwrap();
        began_at(packages.path(), SystemTime::now()).unwrap();
        let (root, epoch) = (Tree::fresh(&dir.path().join("root")).unwrap(), 2000);
        copy(packages.path(), &root, Path::new(""), CopyModes::Keep).unwrap();
        let whole = settle(&root, Some(packages.path()), epoch).unwrap();
        let of = |attributes: Option<&str>| TreeFeatures {
            has_other_times: attributes.is_some(),
            attributes: attributes.map(str::to_owned),
            other_attribute: None,
        };
        assert_eq!(whole, of(Some("/usr/old, /var/lib/app/old")));
        for (left_out, expected) in [
            (&[][..], Some("/usr/old, /var/lib/app/old")),
            (&["var/lib/apps"], Some("/usr/old, /var/lib/app/old")),
            (&["var/lib/app"], Some("/usr/old")),
            (&["usr/old"], Some("/var/lib/app/old")),
            (&["usr/old", "var"], None),
        ] {
            let left_out: Vec<PathBuf> = left_out.iter().map(PathBuf::from).collect();
            let features = whole.without(&root, &left_out, epoch).unwrap();
            assert_eq!(features, of(expected), "{left_out:?}");
        }
        // An attribute that stands in the way of an image does so where it is in it.
        let in_the_way = TreeFeatures {
            other_attribute: Some(("var".into(), "security.x".into())),
            ..whole
        };
        let without = in_the_way.without(&root, &["var".into()], epoch).unwrap();
        assert_eq!(without, of(Some("/usr/old")));
    }

    #[test]
    fn compiled_python_of_a_package_is_good_for_its_source_where_times_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Tree::fresh(&dir.path().join("packages")).unwrap();
        let header = |time: u32, size: u32| {
            let numbers = [0, time, size].map(u32::to_le_bytes).concat();
            [&3495_u16.to_le_bytes(), &b"\r\n"[..], &numbers, b"code"].concat()
        };
        for name in ["good", "edited"] {
            let source = format!("usr/{name}.py");
            packages.write(&source, "pass\n", 0o644).unwrap();
            packages.set_time(&source, 1000).unwrap();
            let compiled = format!("usr/__pycache__/{name}.cpython-311.pyc");
            packages.write(&compiled, header(1000, 5), 0o444).unwrap();
            let optimised = format!("usr/__pycache__/{name}.cpython-311.opt-1.pyc");
            let link = fs::hard_link(packages.shown(&compiled), packages.shown(optimised));
            link.unwrap();
        }
        began_at(packages.path(), SystemTime::now()).unwrap();
        for epoch in [0, 1000, 2000] {
            let root = Tree::fresh(&dir.path().join("root")).unwrap();
            copy(packages.path(), &root, Path::new(""), CopyModes::Keep).unwrap();
            root.write("usr/edited.py", "exec\n", 0o644).unwrap();
            settle(&root, Some(packages.path()), epoch).unwrap();
            let is_good = |name: &str| {
                let compiled = format!("usr/__pycache__/{name}.cpython-311.pyc");
                assert_eq!(time(&root.shown(&compiled)).0, epoch as i64);
                let compiled = fs::read(root.shown(compiled)).unwrap();
                assert_eq!(&compiled[16..], b"code");
                let source = time(&root.shown(format!("usr/{name}.py"))).0;
                compiled[8..12] == (source as u32).to_le_bytes()
            };
            assert!(is_good("good"), "{epoch}");
            assert!(!is_good("edited"), "{epoch}");
        }
    }
}
