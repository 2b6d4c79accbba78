//! What of a runtime's own tree appears in its build directory, beside what later steps put there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use avocado_manifest::Name;
use rustix::fs::FileType;
use serde::Serialize;

use crate::error::{At as _, BuildError};
use crate::trees::{self, Tree, is};

/// What packages put there, to go with them.
pub(super) const PACKAGE_LIST: &str = ".packages.json";
/// The same for what the project's scripts put there.
pub(crate) const COMPILED_LIST: &str = ".compiled.json";

/// Publishes the packages of a runtime. What was compiled beside them has to come again.
pub(super) fn packages(root: &Tree, directory: &Path) -> Result<(), BuildError> {
    publish(root, directory, PACKAGE_LIST)
}

/// Publishes what was compiled for a runtime, with the packages that it was installed beside.
pub(crate) fn compiled(root: &Tree, directory: &Path) -> Result<(), BuildError> {
    publish(root, directory, COMPILED_LIST)
}

/// Copies what would be published of one tree into another one.
pub(crate) fn copy_published(root: &Tree, to: &Tree) -> Result<(), BuildError> {
    for name in names(root)? {
        copy(root, to, &name)?;
    }
    Ok(())
}

/// Removes all that was published in a directory.
pub(super) fn clear(directory: &Path) -> Result<(), BuildError> {
    if directory.symlink_metadata().is_err() {
        return Ok(());
    }
    let directory = Tree::open(directory)?;
    let lists = [PACKAGE_LIST, COMPILED_LIST];
    for list in lists {
        for name in listed(&directory, list) {
            directory.clear(name)?;
        }
    }
    for list in lists {
        directory.clear(list)?;
    }
    Ok(())
}

fn publish(root: &Tree, directory: &Path, list: &str) -> Result<(), BuildError> {
    publish_by(copy, root, directory, list)
}

fn publish_by(
    copy: impl Fn(&Tree, &Tree, &Name) -> Result<(), BuildError>,
    root: &Tree,
    directory: &Path,
    list: &str,
) -> Result<(), BuildError> {
    fs::create_dir_all(directory).at("create", directory)?;
    let directory = Tree::open(directory)?;
    // What was compiled is published over packages, never the other way round.
    let outdated = if list == PACKAGE_LIST {
        &[COMPILED_LIST, PACKAGE_LIST][..]
    } else {
        &[COMPILED_LIST]
    };
    let published = names(root)?;
    let before = outdated.iter().flat_map(|list| listed(&directory, list));
    let all: BTreeSet<Name> = before.chain(published.iter().cloned()).collect();
    // At every moment there is a list that has what is there: an interruption may be the end.
    write_list(&directory, list, &all)?;
    for other in outdated.iter().filter(|other| **other != list) {
        directory.clear(other)?;
    }
    for name in &all {
        directory.clear(name)?;
    }
    for name in &published {
        copy(root, &directory, name)?;
    }
    write_list(&directory, list, &published)
}

fn write_list<N: Serialize>(directory: &Tree, list: &str, names: &N) -> Result<(), BuildError> {
    let text = serde_json::to_vec(names)
        .map_err(|e| BuildError::Invalid(format!("the list of packages has no JSON form: {e}")))?;
    trees::write(&directory.shown(list), text)
}

fn listed(directory: &Tree, list: &str) -> Vec<Name> {
    let text = directory.read(list).ok().flatten();
    let names = text.and_then(|text| serde_json::from_str(&text).ok());
    names.unwrap_or_default()
}

/// Not `var`, which is another partition, and no links, which would lead somewhere else from there.
fn names(root: &Tree) -> Result<Vec<Name>, BuildError> {
    let mut names = Vec::new();
    for entry in root.names("")? {
        let is_link = root
            .look(&entry)?
            .is_none_or(|found| is(&found, FileType::Symlink));
        if is_link || entry == "var" {
            continue;
        }
        names.extend(name(&entry));
    }
    Ok(names)
}

fn name(entry: &OsString) -> Option<Name> {
    entry.to_string_lossy().parse().ok()
}

fn copy(root: &Tree, to: &Tree, name: &Name) -> Result<(), BuildError> {
    let from = root.shown(name);
    trees::copy(&from, to, name.as_ref(), trees::CopyModes::Keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compiled_lies_over_packages_and_goes_with_them() {
        let place = tempfile::tempdir().unwrap();
        let tree = |name: &str, files: &[(&str, &str)]| {
            let tree = Tree::fresh(&place.path().join(name)).unwrap();
            for (path, text) in files {
                tree.write(path, text, 0o644).unwrap();
            }
            tree
        };
        let runtime = place.path().join("runtime");
        let there = || {
            let mut files: Vec<String> = walkdir::WalkDir::new(&runtime)
                .into_iter()
                .map(|entry| entry.unwrap())
                .filter(|entry| entry.file_type().is_file())
                .map(|entry| {
                    entry
                        .path()
                        .strip_prefix(&runtime)
                        .unwrap()
                        .display()
                        .to_string()
                })
                .filter(|name| !name.ends_with(".json"))
                .collect();
            files.sort();
            files
        };
        let own = [("deploy/a", "1"), ("var/x", "1")];
        packages(&tree("packages", &own), &runtime).unwrap();
        fs::write(runtime.join("image"), "of a later step").unwrap();
        assert_eq!(there(), ["deploy/a", "image"]);

        let all = tree("all", &[("bzImage", "k"), ("deploy/b", "2")]);
        copy_published(&Tree::open(&place.path().join("packages")).unwrap(), &all).unwrap();
        compiled(&all, &runtime).unwrap();
        assert_eq!(there(), ["bzImage", "deploy/a", "deploy/b", "image"]);
        compiled(&tree("less", &[("zImage", "k")]), &runtime).unwrap();
        assert_eq!(there(), ["image", "zImage"]);
        // Packages that are installed again have what was compiled published again.
        packages(&tree("packages", &own), &runtime).unwrap();
        assert_eq!(there(), ["deploy/a", "image"]);
        assert!(!runtime.join(COMPILED_LIST).exists());
    }

    #[test]
    fn what_an_interrupted_publication_put_there_goes_with_the_next_one() {
        let place = tempfile::tempdir().unwrap();
        let tree = |name: &str, files: &[&str]| {
            let tree = Tree::fresh(&place.path().join(name)).unwrap();
            for path in files {
                tree.write(path, "", 0o644).unwrap();
            }
            tree
        };
        let runtime = place.path().join("runtime");
        let there = || {
            let mut names: Vec<_> = fs::read_dir(&runtime)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| !name.ends_with(".json"))
                .collect();
            names.sort();
            names
        };
        // Cut off after each of its files.
        for list in [PACKAGE_LIST, COMPILED_LIST] {
            packages(&tree("before", &["old"]), &runtime).unwrap();
            let new = tree("new", &["one", "two", "zero"]);
            for count in 0..3 {
                let copied = std::cell::Cell::new(0);
                let cut_off = |root: &Tree, to: &Tree, name: &Name| {
                    if copied.replace(copied.get() + 1) == count {
                        return Err(BuildError::Cancelled);
                    }
                    copy(root, to, name)
                };
                publish_by(cut_off, &new, &runtime, list).unwrap_err();
                assert!(there().len() >= count, "{:?}", there());
                packages(&tree("after", &["last"]), &runtime).unwrap();
                assert_eq!(there(), ["last"], "{list} after {count}");
            }
            publish_by(|_, _, _| Err(BuildError::Cancelled), &new, &runtime, list).unwrap_err();
            clear(&runtime).unwrap();
            assert_eq!(there(), [""; 0]);
        }
    }
}
