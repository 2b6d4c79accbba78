//! The place where tools run.
//!
//! A *job* is work that needs tools: the package manager, an image writer, a user's hook. The
//! host backend re-executes our own program as `avocado step`, gives it the mounts that the job
//! declares in a mount namespace of its own, in which the rest of the host is read-only, hands it
//! the job as JSON on standard input and reads events and the result as NDJSON from its standard
//! output. What a job
//! *is* belongs to the caller; here it is any value that has a JSON form.
//!
//! - [`Backend`] is what every such place offers, and [`Job`] is work for it.
//! - [`HostBackend`] is the parent's side of the one that there is so far.
//! - [`worker`] is the child's side.
//! - [`Tool`] starts one tool inside the child.
// The one backend so far is made of Linux namespaces.
#![cfg(target_os = "linux")]

mod backend;
mod capabilities;
mod error;
mod host;
mod loop_mount;
mod parent_death;
mod protocol;
mod terminal;
mod tool;
pub mod worker;

pub use backend::{Backend, Capabilities, Job, Mount, MountAccess, ToolQuery};
pub use error::{BackendError, RemoteCause};
pub use host::HostBackend;
pub use loop_mount::{LoopMount, LoopMountError, LoopMounts};
pub use terminal::Terminal;
pub use tool::{Tool, ToolError};
pub use worker::JobError;

/// Where the state directory is inside a job, as published.
pub const STATE_MOUNT: &str = "/opt/_avocado";
/// Where the project's sources are inside a job, as published.
pub const SOURCE_MOUNT: &str = "/opt/src";
