//! What `vm status` tells, with a versioned schema.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The version of the schema of [`Status`]. Fields may be added without raising it.
pub const VERSION: u32 = 1;

/// What the VM is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// No QEMU and no saved memory.
    Stopped,
    /// On its way to an answering guest.
    Starting,
    /// Awake.
    Running,
    /// Paused; its memory is resident.
    Hibernated,
    /// Its memory is in a file; there is no QEMU.
    Released,
    /// On its way down.
    Stopping,
    /// QEMU runs without a supervisor: `vm start` takes it over.
    Unsupervised,
    /// There is a supervisor, and it does not answer.
    Unresponsive,
}

/// The VM at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VmStatus {
    /// [`VERSION`].
    pub version: u32,
    /// Whether there is a VM: a QEMU, or a supervisor that keeps a saved one.
    pub running: bool,
    /// What it is doing.
    pub state: VmState,
    /// Whether the guest is paused; null where QEMU could not be asked.
    pub paused: Option<bool>,
    /// Why it is in this state: `idle`, `requested`, `external`, `connection`, `start`, …
    pub reason: Option<String>,
    /// Since when, RFC 3339 in UTC.
    pub since: Option<String>,
    /// What woke it last: lane and time.
    pub last_wake: Option<LastWake>,
    /// Process id of QEMU.
    pub pid: Option<u32>,
    /// Process id of the supervisor.
    pub supervisor_pid: Option<u32>,
    /// Ports on the loopback address.
    pub ports: VmPorts,
    /// Ports of the guest that are reached at ports of this host.
    #[serde(default)]
    pub forwards: Vec<VmForward>,
    /// Open connections.
    pub connections: ConnectionCounts,
    /// What showed, when it was last looked at, that the guest works although its connections are
    /// silent: `docker`, `ssh`, `cpu`, `disk`, `network`, `containers`.
    #[serde(default)]
    pub work: Option<String>,
    /// Commands `avocado vm keep-awake` that keep the guest awake.
    #[serde(default)]
    pub keep_awakes: u64,
    /// Seconds without activity.
    pub idle_secs: Option<u64>,
    /// The accelerator in use: `kvm`, `hvf`, `tcg`.
    pub accelerator: Option<String>,
    /// Processor time that QEMU used so far, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Memory of QEMU on the host, in bytes.
    pub memory_bytes: Option<u64>,
    /// Platform of the image, for example `avocado-qemux86-64`.
    pub platform: Option<String>,
    /// Architecture of the image, for example `x86_64`.
    pub architecture: Option<String>,
    /// Version of the image, where its manifest states one.
    pub image_version: Option<String>,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The docker socket, while it is served.
    pub docker_socket: Option<PathBuf>,
    /// What is wrong, where something is.
    pub problem: Option<String>,
}

/// What woke the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWake {
    /// The lane or the request: `ssh`, `docker`, `request`, `external`.
    pub reason: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
}

/// Ports on the loopback address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmPorts {
    /// For users; wakes the guest.
    pub ssh: Option<u16>,
    /// QEMU's own forward.
    pub internal_ssh: Option<u16>,
    /// Never wakes the guest.
    pub infra_ssh: Option<u16>,
}

/// A port of the guest that is reached at this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmForward {
    /// Addresses and ports of this host.
    pub addresses: Vec<String>,
    /// The guest's port.
    pub guest_port: u16,
    /// The container that publishes it, if one does.
    pub container: Option<String>,
    /// Process id of the command that asked for it, if one did.
    pub command: Option<u32>,
}

/// Open connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionCounts {
    /// Counted: user port and docker socket.
    pub counted: u64,
    /// Of the infrastructure lane; never counted.
    pub infra: u64,
}
