use serde::{Deserialize, Serialize};

use crate::{Digest, ImageId, Name, RuntimeId};

/// The manifest version that is written. Versions 1 and 2 are read.
pub const MANIFEST_VERSION: u32 = 2;

/// The runtime manifest, `runtimes/<id>/manifest.json` on a device and the target
/// `manifest.json` in a repository. Fields that are not known are ignored when reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1 or 2.
    pub manifest_version: u32,
    /// Identifies this runtime.
    pub id: RuntimeId,
    /// When it was built: RFC 3339 in UTC, from `source_date_epoch`.
    pub built_at: String,
    /// Name and version of the runtime.
    pub runtime: RuntimeInfo,
    /// The root file system that the runtime was built with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<Image>,
    /// The initial RAM file system that the runtime was built with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initramfs: Option<Image>,
    /// The kernel that the runtime was built with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Image>,
    /// The extensions in order of priority: the first wins.
    #[serde(default)]
    pub extensions: Vec<Extension>,
    /// The bundle for the inactive OS slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_bundle: Option<OsBundle>,
}

/// Name and version of a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeInfo {
    /// The key below `runtimes:` in avocado.yaml.
    pub name: String,
    /// The version that the project states, or one derived from the content.
    pub version: String,
}

/// An image that is part of the OS rather than of the extension pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The version, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Identifies the bytes.
    pub image_id: ImageId,
    /// The digest of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// The container format; absent means a plain image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_type: Option<String>,
}

/// One extension of a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// The extension's name.
    pub name: Name,
    /// The extension's version.
    pub version: Name,
    /// Identifies the bytes; `images/<image_id>.raw` in the pool. Absent in the oldest manifests,
    /// whose images are called `<name>-<version>.raw`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<ImageId>,
    /// The digest of the file; absent in manifests of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// The container format; absent means a plain image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_type: Option<String>,
    /// False: part of the runtime, but not merged.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub enabled: bool,
}

/// The OS update that belongs to a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsBundle {
    /// Identifies the bytes of the bundle.
    pub image_id: ImageId,
    /// The digest of the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// `AVOCADO_OS_BUILD_ID` of the root file system in the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_build_id: Option<String>,
    /// `AVOCADO_OS_BUILD_ID` of the initramfs in the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initramfs_build_id: Option<String>,
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

/// A manifest could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not JSON, or not of the manifest's shape.
    #[error("the manifest is not valid")]
    Syntax(#[from] serde_json::Error),
    /// A version that this program does not know.
    #[error("manifest version {0} is not supported (versions 1 and 2 are); update avocadoctl")]
    Version(u32),
}

impl Manifest {
    /// Reads a manifest of version 1 or 2.
    ///
    /// # Errors
    /// When the bytes are not such a manifest, or hold an id or a name that is not safe.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        // The version is looked at first: a later format may have another shape altogether.
        #[derive(Deserialize)]
        struct Version {
            manifest_version: u32,
        }
        let Version { manifest_version } = serde_json::from_slice(bytes)?;
        if !(1..=MANIFEST_VERSION).contains(&manifest_version) {
            return Err(ManifestError::Version(manifest_version));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The bytes of `manifest.json`: indented by two spaces, with a final newline.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The id that follows from the content: SHA-256 of the canonical JSON without `id`.
    pub fn content_id(&self) -> RuntimeId {
        use serde::Serialize as _;
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.shift_remove("id");
        }
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(
            &mut bytes,
            olpc_cjson::CanonicalFormatter::new(),
        );
        // A manifest holds strings, booleans and integers: all of them have a canonical form.
        let _ = value.serialize(&mut serializer);
        RuntimeId::from_digest(Digest::of(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let image = ImageId::from_digest(Digest::of(b"x"));
        Manifest {
            manifest_version: 2,
            id: "placeholder".parse().unwrap(),
            built_at: "1970-01-01T00:00:00Z".into(),
            runtime: RuntimeInfo {
                name: "dev".into(),
                version: "1".into(),
            },
            rootfs: None,
            initramfs: None,
            kernel: None,
            extensions: vec![Extension {
                name: "app".parse().unwrap(),
                version: "0.1.0".parse().unwrap(),
                image_id: Some(image),
                sha256: Some(Digest::of(b"x")),
                image_type: None,
                enabled: true,
            }],
            os_bundle: None,
        }
    }

    #[test]
    fn round_trip() {
        let manifest = sample();
        assert_eq!(Manifest::parse(&manifest.to_json()).unwrap(), manifest);
    }

    #[test]
    fn the_id_follows_from_everything_but_the_id() {
        let mut a = sample();
        let id = a.content_id();
        a.id = id.clone();
        assert_eq!(a.content_id(), id);
        assert_eq!(id.as_str().len(), 64);
        a.runtime.version = "2".into();
        assert_ne!(a.content_id(), id);
    }

    #[test]
    fn the_oldest_manifests_are_read() {
        let text = br#"{"manifest_version":1,"id":"0b7c2f6e-4f","built_at":"x","runtime":{"name":"a","version":"1"},
            "extensions":[{"name":"app","version":"1.0.0"}],"unknown":[1]}"#;
        let manifest = Manifest::parse(text).unwrap();
        assert!(manifest.extensions[0].enabled);
        assert_eq!(manifest.extensions[0].image_id, None);
    }

    #[test]
    fn bad_manifests_are_refused() {
        let good = String::from_utf8(sample().to_json()).unwrap();
        for (from, to) in [
            ("\"manifest_version\": 2", "\"manifest_version\": 3"),
            ("\"manifest_version\": 2", "\"manifest_version\": 0"),
            ("\"placeholder\"", "\"../../x\""),
            ("\"app\"", "\"/etc\""),
            ("\"0.1.0\"", "\"..\""),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(Manifest::parse(bad.as_bytes()).is_err(), "{to}");
        }
        assert!(Manifest::parse(b"").is_err());
        assert!(Manifest::parse(b"[]").is_err());
    }
}
