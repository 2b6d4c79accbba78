use std::io;
use std::path::PathBuf;

use avocado_manifest::os_bundle::OsBundleError;

/// An update of the operating system was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OsUpdateError {
    /// The description in a bundle cannot be used.
    #[error("the OS bundle cannot be used; build the runtime again")]
    Description(#[source] OsBundleError),
    /// The archive of a bundle cannot be read.
    #[error("the OS bundle {} cannot be read: {what}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What of it.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bundle has not what it says that it has.
    #[error("the OS bundle is not what it says: {0}; build the runtime again")]
    Content(String),
    /// Something is in the way of the update; nothing was written.
    #[error("the OS cannot be updated, and nothing was written: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// A partition cannot be written, or it is not known which one is meant.
    #[error("{0}")]
    Partition(String),
    /// It is not known which slot runs.
    #[error("it is not known which OS slot runs: {0}")]
    Slot(String),
    /// The boot loader could not be told.
    #[error("the boot loader cannot be told: {0}")]
    Loader(String),
    /// The marker of an update names no slot that there is.
    #[error(
        "pending-update.json names no slot that there is: the OS update that it tells of cannot be settled"
    )]
    Marker,
    /// What was started is not what was written.
    #[error("{0}")]
    NotProven(String),
    /// The health of a system on trial was not known in time.
    #[error(
        "{what} had not ended when the {seconds} seconds in which a system on trial has to show that it is \
         well were over (`avocado.update.health_deadline_secs`){}", if said.is_empty() {
            String::new()
        } else {
            format!(": {said}")
        }
    )]
    Deadline {
        /// What was waited for.
        what: String,
        /// The time that there was, in seconds.
        seconds: u64,
        /// The last lines that it printed.
        said: String,
    },
    /// Something was asked for that has to wait for the end of a trial.
    #[error(
        "the OS that runs is on trial: wait until it is committed or the device has gone back \
         (`avocadoctl status`)"
    )]
    OnTrial,
    /// What runs has failed.
    #[error(
        "the OS that runs has just failed, and the device was not started since: reboot it first"
    )]
    Failed,
    /// The device is shut down while its OS is on trial.
    #[error("the device is shut down, and the OS update stays on trial")]
    ShutDown,
    /// A part of a bundle that was fetched is not what was signed.
    #[error(
        "a part of {0} is not what was signed: the repository, or something on the way to it, is broken; add the \
         runtime again when it is not: what came so far is kept"
    )]
    Chunk(String),
    /// What was read back from a partition is not what was written.
    #[error(
        "{artifact} was written to {}, and something else is read from there: the disk may be failing",
        partition.display()
    )]
    ReadBack {
        /// The artifact.
        artifact: String,
        /// The partition.
        partition: PathBuf,
    },
}
