//! What can go wrong with a QEMU process, in one type.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::exit_status::ExitStatus;

/// What failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QemuError {
    /// This host cannot do that.
    #[error("{what} is not possible on this host")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// No such program in the directories that were searched.
    #[error("{name} is not on PATH: install QEMU")]
    NoBinary {
        /// The program's name.
        name: String,
    },
    /// The program could not be started.
    #[error("cannot start {binary}")]
    Spawn {
        /// The program.
        binary: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A path that QEMU cannot be told, because its protocol is Unicode.
    #[error("{path:?} is not valid Unicode, and QEMU cannot be told about it")]
    NotUnicode {
        /// The path.
        path: PathBuf,
    },
    /// QEMU is gone. Its own words are the tail of its standard error.
    #[error("QEMU ended ({status}){}{stderr}", if stderr.is_empty() { "" } else { ": " })]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The tail of what it said, without surrounding white space.
        stderr: String,
    },
    /// There is no software TPM, although there should be one.
    #[error("no TPM with its state in {directory}: {description}")]
    Tpm {
        /// Where its state and its log are.
        directory: PathBuf,
        /// What went wrong.
        description: String,
    },
    /// A socket of QEMU does not take connections.
    #[error("cannot connect to {socket}")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket of QEMU took the connection but gave no greeting: it serves one client at a time.
    #[error("{socket} gives no greeting: another client holds it")]
    Busy {
        /// The socket.
        socket: PathBuf,
    },
    /// A socket belongs to another process than the expected one.
    #[error("{socket} is served by process {found}, not by process {expected}")]
    WrongProcess {
        /// The socket.
        socket: PathBuf,
        /// The process behind it.
        found: u32,
        /// The process that should be there.
        expected: u32,
    },
    /// What came over a socket makes no sense.
    #[error("{socket} does not speak the expected protocol: {detail}")]
    Protocol {
        /// The socket.
        socket: PathBuf,
        /// What was wrong.
        detail: String,
    },
    /// The other side closed the connection.
    #[error("the connection to {socket} is closed")]
    Disconnected {
        /// The socket.
        socket: PathBuf,
    },
    /// No answer within the limit.
    #[error("no answer to {command} within {} s", limit.as_secs_f32())]
    Timeout {
        /// What was asked.
        command: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The other side answered with an error.
    #[error("{command} failed: {description}")]
    Refused {
        /// What was asked.
        command: String,
        /// The answer, in its own words.
        description: String,
    },
    /// A machine must be paused before its memory can be saved.
    #[error("the machine is {state}; only a paused one can be saved")]
    NotPaused {
        /// QEMU's name for what it is doing.
        state: String,
    },
    /// Memory could not be saved or restored.
    #[error("{path} could not be {action}: {description}")]
    Memory {
        /// `written` or `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// QEMU's words.
        description: String,
    },
    /// QEMU's device tree is not one that idle states can be added to.
    #[error("QEMU's device tree cannot get idle states")]
    DeviceTree(#[from] avocado_fdt::DeviceTreeError),
}
