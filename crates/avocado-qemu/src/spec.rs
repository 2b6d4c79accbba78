//! What to run: the description of a machine, and the arguments that QEMU gets for it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::tpm::SoftwareTpm;

/// What kind of processor the guest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Architecture {
    /// 64-bit PC.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    #[serde(rename = "aarch64")]
    Aarch64,
}

impl Architecture {
    /// The architecture's usual name.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Aarch64 => "aarch64",
        }
    }

    /// The name of the program that emulates it.
    pub fn binary_name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "qemu-system-x86_64",
            Architecture::Aarch64 => "qemu-system-aarch64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of those that are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is none of {known}")]
pub struct UnknownName {
    given: String,
    known: &'static str,
}

impl FromStr for Architecture {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        match name {
            "x86_64" => Ok(Architecture::X86_64),
            "aarch64" | "arm64" => Ok(Architecture::Aarch64),
            other => Err(UnknownName {
                given: other.to_owned(),
                known: "x86_64, aarch64, arm64",
            }),
        }
    }
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor, through Linux.
    Kvm,
    /// The processor, through macOS.
    Hvf,
    /// QEMU's own emulation: works everywhere, and is slow.
    Tcg,
}

impl Accelerator {
    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Hvf => "hvf",
            Accelerator::Tcg => "tcg",
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Accelerator {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        match name {
            "kvm" => Ok(Accelerator::Kvm),
            "hvf" => Ok(Accelerator::Hvf),
            "tcg" => Ok(Accelerator::Tcg),
            other => Err(UnknownName {
                given: other.to_owned(),
                known: "kvm, hvf, tcg",
            }),
        }
    }
}

/// How the bytes of a drive are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriveFormat {
    /// As they are.
    Raw,
    /// QEMU's own format.
    Qcow2,
}

impl DriveFormat {
    pub(crate) fn name(self) -> &'static str {
        match self {
            DriveFormat::Raw => "raw",
            DriveFormat::Qcow2 => "qcow2",
        }
    }
}

/// A virtio disk. The first one is `/dev/vda`, the second `/dev/vdb`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drive {
    /// The file behind it.
    pub path: PathBuf,
    /// How it is laid out.
    pub format: DriveFormat,
    /// Whether the guest may only read.
    pub read_only: bool,
}

/// Unix sockets that QEMU serves; each serves one client at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSockets {
    /// QMP, for [`crate::Machine`] alone.
    pub supervisor: PathBuf,
    /// QMP, for other programs.
    pub public: PathBuf,
    /// The guest agent.
    pub agent: PathBuf,
    /// The port `avocado.control` of the guest.
    pub control: PathBuf,
}

/// A machine to run. Paths should be absolute: QEMU gets them as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// The QEMU to run.
    pub binary: PathBuf,
    /// The guest's processor.
    pub architecture: Architecture,
    /// What executes it.
    pub accelerator: Accelerator,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Kernel to boot directly; without it the firmware looks for one.
    pub kernel: Option<PathBuf>,
    /// Its initial file system.
    pub initrd: Option<PathBuf>,
    /// Its command line; has no meaning without a kernel.
    pub cmdline: String,
    /// Disks, in the order of the guest's names.
    pub drives: Vec<Drive>,
    /// Directory to share with the guest over 9p, under the tag `workspace`.
    pub workspace: Option<PathBuf>,
    /// Sockets to serve.
    pub sockets: MachineSockets,
    /// File that gets what the guest writes to its first serial port.
    pub serial_log: PathBuf,
    /// File that gets QEMU's standard error.
    pub error_log: PathBuf,
    /// File that has QEMU's process id while it runs.
    pub pid_file: PathBuf,
    /// A software TPM; it starts and ends with QEMU.
    pub tpm: Option<SoftwareTpm>,
    /// A device by which the guest tells that its kernel panicked. QEMU leaves it to the guest what
    /// follows.
    #[serde(default)]
    pub panic_device: bool,
    /// Whether the host gets back what the guest does not need any more: blocks that it discards on
    /// its disks, and pages of memory that are free there.
    #[serde(default)]
    pub gives_back: bool,
    /// Device tree to use instead of QEMU's own (aarch64).
    pub device_tree: Option<PathBuf>,
}
