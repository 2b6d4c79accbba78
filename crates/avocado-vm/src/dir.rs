//! The VM's state directory (published name `~/.avocado/vm/`): where each file is.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::VmError;
use crate::files;

/// The longest path of a unix socket, without the byte that ends it.
#[cfg(target_os = "macos")]
const LONGEST_SOCKET: usize = 103;
#[cfg(not(target_os = "macos"))]
const LONGEST_SOCKET: usize = 107;

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
    pub fn file(&self, name: StateFile) -> PathBuf {
        self.root.join(name.name())
    }

    /// Makes the directory, closed to all other users whatever the umask, or closes the one that
    /// is there.
    pub fn create(&self) -> Result<(), VmError> {
        files::create_dir(&self.root)
    }

    /// Whether every socket can have its name.
    pub fn check_sockets(&self) -> Result<(), VmError> {
        let sockets = [
            StateFile::Qmp.name(),
            StateFile::SupervisorQmp.name(),
            StateFile::Agent.name(),
            StateFile::Control.name(),
            StateFile::Docker.name(),
            StateFile::DockerStream.name(),
            StateFile::DockerInternal.name(),
            StateFile::Supervisor.name(),
            "tpm/swtpm-sock",
            "ctl.0123456789abcdef",
            "ports/0123456789",
        ];
        let name = sockets.iter().map(|name| name.len()).max().unwrap_or(0);
        let most = LONGEST_SOCKET - 1 - name;
        let length = self.root.as_os_str().len();
        if length > most {
            return Err(VmError::LongPath {
                dir: self.root.clone(),
                length,
                most,
            });
        }
        Ok(())
    }

    /// Writes a file (0600) so that readers and crashes see the old bytes or the new ones.
    pub fn write(&self, name: StateFile, bytes: &[u8]) -> Result<(), VmError> {
        files::write(&self.file(name), bytes)
    }

    /// Writes a value as JSON, as [`StateDir::write`] does.
    pub fn write_json(&self, name: StateFile, value: &impl Serialize) -> Result<(), VmError> {
        let bytes = files::to_json(&self.file(name), value)?;
        self.write(name, &bytes)
    }

    /// The bytes of a small file; none where there is no file.
    pub fn read(&self, name: StateFile) -> Result<Option<Vec<u8>>, VmError> {
        files::read(&self.file(name))
    }

    /// The first line of a small file; none where there is none, or it is no text.
    pub fn read_line(&self, name: StateFile) -> Option<String> {
        let text = String::from_utf8(self.read(name).ok()??).ok()?;
        let line = text.lines().next()?.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// Removes a file that may be gone already.
    pub fn remove(&self, name: StateFile) -> Result<(), VmError> {
        files::remove(&self.file(name))
    }
}

/// A file or directory of the state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateFile {
    /// Held (flock) by the process that owns the VM: the supervisor, or a command that changes
    /// its disks.
    Lock,
    /// `config.yaml`, shared with the desktop application.
    Config,
    /// The managed image.
    Install,
    /// What the update channel last said.
    ChannelCache,
    /// A directory for each base of channels: what it was signed with.
    ChannelTrust,
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
    /// How the VM was last started, for those who start it again.
    Launch,
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
    /// Where the tunnel takes orders.
    TunnelControl,
    /// A directory of sockets: where the tunnels to ports of the guest end.
    TunnelPorts,
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
    /// What the tunnel to the guest's docker socket says.
    TunnelLog,
    /// Which accelerator works, so that it is not tried at each start.
    AcceleratorProbe,
}

impl StateFile {
    /// The name below the state directory.
    pub fn name(self) -> &'static str {
        match self {
            StateFile::Lock => "lock",
            StateFile::Config => "config.yaml",
            StateFile::Install => "install",
            StateFile::ChannelCache => "channel.json",
            StateFile::ChannelTrust => "channel-trust",
            StateFile::Manifest => "manifest.json",
            StateFile::ArtifactDir => "artifact-dir",
            StateFile::Workspace => "workspace",
            StateFile::Var => "var.btrfs",
            StateFile::Data => "data.qcow2",
            StateFile::DeviceTrees => "dtb",
            StateFile::Tpm => "tpm",
            StateFile::SshKey => "ssh-key",
            StateFile::SshPublicKey => "ssh-key.pub",
            StateFile::SshConfig => "ssh-config",
            StateFile::KnownHosts => "known_hosts",
            StateFile::SshPort => "ssh-port",
            StateFile::InternalSshPort => "internal-ssh-port",
            StateFile::InfraSshPort => "infra-ssh-port",
            StateFile::QemuPid => "qemu.pid",
            StateFile::SupervisorPid => "supervisor.pid",
            StateFile::Launch => "launch.json",
            StateFile::Machine => "machine.json",
            StateFile::Qmp => "qmp.sock",
            StateFile::SupervisorQmp => "qmp-supervisor.sock",
            StateFile::Agent => "qga.sock",
            StateFile::Control => "control.sock",
            StateFile::Docker => "docker.sock",
            StateFile::DockerStream => "docker-stream.sock",
            StateFile::DockerInternal => "docker.sock.internal",
            // ssh makes it under a name that is 17 bytes longer.
            StateFile::TunnelControl => "ctl",
            StateFile::TunnelPorts => "ports",
            StateFile::Supervisor => "supervisor.sock",
            StateFile::SerialLog => "serial.log",
            StateFile::SupervisorLog => "supervisor.log",
            StateFile::QemuLog => "qemu.log",
            StateFile::SavedMemory => "saved-memory",
            StateFile::Saved => "saved.json",
            StateFile::TunnelLog => "tunnel.log",
            StateFile::AcceleratorProbe => "accelerator.json",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_need_a_short_path() {
        let dir = |length: usize| StateDir::new(format!("/{}", "d".repeat(length - 1)));
        let most = LONGEST_SOCKET - 1 - StateFile::DockerInternal.name().len();
        assert!(dir(most).check_sockets().is_ok());
        let error = dir(most + 1).check_sockets().unwrap_err();
        assert!(error.to_string().ends_with(&format!(
            "{} bytes long; sockets in it allow {most}",
            most + 1
        )));
    }
}
