//! The HTTP client of both programs.
//!
//! [`HttpClient`] fetches files over HTTP and HTTPS, as [`NetworkSettings`] say: which CAs to
//! trust, and which proxy to go through. It follows redirects itself, so that a bearer token stays
//! with the origin that it is for, goes on with a file from an offset, and gives up soon when it is
//! asked to. It makes one request per call: repeating is for the caller. It also puts files to a server that
//! keeps them ([`HttpClient::put`]).
//!
//! [`Transport`] is what it offers; code that fetches files takes one, so that tests can take the
//! network's place. [`RepositoryUrl`] is a URL below which files are; where they are
//! on this machine, [`DirectoryTransport`] reads them.
//!
//! Nothing is read from the environment.

mod address_range;
mod certificate;
mod clear_text;
mod client;
mod deadline;
mod directory;
mod redirect;
mod repository_url;
mod routes;
mod secrets;
mod settings;
mod stop;
mod transport;
mod upload;

pub use certificate::{CertificateProblem, ServerCertificateError};
pub use clear_text::{crosses_network_in_clear, is_this_machine};
pub use client::HttpClient;
pub use deadline::within_deadline;
pub use directory::DirectoryTransport;
pub use repository_url::{RepositoryUrl, RepositoryUrlError};
pub use secrets::without_secrets;
pub use settings::{NetworkSettings, NetworkSettingsError, ProxySettings};
pub use transport::{ResumeFrom, Transport, TransportError, TransportResponse};
