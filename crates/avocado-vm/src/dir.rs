//! The VM's state directory (published name `~/.avocado/vm/`): where each file is.

use std::path::{Path, PathBuf};

/// The state directory of one VM. Only its user may enter it (0700), whatever the umask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// The state directory at `root`. Nothing is made yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        StateDir { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file of a published (or our own) name in it.
    pub fn file(&self, name: File) -> PathBuf {
        self.root.join(name.name())
    }
}

/// A file or directory of the state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum File {
    /// Held (flock) by whoever owns the VM: the supervisor, or a command that changes its disks.
    Lock,
    /// `config.yaml`, shared with the desktop application.
    Config,
    /// The managed image.
    Install,
    /// Copy of the image's manifest from the last start.
    Manifest,
    /// Path of the image of the last start.
    ArtifactDir,
    /// Path of the workspace of the last start.
    Workspace,
    /// The guest's `/var`, a raw btrfs image.
    Var,
    /// A data disk, attached if it is there.
    Data,
    /// Patched device trees.
    DeviceTrees,
    /// State and socket of the software TPM.
    Tpm,
    /// The user's key for the guest (0600).
    SshKey,
    /// Its public half.
    SshPublicKey,
    /// A configuration for ssh with `Host avocado-vm`.
    SshConfig,
    /// The guest's host keys.
    KnownHosts,
    /// The port that users connect to, in decimal.
    SshPort,
    /// QEMU's own forward to the guest's port 22, in decimal.
    InternalSshPort,
    /// The port that never wakes the guest, in decimal.
    InfraSshPort,
    /// Process id of QEMU, in decimal.
    QemuPid,
    /// Process id of the supervisor, in decimal.
    SupervisorPid,
    /// What QEMU was started with and its identity, so that a new supervisor can take it over.
    Machine,
    /// QMP for others: the desktop application, people.
    Qmp,
    /// QMP of the supervisor alone.
    SupervisorQmp,
    /// The guest agent's channel.
    Agent,
    /// The channel `avocado.control` between desktop application and guest.
    Control,
    /// The docker socket that wakes the guest.
    Docker,
    /// The docker socket that never wakes it.
    DockerStream,
    /// Where the tunnel to the guest's docker socket ends.
    DockerInternal,
    /// Requests to the supervisor: status, stop, wake.
    Supervisor,
    /// The guest's serial console.
    SerialLog,
    /// What the supervisor says.
    SupervisorLog,
    /// What QEMU says.
    QemuLog,
    /// The guest's memory, while it is released.
    SavedMemory,
    /// What the saved memory belongs to; it counts only while this is there.
    Saved,
}

impl File {
    /// The name below the state directory.
    pub fn name(self) -> &'static str {
        match self {
            File::Lock => "lock",
            File::Config => "config.yaml",
            File::Install => "install",
            File::Manifest => "manifest.json",
            File::ArtifactDir => "artifact-dir",
            File::Workspace => "workspace",
            File::Var => "var.btrfs",
            File::Data => "data.qcow2",
            File::DeviceTrees => "dtb",
            File::Tpm => "tpm",
            File::SshKey => "ssh-key",
            File::SshPublicKey => "ssh-key.pub",
            File::SshConfig => "ssh-config",
            File::KnownHosts => "known_hosts",
            File::SshPort => "ssh-port",
            File::InternalSshPort => "internal-ssh-port",
            File::InfraSshPort => "infra-ssh-port",
            File::QemuPid => "qemu.pid",
            File::SupervisorPid => "supervisor.pid",
            File::Machine => "machine.json",
            File::Qmp => "qmp.sock",
            File::SupervisorQmp => "qmp-supervisor.sock",
            File::Agent => "qga.sock",
            File::Control => "control.sock",
            File::Docker => "docker.sock",
            File::DockerStream => "docker-stream.sock",
            File::DockerInternal => "docker.sock.internal",
            File::Supervisor => "supervisor.sock",
            File::SerialLog => "serial.log",
            File::SupervisorLog => "supervisor.log",
            File::QemuLog => "qemu.log",
            File::SavedMemory => "saved-memory",
            File::Saved => "saved.json",
        }
    }
}
