//! What can go wrong around the VM, in one type.

use std::io;
use std::path::{Path, PathBuf};

/// What failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// A file could not be read, written or removed.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What should be written cannot be put into JSON: most likely a path in it is not Unicode.
    #[error("cannot put into JSON what belongs into {path}")]
    Encode {
        /// The file that should have been written.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The file system is full. What was begun is removed again.
    #[error("there is no space left for {path} ({needed} bytes)")]
    NoSpace {
        /// What should have been written.
        path: PathBuf,
        /// How many bytes it has to hold.
        needed: u64,
    },
    /// Another process has the lock.
    #[error("the VM in {dir} is in use by {holder}")]
    Busy {
        /// The state directory.
        dir: PathBuf,
        /// Who has it: what it does and its process id, as far as that is known.
        holder: String,
    },
    /// Unix sockets below this directory would have names that the system cannot take.
    #[error("the path of {dir} is {length} bytes long; sockets in it allow {most}")]
    LongPath {
        /// The state directory.
        dir: PathBuf,
        /// The length of its path.
        length: usize,
        /// The longest that is possible.
        most: usize,
    },
    /// The state directory belongs to another user.
    #[error("{dir} belongs to another user")]
    Foreign {
        /// The state directory.
        dir: PathBuf,
    },
    /// A program that is needed could not be run.
    #[error("cannot run {program}")]
    Program {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program that is needed failed.
    #[error("{program} failed: {said}")]
    ProgramFailed {
        /// The program.
        program: &'static str,
        /// What it said on its standard error.
        said: String,
    },
    /// The configuration file, or a change to it.
    #[error("cannot use {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: crate::config::ConfigProblem,
    },
    /// There is no image in this directory.
    #[error("{dir} holds no VM image: there is no manifest.json")]
    NoImage {
        /// The directory.
        dir: PathBuf,
    },
    /// The manifest of an image cannot be used.
    #[error("{path} is no manifest of a VM image")]
    Manifest {
        /// The manifest, or its URL.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An image lacks something that a VM needs.
    #[error("the image in {dir} has no {role}")]
    NoArtifact {
        /// The directory of the image.
        dir: PathBuf,
        /// The role, for example `kernel`.
        role: String,
    },
    /// A file of an image does not have the bytes that the manifest promises.
    #[error("{path} is damaged: its SHA-256 is {found}, not {expected}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The update channel.
    #[error(transparent)]
    Channel(#[from] crate::channel::ChannelError),
}

impl From<avocado_fs::PathError> for VmError {
    fn from(error: avocado_fs::PathError) -> Self {
        VmError::File {
            action: error.action,
            path: error.path,
            source: error.source,
        }
    }
}

impl VmError {
    /// For `map_err`: what was tried with which file. A full disk gets its own error where the
    /// caller knows how much was needed.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VmError {
        move |source| VmError::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            VmError::NoSpace { .. } => Some("free some space on that file system"),
            VmError::Busy { .. } => Some("wait for it to end, or see `avocado vm status`"),
            VmError::LongPath { .. } => {
                Some("set AVOCADO_VM_STATE_DIR to a shorter path, or choose a shorter --name")
            }
            VmError::Program { .. } => Some("install an OpenSSH client"),
            VmError::NoImage { .. } => Some(
                "`avocado vm update` fetches one; --vm-source or AVOCADO_VM_DIR names one that \
                 was built here",
            ),
            VmError::Damaged { .. } => Some("build or fetch the image again"),
            VmError::Channel(error) => error.hint(),
            _ => None,
        }
    }
}
