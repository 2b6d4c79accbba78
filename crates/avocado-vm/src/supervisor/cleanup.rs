//! What supervisors leave in the state directory, and when it goes.

use std::fs;

use super::saved_memory::SavedMemory;
use crate::dir::{StateDir, StateFile};

/// Removes what a supervisor that was killed had half written. The caller holds the lock, without
/// which no process of ours writes these files.
pub(super) fn remove_partial_files(dir: &StateDir) {
    let names = [
        StateFile::AcceleratorProbe,
        StateFile::ArtifactDir,
        StateFile::InfraSshPort,
        StateFile::InternalSshPort,
        StateFile::Machine,
        StateFile::Manifest,
        StateFile::Saved,
        StateFile::SshConfig,
        StateFile::SshKey,
        StateFile::SshPort,
        StateFile::SupervisorPid,
        StateFile::Var,
        StateFile::Workspace,
    ]
    .map(StateFile::name);
    for entry in fs::read_dir(dir.root()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        // `.NAME.RANDOM.tmp` of a file that was being written, `.NAME.RANDOM` of a directory.
        let partial = name.to_str().and_then(|name| name.strip_prefix('.'));
        let partial = partial.map(|name| name.strip_suffix(".tmp").unwrap_or(name));
        let whole = partial.and_then(|name| name.rsplit_once('.'));
        if whole.is_some_and(|(whole, _)| names.contains(&whole)) {
            let path = entry.path();
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
}

/// Removes what belongs to a running VM. The caller holds the lock. With `machine` what belongs to
/// QEMU stays.
pub(crate) fn remove_runtime_files(dir: &StateDir, machine: bool) {
    let ours = [
        StateFile::Docker,
        StateFile::DockerStream,
        StateFile::DockerInternal,
        StateFile::TunnelControl,
        StateFile::Supervisor,
        StateFile::SupervisorPid,
        StateFile::SshPort,
        StateFile::InternalSshPort,
        StateFile::InfraSshPort,
        StateFile::SshConfig,
    ];
    let of_qemu = [
        StateFile::Qmp,
        StateFile::SupervisorQmp,
        StateFile::Agent,
        StateFile::Control,
        StateFile::QemuPid,
        StateFile::Machine,
    ];
    let of_qemu = of_qemu.iter().filter(|_| !machine);
    for file in ours.iter().chain(of_qemu) {
        // What cannot be removed hinders no later start: each replaces it.
        let _ = dir.remove(*file);
    }
    let _ = fs::remove_dir_all(dir.file(StateFile::TunnelPorts));
    if SavedMemory::read(dir).is_none() {
        let _ = dir.remove(StateFile::SavedMemory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_written_files_go_and_whole_ones_stay() {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        let machine = dir.file(StateFile::Machine);
        let kept = [machine.clone(), place.path().join(".other.json.abc.tmp")];
        for file in &kept {
            fs::write(file, "").unwrap();
        }
        // As this version leaves them when it is killed, and as earlier ones did.
        let pending = crate::files::PRIVATE.create(&machine).unwrap();
        assert!(pending.temporary_path().exists());
        std::mem::forget(pending);
        fs::write(place.path().join(".machine.json.aBcDeF"), "").unwrap();
        fs::create_dir(place.path().join(".ssh-key.aBcDeF")).unwrap();
        remove_partial_files(&dir);
        let left = fs::read_dir(place.path()).unwrap().count();
        assert_eq!(left, kept.len());
        assert!(kept.iter().all(|file| file.exists()));
    }
}
