//! What `vm start` asks of the supervisor, with every choice made. It travels as JSON on the
//! supervisor's standard input, and is kept while the VM runs.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Virtual CPUs of a VM, unless the user wants others.
pub const DEFAULT_CPUS: u32 = 4;
/// Memory of the guest in MiB, unless the user wants another size.
pub const DEFAULT_MEMORY_MIB: u32 = 4096;

/// A VM to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmLaunch {
    /// Directory of the image: its `manifest.json` and artifacts.
    pub image: PathBuf,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory of the guest in MiB.
    pub memory_mib: u32,
    /// Least size of the guest's `/var` in bytes; it grows, and never shrinks.
    pub var_size: u64,
    /// Port for users on the loopback address; any free one without it.
    pub ssh_port: Option<u16>,
    /// The port that users had at the last start, which they get again if it is free. Only without
    /// `ssh_port`.
    #[serde(default)]
    pub last_ssh_port: Option<u16>,
    /// Ports that other VMs of the user had last and want again: none of them is taken where any free one
    /// will do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports_of_others: Vec<u16>,
    /// Port that is proxied without waking the guest; none without it.
    pub infra_port: Option<u16>,
    /// Whether to serve the docker socket that does not wake the guest.
    pub docker_stream: bool,
    /// Words to add to the kernel's command line.
    pub cmdline_extra: Option<String>,
    /// Directory that the guest sees at `/run/workspace`.
    pub workspace: Option<PathBuf>,
    /// Name servers for the guest.
    pub dns: Vec<IpAddr>,
    /// Domains that they answer for; all of them where this is empty.
    pub dns_search: Vec<String>,
    /// Whether ports that containers publish are forwarded from this host.
    #[serde(default = "yes")]
    pub forward_published: bool,
    /// When to sleep.
    pub idle: IdleSettings,
    /// The QEMU to run, instead of the first on PATH for the image's architecture.
    pub qemu: Option<PathBuf>,
    /// The accelerator to use, instead of the first that works: `kvm`, `hvf`, `tcg`.
    pub accelerator: Option<String>,
    /// Device tree to hand to the guest as it is (arm64).
    pub device_tree: Option<PathBuf>,
    /// The desktop application's socket, for `vm.notify.*`.
    pub notify: Option<PathBuf>,
    /// How long the guest may take until its ssh answers, in seconds.
    pub ready_timeout_secs: u64,
}

fn yes() -> bool {
    true
}

/// When an idle VM sleeps. Seconds, on a clock that never steps; 0 means never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleSettings {
    /// Without traffic for this long the guest is paused (default 60).
    pub hibernate_after_secs: u64,
    /// Paused for this long its memory goes back to the host (default 0: never).
    pub release_memory_after_secs: u64,
    /// A counted connection without traffic keeps the guest awake for this long (default 600);
    /// 0: for as long as it is open.
    pub silent_connection_secs: u64,
    /// Whether running containers keep the guest awake.
    pub containers_keep_awake: bool,
}

impl Default for IdleSettings {
    fn default() -> Self {
        IdleSettings {
            hibernate_after_secs: 60,
            release_memory_after_secs: 0,
            silent_connection_secs: 600,
            containers_keep_awake: false,
        }
    }
}

/// A change of [`IdleSettings`]: what is none stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleChange {
    /// See [`IdleSettings::hibernate_after_secs`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernate_after_secs: Option<u64>,
    /// See [`IdleSettings::release_memory_after_secs`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_memory_after_secs: Option<u64>,
    /// See [`IdleSettings::silent_connection_secs`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_connection_secs: Option<u64>,
    /// See [`IdleSettings::containers_keep_awake`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers_keep_awake: Option<bool>,
}

impl IdleSettings {
    /// The same with a change.
    pub fn changed(&self, change: &IdleChange) -> IdleSettings {
        IdleSettings {
            hibernate_after_secs: (change.hibernate_after_secs)
                .unwrap_or(self.hibernate_after_secs),
            release_memory_after_secs: (change.release_memory_after_secs)
                .unwrap_or(self.release_memory_after_secs),
            silent_connection_secs: (change.silent_connection_secs)
                .unwrap_or(self.silent_connection_secs),
            containers_keep_awake: (change.containers_keep_awake)
                .unwrap_or(self.containers_keep_awake),
        }
    }
}
