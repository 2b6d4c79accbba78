use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use avocado_fs::PathError;
use avocado_ssh::SshError;

use crate::{Processor, ToolError};

/// A job had no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The job's own process could not be started or talked to.
    #[error("cannot run a step with {}", program.display())]
    Start {
        /// Our own program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The container engine could not do what it was asked.
    #[error("{engine} cannot {action}{said}")]
    Engine {
        /// Its program.
        engine: String,
        /// What was asked, with the image where one was meant.
        action: String,
        /// What it said.
        said: String,
    },
    /// There is no place where a command in a container could be talked to.
    #[error("cannot listen in {} for the command", directory.display())]
    Socket {
        /// What was to be made.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image is not on this machine, and is not to be brought here.
    #[error("the container image `{image}` is not on this machine{}", for_processor(*processor))]
    NoImage {
        /// The image.
        image: String,
        /// The processor that it would be for, where that is not this machine's.
        processor: Option<Processor>,
    },
    /// This machine does not run the programs of an image.
    #[error(
        "this machine's kernel does not emulate {processor}, which the SDK's tools are for (--sdk-arch)"
    )]
    NoEmulation {
        /// What they are for.
        processor: Processor,
    },
    /// A container engine cannot be told of this path.
    #[error("a container cannot be given {}: there is a comma, a quotation mark or a line break in its path", path.display())]
    UnmountablePath {
        /// The path.
        path: PathBuf,
    },
    /// The host lets this user make no namespace.
    #[error("{message}")]
    Namespace {
        /// The outermost cause.
        message: String,
        /// The causes below it.
        #[source]
        source: Option<Box<RemoteCause>>,
    },
    /// There is no connection to the machine that steps are to run on.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// That machine could not do what it was asked.
    #[error("{host} cannot {action}{said}")]
    Remote {
        /// The machine, as it was named.
        host: String,
        /// What was asked.
        action: String,
        /// What it said.
        said: String,
    },
    /// The connection to that machine broke.
    #[error("the connection to {host} broke; what was finished is kept{said}")]
    RemoteLost {
        /// The machine, as it was named.
        host: String,
        /// What ssh said.
        said: String,
    },
    /// The user there is not root, and may not become it without being asked.
    #[error(
        "the user on {host} is not root, and sudo asks for a password there: a step mounts the project \
         over NFS, which only root may"
    )]
    RemoteNotRoot {
        /// The machine, as it was named.
        host: String,
    },
    /// Our own program does not run there.
    #[error("{host} is {found}, and this program is for {wanted}")]
    RemoteSystem {
        /// The machine, as it was named.
        host: String,
        /// Its system and processor.
        found: String,
        /// Those of this program.
        wanted: String,
    },
    /// The other machine does not reach what this one shares, or lost it.
    #[error("{message}")]
    Share {
        /// The outermost cause.
        message: String,
        /// The causes below it.
        #[source]
        source: Option<Box<RemoteCause>>,
    },
    /// A job needs something of this machine that the other one is not shown.
    #[error("{} is not in the project, and {host} is shown nothing else", path.display())]
    NotShared {
        /// What.
        path: PathBuf,
        /// The machine, as it was named.
        host: String,
    },
    /// A command of the user's has no terminal there.
    #[error("a command at this terminal cannot run on {host}")]
    NoRemoteTerminal {
        /// The machine, as it was named.
        host: String,
    },
    /// The job ended without a result.
    #[error("the step ended without a result ({status}){said}")]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// What it left on standard error.
        said: String,
    },
    /// The job said why it failed.
    #[error("{message}")]
    Failed {
        /// [`JobError::kind`](crate::JobError::kind).
        kind: Option<String>,
        /// The outermost cause.
        message: String,
        /// The causes below it.
        #[source]
        source: Option<Box<RemoteCause>>,
    },
    /// The result is not what the caller expects.
    #[error("the step's result cannot be understood")]
    Result(#[source] serde_json::Error),
    /// The user asked to stop.
    #[error("stopped")]
    Cancelled,
    /// A tool's file cannot be looked at to tell which version it is.
    #[error(transparent)]
    ToolFile(#[from] PathError),
    /// A tool failed outside a job.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

fn for_processor(processor: Option<Processor>) -> String {
    processor.map_or_else(String::new, |processor| format!(" for {processor}"))
}

/// One cause in a chain that came from another process.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RemoteCause {
    message: String,
    #[source]
    source: Option<Box<RemoteCause>>,
}

impl RemoteCause {
    /// The chain of these messages, outermost first.
    pub(crate) fn chain(mut messages: impl Iterator<Item = String>) -> Option<Box<Self>> {
        let message = messages.next()?;
        Some(Box::new(RemoteCause {
            message,
            source: RemoteCause::chain(messages),
        }))
    }
}
