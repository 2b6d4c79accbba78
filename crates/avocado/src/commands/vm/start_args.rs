//! What a start of the VM can be told.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::size::parse_size;

#[derive(Debug, Default, Args)]
pub(crate) struct StartArgs {
    /// Directory of the image to run: manifest.json and the files that it names [default:
    /// AVOCADO_VM_DIR, or the installed image, or that of the last start]
    #[arg(long, value_name = "DIR")]
    pub(crate) vm_source: Option<PathBuf>,

    /// Memory of the guest in MiB; kept for the next starts [default: 4096]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(128..=16_777_216))]
    pub(crate) memory_mib: Option<u32>,

    /// Virtual CPUs; kept for the next starts [default: 4]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) cpus: Option<u32>,

    /// Port on the loopback address for ssh; a connection wakes the guest [default: that of the
    /// last start, or any free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) ssh_port: Option<u16>,

    /// Port for monitoring: it leads to the guest's ssh, and neither wakes it nor keeps it
    /// awake; kept for the next starts
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) infra_port: Option<u16>,

    /// Also serve docker-stream.sock, which neither wakes the guest nor keeps it awake; kept for the
    /// next starts
    #[arg(long)]
    pub(crate) docker_socket_stream: bool,

    /// Words to add to the kernel's command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub(crate) cmdline_extra: Option<String>,

    /// Directory that the guest sees at /run/workspace [default: AVOCADO_VM_WORKSPACE, or that of the
    /// last start]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,

    /// Least size of the guest's /var, such as 50G; it grows and never shrinks [default: 50G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) var_size: Option<u64>,

    /// Name server for the guest, for this start only (repeatable)
    #[arg(long, value_name = "IP")]
    pub(crate) dns: Vec<IpAddr>,

    /// What executes the guest's instructions [default: the first that works]
    #[arg(long, value_name = "NAME")]
    pub(crate) accel: Option<AcceleratorChoice>,

    /// Pause the guest after so many seconds without activity; 0 never does [default:
    /// AVOCADO_VM_IDLE_HIBERNATE_SECS, or idle.hibernate_after_secs, or 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) idle_hibernate_secs: Option<u64>,

    /// Take nothing over from the last start: no ports, no docker-stream.sock, no workspace
    #[arg(long)]
    pub(crate) forget: bool,

    /// Show the guest's console while it starts
    #[arg(short, long)]
    pub(crate) watch: bool,

    /// Stay until the VM ends; Ctrl-C stops it
    #[arg(long)]
    pub(crate) foreground: bool,

    /// As it was started last, with the configuration of now, and nothing of this command line
    #[arg(long, hide = true)]
    pub(crate) again: bool,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcceleratorChoice {
    Kvm,
    Hvf,
    Tcg,
}

impl AcceleratorChoice {
    /// Its name, as QEMU has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            AcceleratorChoice::Kvm => "kvm",
            AcceleratorChoice::Hvf => "hvf",
            AcceleratorChoice::Tcg => "tcg",
        }
    }
}
