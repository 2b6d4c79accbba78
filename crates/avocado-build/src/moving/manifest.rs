//! What a saved state says of itself.

use std::collections::BTreeSet;

use avocado_manifest::Name;
use serde::{Deserialize, Serialize};

use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::trees::archive::PackedAmount;

/// The version of the format; see [`crate::save_state`]. Another number is another format; fields may
/// come to this one.
pub const SAVED_STATE_FORMAT: u32 = 1;

/// How its file is called in the archive.
pub(super) const MANIFEST_FILE: &str = "avocado-state.json";

/// In bytes: much more than all targets that a project can have take.
pub(super) const LARGEST_MANIFEST: u64 = 1 << 20;

/// The state of one target in a saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTarget {
    /// Its name.
    pub target: Name,
    /// The processors that its SDKs are for, as kernels call them: `x86_64`.
    pub architectures: Vec<String>,
    /// The file in the archive: compressed.
    pub(super) archive: FileDigest,
    pub(super) content: PackedAmount,
}

impl SavedTarget {
    /// How many regular files are in it.
    pub fn files(&self) -> u64 {
        self.content.files
    }

    /// How many bytes these have.
    pub fn bytes(&self) -> u64 {
        self.content.bytes
    }

    /// The name of its file in the archive.
    pub(super) fn file(&self) -> String {
        archive_file(&self.target)
    }
}

/// The name of the file of a target.
pub(super) fn archive_file(target: &Name) -> String {
    format!("{target}.tar.zst")
}

/// The first file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateManifest {
    format: u32,
    /// The version of the program that saved it: what another one built is not up to date.
    pub(super) avocado: String,
    pub(super) targets: Vec<SavedTarget>,
}

impl StateManifest {
    pub(super) fn new(avocado: &str, targets: Vec<SavedTarget>) -> Self {
        StateManifest {
            format: SAVED_STATE_FORMAT,
            avocado: avocado.to_owned(),
            targets,
        }
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, BuildError> {
        let json = serde_json::to_vec_pretty(self);
        json.map_err(|e| BuildError::Invalid(format!("the state has no description in JSON: {e}")))
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Self, BuildError> {
        /// What every version says.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let wrong = |e: serde_json::Error| {
            let what = format!("its {MANIFEST_FILE} cannot be understood: {e}");
            BuildError::SavedState { what }
        };
        let Format { format } = serde_json::from_slice(json).map_err(wrong)?;
        if format != SAVED_STATE_FORMAT {
            return Err(BuildError::SavedState {
                what: format!(
                    "it has format {format}, and this version of avocado knows format {SAVED_STATE_FORMAT}"
                ),
            });
        }
        let manifest: StateManifest = serde_json::from_slice(json).map_err(wrong)?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = manifest.targets.iter().find(|t| !seen.insert(&t.target)) {
            return Err(BuildError::SavedState {
                what: format!("target {} is in it twice", twice.target),
            });
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_a_promise() {
        let json = br#"{
            "format": 1, "avocado": "0.41.0", "more": "of a later version",
            "targets": [{
                "target": "qemux86-64",
                "architectures": ["x86_64"],
                "archive": {
                    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                    "size": 3
                },
                "content": {"entries": 3, "files": 2, "bytes": 10, "disk_bytes": 7, "attribute_bytes": 0}
            }]
        }"#;
        let manifest = StateManifest::from_json(json).unwrap();
        let target = &manifest.targets[0];
        assert_eq!(manifest.avocado, "0.41.0");
        assert_eq!(target.file(), "qemux86-64.tar.zst");
        assert_eq!((target.files(), target.bytes()), (2, 10));
        let again = StateManifest::from_json(&manifest.to_json().unwrap()).unwrap();
        assert_eq!(again, manifest);
    }

    #[test]
    fn what_is_no_description_of_ours_is_told() {
        let target = |name: &str| {
            format!(
                r#"{{"target": "{name}", "architectures": [], "archive": {{"sha256": "{}", "size": 0}},
                     "content": {{"entries": 0, "files": 0, "bytes": 0, "disk_bytes": 0,
                                  "attribute_bytes": 0}}}}"#,
                "0".repeat(64)
            )
        };
        let of =
            |targets: &str| format!(r#"{{"format": 1, "avocado": "x", "targets": [{targets}]}}"#);
        for (json, said) in [
            ("", "cannot be understood"),
            ("[]", "cannot be understood"),
            (
                r#"{"format": 2}"#,
                "it has format 2, and this version of avocado knows format 1",
            ),
            (r#"{"format": 1}"#, "cannot be understood"),
            (&of(&target("../up")), "cannot be understood"),
            (&of(&target("..")), "cannot be understood"),
            (&of(&target(".lock")), "cannot be understood"),
            (
                &of(&format!("{0},{0}", target("t"))),
                "target t is in it twice",
            ),
        ] {
            let error = StateManifest::from_json(json.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(said), "{json}: {error}");
        }
    }
}
