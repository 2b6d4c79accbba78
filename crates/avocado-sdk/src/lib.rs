//! The place where tools run.
//!
//! A *job* is work that needs tools: the package manager, an image writer, a user's hook. The
//! host backend re-executes our own program as `avocado step`, gives it the published mounts
//! (`/opt/_avocado` and `/opt/src`) in a mount namespace of its own, hands it the job as JSON on
//! standard input and reads events and the result as NDJSON from its standard output. What a job
//! *is* belongs to the caller; here it is any value that has a JSON form.
//!
//! - [`HostSdk`] is the parent's side.
//! - [`worker`] is the child's side.
//! - [`Tool`] starts one tool inside the child.
// The one backend so far is made of Linux namespaces.
#![cfg(target_os = "linux")]

mod host;
mod namespace;
mod owners;
mod protocol;
mod tool;
pub mod worker;

pub use host::{HostSdk, Job, SdkError};
pub use namespace::{Mounts, may_mount};
pub use tool::{Tool, ToolError};

/// Where the state directory is inside a job.
pub const STATE_MOUNT: &str = "/opt/_avocado";
/// Where the project's sources are inside a job.
pub const SOURCE_MOUNT: &str = "/opt/src";
