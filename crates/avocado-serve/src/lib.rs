//! A directory over HTTP(S).
//!
//! [`FileServer::start`] serves the regular files below one directory until the [`FileServer`] is
//! stopped or dropped. It serves `avocado deploy` and the sample feed alike. Tests
//! that need a bad network put `avocado-test-server` around it. With [`ServeOptions::uploads`] it is the
//! cache of a small team.
//!
//! ```no_run
//! use avocado_serve::{FileServer, ServeOptions};
//!
//! let server = FileServer::start(ServeOptions::new("repository"))?;
//! println!("{}", server.url());
//! # Ok::<(), avocado_serve::ServeError>(())
//! ```
// Names are resolved with `openat2`, which only Linux has.
#![cfg(target_os = "linux")]

mod arguments;
mod body;
mod connection;
mod content;
mod range;
mod request;
mod server;
mod site;
mod stop_signal;
mod tls;
mod upload;

pub use arguments::ServeArguments;
pub use body::AnswerBody;
pub use connection::{AcceptedConnection, ConnectionStream, Duplex};
pub use content::decoded_path;
pub use request::{OnRequest, RequestOutcome, ServedRequest};
pub use server::FileServer;
pub use site::Site;
pub use stop_signal::StopSignal;
pub use tls::TlsIdentity;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// What to serve, where and to whom.
#[derive(Clone)]
pub struct ServeOptions {
    /// The directory whose regular files are served. Nothing outside of it is ever reached.
    pub root: PathBuf,
    /// Where to listen; port 0 takes any free port.
    pub address: SocketAddr,
    /// When set, every request must carry it: as its bearer token, or as the password of any user.
    pub token: Option<String>,
    /// When set, the server speaks TLS only.
    pub tls: Option<TlsIdentity>,
    /// When set, it keeps what it is given, as the cache of a team does.
    pub uploads: Option<UploadOptions>,
    /// Who is told about requests as they move.
    pub on_request: Option<OnRequest>,
}

/// What a server keeps: files that are put to `/ac/<64 digits>`, and to `/cas/<SHA-256>` where they have
/// that digest.
#[derive(Debug, Clone)]
pub struct UploadOptions {
    /// When set, a request to keep something must carry this token, and not the one for reading.
    pub token: Option<String>,
    /// The largest file that is kept, in bytes.
    pub max_file: u64,
    /// How many bytes all of them may have; what was put first leaves. `None`: no limit.
    pub max_size: Option<u64>,
}

impl Default for UploadOptions {
    /// Files of at most 8 GiB, without another limit.
    fn default() -> Self {
        UploadOptions {
            token: None,
            max_file: 8 << 30,
            max_size: None,
        }
    }
}

impl ServeOptions {
    /// `root` on any free port of 127.0.0.1, without token or TLS.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        ServeOptions {
            root: root.into(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            token: None,
            tls: None,
            uploads: None,
            on_request: None,
        }
    }
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The directory to serve is not there or cannot be read.
    #[error("cannot serve the directory {path}")]
    Root {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate or key is not PEM, or has no usable content.
    #[error("the TLS {what} cannot be read")]
    Pem {
        /// `certificate` or `key`.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key do not make a server.
    #[error("the TLS certificate and key cannot be used")]
    Tls(#[source] tokio_rustls::rustls::Error),
    /// The thread or its runtime did not start.
    #[error("cannot start the server's thread")]
    Thread(#[source] std::io::Error),
}
