//! In what two lock files differ: packages, kernels and snapshots.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::change::{self, ValueChange};
use super::document::LockDocument;

/// What a change of a lock file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LockedThing {
    /// The snapshot of the feed: `release`, `channel`, `snapshot` or `repo_url` of it.
    Snapshot,
    /// The version of a kernel.
    Kernel,
    /// The version of a package.
    Package,
    /// What is under the tag of a container image: a digest.
    ContainerImage,
    /// What a package of the same version is: a digest.
    Contents,
    /// Something else, by its place in the file.
    Other,
}

/// Something that is in one lock file only, or is another one there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LockChange {
    /// The target; empty for what is of none.
    pub target: String,
    /// What it is about.
    pub kind: LockedThing,
    /// The tree, for example `rootfs` or `extensions/app`; empty for what is of none.
    pub tree: String,
    /// The package, or what of the snapshot.
    pub name: String,
    /// What it was.
    pub old: Option<String>,
    /// What it is.
    pub new: Option<String>,
}

/// All changes, sorted.
pub(super) fn between(
    old: &LockDocument,
    new: &LockDocument,
) -> serde_json::Result<Vec<LockChange>> {
    let (old, new) = (serde_json::to_value(old)?, serde_json::to_value(new)?);
    let changes = change::changes(Some(&old), Some(&new));
    let mut changes: Vec<LockChange> = changes.iter().filter_map(named).collect();
    changes.sort();
    // Of a package that has another version, or is in one file only, other contents are no news.
    let tree = |c: &LockChange| (c.target.clone(), c.tree.clone(), c.name.clone());
    let versions = changes.iter().filter(|c| c.kind == LockedThing::Package);
    let versions: BTreeSet<_> = versions.map(tree).collect();
    changes.retain(|c| c.kind != LockedThing::Contents || !versions.contains(&tree(c)));
    Ok(changes)
}

/// `None` for what tells nothing.
fn named(change: &ValueChange) -> Option<LockChange> {
    let path: Vec<&str> = change.path.iter().map(String::as_str).collect();
    let made = |target: &str, kind, tree: String, name: &str| LockChange {
        target: target.to_owned(),
        kind,
        tree,
        name: name.to_owned(),
        old: text(change.old.as_ref()),
        new: text(change.new.as_ref()),
    };
    use LockedThing::{ContainerImage, Contents, Kernel, Other, Package, Snapshot};
    Some(match path[..] {
        ["version"] => return None,
        [
            "targets",
            t,
            tree @ ("rootfs" | "initramfs" | "target-sysroot"),
            name,
        ] => made(t, Package, tree.to_owned(), name),
        [
            "targets",
            t,
            tree @ ("extensions" | "runtimes"),
            of,
            "packages",
            name,
        ] => made(t, Package, format!("{tree}/{of}"), name),
        ["targets", t, tree @ ("sdk" | "kernels"), of, name] => {
            made(t, Package, format!("{tree}/{of}"), name)
        }
        ["targets", t, "rootfs-named", of, name] => made(t, Package, format!("rootfs/{of}"), name),
        ["targets", t, "initramfs-named", of, name] => {
            made(t, Package, format!("initramfs/{of}"), name)
        }
        ["targets", t, "container-images", of, name] => {
            made(t, ContainerImage, format!("extensions/{of}"), name)
        }
        ["targets", t, "kernel-versions", tree] => made(t, Kernel, tree.to_owned(), "kernel"),
        ["targets", _, "repo-snapshot", "created"] => return None,
        ["targets", t, "repo-snapshot", name] => made(t, Snapshot, String::new(), name),
        ["targets", t, "package-headers", tree, name, "digest"]
            if change.old.is_some() && change.new.is_some() =>
        {
            made(t, Contents, tree.to_owned(), name)
        }
        ["targets", _, "package-headers", ..] => return None,
        ["targets", t, ref rest @ ..] => made(t, Other, String::new(), &rest.join(".")),
        _ => made("", Other, String::new(), &path.join(".")),
    })
}

fn text(value: Option<&Value>) -> Option<String> {
    change::shown(value)
}
