//! Container images that a device has from the start: `registry` brings one to this machine,
//! `daemon` has docker put it into a store, and `store` settles what that wrote.

mod daemon;
mod registry;
mod store;

use std::ffi::OsStr;
use std::path::Path;

use avocado_backend::{LoopMounts, Tool, ToolQuery};
use avocado_events::Sink;
use avocado_manifest::Digest;
use serde::{Deserialize, Serialize};

use crate::error::BuildError;

pub(crate) use daemon::{DOCKERD, DockerDaemon};
pub(crate) use registry::{ContainerPlatform, ContainerRegistry};
pub(crate) use store::settle;

/// Where docker keeps its images, relative to the root of the var partition.
pub(crate) const PLACE: &str = "lib/docker";

/// Of docker's store, what images are in: where this is, there is one.
pub(crate) const PARTS: [&str; 2] = ["image", "overlay2"];

/// What packs a store, and unpacks it.
pub(crate) const TAR: ToolQuery = ToolQuery {
    tool: "tar",
    arguments: &["--version"],
};

/// The attributes that files in a store have for a device: what overlayfs goes by, and what images give
/// their files. All others hang on the machine that builds.
const ATTRIBUTES: [&str; 3] = ["trusted.overlay.*", "security.capability", "user.*"];

/// An image in the making of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredImage {
    /// Its name without a tag, as the project has it.
    pub(crate) name: String,
    pub(crate) tag: String,
    /// Of what the registry has under the tag.
    pub(crate) digest: Digest,
}

impl StoredImage {
    /// Its name as docker shows it: without what goes without saying.
    pub(crate) fn familiar_name(&self) -> &str {
        familiar_name(&self.name)
    }
}

/// The name of an image as docker shows it: names that have the same one are one image to it.
pub(crate) fn familiar_name(name: &str) -> &str {
    let of_docker = ["docker.io/", "index.docker.io/"];
    let mut shorter = of_docker.iter().filter_map(|host| name.strip_prefix(host));
    let name = shorter.next().unwrap_or(name);
    match name.strip_prefix("library/") {
        Some(short) if !short.contains('/') => short,
        _ => name,
    }
}

/// Packs the store at `root` into `archive`: the same store gives the same bytes.
pub(crate) fn pack(
    loop_mounts: &LoopMounts,
    root: &Path,
    archive: &Path,
    sink: &dyn Sink,
) -> Result<(), BuildError> {
    let tar = tar(loop_mounts)
        .args(["--create", "--format=posix", "--sort=name"])
        .arg("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime");
    Ok(tar
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(root)
        .arg(".")
        .run(sink)?)
}

/// Unpacks it into the directory `root`.
pub(crate) fn unpack(
    loop_mounts: &LoopMounts,
    archive: &Path,
    root: &Path,
    sink: &dyn Sink,
) -> Result<(), BuildError> {
    let tar = tar(loop_mounts).args(["--extract", "--preserve-permissions", "--same-owner"]);
    Ok(tar
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(root)
        .run(sink)?)
}

/// Copies a store with all that its files are: owners, devices and attributes.
pub(crate) fn copy(
    loop_mounts: &LoopMounts,
    from: &Path,
    to: &Path,
    sink: &dyn Sink,
) -> Result<(), BuildError> {
    let copy: [&OsStr; 4] =
        ["--archive", "--no-target-directory", "--reflink=auto", "--"].map(OsStr::new);
    Ok(loop_mounts
        .give_to(Tool::new("cp").args(copy))
        .arg(from)
        .arg(to)
        .run(sink)?)
}

/// Only who may mount sees the attributes of overlayfs.
fn tar(loop_mounts: &LoopMounts) -> Tool {
    let included = ATTRIBUTES.map(|name| format!("--xattrs-include={name}"));
    let tar = Tool::new(TAR.tool).args(["--numeric-owner", "--xattrs"]);
    loop_mounts.give_to(tar.args(included))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_called_as_docker_shows_it() {
        for (name, familiar) in [
            ("docker.io/library/redis", "redis"),
            ("docker.io/redis", "redis"),
            ("index.docker.io/library/redis", "redis"),
            ("docker.io/someone/app", "someone/app"),
            ("library/redis", "redis"),
            ("redis", "redis"),
            ("ghcr.io/library/redis", "ghcr.io/library/redis"),
            ("docker.io/library/a/b", "library/a/b"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app"),
        ] {
            let image = StoredImage {
                name: name.into(),
                tag: "1".into(),
                digest: Digest::of(b""),
            };
            assert_eq!(image.familiar_name(), familiar);
        }
    }
}
