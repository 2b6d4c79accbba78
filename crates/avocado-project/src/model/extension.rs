use std::path::PathBuf;

use avocado_manifest::{Digest, Name};
use serde::Serialize;

use super::compile::{ProjectPackage, RpmMetadata};
use super::image::{Filesystem, Overlay};
use super::packages::Packages;
use super::permissions::Permissions;
use super::var::Subvolume;
use crate::late::Late;
use crate::path_pattern::PathPattern;
use crate::place::{Needed, Placed, SourcePlace};
use crate::version_spec::VersionSpec;

/// One extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Extension {
    /// The key below `extensions:`.
    pub name: Name,
    /// Where it is.
    pub place: SourcePlace,
    /// `version`. It is missing where what it is made of is not there: a variable, or a file.
    pub version: Needed<Name>,
    /// Where its files are, if it was fetched: its overlay and its scripts are relative to this
    /// directory. `None`: to the source directory of the project.
    pub fetched_to: Option<PathBuf>,
    /// `types` has `sysext`. Default true.
    pub sysext: bool,
    /// `types` has `confext`. Default true.
    pub confext: bool,
    /// What dnf installs.
    pub packages: Late<Packages>,
    /// Those of its packages that are not of the feed.
    pub project_packages: Vec<ProjectPackage>,
    /// `sdk.packages`: what it adds to the SDK.
    pub sdk_packages: Late<Packages>,
    /// `extensions` and `depends_on`: the extensions that it needs.
    pub dependencies: Vec<ExtensionDependency>,
    /// `users` and `groups`: the old place for the permissions of a rootfs. Only a confext can have
    /// them.
    pub permissions: Option<Placed<Permissions>>,
    /// Files laid over the packages.
    pub overlay: Option<Overlay>,
    /// `post_build`: a script, relative to the source directory.
    pub post_build: Option<Placed<PathBuf>>,
    /// `filesystem`. Default squashfs.
    pub filesystem: Filesystem,
    /// `var_files`, as written: paths relative to the sysroot, `/**` or `/*` at the end allowed.
    pub var_files: Vec<String>,
    /// `enable_services`.
    pub enable_services: Vec<String>,
    /// `modprobe`.
    pub modprobe: Vec<String>,
    /// `on_merge`.
    pub on_merge: Vec<String>,
    /// `on_unmerge`.
    pub on_unmerge: Vec<String>,
    /// `reload_service_manager`. Default false.
    pub reload_service_manager: bool,
    /// `sysext_scopes`, else `scopes`, else `system`.
    pub sysext_scopes: Vec<String>,
    /// `confext_scopes`, else `scopes`, else `system`.
    pub confext_scopes: Vec<String>,
    /// `docker_images`: container images that the var partition has from the start.
    pub docker_images: Vec<DockerImage>,
    /// `subvolumes` of the var partition.
    pub subvolumes: Vec<Subvolume>,
    /// `stone_include_paths`, relative to its files: where provisioning finds what it needs.
    pub stone_include_paths: Vec<Placed<PathBuf>>,
    /// `image: {type: kab}`: its image goes into a container of that format.
    pub kab: Option<SourcePlace>,
    /// What rpm says of it where it becomes a package.
    pub rpm: RpmMetadata,
    /// `package_files`: what of its files goes into that package.
    pub package_files: Vec<Placed<PathPattern>>,
}

/// An extension that another one needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtensionDependency {
    /// Its name.
    pub name: Placed<Name>,
    /// Which versions of it will do; `None` for all.
    pub version: Option<VersionSpec>,
}

/// A container image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DockerImage {
    /// Its name, for example `docker.io/library/redis`.
    pub image: Placed<String>,
    /// Its tag.
    pub tag: String,
    /// `digest`: what has to be under that tag. Default: what is there when it is fetched first.
    pub digest: Option<Placed<Digest>>,
}

impl DockerImage {
    /// `name:tag`, by which it is known in the lock file.
    pub fn reference(&self) -> String {
        format!("{}:{}", &*self.image, self.tag)
    }
}
