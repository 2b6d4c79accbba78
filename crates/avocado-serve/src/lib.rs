//! A directory over HTTP(S), with faults on demand for tests.
//!
//! [`Server::start`] serves the regular files below one directory until the [`Server`] is stopped
//! or dropped. It serves `avocado deploy` and the sample feed alike; a test that needs a bad
//! network asks for [`Faults`].
//!
//! ```no_run
//! use avocado_serve::{Options, Server};
//!
//! let server = Server::start(Options::new("repository"))?;
//! println!("{}", server.url());
//! # Ok::<(), avocado_serve::Error>(())
//! ```
// Names are resolved with `openat2`, which only Linux has.
#![cfg(target_os = "linux")]

mod answer;
mod body;
mod content;
mod faults;
mod log;
mod range;
mod server;
mod tls;
mod wire;

pub use faults::{BadRule, Fault, Faults, Rule};
pub use log::{Outcome, Request};
pub use server::Server;
pub use tls::Tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Called when a request arrives, whenever more of its body was sent, and when it ended.
///
/// It runs on the server's only thread: it must not block.
pub type OnRequest = Arc<dyn Fn(&Request) + Send + Sync>;

/// What to serve, where and to whom.
#[derive(Clone)]
pub struct Options {
    /// The directory whose regular files are served. Nothing outside of it is ever reached.
    pub root: PathBuf,
    /// Where to listen; port 0 takes any free port.
    pub address: SocketAddr,
    /// When set, every request must carry it as its bearer token.
    pub token: Option<String>,
    /// When set, the server speaks TLS only.
    pub tls: Option<Tls>,
    /// What shall go wrong. Keep a clone, or use [`Server::faults`], to change it later.
    pub faults: Faults,
    /// Who is told about requests as they move.
    pub on_request: Option<OnRequest>,
}

impl Options {
    /// `root` on any free port of 127.0.0.1, without token, TLS or faults.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Options {
            root: root.into(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            token: None,
            tls: None,
            faults: Faults::default(),
            on_request: None,
        }
    }
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
