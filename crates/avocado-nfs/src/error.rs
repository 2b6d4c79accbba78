use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use avocado_fs::PathError;

/// Why nothing is exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NfsError {
    /// The address is in use, or not one of this machine.
    #[error("cannot listen at {address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server could not be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server ended by itself.
    #[error("the NFS server ended ({status}){}", said(log))]
    Ended {
        /// How.
        status: String,
        /// The end of what it said.
        log: String,
    },
    /// The server does not answer.
    #[error(
        "the NFS server does not listen at {address} after {seconds} s{}",
        said(log)
    )]
    Silent {
        /// Where it should.
        address: SocketAddr,
        /// How long it had.
        seconds: u64,
        /// The end of what it said.
        log: String,
    },
    /// A path that a configuration of the server cannot hold.
    #[error("{} cannot be exported: its path has a line break or is not UTF-8", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// Something that is neither a file nor a directory nor a link.
    #[error("{} cannot be exported: it is neither a file nor a directory nor a link", path.display())]
    Kind {
        /// Where it is.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] PathError),
}

fn said(log: &str) -> String {
    if log.is_empty() {
        return String::new();
    }
    format!("; it said:\n{log}")
}
