//! Stamps: what a step consumed and what came of it, so that it need not run again.
//!
//! A stamp is valid when it was written by the same version of the program, for the same inputs,
//! and the files that it names are still there with their size and time. It is written last, after the
//! results are in place, so an interrupted step has none.

use std::fs;
use std::path::{Path, PathBuf};

use avocado_manifest::Digest;
use serde::{Deserialize, Serialize};

use crate::{Error, tree};

/// The published version of the stamp format.
const STAMP_VERSION: u32 = 2;

/// Where a stamp is kept: `<component>[/<name>]/<command>.stamp` below the stamp directory.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) component: &'static str,
    pub(crate) name: Option<String>,
    pub(crate) command: &'static str,
}

impl Slot {
    fn path(&self, stamps: &Path) -> PathBuf {
        // The published directory of an extension's stamps is shorter than its component.
        let directory = match self.component {
            "extension" => "ext",
            other => other,
        };
        let mut path = stamps.join(directory);
        if let Some(name) = &self.name {
            path.push(name);
        }
        path.join(format!("{}.stamp", self.command))
    }
}

/// What a step left behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Digest of what the next steps consume: equal means that they need not run.
    pub(crate) digest: Digest,
    /// What else the next steps and the report need to know.
    #[serde(default)]
    pub(crate) detail: serde_json::Value,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stamp {
    version: u32,
    command: String,
    component: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    component_name: Option<String>,
    target: String,
    timestamp: String,
    success: bool,
    inputs: Inputs,
    outputs: Outputs,
    cli_version: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Inputs {
    config_hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Outputs {
    #[serde(flatten)]
    outcome: Outcome,
    files: Vec<Made>,
}

/// A file or directory that a step made.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    /// Relative to the prefix, so that a copy of the project keeps its stamps.
    path: PathBuf,
    /// In bytes; 0 for a directory.
    size: u64,
    /// Seconds and nanoseconds of the last change; 0 for a directory.
    changed: (i64, i64),
}

impl Made {
    fn look(prefix: &Path, path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = fs::symlink_metadata(prefix.join(path)).ok()?;
        let (size, changed) = if metadata.is_dir() {
            (0, (0, 0))
        } else {
            (metadata.len(), (metadata.mtime(), metadata.mtime_nsec()))
        };
        Some(Made {
            path: path.to_owned(),
            size,
            changed,
        })
    }
}

fn is_name(part: std::path::Component<'_>) -> bool {
    matches!(part, std::path::Component::Normal(_))
}

/// The stamps of one target.
#[derive(Debug)]
pub(crate) struct Stamps<'a> {
    pub(crate) directory: PathBuf,
    pub(crate) prefix: PathBuf,
    pub(crate) target: &'a str,
    pub(crate) cli_version: &'a str,
    pub(crate) now: jiff::Timestamp,
    /// False: neither read nor write.
    pub(crate) enabled: bool,
}

/// The hash of everything that a step consumes.
pub(crate) fn hash(inputs: &serde_json::Value) -> String {
    format!("sha256:{}", Digest::of(inputs.to_string().as_bytes()))
}

impl Stamps<'_> {
    /// The outcome of the last run, if it is still good for `inputs`; otherwise the reason why
    /// the step has to run.
    pub(crate) fn read(&self, slot: &Slot, inputs: &str) -> Result<Outcome, String> {
        if !self.enabled {
            return Err(String::new());
        }
        let Ok(text) = fs::read(slot.path(&self.directory)) else {
            return Err("first run".into());
        };
        let Ok(stamp) = serde_json::from_slice::<Stamp>(&text) else {
            return Err("its stamp is not readable".into());
        };
        // Another version of the program may write other bytes from the same inputs.
        let same_version = stamp.version == STAMP_VERSION && stamp.cli_version == self.cli_version;
        if !same_version || !stamp.success {
            return Err("it was made by another version".into());
        }
        if stamp.inputs.config_hash != inputs {
            return Err("its inputs changed".into());
        }
        for made in &stamp.outputs.files {
            let now = Made::look(&self.prefix, &made.path);
            if now.is_none_or(|n| (n.size, n.changed) != (made.size, made.changed)) {
                return Err(format!("{} is missing or changed", made.path.display()));
            }
        }
        Ok(stamp.outputs.outcome)
    }

    /// Records a successful run whose results are `files`.
    pub(crate) fn write(
        &self,
        slot: &Slot,
        inputs: String,
        outcome: &Outcome,
        files: &[PathBuf],
    ) -> Result<(), Error> {
        if !self.enabled {
            return Ok(());
        }
        let relative = |path: &PathBuf| path.strip_prefix(&self.prefix).unwrap_or(path).to_owned();
        let made = |path: &PathBuf| Made::look(&self.prefix, &relative(path));
        let stamp = Stamp {
            version: STAMP_VERSION,
            command: slot.command.into(),
            component: slot.component.into(),
            component_name: slot.name.clone(),
            target: self.target.into(),
            timestamp: self.now.to_string(),
            success: true,
            inputs: Inputs {
                config_hash: inputs,
            },
            outputs: Outputs {
                outcome: outcome.clone(),
                files: files.iter().filter_map(made).collect(),
            },
            cli_version: self.cli_version.into(),
        };
        let mut text = serde_json::to_vec_pretty(&stamp).unwrap_or_default();
        text.push(b'\n');
        tree::write(&slot.path(&self.directory), text)
    }

    /// Forgets a run, before its results are touched. Returns the files that it made.
    pub(crate) fn forget(&self, slot: &Slot) -> Result<Vec<PathBuf>, Error> {
        let path = slot.path(&self.directory);
        let stamp = fs::read(&path).ok();
        let stamp = stamp.and_then(|text| serde_json::from_slice::<Stamp>(&text).ok());
        tree::clear(&path)?;
        let files = stamp.into_iter().flat_map(|stamp| stamp.outputs.files);
        // A stamp is only a file: what it says is no reason to remove anything elsewhere.
        let inside = files.filter(|file| file.path.components().all(is_name));
        Ok(inside.map(|file| self.prefix.join(file.path)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stamps(directory: &Path) -> Stamps<'_> {
        Stamps {
            directory: directory.join(".stamps"),
            prefix: directory.to_owned(),
            target: "t",
            cli_version: "1",
            now: jiff::Timestamp::UNIX_EPOCH,
            enabled: true,
        }
    }

    #[test]
    fn a_stamp_is_good_for_its_inputs_and_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let stamps = stamps(dir.path());
        let slot = Slot {
            component: "extension",
            name: Some("app".into()),
            command: "image",
        };
        let inputs = hash(&json!({"a": 1}));
        let outcome = Outcome {
            digest: Digest::of(b"x"),
            detail: json!({"n": 1}),
        };
        let file = dir.path().join("app.raw");
        fs::write(&file, "12345").unwrap();

        assert_eq!(stamps.read(&slot, &inputs).unwrap_err(), "first run");
        stamps
            .write(&slot, inputs.clone(), &outcome, std::slice::from_ref(&file))
            .unwrap();
        assert!(dir.path().join(".stamps/ext/app/image.stamp").is_file());
        let read = stamps.read(&slot, &inputs).unwrap();
        assert_eq!(
            (read.digest, read.detail),
            (outcome.digest, outcome.detail.clone())
        );
        let other = hash(&json!({"a": 2}));
        assert_eq!(
            stamps.read(&slot, &other).unwrap_err(),
            "its inputs changed"
        );
        // Another size, or the same at another time: somebody was here.
        let made = fs::metadata(&file).unwrap().modified().unwrap();
        let at = |time| fs::File::open(&file).unwrap().set_modified(time).unwrap();
        fs::write(&file, "1234").unwrap();
        at(made);
        assert!(stamps.read(&slot, &inputs).unwrap_err().contains("app.raw"));
        fs::write(&file, "12346").unwrap();
        at(made + std::time::Duration::from_nanos(1));
        assert!(stamps.read(&slot, &inputs).unwrap_err().contains("app.raw"));
        at(made);
        assert!(stamps.read(&slot, &inputs).is_ok());
        fs::write(dir.path().join(".stamps/ext/app/image.stamp"), "{").unwrap();
        assert!(stamps.read(&slot, &inputs).is_err());
        stamps.write(&slot, inputs.clone(), &outcome, &[]).unwrap();
        let newer = Stamps {
            cli_version: "2",
            ..stamps
        };
        assert!(
            newer
                .read(&slot, &inputs)
                .unwrap_err()
                .contains("another version")
        );
        let stamps = newer;
        stamps.forget(&slot).unwrap();
        assert_eq!(stamps.read(&slot, &inputs).unwrap_err(), "first run");
    }
}
