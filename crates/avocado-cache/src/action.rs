use std::fmt;

use avocado_manifest::{CanonicalJsonError, Digest, canonical_json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The version of the format of entries. It is in each key: another version finds nothing.
const FORMAT: u32 = 1;

/// What a result is found by: the digest of all that it follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionKey(Digest);

impl ActionKey {
    /// The key of what `action` describes: two actions have the same one only if nothing in their
    /// descriptions differs but the order of members.
    ///
    /// # Errors
    /// When a number in it has no canonical form.
    pub fn of(action: &Value) -> Result<Self, CanonicalJsonError> {
        let text = canonical_json(&json!({ "format": FORMAT, "action": action }))?;
        Ok(ActionKey(Digest::of(&text)))
    }
}

/// 64 hexadecimal digits, as in the name of its file.
impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A sequence of bytes in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobId {
    /// Its digest, which is its name.
    pub sha256: Digest,
    /// In bytes.
    pub size: u64,
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionResult {
    /// The action.
    pub action: ActionKey,
    /// What the action answered with, in its own form.
    pub output: Value,
    /// The digest of what others consume of it.
    pub digest: Digest,
    /// The files and directories that it left, in the order of their paths.
    pub files: Vec<CachedFile>,
}

/// A file or a directory that an action left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CachedFile {
    /// Where it is, relative to what all results are below.
    pub path: String,
    /// What its blob is.
    pub form: CachedForm,
    /// Its bytes.
    pub blob: BlobId,
    /// How many bytes come of them.
    pub unpacked: u64,
    /// The permissions of the file; those of a directory are in its archive.
    pub mode: u32,
    /// When the file was last changed, in seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
}

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CachedForm {
    /// The file as it is.
    File,
    /// A file with holes: its bytes, compressed with zstd.
    SparseFile,
    /// A directory: a pax archive, compressed with zstd.
    Tree,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_hangs_on_everything_but_the_order() {
        let key = |value: Value| ActionKey::of(&value).unwrap();
        let one = key(json!({ "step": "image", "inputs": [1, 2] }));
        assert_eq!(one, key(json!({ "inputs": [1, 2], "step": "image" })));
        assert_ne!(one, key(json!({ "inputs": [2, 1], "step": "image" })));
        assert_ne!(one, key(json!({ "inputs": [1, 2], "step": "install" })));
        assert_eq!(one.to_string().len(), 64);
        ActionKey::of(&json!(0.5)).unwrap_err();
    }
}
