use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::bill::ImageRole;
use crate::contents::{BillContents, ListedFile};

/// In what two bills differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BillDifference {
    /// By image and name.
    pub packages: Vec<PackageChange>,
    /// By image and path; an image itself has no path.
    pub files: Vec<FileChange>,
    /// The bytes of the extensions' images of the new one that the old one does not have: what a device
    /// with the old one has to fetch. `None` where the new bill does not say how large they are.
    pub fetch: Option<u64>,
}

/// A package that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// The image that it is in.
    pub image: String,
    /// Its name.
    pub name: String,
    /// `None`: it is new. Of several, all of them, with spaces between them.
    pub old: Option<String>,
    /// `None`: it is gone.
    pub new: Option<String>,
}

/// A file that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// The image that it is in.
    pub image: String,
    /// Empty: the image.
    pub path: String,
    /// In bytes. `None`: it is new, or nobody says.
    pub old_size: Option<u64>,
    /// In bytes. `None`: it is gone, or nobody says.
    pub new_size: Option<u64>,
    /// Of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_version: Option<String>,
    /// Of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_version: Option<String>,
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
}

impl BillDifference {
    /// What changes from one to the other.
    pub fn between(old: &BillContents, new: &BillContents) -> Self {
        BillDifference {
            packages: packages(old, new),
            files: files(old, new),
            fetch: fetch(old, new),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.files.is_empty()
    }
}

type Versions<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a str>>;

fn versions(contents: &BillContents) -> Versions<'_> {
    let mut versions = Versions::new();
    for package in &contents.packages {
        let key = (package.image.as_str(), package.name.as_str());
        versions.entry(key).or_default().push(&package.version);
    }
    versions
}

fn packages(old: &BillContents, new: &BillContents) -> Vec<PackageChange> {
    let (old, new) = (versions(old), versions(new));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter_map(|key| {
        let text = |versions: &Versions<'_>| versions.get(key).map(|all| all.join(" "));
        let (old, new) = (text(&old), text(&new));
        (old != new).then(|| PackageChange {
            image: key.0.to_owned(),
            name: key.1.to_owned(),
            old,
            new,
        })
    });
    changed.collect()
}

fn files(old: &BillContents, new: &BillContents) -> Vec<FileChange> {
    let keys: BTreeSet<_> = old.files.keys().chain(new.files.keys()).collect();
    let changed = keys.into_iter().filter_map(|key| {
        let (before, after) = (old.files.get(key), new.files.get(key));
        let change = match (before, after) {
            (None, Some(_)) => "added",
            (Some(_), None) => "removed",
            (Some(before), Some(after)) if !is_same(before, after) => "changed",
            _ => return None,
        };
        let size = |file: Option<&ListedFile>| file.and_then(|file| file.size);
        let version = |file: Option<&ListedFile>| file.and_then(|file| file.version.clone());
        Some(FileChange {
            image: key.0.clone(),
            path: key.1.clone(),
            old_size: size(before),
            new_size: size(after),
            old_version: version(before),
            new_version: version(after),
            change,
        })
    });
    changed.collect()
}

/// By their digests, where both are known: only some lists have sizes.
fn is_same(before: &ListedFile, after: &ListedFile) -> bool {
    match (&before.sha256, &after.sha256) {
        (Some(before), Some(after)) => before == after,
        _ => before.size == after.size,
    }
}

fn fetch(old: &BillContents, new: &BillContents) -> Option<u64> {
    let there: BTreeSet<_> = old.files.values().map(|file| &file.sha256).collect();
    let extension = Some(ImageRole::Extension.as_str());
    let images = new.files.values();
    let images = images.filter(|file| file.role.as_deref() == extension);
    let mut counted = BTreeSet::new();
    let mut bytes = 0;
    for image in images {
        // The same image under two names is one.
        if !there.contains(&image.sha256) && counted.insert(&image.sha256) {
            bytes += image.size?;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::ListedPackage;

    fn contents(packages: &[(&str, &str)], files: &[(&str, u64, &str)]) -> BillContents {
        let package = |(name, version): &(&str, &str)| ListedPackage {
            image: "rootfs".into(),
            name: (*name).into(),
            version: (*version).into(),
            purl: None,
        };
        let file = |(path, size, sha256): &(&str, u64, &str)| {
            let (image, path) = path.split_once('/').unwrap_or((path, ""));
            let listed = ListedFile {
                size: Some(*size),
                sha256: Some((*sha256).into()),
                version: None,
                role: path.is_empty().then(|| {
                    let is_os = image == "rootfs";
                    if is_os { "rootfs" } else { "extension" }.to_owned()
                }),
            };
            ((image.into(), path.into()), listed)
        };
        BillContents {
            packages: packages.iter().map(package).collect(),
            files: files.iter().map(file).collect(),
        }
    }

    #[test]
    fn what_is_added_removed_and_changed_is_told_with_both_sides() {
        let old = contents(
            &[("same", "1"), ("gone", "1"), ("two", "1"), ("two", "2")],
            &[("rootfs", 10, "a"), ("app", 5, "b"), ("rootfs/x", 1, "c")],
        );
        let new = contents(
            &[("same", "1"), ("new", "1"), ("two", "2")],
            &[
                ("rootfs", 10, "a"),
                ("app", 7, "d"),
                ("other", 7, "d"),
                ("rootfs/x", 1, "e"),
            ],
        );
        let found = BillDifference::between(&old, &new);
        let packages = found.packages.iter();
        let packages: Vec<_> = packages
            .map(|p| (p.name.as_str(), p.old.as_deref(), p.new.as_deref()))
            .collect();
        let expected = [
            ("gone", Some("1"), None),
            ("new", None, Some("1")),
            ("two", Some("1 2"), Some("2")),
        ];
        assert_eq!(packages, expected);
        let files = found.files.iter();
        let files: Vec<_> = files
            .map(|f| (f.image.as_str(), f.path.as_str(), f.change))
            .collect();
        let expected = [
            ("app", "", "changed"),
            ("other", "", "added"),
            ("rootfs", "x", "changed"),
        ];
        assert_eq!(files, expected);
        // One image under two names is fetched once, and one that is there is not.
        assert_eq!(found.fetch, Some(7));
        assert!(BillDifference::between(&old, &old).is_empty());
        assert_eq!(BillDifference::between(&old, &old).fetch, Some(0));
    }
}
