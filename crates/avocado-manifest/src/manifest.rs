use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::json_token;
use crate::os_bundle::OsBundleChunks;
use crate::{CanonicalJsonError, Digest, ImageId, Name, RuntimeId, canonical_json};

/// The manifest version that is written. Versions 1 and 2 are read.
pub const MANIFEST_VERSION: u32 = 2;

/// The longest text in a manifest, in bytes. Everything that lists runtimes repeats them.
pub const LONGEST_MANIFEST_TEXT: usize = 255;

/// The longest name in a directory, in bytes.
const LONGEST_FILE_NAME: usize = 255;

/// Whether a device can merge an extension with this name and version, as one of `extensions`. There
/// its release file is called `extension-release.<number>-<name>-<version>`.
pub fn is_mergeable(name: &Name, version: &Name, extensions: usize) -> bool {
    let width = extensions.to_string().len().max(2);
    let (name, version) = (name.as_str().len(), version.as_str().len());
    "extension-release.".len() + width + "--".len() + name + version <= LONGEST_FILE_NAME
}

/// The runtime manifest, `runtimes/<id>/manifest.json` on a device and the target
/// `manifest.json` in a repository. Fields that are not known are ignored when reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub struct Manifest {
    /// 1 or 2.
    pub manifest_version: u32,
    /// Identifies this runtime.
    pub id: RuntimeId,
    /// When it was built: RFC 3339 in UTC, from `source_date_epoch`.
    pub built_at: String,
    /// Name and version of the runtime.
    pub runtime: RuntimeLabel,
    /// The root file system that the runtime was built with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<OsImage>,
    /// The initial RAM file system that the runtime was built with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initramfs: Option<OsImage>,
    /// The kernel that the runtime was built with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<OsImage>,
    /// The extensions in order of priority: the first wins.
    #[serde(default)]
    pub extensions: Vec<RuntimeExtension>,
    /// The bundle for the inactive OS slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_bundle: Option<OsBundle>,
}

/// Name and version of a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub struct RuntimeLabel {
    /// The key below `runtimes:` in avocado.yaml.
    pub name: String,
    /// The version that the project states, or one derived from the content.
    pub version: String,
}

/// An image that is part of the OS rather than of the extension pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub struct OsImage {
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
#[serde(expecting = "a map")]
pub struct RuntimeExtension {
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
#[serde(expecting = "a map")]
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
    /// The digest of the index of its chunks, [`OsBundleChunks`](crate::os_bundle::OsBundleChunks). None: there
    /// is none that counts. A field of ours: published agents do not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks_sha256: Option<Digest>,
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

/// A manifest could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not JSON, or not of the manifest's shape.
    #[error(
        "line {line}, column {column}: this is no valid manifest; take it anew from where the runtime \
         was built"
    )]
    Syntax {
        /// Of the token that is wrong, from 1.
        line: usize,
        /// Of the token that is wrong, from 1.
        column: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A version that this program does not know.
    #[error(
        "line {line}, column {column}: manifest version {version} is not supported (versions 1 and 2 \
         are); update avocadoctl"
    )]
    Version {
        /// Of the version, from 1.
        line: usize,
        /// Of the version, from 1.
        column: usize,
        /// The version.
        version: u32,
    },
    /// A text is longer than anything sensible.
    #[error(
        "line {line}, column {column}: the manifest's `{field}` is longer than \
         {LONGEST_MANIFEST_TEXT} bytes; shorten it"
    )]
    TextTooLong {
        /// Of the text, from 1.
        line: usize,
        /// Of the text, from 1.
        column: usize,
        /// Which it is.
        field: &'static str,
    },
    /// The manifest has no JSON form.
    #[error("the manifest cannot be written")]
    Write(#[source] serde_json::Error),
    /// The manifest has no canonical form, and so no id.
    #[error("the manifest has no id")]
    Canonical(#[from] CanonicalJsonError),
}

impl RuntimeExtension {
    /// What a repository, and an old pool, call the image: `<image id>.raw`, and without an id
    /// `<name>-<version>.raw`.
    pub fn file_name(&self) -> String {
        match &self.image_id {
            Some(id) => id.file_name(),
            None => format!("{}-{}.raw", self.name, self.version),
        }
    }
}

impl Manifest {
    /// Reads a manifest of version 1 or 2.
    ///
    /// # Errors
    /// When the bytes are not such a manifest, or hold an id or a name that is not safe.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        // The version is looked at first: a later format may have another shape altogether.
        #[derive(Deserialize)]
        #[serde(expecting = "a map")]
        struct Version {
            manifest_version: u32,
        }
        let invalid = |source: serde_json::Error| {
            let (line, column) = json_token::token_at(bytes, source.line(), source.column());
            ManifestError::Syntax {
                line,
                column,
                source,
            }
        };
        let Version { manifest_version } = serde_json::from_slice(bytes).map_err(invalid)?;
        if !(1..=MANIFEST_VERSION).contains(&manifest_version) {
            let (line, column) = json_token::value_of(bytes, "manifest_version");
            return Err(ManifestError::Version {
                line,
                column,
                version: manifest_version,
            });
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(invalid)?;
        let is_long =
            |text: Option<&str>| text.is_some_and(|text| text.len() > LONGEST_MANIFEST_TEXT);
        let long = manifest.texts().find(|(_, text)| is_long(*text));
        match long.map(|(field, _)| field) {
            Some(field) => {
                let (line, column) = json_token::text_longer_than(bytes, LONGEST_MANIFEST_TEXT);
                Err(ManifestError::TextTooLong {
                    line,
                    column,
                    field,
                })
            }
            None => Ok(manifest),
        }
    }

    /// What a device needs from a repository besides the manifest, by the names that it asks for. The
    /// rootfs, the initramfs and the kernel are not among them: they come with the OS.
    pub fn required_files(&self) -> BTreeSet<String> {
        let extensions = self.extensions.iter().map(RuntimeExtension::file_name);
        let bundle = self.os_bundle.iter();
        let chunks = bundle.clone().filter(|b| b.chunks_sha256.is_some());
        extensions
            .chain(bundle.map(|bundle| bundle.image_id.file_name()))
            .chain(chunks.map(|bundle| OsBundleChunks::file_name(&bundle.image_id)))
            .collect()
    }

    /// Every text that is no name or id, which have a length of their own, with its field.
    fn texts(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        let parts = [&self.rootfs, &self.initramfs, &self.kernel];
        let of_parts = parts.into_iter().flatten().flat_map(|part| {
            [
                ("version", part.version.as_deref()),
                ("image_type", part.image_type.as_deref()),
            ]
        });
        let of_extensions = self.extensions.iter();
        let of_extensions = of_extensions.map(|e| ("image_type", e.image_type.as_deref()));
        let of_bundle = self.os_bundle.iter().flat_map(|bundle| {
            [
                ("os_build_id", bundle.os_build_id.as_deref()),
                ("initramfs_build_id", bundle.initramfs_build_id.as_deref()),
            ]
        });
        [
            ("built_at", Some(self.built_at.as_str())),
            ("runtime.name", Some(self.runtime.name.as_str())),
            ("runtime.version", Some(self.runtime.version.as_str())),
        ]
        .into_iter()
        .chain(of_parts)
        .chain(of_extensions)
        .chain(of_bundle)
    }

    /// The bytes of `manifest.json`: indented by two spaces, with a final newline.
    ///
    /// # Errors
    /// [`ManifestError::Write`].
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(ManifestError::Write)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The id that follows from the content: SHA-256 of the canonical JSON without `id`.
    ///
    /// # Errors
    /// [`ManifestError::Write`] or [`ManifestError::Canonical`].
    pub fn content_id(&self) -> Result<RuntimeId, ManifestError> {
        let mut value = serde_json::to_value(self).map_err(ManifestError::Write)?;
        if let Some(object) = value.as_object_mut() {
            object.shift_remove("id");
        }
        Ok(RuntimeId::from_digest(Digest::of(&canonical_json(&value)?)))
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
            runtime: RuntimeLabel {
                name: "dev".into(),
                version: "1".into(),
            },
            rootfs: None,
            initramfs: None,
            kernel: None,
            extensions: vec![RuntimeExtension {
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
        assert_eq!(
            Manifest::parse(&manifest.to_json().unwrap()).unwrap(),
            manifest
        );
    }

    #[test]
    fn the_id_follows_from_everything_but_the_id() {
        let mut a = sample();
        let id = a.content_id().unwrap();
        a.id = id.clone();
        assert_eq!(a.content_id().unwrap(), id);
        assert_eq!(
            id.as_str(),
            "65972329c9b5c2475f6be4a030af28c526be8baf5ae0b9a64a430a0094b051be"
        );
        a.runtime.version = "2".into();
        assert_ne!(a.content_id().unwrap(), id);
    }

    #[test]
    fn manifests_whose_bytes_differ_have_different_ids() {
        let with = |built_at: &str, name: &str| {
            let mut manifest = sample();
            manifest.built_at = built_at.into();
            manifest.runtime.name = name.into();
            manifest
        };
        // `é`, and `e` with U+0301: one text for people, and two for everything else.
        let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
        let id = |manifest: Manifest| manifest.content_id().unwrap();
        assert_ne!(id(with(composed, "dev")), id(with(decomposed, "dev")));
        assert_ne!(id(with("now", composed)), id(with("now", decomposed)));
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
    fn texts_have_an_end() {
        type SetText = fn(&mut Manifest, String);
        let with = |length: usize, set: SetText| {
            let mut manifest = sample();
            set(&mut manifest, "x".repeat(length));
            Manifest::parse(&manifest.to_json().unwrap())
        };
        let all: [(&str, SetText); 5] = [
            ("built_at", |m, text| m.built_at = text),
            ("runtime.name", |m, text| m.runtime.name = text),
            ("runtime.version", |m, text| m.runtime.version = text),
            ("image_type", |m, text| {
                m.extensions[0].image_type = Some(text);
            }),
            ("os_build_id", |m, text| {
                m.os_bundle = Some(OsBundle {
                    image_id: ImageId::from_digest(Digest::of(b"x")),
                    sha256: None,
                    os_build_id: Some(text),
                    initramfs_build_id: None,
                    chunks_sha256: None,
                });
            }),
        ];
        for (field, set) in all {
            with(255, set).unwrap();
            for length in [256, 3 << 20] {
                let error = with(length, set).unwrap_err();
                assert!(
                    matches!(error, ManifestError::TextTooLong { field: f, .. } if f == field),
                    "{error}"
                );
                assert!(error.to_string().len() < 100);
            }
        }
    }

    #[test]
    fn a_name_and_a_version_leave_room_for_a_number() {
        let name = |length: usize| "x".repeat(length).parse::<Name>().unwrap();
        for (length, extensions, fits) in [
            (133, 1, true),
            (134, 1, false),
            (133, 99, true),
            (133, 100, false),
            (132, 100, true),
            (132, 1000, false),
        ] {
            let is = is_mergeable(&name(100), &name(length), extensions);
            assert_eq!(is, fits, "{length} {extensions}");
        }
    }

    #[test]
    fn bad_manifests_are_refused() {
        let good = String::from_utf8(sample().to_json().unwrap()).unwrap();
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
