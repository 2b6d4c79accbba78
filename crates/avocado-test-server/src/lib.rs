//! The HTTP server of the tests: `avocado-serve` with faults on demand, and with a memory of what
//! it was asked for.
//!
//! Nothing that is shipped depends on this crate. It stands around the server that
//! `avocado deploy` uses: what is served, to whom and how comes from there. Only what a bad network
//! or a bad server would do to an answer on its way is done here.
//!
//! ```no_run
//! use avocado_serve::ServeOptions;
//! use avocado_test_server::{Fault, FaultRule, TestServer};
//!
//! let server = TestServer::start(ServeOptions::new("repository"))?;
//! server.faults().add(FaultRule::new(Fault::Cut(1000), "*.raw").first(2));
//! # Ok::<(), avocado_serve::ServeError>(())
//! ```
// As avocado-serve.
#![cfg(target_os = "linux")]

mod faults;
mod faulty_body;
mod flushes;
mod request_log;
mod server;

pub use faults::{BadFaultRule, Fault, FaultRule, Faults};
pub use request_log::{LoggedOutcome, LoggedRequest};
pub use server::TestServer;
