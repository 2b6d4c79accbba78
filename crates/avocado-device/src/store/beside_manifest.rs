//! What this device has decided of a runtime, beside its manifest: it goes when the runtime goes.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files;
use crate::error::FailureReason;

/// The largest of these files that is read or written, in bytes.
const LIMIT: u64 = 1 << 20;

/// The only format that there is of either.
const VERSION: u32 = 1;

/// What is kept in a file of a runtime's directory.
pub(crate) trait BesideManifest: Default + Serialize + DeserializeOwned {
    /// The name of the file.
    const FILE: &'static str;

    /// The version of its format.
    fn version(&self) -> u32;
}

/// What others keep of a runtime: `metadata.json`. Source of the format: the published agent, 0.9.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RuntimeMetadata {
    version: u32,
    pub(crate) entries: BTreeMap<String, String>,
}

impl Default for RuntimeMetadata {
    fn default() -> Self {
        RuntimeMetadata {
            version: VERSION,
            entries: BTreeMap::new(),
        }
    }
}

impl BesideManifest for RuntimeMetadata {
    const FILE: &'static str = "metadata.json";

    fn version(&self) -> u32 {
        self.version
    }
}

/// Which extensions are merged although the manifest says otherwise, or are not: `overrides.json`.
/// Source of the format: the published agent, 0.10.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExtensionOverrides {
    version: u32,
    extensions: BTreeMap<String, ExtensionOverride>,
}

/// What was decided of one extension.
#[derive(Debug, Serialize, Deserialize)]
struct ExtensionOverride {
    enabled: bool,
}

impl Default for ExtensionOverrides {
    fn default() -> Self {
        ExtensionOverrides {
            version: VERSION,
            extensions: BTreeMap::new(),
        }
    }
}

impl ExtensionOverrides {
    /// What was decided of the extension with this name, if anything was.
    pub(crate) fn enabled(&self, name: &str) -> Option<bool> {
        self.extensions.get(name).map(|decided| decided.enabled)
    }

    /// Decides it.
    pub(crate) fn set(&mut self, name: &str, enabled: bool) {
        let decided = ExtensionOverride { enabled };
        self.extensions.insert(name.to_owned(), decided);
    }
}

impl BesideManifest for ExtensionOverrides {
    const FILE: &'static str = "overrides.json";

    fn version(&self) -> u32 {
        self.version
    }
}

/// What is kept in this directory of a runtime; nothing where the file does not exist. One that
/// cannot be understood is an error: writing it again would lose what it says.
pub(crate) fn load<T: BesideManifest>(runtime: &Path) -> Result<T, FailureReason> {
    let path = runtime.join(T::FILE);
    let bytes = match files::read(&path, LIMIT) {
        Err(FailureReason::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(T::default());
        }
        other => other?,
    };
    let failed = |source: io::Error| FailureReason::file("understand", &path)(source);
    let content: T = serde_json::from_slice(&bytes).map_err(|e| failed(e.into()))?;
    if content.version() != VERSION {
        let why = format!(
            "it is of version {}, which this agent does not know",
            content.version()
        );
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, why)));
    }
    Ok(content)
}

/// Keeps it, in the place of what was there. The caller holds the lock of the store.
pub(crate) fn save<T: BesideManifest>(runtime: &Path, content: &T) -> Result<(), FailureReason> {
    let path = runtime.join(T::FILE);
    let bytes = serde_json::to_vec_pretty(content)
        .map_err(|e| FailureReason::file("write", &path)(e.into()))?;
    if bytes.len() as u64 > LIMIT {
        return Err(FailureReason::TooLarge { path, limit: LIMIT });
    }
    files::write(&path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_have_the_published_form() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        let mut metadata: RuntimeMetadata = load(dir.path()).unwrap();
        assert!(metadata.entries.is_empty());
        let (key, value) = ("site".to_owned(), "mast 7".to_owned());
        metadata.entries.insert(key, value);
        save(dir.path(), &metadata).unwrap();
        let expected = serde_json::json!({"version": 1, "entries": {"site": "mast 7"}});
        assert_eq!(read("metadata.json"), expected);
        let kept: RuntimeMetadata = load(dir.path()).unwrap();
        assert_eq!(kept.entries, metadata.entries);

        let mut overrides: ExtensionOverrides = load(dir.path()).unwrap();
        overrides.set("app", false);
        save(dir.path(), &overrides).unwrap();
        let expected = serde_json::json!({"version": 1, "extensions": {"app": {"enabled": false}}});
        assert_eq!(read("overrides.json"), expected);
        let kept: ExtensionOverrides = load(dir.path()).unwrap();
        let decided = ["app", "other"].map(|name| kept.enabled(name));
        assert_eq!(decided, [Some(false), None]);
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_and_too_much_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.json");
        let mut last = "";
        for damage in [
            "",
            "{",
            "[]",
            "{\"entries\":{}}",
            "{\"version\":1}",
            "{\"version\":1,\"entries\":{\"a\":1}}",
            "{\"version\":2,\"entries\":{}}",
        ] {
            std::fs::write(&path, damage).unwrap();
            assert!(load::<RuntimeMetadata>(dir.path()).is_err(), "{damage}");
            last = damage;
        }
        let mut metadata = RuntimeMetadata::default();
        metadata.entries.insert("a".to_owned(), "x".repeat(1 << 20));
        let written = save(dir.path(), &metadata);
        assert!(matches!(written, Err(FailureReason::TooLarge { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), last);
    }
}
