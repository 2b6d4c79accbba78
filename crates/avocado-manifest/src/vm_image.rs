use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, Name};

/// The format of [`VmImage`] that is written and read.
const FORMAT: &str = "avocado-direct";

/// The version of that format.
const FORMAT_VERSION: u32 = 1;

/// The image of a development VM: `manifest.json` in a directory with the files that it names,
/// which QEMU boots directly (published format `avocado-direct`). Fields that are not known are
/// ignored when reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmImage {
    /// `avocado-direct`.
    format: String,
    /// 1.
    format_version: u32,
    /// The version of the image, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it runs on, for example `avocado-qemux86-64`.
    pub platform: String,
    /// Of the processor: `x86_64`, or `arm64` (also `aarch64`).
    pub architecture: String,
    /// The files, by role: those of [`VmRole`], and whatever else a writer knows.
    pub artifacts: BTreeMap<String, VmArtifact>,
    /// The kernel's command line. The disks are `/dev/vda` (rootfs) and `/dev/vdb` (var).
    pub cmdline_default: String,
    /// What the writer says about QEMU; free in form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu_hint: Option<serde_json::Value>,
}

/// A file that a VM needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VmRole {
    /// What QEMU starts.
    Kernel,
    /// The initial RAM file system.
    Initramfs,
    /// The root file system, attached read-only as the first disk.
    Rootfs,
    /// What `/var` starts with; its copy is the second disk.
    Var,
}

/// One file of a [`VmImage`], beside its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmArtifact {
    /// The name of the file, which is never a path.
    pub file: Name,
    /// The digest of the file.
    pub sha256: Digest,
    /// The size of the file in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What an update does with it.
    #[serde(default)]
    pub update_policy: UpdatePolicy,
    /// What kind of file it is, for example `erofs-lz4`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The role of another file that it goes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_link: Option<String>,
}

/// What an update does with a file of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdatePolicy {
    /// The new one takes the place of the old one.
    #[default]
    Replace,
    /// It is only where a VM starts from: what became of it there stays.
    SeedOnly,
}

/// The manifest of a VM's image could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmImageError {
    /// Not JSON, or not of the manifest's shape.
    #[error("the manifest of the VM's image is not valid")]
    Syntax(#[from] serde_json::Error),
    /// Another format than ours.
    #[error("the VM's image has the format `{}`; this program knows `{FORMAT}`", .0.escape_debug())]
    Format(String),
    /// A later version of the format.
    #[error(
        "the VM's image has version {0} of its format; this program knows version {FORMAT_VERSION}: update avocado"
    )]
    Version(u32),
    /// It has no file for a role without which no VM starts.
    #[error("the VM's image has no {0}")]
    Missing(VmRole),
    /// It has no JSON form.
    #[error("the manifest of the VM's image cannot be written")]
    Write(#[source] serde_json::Error),
}

impl VmImage {
    /// An image without files for a platform such as `avocado-qemux86-64`.
    pub fn new(platform: String, architecture: &str, cmdline_default: String) -> Self {
        VmImage {
            format: FORMAT.into(),
            format_version: FORMAT_VERSION,
            version: None,
            platform,
            architecture: architecture.into(),
            artifacts: BTreeMap::new(),
            cmdline_default,
            qemu_hint: None,
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When the bytes are not such a manifest, when one of its files is not a plain name, or when
    /// a role is missing without which no VM starts.
    pub fn parse(bytes: &[u8]) -> Result<Self, VmImageError> {
        // The format is looked at first: another one may have another shape altogether.
        #[derive(Deserialize)]
        struct Format {
            format: String,
            format_version: u32,
        }
        let head: Format = serde_json::from_slice(bytes)?;
        if head.format != FORMAT {
            return Err(VmImageError::Format(head.format.chars().take(80).collect()));
        }
        if head.format_version != FORMAT_VERSION {
            return Err(VmImageError::Version(head.format_version));
        }
        let image: VmImage = serde_json::from_slice(bytes)?;
        for role in VmRole::ALL {
            image.artifact(role)?;
        }
        Ok(image)
    }

    /// The bytes of `manifest.json`: indented by two spaces, with a final newline.
    ///
    /// # Errors
    /// [`VmImageError::Write`].
    pub fn to_json(&self) -> Result<Vec<u8>, VmImageError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(VmImageError::Write)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The file of a role.
    ///
    /// # Errors
    /// When there is none. It never fails on what [`VmImage::parse`] returned.
    pub fn artifact(&self, role: VmRole) -> Result<&VmArtifact, VmImageError> {
        let found = self.artifacts.get(role.as_str());
        found.ok_or(VmImageError::Missing(role))
    }
}

impl VmRole {
    /// Every role without which no VM starts.
    pub const ALL: [VmRole; 4] = [
        VmRole::Kernel,
        VmRole::Initramfs,
        VmRole::Rootfs,
        VmRole::Var,
    ];

    /// The key below `artifacts`.
    pub fn as_str(self) -> &'static str {
        match self {
            VmRole::Kernel => "kernel",
            VmRole::Initramfs => "initramfs",
            VmRole::Rootfs => "rootfs",
            VmRole::Var => "var",
        }
    }
}

impl fmt::Display for VmRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> VmImage {
        let mut image = VmImage::new("avocado-qemux86-64".into(), "x86_64", "quiet".into());
        for role in VmRole::ALL {
            let artifact = VmArtifact {
                file: format!("file-of-{role}").parse().unwrap(),
                sha256: Digest::of(role.as_str().as_bytes()),
                size: Some(5),
                update_policy: match role {
                    VmRole::Var => UpdatePolicy::SeedOnly,
                    _ => UpdatePolicy::Replace,
                },
                kind: None,
                role_link: None,
            };
            image.artifacts.insert(role.as_str().into(), artifact);
        }
        image
    }

    #[test]
    fn round_trip() {
        let image = sample();
        assert_eq!(VmImage::parse(&image.to_json().unwrap()).unwrap(), image);
    }

    #[test]
    fn the_published_form_is_read() {
        let artifact = |file: &str, more: &str| {
            let sha256 = Digest::of(file.as_bytes());
            format!(r#"{{"file": "{file}", "sha256": "{sha256}"{more}}}"#)
        };
        let text = format!(
            r#"{{"format": "avocado-direct", "format_version": 1, "platform": "avocado-qemuarm64",
                "architecture": "arm64", "artifacts": {{"kernel": {}, "initramfs": {}, "rootfs": {},
                "var": {}, "bios": {}}}, "cmdline_default": "ro", "qemu_hint": {{"smp": 4}},
                "later": [1]}}"#,
            artifact("Image", r#", "type": "kernel", "size": 9, "later": {}"#),
            artifact("initramfs.cpio.zst", ""),
            artifact("rootfs.erofs-lz4", r#", "update_policy": "replace""#),
            artifact(
                "var.btrfs",
                r#", "update_policy": "seed_only", "role_link": "rootfs""#
            ),
            artifact("bios.bin", ""),
        );
        let image = VmImage::parse(text.as_bytes()).unwrap();
        let var = image.artifact(VmRole::Var).unwrap();
        assert_eq!(var.update_policy, UpdatePolicy::SeedOnly);
        assert_eq!(var.role_link.as_deref(), Some("rootfs"));
        let kernel = image.artifact(VmRole::Kernel).unwrap();
        assert_eq!(kernel.update_policy, UpdatePolicy::Replace);
        assert_eq!(
            (kernel.size, kernel.kind.as_deref()),
            (Some(9), Some("kernel"))
        );
        assert_eq!(image.artifacts.len(), 5);
    }

    #[test]
    fn bad_manifests_are_refused() {
        let good = String::from_utf8(sample().to_json().unwrap()).unwrap();
        for (from, to) in [
            ("avocado-direct", "avocado-other"),
            ("\"format_version\": 1", "\"format_version\": 2"),
            ("\"file-of-rootfs\"", "\"../rootfs\""),
            ("\"file-of-kernel\"", "\"/boot/kernel\""),
            ("\"file-of-var\"", "\"\""),
            ("\"initramfs\":", "\"other\":"),
            ("seed_only", "something_else"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from}");
            assert!(VmImage::parse(bad.as_bytes()).is_err(), "{to}");
        }
        assert!(VmImage::parse(b"").is_err());
        assert!(VmImage::parse(b"[]").is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut image = sample();
        image.artifacts.remove("rootfs");
        let error = VmImage::parse(&image.to_json().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "the VM's image has no rootfs");
    }
}
