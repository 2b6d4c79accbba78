//! What is written down about a saved memory, for the supervisor that brings the guest back.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use avocado_qemu::BinaryIdentity;
use serde::{Deserialize, Serialize};

use super::machine_record::MachineRecord;
use crate::dir::{StateDir, StateFile};
use crate::error::VmError;
use crate::files;

/// A file at a moment: another one, or a change, shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileStamp {
    path: PathBuf,
    inode: u64,
    size: u64,
    /// In nanoseconds.
    mtime: i128,
}

impl FileStamp {
    fn of(path: &Path) -> Result<FileStamp, VmError> {
        let found = std::fs::metadata(path).map_err(VmError::file("look at", path))?;
        Ok(FileStamp {
            path: path.to_owned(),
            inode: found.ino(),
            size: found.size(),
            mtime: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
        })
    }
}

/// `saved.json`: what the saved memory belongs to. The memory counts only while this is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedMemory {
    pub(crate) record: MachineRecord,
    /// Kernel, initial file system and every disk.
    files: Vec<FileStamp>,
}

impl SavedMemory {
    /// What the memory of a machine belongs to that runs as `record` says, and is paused for good.
    pub(crate) fn of(record: &MachineRecord) -> Result<SavedMemory, VmError> {
        let spec = &record.spec;
        let drives = spec.drives.iter().map(|drive| &drive.path);
        let all = spec.kernel.iter().chain(&spec.initrd).chain(drives);
        Ok(SavedMemory {
            record: MachineRecord {
                identity: None,
                tunnel: None,
                ..record.clone()
            },
            files: all
                .map(|path| FileStamp::of(path))
                .collect::<Result<_, _>>()?,
        })
    }

    /// None where there is none, or it is of no use.
    pub(crate) fn read(dir: &StateDir) -> Option<SavedMemory> {
        let bytes = dir.read(StateFile::Saved).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    pub(crate) fn write(&self, dir: &StateDir) -> Result<(), VmError> {
        let path = dir.file(StateFile::Saved);
        files::write(&path, &files::to_json(&path, self)?)
    }

    /// Whether the memory fits a machine that is about to run as `record` says. If not: why.
    pub(crate) fn fits(&self, record: &MachineRecord) -> Result<(), String> {
        let differs = [
            ("QEMU", self.record.qemu != record.qemu),
            ("the image", self.record.image != record.image),
            ("the machine", self.record.spec != record.spec),
        ];
        if let Some((what, _)) = differs.iter().find(|(_, differs)| *differs) {
            return Err(format!("{what} is another one now"));
        }
        self.changed_file().map_or(Ok(()), Err)
    }

    /// Which file of the machine is not what it was, if one is.
    fn changed_file(&self) -> Option<String> {
        let changed = |file: &&FileStamp| FileStamp::of(&file.path).ok().as_ref() != Some(*file);
        let file = self.files.iter().find(changed)?;
        Some(format!("{} has changed", file.path.display()))
    }

    /// Why the memory cannot be brought back as things are, if it cannot: without looking into any
    /// file, for the status.
    pub(crate) fn unfit(&self) -> Option<String> {
        let record = &self.record;
        if BinaryIdentity::of(&record.spec.binary).ok().as_ref() != Some(&record.qemu) {
            return Some("QEMU is another one now".to_owned());
        }
        self.changed_file()
    }

    /// The same for a person: what is wrong, what follows, and what to do.
    pub(crate) fn problem(&self) -> Option<String> {
        let why = self.unfit()?;
        Some(format!(
            "the saved memory cannot be brought back: {why}. The next start or connection boots the \
             guest anew, and what it had not written is lost; put back what it was to keep it"
        ))
    }

    /// From now on no saved memory counts. To be done before a guest runs.
    pub(crate) fn discard(dir: &StateDir) -> Result<(), VmError> {
        let path = dir.file(StateFile::Saved);
        if path.exists() {
            files::remove(&path)?;
            files::sync_directory(dir.root())?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) use tests::{test_launch, test_record};

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use avocado_qemu::{
        Accelerator, Architecture, Drive, DriveFormat, MachineSockets, MachineSpec,
    };

    use super::super::machine_record::ImageIdentity;
    use super::*;
    use crate::launch::{IdleSettings, VmLaunch};

    /// A launch that asks for nothing.
    pub(crate) fn test_launch() -> VmLaunch {
        record(Path::new("/x")).launch
    }

    /// The record of a machine that is this process.
    pub(crate) fn test_record(identity: avocado_qemu::ProcessIdentity) -> MachineRecord {
        MachineRecord {
            identity: Some(identity),
            ..record(Path::new("/x"))
        }
    }

    fn record(disk: &Path) -> MachineRecord {
        let path = PathBuf::from("/x");
        MachineRecord {
            identity: None,
            spec: MachineSpec {
                binary: path.clone(),
                architecture: Architecture::X86_64,
                accelerator: Accelerator::Tcg,
                cpus: 1,
                memory_mib: 128,
                kernel: None,
                initrd: None,
                cmdline: String::new(),
                drives: vec![Drive {
                    path: disk.to_owned(),
                    format: DriveFormat::Raw,
                    read_only: false,
                }],
                workspace: None,
                sockets: MachineSockets {
                    supervisor: path.clone(),
                    public: path.clone(),
                    agent: path.clone(),
                    control: path.clone(),
                },
                serial_log: path.clone(),
                error_log: path.clone(),
                pid_file: path.clone(),
                tpm: None,
                panic_device: false,
                gives_back: false,
                device_tree: None,
            },
            qemu: BinaryIdentity {
                path: path.clone(),
                mtime: 1,
                size: 2,
            },
            image: ImageIdentity {
                platform: "p".into(),
                architecture: "x86_64".into(),
                version: None,
                digests: BTreeMap::new(),
            },
            launch: VmLaunch {
                image: path,
                cpus: 1,
                memory_mib: 128,
                var_size: 0,
                ssh_port: None,
                last_ssh_port: None,
                ports_of_others: Vec::new(),
                infra_port: None,
                docker_stream: false,
                forward_published: false,
                cmdline_extra: None,
                workspace: None,
                dns: Vec::new(),
                dns_search: Vec::new(),
                idle: IdleSettings::default(),
                qemu: None,
                accelerator: None,
                device_tree: None,
                notify: None,
                ready_timeout_secs: 1,
            },
            tunnel: None,
            ready: false,
            published: Vec::new(),
        }
    }

    #[test]
    fn saved_memory_fits_only_what_it_was_saved_from() {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        let disk = place.path().join("disk");
        std::fs::write(&disk, "one").unwrap();
        let record = record(&disk);
        assert_eq!(SavedMemory::read(&dir), None);
        SavedMemory::of(&record).unwrap().write(&dir).unwrap();
        let saved = SavedMemory::read(&dir).unwrap();
        saved.fits(&record).unwrap();

        let mut other = record.clone();
        other.spec.memory_mib = 256;
        assert_eq!(
            saved.fits(&other).unwrap_err(),
            "the machine is another one now"
        );
        let mut other = record.clone();
        other.image.version = Some("2".into());
        assert_eq!(
            saved.fits(&other).unwrap_err(),
            "the image is another one now"
        );
        let mut other = record.clone();
        other.qemu.mtime = 3;
        assert_eq!(saved.fits(&other).unwrap_err(), "QEMU is another one now");
        // What only concerns the supervisor does not matter.
        let mut other = record.clone();
        other.launch.ssh_port = Some(1);
        other.launch.idle.hibernate_after_secs = 1;
        saved.fits(&other).unwrap();

        // As things are: QEMU is not there at all.
        let problem = saved.problem().unwrap();
        assert!(problem.contains("QEMU is another one now"), "{problem}");
        let mut real = saved.clone();
        std::fs::write(place.path().join("qemu"), "x").unwrap();
        real.record.spec.binary = place.path().join("qemu");
        real.record.qemu = BinaryIdentity::of(&real.record.spec.binary).unwrap();
        assert_eq!(real.problem(), None);

        std::fs::write(&disk, "two").unwrap();
        let problem = real.problem().unwrap();
        let what = format!("{} has changed", disk.display());
        assert!(problem.contains(&what), "{problem}");
        let why = saved.fits(&record).unwrap_err();
        assert_eq!(why, format!("{} has changed", disk.display()));
        SavedMemory::discard(&dir).unwrap();
        SavedMemory::discard(&dir).unwrap();
        assert_eq!(SavedMemory::read(&dir), None);
        std::fs::write(dir.file(StateFile::Saved), "{").unwrap();
        assert_eq!(SavedMemory::read(&dir), None);
    }
}
