//! The owner of a running VM. It starts QEMU or takes over the one that is there, stands between
//! the guest and every client that connects, lets it sleep while no client uses it, wakes it on the
//! next connection, and ends with it.
//!
//! `run` is the process; `policy` decides, `owner` does, `listeners` and `lanes` are what clients
//! connect to, `proxy` and `docker_proxy` move the bytes, `forwards` are ports of the guest,
//! `shared_state` and `owner_handle` are what these share. `start` makes the machine, `jobs` is the
//! work that takes time, `guest` what is done in the guest. `protocol` is what travels between the
//! supervisor and the commands that start or ask it.

mod cleanup;
mod context;
mod desktop_notifier;
mod docker_mounts;
mod docker_proxy;
mod docker_requests;
mod docker_tunnel;
mod error;
mod forwards;
mod guest;
mod guest_sessions;
mod guest_workspace;
mod http_message;
mod jobs;
mod lane_load;
mod lanes;
mod listeners;
mod log;
mod loopback;
mod machine_record;
mod owner;
mod owner_handle;
mod policy;
mod port_bind;
mod port_user;
pub(crate) mod protocol;
mod proxy;
mod request_client;
mod request_server;
mod run;
mod saved_memory;
mod shared_state;
mod signs_of_life;
mod start;
mod start_report;
mod work;

pub use error::SupervisorError;
pub use protocol::SupervisorFailure;
pub use run::{main, run};

pub(crate) use cleanup::remove_runtime_files;
pub(crate) use docker_tunnel::end_orphan;
pub(crate) use log::{SupervisorLog, last_lines};
pub(crate) use machine_record::MachineRecord;
pub(crate) use saved_memory::SavedMemory;
#[cfg(test)]
pub(crate) use saved_memory::{test_launch, test_record};
