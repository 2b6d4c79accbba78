//! avocado.yaml as it is written: every key that the published format defines.
//!
//! This is the one description of the format. Sections are decoded into these types; their
//! [JSON Schema](crate::json_schema) is derived from them; and what has to know about keys without
//! decoding them (overrides, old names, suggestions) asks the [`Shape`](crate::shape::Shape) that
//! is made of that schema.
//!
//! - A field of type [`NotDecoded`] is known and not read where its map is: a section is decoded
//!   on its own, and what has no meaning here (yet) not at all. Neither is a typo.
//! - `Spanned<NotDecoded>` marks what is refused where it is found.
//! - `x-old-name` is a name that the field had once. It is still read.

// Fields that nothing reads are still the list of the keys that exist.
#![allow(dead_code)]

mod compile;
mod extension;
mod kernel;
mod permissions;
mod runtime;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::decode::{NameMap, NotDecoded, OneOrNamed, Spanned, TextOr};

pub(crate) use compile::*;
pub(crate) use extension::*;
pub(crate) use kernel::*;
pub(crate) use permissions::*;
pub(crate) use runtime::*;

/// Text with its place.
pub(crate) type Text = Spanned<String>;

/// A list of text.
pub(crate) type Texts = Vec<Text>;
/// A text, or a list of them.
pub(crate) type OneOrMore = Spanned<TextOr<Texts>>;

/// The list, whichever way it was written.
pub(crate) fn listed(texts: OneOrMore) -> Texts {
    match texts.value {
        TextOr::Text(value) => vec![Spanned {
            value,
            span: texts.span,
        }],
        TextOr::Other(list) => list,
    }
}

/// Package name → version or more.
pub(crate) type RawPackages = NameMap<Option<Spanned<TextOr<RawPackage>>>>;

/// The extensions of a runtime: each a name, or a name with settings.
pub(crate) type RawInclusions = Vec<Spanned<TextOr<NameMap<Option<RawInclusion>>>>>;

/// Path below /var → what the subvolume there is like.
pub(crate) type RawSubvolumes = NameMap<Option<Spanned<TextOr<RawSubvolume>>>>;

/// A project: avocado.yaml.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "avocado.yaml")]
pub(crate) struct RawTop {
    /// The versions of avocado that can read this project, for example `>=0.41.0`.
    pub(crate) cli_requirement: Option<Text>,
    /// Seconds since 1970 for every time stamp in a result.
    pub(crate) source_date_epoch: Option<Spanned<u64>>,
    /// The target when neither the command line nor AVOCADO_TARGET names one.
    pub(crate) default_target: Option<Text>,
    /// The board when no runtime names one.
    pub(crate) default_target_board: Option<Text>,
    /// The runtime that commands act on when none is named.
    pub(crate) default_runtime: Option<Text>,
    /// The targets that the project can be built for; `*` for all.
    pub(crate) supported_targets: Option<Spanned<TextOr<Texts>>>,
    /// Where the sources are, relative to this file.
    pub(crate) src_dir: Option<Text>,
    /// A list of `name: key id` pairs.
    pub(crate) signing_keys: Option<Vec<Spanned<NameMap<Text>>>>,
    // Sections: each is decoded on its own, so that one mistake does not hide another.
    /// The package feed, and where the project stands in it.
    pub(crate) distro: NotDecoded<RawDistro>,
    /// Repositories of packages beside the feed, by their names.
    pub(crate) repos: NotDecoded<NameMap<Option<RawRepository>>>,
    /// What devices run, by name.
    #[schemars(extend("x-old-name" = "runtime"))]
    pub(crate) runtimes: NotDecoded<NameMap<Option<RawRuntime>>>,
    /// System and configuration extensions, by name.
    pub(crate) extensions: NotDecoded<NameMap<Option<RawExtension>>>,
    /// Tools that run on the build host.
    pub(crate) sdk: NotDecoded<RawSdk>,
    /// The root file system, or several by name.
    pub(crate) rootfs: NotDecoded<OneOrNamed<RawImage>>,
    /// The initramfs, or several by name.
    pub(crate) initramfs: NotDecoded<OneOrNamed<RawImage>>,
    /// The kernel, or several by name.
    pub(crate) kernel: NotDecoded<OneOrNamed<RawKernel>>,
    /// Users and groups, or several sets of them by name.
    pub(crate) permissions: NotDecoded<OneOrNamed<RawPermissions>>,
    /// How devices are provisioned, by name.
    #[schemars(extend("x-old-name" = "provision"))]
    pub(crate) provision_profiles: NotDecoded<NameMap<Option<RawProvisionProfile>>>,
    /// Where the project is in Peridio's service.
    pub(crate) connect: NotDecoded<RawConnect>,
    /// Where results of steps are that a team and its CI share. `{}`: in the user's own directory of
    /// caches.
    pub(crate) cache: NotDecoded<RawCache>,
}

/// Where results of steps are that a team and its CI share.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Cache")]
pub(crate) struct RawCache {
    /// A server that keeps what it is given (`https://cache.example.org/avocado`), a bucket of S3
    /// (`s3://bucket/prefix`), or a directory (`file:///srv/cache`).
    pub(crate) url: Option<Text>,
    /// The server of a bucket: `https://s3.example.org`. Without it, AWS_ENDPOINT_URL_S3 or
    /// AWS_ENDPOINT_URL, or that of Amazon for the region.
    pub(crate) endpoint: Option<Text>,
    /// The region of a bucket. Without it, AWS_REGION or AWS_DEFAULT_REGION, or `us-east-1`.
    pub(crate) region: Option<Text>,
    /// Certificates in PEM, of the authorities that vouch for the server in the place of the public
    /// ones.
    pub(crate) ca: Option<Text>,
    /// Whether results that are made here go there. Without it they go to a directory, and not to a
    /// server.
    pub(crate) push: Option<bool>,
    /// The keys whose results are used: names of `signing_keys`, or key ids. Without it, all keys of
    /// the user's registry.
    pub(crate) trusted_keys: Option<OneOrMore>,
    /// The most that a directory may take, in bytes or with K, M, G or T: `20G`.
    pub(crate) max_size: Option<Text>,
}

/// The package feed, and where the project stands in it.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Distro")]
pub(crate) struct RawDistro {
    /// For example `2024`.
    #[schemars(extend("x-old-name" = "version"))]
    pub(crate) release: Option<Text>,
    /// For example `edge`.
    pub(crate) channel: Option<Text>,
    /// Where packages come from.
    pub(crate) repo: Option<RawRepo>,
}

/// Where packages come from.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Repo")]
pub(crate) struct RawRepo {
    /// The URL of the feed.
    pub(crate) url: Option<Text>,
    /// The user, for a feed that does not answer everybody: `"{{ env.FEED_USER }}"`, say.
    pub(crate) username: Option<Text>,
    /// The user's password: `"{{ env.FEED_PASSWORD }}"`, say. It is shown nowhere.
    pub(crate) password: Option<Text>,
    /// The releasever, stated outright: snapshots are not used then.
    pub(crate) releasever: Option<Text>,
    /// PEM file of a private CA for the feed.
    pub(crate) ca: Option<Text>,
    /// False: do not verify the certificate of the feed.
    pub(crate) tls_verify: Option<bool>,
    /// File of the public keys that may sign packages, in text form (`gpg --armor --export`).
    /// Stated, every package has to be signed with one of them.
    pub(crate) gpgkey: Option<Text>,
    /// False: do not check signatures, although `gpgkey` is stated.
    pub(crate) gpgcheck: Option<Spanned<bool>>,
}

/// A repository of packages beside the feed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Repository")]
pub(crate) struct RawRepository {
    /// The URL of the repository; dnf puts in `$releasever`.
    pub(crate) url: Option<Text>,
    /// Whom its packages are for: `target`, which is the default, `sdk`, or a list of both.
    pub(crate) r#for: Option<OneOrMore>,
    /// The user, for a repository that does not answer everybody.
    pub(crate) username: Option<Text>,
    /// The user's password: `"{{ env.VENDOR_PASSWORD }}"`, say. It is shown nowhere.
    pub(crate) password: Option<Text>,
    /// File of the public keys that may sign its packages, in text form. Stated, every package of it
    /// has to be signed.
    pub(crate) gpgkey: Option<Text>,
    /// PEM file of a private CA for it; that of the feed counts where this says nothing.
    pub(crate) ca: Option<Text>,
    /// False: do not verify its certificate.
    pub(crate) tls_verify: Option<bool>,
    /// Of several repositories that have a package, the one with the lowest number counts.
    pub(crate) priority: Option<u64>,
}

/// How a kind of provisioning runs.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ProvisionProfile")]
pub(crate) struct RawProvisionProfile {
    /// Arguments for the container backend.
    pub(crate) container_args: Option<OneOrMore>,
    /// Relative to the source directory.
    pub(crate) state_file: Option<Text>,
}

/// Where the project is in Peridio's service.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Connect")]
pub(crate) struct RawConnect {
    /// The organization.
    pub(crate) org: Option<Text>,
    /// The project there.
    pub(crate) project: Option<Text>,
    /// In hexadecimal.
    pub(crate) server_key: Option<Text>,
}

/// Tools that run on the build host.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Sdk")]
pub(crate) struct RawSdk {
    /// The container image, for the container backend.
    pub(crate) image: Option<String>,
    /// What dnf installs into the SDK.
    #[schemars(extend("x-old-name" = "dependencies"))]
    pub(crate) packages: Option<RawPackages>,
    /// What the SDK can compile.
    pub(crate) compile: NotDecoded<NameMap<Option<RawSdkCompile>>>,
    /// Arguments for the container backend.
    pub(crate) container_args: Option<OneOrMore>,
    /// Do not install what packages only recommend.
    pub(crate) disable_weak_dependencies: Option<bool>,
    /// Not used: steps run as the user who builds, or as root of a namespace of theirs.
    pub(crate) host_uid: NotDecoded,
    /// Not used, as `host_uid`.
    pub(crate) host_gid: NotDecoded,
    /// Old: `distro.repo.url`.
    pub(crate) repo_url: Option<Text>,
    /// Old: `distro.repo.releasever`.
    pub(crate) repo_release: Option<Text>,
}

/// A root file system or an initramfs.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Image")]
pub(crate) struct RawImage {
    /// What dnf installs.
    #[schemars(extend("x-old-name" = "dependencies"))]
    pub(crate) packages: Option<RawPackages>,
    /// The image format.
    pub(crate) filesystem: Option<Text>,
    /// Files laid over the installed packages.
    pub(crate) overlay: Option<Spanned<TextOr<RawOverlay>>>,
    /// The container format of the image.
    pub(crate) image: Option<RawImageType>,
    /// The container format of the image.
    pub(crate) image_type: Option<Text>,
    /// A script that replaces the built-in preparation of the tree.
    pub(crate) post_install: Option<Text>,
    /// Users and groups: the name of an entry of `permissions`, or the thing itself.
    pub(crate) permissions: Option<Spanned<TextOr<RawPermissions>>>,
    /// Where the section is fetched from.
    pub(crate) source: Option<Spanned<NotDecoded<RawSource>>>,
}

/// The container format of an image.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ImageType")]
pub(crate) struct RawImageType {
    /// `raw`, or `kab`.
    pub(crate) r#type: Option<Text>,
    /// What `kab` is told.
    pub(crate) args: NotDecoded,
}

/// A directory whose files are laid over a tree.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Overlay")]
pub(crate) struct RawOverlay {
    /// The directory, relative to the source directory.
    pub(crate) dir: Option<Text>,
    /// `merge` or `opaque`.
    pub(crate) mode: Option<Text>,
    /// Files in which references such as `{{ env.X }}` are filled in: true, or patterns.
    pub(crate) preprocess: Option<Spanned<TextOr<Texts>>>,
}

/// Where an extension, or a section, is fetched from.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Source")]
pub(crate) struct RawSource {
    /// `package`, `git` or `path`.
    pub(crate) r#type: Option<Text>,
    /// Of the package; `*` for any.
    pub(crate) version: Option<Text>,
    /// The name of the package, where it is not that of the extension.
    pub(crate) package: Option<Text>,
    /// The repository that has the package.
    pub(crate) repo_name: Option<Text>,
    /// Of the git repository.
    pub(crate) url: Option<Text>,
    /// The branch, tag or commit.
    pub(crate) r#ref: Option<Text>,
    /// The paths of the repository that are checked out.
    pub(crate) sparse_checkout: Option<Texts>,
    /// A directory, relative to the source directory.
    pub(crate) path: Option<Text>,
    /// What of the rest of the fetched file is taken over: `a.b`, or `a.b.*`.
    pub(crate) include: Option<Texts>,
}
