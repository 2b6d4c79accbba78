use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    OneOrMore, RawGroup, RawImageType, RawOverlay, RawPackages, RawSource, RawSubvolumes, RawUser,
    Text, Texts,
};
use crate::decode::{MapOrList, NameMap, NotDecoded, Spanned, TextOr};

/// The extensions that an extension needs: names, or names with the versions that will do.
pub(crate) type RawDependencies =
    MapOrList<RawDependencyVersion, TextOr<NameMap<Option<RawDependencyVersion>>>>;

/// Which versions of it will do.
type RawDependencyVersion = Spanned<TextOr<RawDependency>>;

/// One extension.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Extension")]
pub(crate) struct RawExtension {
    /// Three numbers or more, for example `0.1.0`.
    pub(crate) version: Option<Spanned<TextOr<RawVersionFile>>>,
    /// `sysext`, `confext` or both.
    pub(crate) types: Option<Spanned<Texts>>,
    /// What dnf installs.
    #[schemars(extend("x-old-name" = "dependencies"))]
    pub(crate) packages: Option<RawPackages>,
    /// The image format.
    pub(crate) filesystem: Option<Text>,
    /// The container format of the image.
    pub(crate) image: Option<RawImageType>,
    /// Paths of the tree that belong into /var; `/*` or `/**` at the end allowed.
    pub(crate) var_files: Option<Texts>,
    /// Subvolumes of the var partition, by their path below /var: true, false, `ro`, or a map.
    pub(crate) subvolumes: Option<RawSubvolumes>,
    /// Container images that the var partition has from the start.
    pub(crate) docker_images: Option<Vec<Spanned<RawDockerImage>>>,
    /// Services that start with the extension.
    pub(crate) enable_services: Option<Texts>,
    /// Kernel modules to load.
    pub(crate) modprobe: Option<Texts>,
    /// Commands after the extension was merged; no shell.
    pub(crate) on_merge: Option<OneOrMore>,
    /// Commands before it goes.
    pub(crate) on_unmerge: Option<OneOrMore>,
    /// Reload systemd after merging.
    pub(crate) reload_service_manager: Option<bool>,
    /// Where it is merged: `system`, `initrd`, `portable`.
    pub(crate) scopes: Option<Texts>,
    /// Where its system extension is merged.
    pub(crate) sysext_scopes: Option<Texts>,
    /// Where its configuration extension is merged.
    pub(crate) confext_scopes: Option<Texts>,
    /// Files laid over the packages.
    pub(crate) overlay: Option<Spanned<TextOr<RawOverlay>>>,
    /// A script, relative to the source directory.
    pub(crate) post_build: Option<Text>,
    /// What it adds to the SDK.
    pub(crate) sdk: Option<RawExtensionSdk>,
    /// Where provisioning finds what it needs.
    pub(crate) stone_include_paths: Option<Texts>,
    /// The extensions that it needs.
    pub(crate) extensions: Option<RawDependencies>,
    /// The extensions that it needs, and which versions of them.
    pub(crate) depends_on: Option<RawDependencies>,
    /// Old: users belong into `permissions`, which a rootfs names.
    pub(crate) users: Option<Spanned<MapOrList<RawUser>>>,
    /// Old: groups belong into `permissions`, which a rootfs names.
    pub(crate) groups: Option<Spanned<MapOrList<TextOr<RawGroup>>>>,
    /// Of the package of rpm.
    pub(crate) release: Option<Text>,
    /// Of the package of rpm: what it is, in a line.
    pub(crate) summary: Option<Text>,
    /// Of the package of rpm: what it is, in full.
    pub(crate) description: Option<Text>,
    /// Of the package of rpm.
    pub(crate) license: Option<Text>,
    /// Of the package of rpm.
    pub(crate) arch: Option<Text>,
    /// Of the package of rpm.
    pub(crate) vendor: Option<Text>,
    /// Of the package of rpm.
    pub(crate) url: Option<Text>,
    /// What of its files goes into the package.
    pub(crate) package_files: Option<Texts>,
    /// Where the extension is fetched from.
    pub(crate) source: Option<Spanned<NotDecoded<RawSource>>>,
}

/// A version that is a value of another file.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "VersionFile")]
pub(crate) struct RawVersionFile {
    /// Relative to the files of the extension.
    pub(crate) file: Option<Text>,
    /// Where in it, for example `package.version`.
    pub(crate) key: Option<Text>,
    /// `toml`, `json` or `yaml`.
    pub(crate) format: Option<Text>,
}

/// What an extension adds to the SDK.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ExtensionSdk")]
pub(crate) struct RawExtensionSdk {
    /// What dnf installs into the SDK for it.
    #[schemars(extend("x-old-name" = "dependencies"))]
    pub(crate) packages: Option<RawPackages>,
}

/// An extension that another one needs.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Dependency")]
pub(crate) struct RawDependency {
    /// For example `>=1.2`.
    pub(crate) version: Option<Text>,
}

/// A container image.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "DockerImage")]
pub(crate) struct RawDockerImage {
    /// For example `docker.io/library/redis`.
    pub(crate) image: Option<Text>,
    /// For example `7-alpine`.
    pub(crate) tag: Option<Text>,
    /// What has to be under that tag: `sha256:` and 64 hexadecimal digits. Without it the lock file keeps
    /// what was there at first.
    pub(crate) digest: Option<Text>,
}
