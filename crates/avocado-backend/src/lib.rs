//! The place where tools run.
//!
//! A *job* is work that needs tools: the package manager, an image writer, a user's hook. A backend
//! starts our own program as `avocado step` where it sees what the job declares and little else,
//! hands it the job as JSON on standard input and reads events and the result as NDJSON from its
//! standard output. What a job *is* belongs to the caller; here it is any value that has a JSON
//! form.
//!
//! - [`Backend`] is what every such place offers, and [`Job`] is work for it.
//! - [`HostBackend`] works in a mount namespace of this host, in which all that is not the job's is
//!   read-only; [`ContainerBackend`] in a container of podman or docker; [`RemoteBackend`] in such a
//!   namespace of another machine, which ssh leads to.
//! - [`worker`] is the child's side.
//! - [`Tool`] starts one tool inside the child.
// Both are made of Linux namespaces.
#![cfg(target_os = "linux")]

mod backend;
mod capabilities;
mod container;
mod emulation;
mod error;
mod host;
mod job_process;
mod job_socket;
mod job_view;
mod loop_mount;
mod parent_death;
mod processor;
mod protocol;
mod remembered;
mod remote;
mod terminal;
mod tool;
mod tool_identity;
pub mod worker;

pub use backend::{Backend, Capabilities, Job, Mount, MountAccess, ToolQuery};
pub use container::{ContainerBackend, ContainerEngine, ContainerOptions};
pub use emulation::Emulation;
pub use error::{BackendError, RemoteCause};
pub use host::HostBackend;
pub use loop_mount::{LoopMount, LoopMountError, LoopMounts};
pub use parent_death::die_with_parent;
pub use processor::{PROGRAM_HEADER, Processor};
pub use remote::{
    RememberedBackend, RemoteBackend, RemoteHost, RemoteOptions, RemoteRoute, SharedDirectory,
};
pub use terminal::Terminal;
pub use tool::{Tool, ToolError};
pub use tool_identity::find_tool;
pub use worker::{JobError, WorkerStart};

/// Where the state directory is inside a job, as published.
pub const STATE_MOUNT: &str = "/opt/_avocado";
/// Where the project's sources are inside a job, as published.
pub const SOURCE_MOUNT: &str = "/opt/src";
