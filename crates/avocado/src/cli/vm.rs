use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// Start the VM and wait until it answers; nothing happens where it runs already
    Start(VmStartArgs),
    /// Shut the guest down and end the VM
    Stop(VmStopArgs),
    /// Show whether the VM runs, sleeps or is stopped, and how it is reached
    Status,
    /// Open a shell in the guest, or run a command there
    ///
    /// One word after `--` is a line for the guest's shell; of several words each arrives as it
    /// is. The exit code is that of the shell or the command.
    Shell(VmShellArgs),
    /// Show the guest's console, or what the supervisor or QEMU say
    Logs(VmLogsArgs),
    /// Take an image that was built here for the VM
    Rebuild(VmRebuildArgs),
    /// Begin with a fresh /var: everything in the guest is lost
    Reset(VmResetArgs),
    /// Install the newest image of a channel
    Update(VmUpdateArgs),
    /// Read and change the VM's configuration
    #[command(subcommand)]
    Config(VmConfigCommand),
    /// Run the VM until it ends: the launch as JSON on stdin, events on stdout
    #[command(hide = true)]
    Supervise(VmSuperviseArgs),
}

#[derive(Debug, Default, Args)]
pub(crate) struct VmStartArgs {
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

    /// Port on the loopback address for ssh; a connection wakes the guest [default: any free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) ssh_port: Option<u16>,

    /// Port for monitoring: it leads to the guest's ssh, and neither wakes it nor keeps it awake
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) infra_port: Option<u16>,

    /// Also serve docker-stream.sock, which neither wakes the guest nor keeps it awake
    #[arg(long)]
    pub(crate) docker_socket_stream: bool,

    /// Words to add to the kernel's command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub(crate) cmdline_extra: Option<String>,

    /// Directory that the guest sees at /run/workspace [default: AVOCADO_VM_WORKSPACE]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,

    /// Least size of the guest's /var, such as 50G; it grows and never shrinks [default: 50G]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) var_size: Option<u64>,

    /// Name server for the guest, for this start only (repeatable)
    #[arg(long, value_name = "IP")]
    pub(crate) dns: Vec<IpAddr>,

    /// What executes the guest's instructions [default: the first that works]
    #[arg(long, value_name = "NAME")]
    pub(crate) accel: Option<Accelerator>,

    /// Pause the guest after so many seconds without activity; 0 never does [default:
    /// AVOCADO_VM_IDLE_HIBERNATE_SECS, or idle.hibernate_after_secs, or 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) idle_hibernate_secs: Option<u64>,

    /// Show the guest's console while it starts
    #[arg(short, long)]
    pub(crate) watch: bool,

    /// Stay until the VM ends; Ctrl-C stops it
    #[arg(long)]
    pub(crate) foreground: bool,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accelerator {
    Kvm,
    Hvf,
    Tcg,
}

impl Accelerator {
    /// Its name, as QEMU has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Hvf => "hvf",
            Accelerator::Tcg => "tcg",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct VmStopArgs {
    /// End the VM without asking the guest: what it has not written is lost, saved memory too
    #[arg(long)]
    pub(crate) force: bool,

    /// How long the guest may take to shut down, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct VmShellArgs {
    /// The command to run in the guest instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VmLogsArgs {
    /// Go on with what is added
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// What the supervisor did: when the guest slept, and what woke it
    #[arg(long, conflicts_with = "qemu")]
    pub(crate) supervisor: bool,

    /// What QEMU said
    #[arg(long)]
    pub(crate) qemu: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VmRebuildArgs {
    /// Directory of the image: manifest.json and the files that it names [default:
    /// AVOCADO_VM_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) vm_source: Option<PathBuf>,

    /// Also begin with a fresh /var: everything in the guest is lost
    #[arg(long)]
    pub(crate) reset_data: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VmResetArgs {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VmUpdateArgs {
    /// The channel to follow [default: vm.channel of ~/.avocado/config.yaml, or stable]
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: Option<String>,

    /// Only say whether there is an update
    #[arg(long)]
    pub(crate) check: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VmConfigCommand {
    /// Print the value of a key; nothing where it is not set
    Get {
        /// Such as idle.hibernate_after_secs
        key: String,
    },
    /// Set a key; several values make a list
    Set {
        /// Such as idle.hibernate_after_secs
        key: String,
        /// A number, true or false, a text, or a list; one that begins with a dash comes after `--`
        #[arg(required = true)]
        values: Vec<String>,
    },
    /// Forget a key
    Unset {
        /// Such as idle.hibernate_after_secs
        key: String,
    },
    /// Print everything that is set
    List,
}

#[derive(Debug, Args)]
pub(crate) struct VmSuperviseArgs {
    /// The state directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Reads `50G`, `512M`, `1T`, or bytes.
fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no size; write it like 50G, 512M or 1T");
    let upper = text.trim().to_ascii_uppercase();
    let upper = upper
        .strip_suffix("IB")
        .or(upper.strip_suffix('B'))
        .unwrap_or(&upper);
    let digits = upper.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match upper.get(digits.len()..) {
        Some("") => 0,
        Some("K") => 10,
        Some("M") => 20,
        Some("G") => 30,
        Some("T") => 40,
        _ => return Err(bad()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| bad())?;
    let size = number.checked_mul(1 << shift).ok_or_else(bad)?;
    // No file of a usual file system is larger.
    match size <= 8 << 40 {
        true => Ok(size),
        false => Err(format!("`{text}` is more than 8T")),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("50G", Some(50 << 30)),
            ("50g", Some(50 << 30)),
            ("50GiB", Some(50 << 30)),
            ("512MB", Some(512 << 20)),
            ("4096", Some(4096)),
            ("0", Some(0)),
            ("8T", Some(8 << 40)),
            ("9T", None),
            ("", None),
            ("G", None),
            ("-1", None),
            ("1.5G", None),
            ("1GG", None),
            ("99999999999999999999G", None),
        ] {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
    }
}
