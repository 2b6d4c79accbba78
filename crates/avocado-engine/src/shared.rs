//! Results that other machines may have.

use std::path::{Path, PathBuf};

use avocado_events::Sink;
use avocado_fs::leads_below;
use avocado_manifest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::stamp::{ResultFiles, STAMP_VERSION};
use crate::{InputsHash, StampKey, StampStore};

/// Where results of tasks are that were made elsewhere, and where those go that are made here.
///
/// None of it fails a run: what cannot be had is made, and what cannot be given away is not.
pub trait SharedResults: Send + Sync {
    /// The result of an action, whole and good, but not at its place yet.
    fn find<'s>(
        &'s self,
        action: &Action<'_>,
        sink: &dyn Sink,
    ) -> Option<Box<dyn FoundResult + 's>>;

    /// Keeps the result of an action for others.
    fn offer(&self, action: &Action<'_>, result: MadeResult<'_>, sink: &dyn Sink);
}

/// A result that was found.
pub trait FoundResult {
    /// What the task answered with.
    fn output(&self) -> &Value;

    /// The digest of what the next tasks consume.
    fn digest(&self) -> Digest;

    /// The files and directories, relative to what all results are below, in the order of their paths.
    fn paths(&self) -> Vec<&Path>;

    /// Hears why it is not used, and that the task makes the result instead.
    fn refused(&self, why: &str, sink: &dyn Sink);

    /// Puts them at their places, as the task would have left them; `digests` are those of files that the
    /// output states. False where that was not possible, or one has another digest: then the task makes
    /// them.
    fn place(&self, digests: &[FileContent], sink: &dyn Sink) -> bool;
}

/// What is in one file of a result, as the output of the task has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// Relative to what all results are below.
    pub path: PathBuf,
    /// Of its bytes.
    pub sha256: Digest,
}

/// A result that a task made.
#[derive(Debug)]
pub struct MadeResult<'r> {
    /// What the task answered with.
    pub output: &'r Value,
    /// The digest of what the next tasks consume.
    pub digest: Digest,
    /// The files and directories, relative to what all results are below, in the order of their paths.
    pub paths: &'r [PathBuf],
    /// What is in those of them that the output has the digest of.
    pub contents: &'r [FileContent],
}

/// Everything that a result follows from, on whichever machine it is made.
#[derive(Debug)]
pub struct Action<'r> {
    /// The stage of the task, for events. It is no part of what the action is.
    pub stage: &'r str,
    step: &'r StampKey,
    stamps: &'r StampStore,
    inputs: InputsHash,
    environment: Value,
}

impl<'r> Action<'r> {
    pub(crate) fn new(
        stage: &'r str,
        step: &'r StampKey,
        stamps: &'r StampStore,
        inputs: InputsHash,
        environment: Value,
    ) -> Self {
        Action {
            stage,
            step,
            stamps,
            inputs,
            environment,
        }
    }

    /// All that the stamp of the task covers, and what it takes for granted on one machine.
    pub fn description(&self) -> Value {
        json!({
            "stamp_version": STAMP_VERSION,
            "cli_version": self.stamps.cli_version,
            "target": self.stamps.target,
            "component": self.step.component,
            "directory": self.step.directory,
            "name": self.step.name,
            "command": self.step.command,
            "inputs": self.inputs.to_string(),
            "environment": self.environment,
        })
    }
}

/// The files of a result as others know them, or `None` where one of them is not below `prefix`.
pub(crate) fn relative_paths(files: &ResultFiles, prefix: &Path) -> Option<Vec<PathBuf>> {
    let all = files.own.iter().chain(&files.shared);
    let below = all.map(|path| relative(path, prefix));
    let mut paths = below.collect::<Option<Vec<PathBuf>>>()?;
    paths.sort();
    paths.dedup();
    Some(paths)
}

/// What is in files of a result, by paths as others know them.
pub(crate) fn contents(digests: Vec<(PathBuf, Digest)>, prefix: &Path) -> Option<Vec<FileContent>> {
    let content = |(path, sha256): (PathBuf, Digest)| {
        let path = relative(&path, prefix)?;
        Some(FileContent { path, sha256 })
    };
    digests.into_iter().map(content).collect()
}

/// A path without `prefix`; `None` where it leads elsewhere. Part of it may be what another machine said,
/// and `..` is no reason for [`Path::strip_prefix`] to refuse it.
fn relative(path: &Path, prefix: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(prefix).ok()?;
    leads_below(below).then(|| below.to_owned())
}

/// The JSON form of an output.
pub(crate) fn form_of(output: &impl Serialize) -> Option<Value> {
    serde_json::to_value(output).ok()
}
