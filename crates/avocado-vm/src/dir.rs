//! The VM's state directory (published name `~/.avocado/vm/`): where each file is.

use std::path::{Path, PathBuf};

use crate::error::Error;
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
    pub fn file(&self, name: File) -> PathBuf {
        self.root.join(name.name())
    }

    /// Makes the directory, closed to everybody else whatever the umask, or closes the one that
    /// is there.
    pub fn create(&self) -> Result<(), Error> {
        files::create_dir(&self.root)
    }

    /// Whether every socket can have its name.
    pub fn check_sockets(&self) -> Result<(), Error> {
        let sockets = [
            File::Qmp.name(),
            File::SupervisorQmp.name(),
            File::Agent.name(),
            File::Control.name(),
            File::Docker.name(),
            File::DockerStream.name(),
            File::DockerInternal.name(),
            File::Supervisor.name(),
            "tpm/swtpm-sock",
        ];
        let name = sockets.iter().map(|name| name.len()).max().unwrap_or(0);
        let most = LONGEST_SOCKET - 1 - name;
        let length = self.root.as_os_str().len();
        if length > most {
            return Err(Error::LongPath {
                dir: self.root.clone(),
                length,
                most,
            });
        }
        Ok(())
    }

    /// Writes a file (0600) so that readers and crashes see the old bytes or the new ones.
    pub fn write(&self, name: File, bytes: &[u8]) -> Result<(), Error> {
        files::write(&self.file(name), bytes)
    }

    /// The bytes of a small file; none where there is no file.
    pub fn read(&self, name: File) -> Result<Option<Vec<u8>>, Error> {
        files::read(&self.file(name))
    }

    /// The first line of a small file; none where there is none, or it is no text.
    pub fn read_line(&self, name: File) -> Option<String> {
        let text = String::from_utf8(self.read(name).ok()??).ok()?;
        let line = text.lines().next()?.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// Removes a file that may be gone already.
    pub fn remove(&self, name: File) -> Result<(), Error> {
        files::remove(&self.file(name))
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
    /// What the update channel last said.
    ChannelCache,
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
            File::ChannelCache => "channel.json",
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
            File::Launch => "launch.json",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_need_a_short_path() {
        let dir = |length: usize| StateDir::new(format!("/{}", "d".repeat(length - 1)));
        let most = LONGEST_SOCKET - 1 - File::DockerInternal.name().len();
        assert!(dir(most).check_sockets().is_ok());
        let error = dir(most + 1).check_sockets().unwrap_err();
        assert!(error.to_string().ends_with(&format!(
            "{} bytes long; sockets in it allow {most}",
            most + 1
        )));
    }
}
