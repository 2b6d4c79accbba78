//! avocado.yaml as it is written: every key that the published format defines.
//!
//! A field of type [`Accepted`] is known and has no meaning here (yet): it is not a typo, so it
//! must not be warned about. `Spanned<Accepted>` marks what is refused where it is found.

// Fields that nothing reads are still the list of the keys that exist.
#![allow(dead_code)]

use serde::Deserialize;

use crate::decode::{Accepted, Entries, Named, Spanned, TextOr};
use crate::yaml::{Node, Value};

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
pub(crate) type RawPackages = Entries<Option<Spanned<TextOr<RawPackage>>>>;

/// The extensions of a runtime: each a name, or a name with settings.
pub(crate) type RawInclusions = Vec<Spanned<TextOr<Entries<Option<RawInclusion>>>>>;

const IMAGE_FIELDS: &[&str] = &[
    "packages",
    "dependencies",
    "filesystem",
    "overlay",
    "image",
    "image_type",
    "post_install",
    "permissions",
    "source",
];
const KERNEL_FIELDS: &[&str] = &[
    "package", "version", "compile", "install", "image", "source",
];
const PERMISSIONS_FIELDS: &[&str] = &["users", "groups"];

/// The fields of a top-level section that is either one thing or a map of named ones.
pub(crate) fn section_fields(section: &str) -> Option<&'static [&'static str]> {
    match section {
        "rootfs" | "initramfs" => Some(IMAGE_FIELDS),
        "kernel" => Some(KERNEL_FIELDS),
        "permissions" => Some(PERMISSIONS_FIELDS),
        _ => None,
    }
}

/// Whether such a section is one thing: it has a known field, or no value that could be a named
/// entry (then its keys are typos).
pub(crate) fn is_singleton(section: &Node, fields: &[&str]) -> bool {
    let Some(entries) = section.entries() else {
        return true;
    };
    let entries = || {
        entries
            .iter()
            .filter(|e| !e.key.text.starts_with("target-"))
    };
    entries().any(|e| fields.contains(&e.key.text.as_str()))
        || !entries().any(|e| matches!(e.value.value, Value::Mapping(_)) || e.value.is_null())
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawTop {
    pub(crate) cli_requirement: Option<Text>,
    pub(crate) source_date_epoch: Option<u64>,
    pub(crate) default_target: Option<Text>,
    pub(crate) default_target_board: Option<Text>,
    pub(crate) default_runtime: Option<Text>,
    pub(crate) supported_targets: Option<Spanned<TextOr<Texts>>>,
    pub(crate) src_dir: Option<Text>,
    pub(crate) signing_keys: Option<Vec<Spanned<Entries<Text>>>>,
    // Sections: each is decoded on its own, so that one mistake does not hide another.
    pub(crate) distro: Accepted,
    #[serde(alias = "runtime")]
    pub(crate) runtimes: Accepted,
    pub(crate) extensions: Accepted,
    pub(crate) sdk: Accepted,
    pub(crate) rootfs: Accepted,
    pub(crate) initramfs: Accepted,
    pub(crate) kernel: Accepted,
    pub(crate) permissions: Accepted,
    #[serde(alias = "provision")]
    pub(crate) provision_profiles: Accepted,
    pub(crate) connect: Accepted,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawDistro {
    #[serde(alias = "version")]
    pub(crate) release: Option<Text>,
    pub(crate) channel: Option<Text>,
    pub(crate) repo: Option<RawRepo>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawRepo {
    pub(crate) url: Option<Text>,
    pub(crate) releasever: Option<Text>,
    pub(crate) ca: Option<Text>,
    pub(crate) tls_verify: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawSdk {
    pub(crate) image: Option<String>,
    #[serde(alias = "dependencies")]
    pub(crate) packages: Option<RawPackages>,
    pub(crate) compile: Accepted,
    pub(crate) container_args: Accepted,
    pub(crate) disable_weak_dependencies: Option<bool>,
    pub(crate) host_uid: Accepted,
    pub(crate) host_gid: Accepted,
    pub(crate) repo_url: Option<Text>,
    pub(crate) repo_release: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawPackage {
    pub(crate) version: Option<Text>,
    pub(crate) compile: Option<Spanned<Accepted>>,
    pub(crate) install: Option<Spanned<Accepted>>,
    pub(crate) extensions: Option<Spanned<Accepted>>,
    pub(crate) config: Accepted,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawImage {
    #[serde(alias = "dependencies")]
    pub(crate) packages: Option<RawPackages>,
    pub(crate) filesystem: Option<Text>,
    pub(crate) overlay: Option<Spanned<TextOr<RawOverlay>>>,
    pub(crate) image: Option<RawImageType>,
    pub(crate) image_type: Option<Text>,
    pub(crate) post_install: Option<Text>,
    pub(crate) permissions: Option<Spanned<TextOr<RawPermissions>>>,
    pub(crate) source: Option<Spanned<Accepted>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawImageType {
    pub(crate) r#type: Option<Text>,
    pub(crate) args: Accepted,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawOverlay {
    pub(crate) dir: Option<Text>,
    pub(crate) mode: Option<Text>,
    pub(crate) preprocess: Option<Spanned<TextOr<Accepted>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawKernel {
    pub(crate) package: Accepted,
    pub(crate) version: Accepted,
    pub(crate) compile: Option<Spanned<Accepted>>,
    pub(crate) install: Accepted,
    pub(crate) image: Option<RawImageType>,
    pub(crate) source: Option<Spanned<Accepted>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawPermissions {
    pub(crate) users: Option<Named<RawUser>>,
    pub(crate) groups: Option<Named<TextOr<RawGroup>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawUser {
    pub(crate) name: Option<Text>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) gecos: Option<Text>,
    pub(crate) home: Option<Text>,
    pub(crate) shell: Option<Text>,
    pub(crate) password: Option<Text>,
    pub(crate) groups: Option<Texts>,
    pub(crate) last_change: Option<u32>,
    pub(crate) min_days: Option<u32>,
    pub(crate) max_days: Option<u32>,
    pub(crate) warn_days: Option<u32>,
    pub(crate) inactive_days: Option<u32>,
    pub(crate) expire_date: Option<u32>,
    pub(crate) system: Accepted,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawGroup {
    pub(crate) name: Option<Text>,
    pub(crate) gid: Option<u32>,
    pub(crate) members: Option<Texts>,
    pub(crate) system: Accepted,
    pub(crate) password: Accepted,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawExtension {
    pub(crate) version: Option<Spanned<TextOr<RawVersionFile>>>,
    pub(crate) types: Option<Spanned<Texts>>,
    #[serde(alias = "dependencies")]
    pub(crate) packages: Option<RawPackages>,
    pub(crate) filesystem: Option<Text>,
    pub(crate) image: Option<RawImageType>,
    pub(crate) var_files: Option<Texts>,
    pub(crate) subvolumes: Accepted,
    pub(crate) docker_images: Accepted,
    pub(crate) enable_services: Option<Texts>,
    pub(crate) modprobe: Option<Texts>,
    pub(crate) on_merge: Option<OneOrMore>,
    pub(crate) on_unmerge: Option<OneOrMore>,
    pub(crate) reload_service_manager: Option<bool>,
    pub(crate) scopes: Option<Texts>,
    pub(crate) sysext_scopes: Option<Texts>,
    pub(crate) confext_scopes: Option<Texts>,
    pub(crate) overlay: Option<Spanned<TextOr<RawOverlay>>>,
    pub(crate) post_build: Option<Text>,
    pub(crate) sdk: Accepted,
    pub(crate) stone_include_paths: Accepted,
    pub(crate) extensions: Option<Spanned<Accepted>>,
    pub(crate) users: Option<Spanned<Accepted>>,
    pub(crate) groups: Option<Spanned<Accepted>>,
    pub(crate) release: Accepted,
    pub(crate) summary: Accepted,
    pub(crate) description: Accepted,
    pub(crate) license: Accepted,
    pub(crate) arch: Accepted,
    pub(crate) vendor: Accepted,
    pub(crate) url: Accepted,
    pub(crate) package_files: Accepted,
    pub(crate) source: Option<Spanned<Accepted>>,
}

/// A version that is a value of another file.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawVersionFile {
    pub(crate) file: Accepted,
    pub(crate) key: Accepted,
    pub(crate) format: Accepted,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawRuntime {
    pub(crate) target: Option<Text>,
    pub(crate) target_board: Accepted,
    pub(crate) version: Option<Text>,
    pub(crate) extensions: Option<RawInclusions>,
    #[serde(alias = "dependencies")]
    pub(crate) packages: Option<RawPackages>,
    pub(crate) kernel: Option<TextOr<RawKernel>>,
    pub(crate) rootfs: Option<Spanned<TextOr<RawImage>>>,
    pub(crate) initramfs: Option<Spanned<TextOr<RawImage>>>,
    pub(crate) stone_include_paths: Accepted,
    pub(crate) stone_manifest: Accepted,
    pub(crate) signing: Option<RawSigning>,
    pub(crate) var: Accepted,
    pub(crate) var_files: Option<Vec<Spanned<RawVarFile>>>,
    pub(crate) post_build: Option<Text>,
    pub(crate) r#type: Option<Text>,
    pub(crate) container_dev: Accepted,
}

/// An extension's place in a runtime.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawInclusion {
    pub(crate) enabled: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawSigning {
    pub(crate) key: Option<Text>,
    pub(crate) checksum_algorithm: Option<Text>,
    pub(crate) content_key: Option<Spanned<Accepted>>,
    pub(crate) server_key: Accepted,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawVarFile {
    pub(crate) source: Option<Text>,
    pub(crate) dest: Option<Text>,
}
