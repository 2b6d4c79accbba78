//! The published form of a stamp: a JSON file.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_manifest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::InputsHash;

/// The published version of the format.
pub(crate) const STAMP_VERSION: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stamp<T> {
    pub(crate) version: u32,
    pub(crate) command: String,
    pub(crate) component: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) component_name: Option<String>,
    pub(crate) target: String,
    pub(crate) timestamp: String,
    pub(crate) success: bool,
    pub(crate) inputs: StampInputs,
    pub(crate) outputs: StampOutputs<T>,
    pub(crate) cli_version: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StampInputs {
    pub(crate) config_hash: InputsHash,
}

/// The inputs of a task, beside its stamp: what is only asked for when they have changed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecordedInputs {
    /// That of the stamp which this belongs to.
    pub(crate) config_hash: InputsHash,
    pub(crate) inputs: Value,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StampOutputs<T> {
    /// Of what the next tasks consume.
    pub(crate) digest: Digest,
    /// The task's output.
    pub(crate) detail: T,
    pub(crate) files: Vec<OutputFile>,
    /// What it consists of too, and is not its own.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub(crate) shared_files: Vec<OutputFile>,
}

/// A file or directory that a task made.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutputFile {
    /// Relative to the prefix, so that a copy of the whole keeps its stamps.
    pub(crate) path: PathBuf,
    /// In bytes; 0 for a directory.
    size: u64,
    /// Seconds and nanoseconds of the last change; 0 for a directory.
    changed: (i64, i64),
}

impl OutputFile {
    /// The file as it is now; `None` where there is none.
    pub(crate) fn look(prefix: &Path, path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(prefix.join(path)).ok()?;
        let (size, changed) = if metadata.is_dir() {
            (0, (0, 0))
        } else {
            (metadata.len(), (metadata.mtime(), metadata.mtime_nsec()))
        };
        Some(OutputFile {
            path: path.to_owned(),
            size,
            changed,
        })
    }

    /// Whether the file is still as it was when it was recorded.
    pub(crate) fn is_as_recorded(&self, prefix: &Path) -> bool {
        OutputFile::look(prefix, &self.path).as_ref() == Some(self)
    }
}
