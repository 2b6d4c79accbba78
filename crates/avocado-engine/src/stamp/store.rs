use std::fs;
use std::path::{Path, PathBuf};

use avocado_fs::{Durability, TemporaryName, WriteOptions, leads_below};
use avocado_manifest::Digest;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::StampKey;
use super::file::{OutputFile, RecordedInputs, STAMP_VERSION, Stamp, StampInputs, StampOutputs};
use crate::StampError;
use crate::difference::InputDifference;
use crate::inputs::InputsForm;

/// The stamps of one directory.
#[derive(Debug, Clone)]
pub struct StampStore {
    /// Where the stamps are.
    pub directory: PathBuf,
    /// Where the results are; those below it are recorded relative to it.
    pub prefix: PathBuf,
    /// What the results are for, as the stamps say it.
    pub target: String,
    /// The version of the program: another one may write other bytes from the same inputs.
    pub cli_version: String,
    /// The time of this run, as the stamps say it.
    pub timestamp: String,
    /// False: neither read nor write stamps, so that every task runs. Those of the tasks that run
    /// are still removed, since they say nothing about the new results.
    pub enabled: bool,
    /// Say of each task that runs which of its inputs differs, with both values.
    pub explain: bool,
}

/// What an earlier run left behind.
#[derive(Debug)]
pub(crate) struct EarlierResult<T> {
    pub(crate) digest: Digest,
    pub(crate) output: T,
}

/// The files and directories that a result consists of.
#[derive(Debug)]
pub(crate) struct ResultFiles {
    /// Those that its task alone makes.
    pub(crate) own: Vec<PathBuf>,
    /// Those that are not its task's to remove.
    pub(crate) shared: Vec<PathBuf>,
}

impl ResultFiles {
    pub(crate) fn has(&self, path: &PathBuf) -> bool {
        self.own.contains(path) || self.shared.contains(path)
    }
}

/// Why a task has to run. The text is for users, in the event that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunReason {
    StampsDisabled,
    FirstRun,
    UnreadableStamp,
    OtherVersion,
    InputsChanged,
    ChangedMeanwhile,
    OutputChanged(PathBuf),
}

impl std::fmt::Display for RunReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunReason::StampsDisabled => Ok(()),
            RunReason::FirstRun => f.write_str("first run"),
            RunReason::UnreadableStamp => f.write_str("its stamp is not readable"),
            RunReason::OtherVersion => f.write_str("it was made by another version"),
            RunReason::InputsChanged => f.write_str("its inputs changed"),
            RunReason::ChangedMeanwhile => f.write_str("what it read changed while it ran"),
            RunReason::OutputChanged(path) => {
                write!(f, "{} is missing or changed", path.display())
            }
        }
    }
}

impl StampStore {
    /// What the last run left behind, if it is still good for `inputs`.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        key: &StampKey,
        inputs: &InputsForm,
    ) -> Result<EarlierResult<T>, RunReason> {
        if !self.enabled {
            return Err(RunReason::StampsDisabled);
        }
        // Of a link [`StampStore::forget`] says what is wrong with it.
        let path = self.path(key).map_err(|_| RunReason::UnreadableStamp)?;
        let Ok(text) = fs::read(path) else {
            return Err(RunReason::FirstRun);
        };
        // The output last: another version of the program may have another form of it.
        let Ok(stamp) = serde_json::from_slice::<Stamp<serde_json::Value>>(&text) else {
            return Err(RunReason::UnreadableStamp);
        };
        let same_version = stamp.version == STAMP_VERSION && stamp.cli_version == self.cli_version;
        if !same_version {
            return Err(RunReason::OtherVersion);
        }
        if !stamp.success {
            return Err(RunReason::ChangedMeanwhile);
        }
        if stamp.inputs.config_hash != inputs.hash {
            return Err(RunReason::InputsChanged);
        }
        let outputs = stamp.outputs;
        let mut files = outputs.files.into_iter().chain(outputs.shared_files);
        if let Some(changed) = files.find(|file| !file.is_as_recorded(&self.prefix)) {
            return Err(RunReason::OutputChanged(changed.path));
        }
        let output =
            serde_json::from_value(outputs.detail).map_err(|_| RunReason::UnreadableStamp)?;
        Ok(EarlierResult {
            digest: outputs.digest,
            output,
        })
    }

    /// Records a run that ended well, whose result is in `files`. Where that `is_good` for none of the
    /// inputs that it was asked for, the stamp says no more than which files there are.
    pub(crate) fn write<T: Serialize>(
        &self,
        key: &StampKey,
        inputs: InputsForm,
        digest: Digest,
        output: &T,
        files: &ResultFiles,
        is_good: bool,
    ) -> Result<(), StampError> {
        if !self.enabled {
            return Ok(());
        }
        let relative = |path: &Path| path.strip_prefix(&self.prefix).unwrap_or(path).to_owned();
        let recorded = |paths: &[PathBuf]| {
            let paths = paths.iter();
            let found = paths.filter_map(|path| OutputFile::look(&self.prefix, &relative(path)));
            found.collect()
        };
        let stamp = Stamp {
            version: STAMP_VERSION,
            command: key.command.into(),
            component: key.component.into(),
            component_name: key.name.clone(),
            target: self.target.clone(),
            timestamp: self.timestamp.clone(),
            success: is_good,
            inputs: StampInputs {
                config_hash: inputs.hash.clone(),
            },
            outputs: StampOutputs {
                digest,
                detail: output,
                files: recorded(&files.own),
                shared_files: recorded(&files.shared),
            },
            cli_version: self.cli_version.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&stamp).map_err(StampError::Output)?;
        text.push(b'\n');
        let path = self.path(key)?;
        if let Some(directory) = path.parent() {
            avocado_fs::create_directories(directory, 0o777)?;
        }
        // Not synced: a stamp that a power cut takes costs one run of its task. No other task
        // has this stamp.
        let options = WriteOptions::new()
            .temporary(TemporaryName::Beside)
            .durability(Durability::None);
        // Before the stamp, which it is nothing without. For the user alone: the address of a feed
        // may have a password.
        let recorded = RecordedInputs {
            inputs: inputs.value()?,
            config_hash: inputs.hash,
        };
        let recorded = serde_json::to_vec(&recorded).map_err(StampError::Inputs)?;
        let inputs_path = key.inputs_path(&self.directory);
        options.mode(0o600).write(&inputs_path, &recorded)?;
        options.write(&path, &text)?;
        Ok(())
    }

    /// Why a task has to run, with the input that differs: `reason` is what the stamp says.
    pub(crate) fn explain(
        &self,
        key: &StampKey,
        inputs: &InputsForm,
        reason: &RunReason,
    ) -> String {
        match reason {
            RunReason::FirstRun => "no stamp".to_owned(),
            RunReason::StampsDisabled => "stamps are off".to_owned(),
            RunReason::InputsChanged => self.changed_input(key, inputs),
            other => other.to_string(),
        }
    }

    fn changed_input(&self, key: &StampKey, inputs: &InputsForm) -> String {
        let read = |path: PathBuf| fs::read(path).ok();
        let recorded = read(key.inputs_path(&self.directory));
        let recorded =
            recorded.and_then(|text| serde_json::from_slice::<RecordedInputs>(&text).ok());
        let stamp = read(key.path(&self.directory));
        let stamp = stamp.and_then(|text| serde_json::from_slice::<Stamp<IgnoredAny>>(&text).ok());
        let before = recorded
            .zip(stamp)
            .filter(|(recorded, stamp)| recorded.config_hash == stamp.inputs.config_hash);
        match (before, inputs.value()) {
            (Some((before, _)), Ok(now)) => InputDifference::between(&before.inputs, &now)
                .map_or_else(
                    || "its inputs have another form".to_owned(),
                    |difference| difference.to_string(),
                ),
            _ => "its inputs changed; what they were is not recorded".to_owned(),
        }
    }

    /// Forgets a run, before its results are touched. Returns the files that it alone made.
    pub(crate) fn forget(&self, key: &StampKey) -> Result<Vec<PathBuf>, StampError> {
        let path = self.path(key)?;
        let stamp = fs::read(&path).ok();
        let stamp = stamp.and_then(|text| serde_json::from_slice::<Stamp<IgnoredAny>>(&text).ok());
        avocado_fs::remove_tree(&path)?;
        let files = stamp.into_iter().flat_map(|stamp| stamp.outputs.files);
        // A stamp is only a file: what it says is no reason to remove anything elsewhere.
        let below = files.filter(|file| leads_below(&file.path));
        Ok(below.map(|file| self.prefix.join(file.path)).collect())
    }

    /// Removes a file or directory that an earlier run made.
    pub(crate) fn remove(&self, result: &Path) -> Result<(), StampError> {
        no_link_leads_to(result, &self.prefix)?;
        Ok(avocado_fs::remove_tree(result)?)
    }

    /// Where the stamp is. What tasks start can change this directory, and only what is used is
    /// looked at: to look at all stamps after each task would take the square of their number.
    fn path(&self, key: &StampKey) -> Result<PathBuf, StampError> {
        let path = key.path(&self.directory);
        let above = self.directory.parent().unwrap_or(&self.directory);
        no_link_leads_to(&path, above)?;
        Ok(path)
    }
}

/// Makes sure that the directories of `path` that are below `base` are none that a link stands for:
/// that would lead elsewhere. What is at `path` itself is replaced or removed, and never followed
/// when something is written.
fn no_link_leads_to(path: &Path, base: &Path) -> Result<(), StampError> {
    let directories = path.ancestors().skip(1);
    let below =
        directories.take_while(|directory| *directory != base && directory.starts_with(base));
    match below.into_iter().find(|directory| directory.is_symlink()) {
        Some(link) => Err(StampError::Link(link.to_owned())),
        None => Ok(()),
    }
}
