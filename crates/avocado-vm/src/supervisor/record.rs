//! What is written down about a running or saved machine, for the next supervisor.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use avocado_qemu::{BinaryIdentity, Identity, Spec};
use serde::{Deserialize, Serialize};

use crate::dir::{File, StateDir};
use crate::image::Image;
use crate::launch::Launch;
use crate::{Error, files};

/// What is known of the image that a machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageFacts {
    pub(crate) platform: String,
    pub(crate) architecture: String,
    pub(crate) version: Option<String>,
    /// By role.
    digests: BTreeMap<String, String>,
}

impl ImageFacts {
    pub(crate) fn of(image: &Image) -> Self {
        let manifest = image.manifest();
        let artifacts = manifest.artifacts.iter();
        ImageFacts {
            platform: manifest.platform.clone(),
            architecture: manifest.architecture.clone(),
            version: manifest.version.clone(),
            digests: artifacts
                .map(|(role, artifact)| (role.clone(), artifact.sha256.to_string()))
                .collect(),
        }
    }
}

/// `machine.json`: the machine that this directory runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which process. None while it is being started.
    pub(crate) identity: Option<Identity>,
    pub(crate) spec: Spec,
    pub(crate) qemu: BinaryIdentity,
    pub(crate) image: ImageFacts,
    pub(crate) launch: Launch,
    /// The tunnel's process.
    #[serde(default)]
    pub(crate) tunnel: Option<Identity>,
    /// Whether the guest has answered since it booted.
    #[serde(default)]
    pub(crate) ready: bool,
}

impl Record {
    /// None where there is none, or it is of no use.
    pub(crate) fn read(dir: &StateDir) -> Option<Record> {
        let bytes = dir.read(File::Machine).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    pub(crate) fn write(&self, dir: &StateDir) -> Result<(), Error> {
        dir.write(File::Machine, &bytes(self))
    }

    /// The process, if it is there. Of one whose supervisor was killed before it wrote down which
    /// it is, QEMU's own file tells.
    pub(crate) fn process(&self, dir: &StateDir) -> Option<Identity> {
        let found = match &self.identity {
            Some(identity) => identity.clone(),
            None => {
                let pid = dir.read_line(File::QemuPid)?.parse().ok()?;
                Identity::of(pid).filter(|found| found.names(&dir.file(File::QemuPid)))?
            }
        };
        found.is_alive().then_some(found)
    }
}

/// A file at a moment: another one, or a change, shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    path: PathBuf,
    inode: u64,
    size: u64,
    /// In nanoseconds.
    mtime: i128,
}

impl Stamp {
    fn of(path: &Path) -> Result<Stamp, Error> {
        let found = std::fs::metadata(path).map_err(Error::file("look at", path))?;
        Ok(Stamp {
            path: path.to_owned(),
            inode: found.ino(),
            size: found.size(),
            mtime: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
        })
    }
}

/// `saved.json`: what the saved memory belongs to. The memory counts only while this is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) record: Record,
    /// Kernel, initial file system and every disk.
    files: Vec<Stamp>,
}

impl Saved {
    /// What the memory of a machine belongs to that runs as `record` says, and is paused for good.
    pub(crate) fn of(record: &Record) -> Result<Saved, Error> {
        let spec = &record.spec;
        let drives = spec.drives.iter().map(|drive| &drive.path);
        let all = spec.kernel.iter().chain(&spec.initrd).chain(drives);
        Ok(Saved {
            record: Record {
                identity: None,
                tunnel: None,
                ..record.clone()
            },
            files: all.map(|path| Stamp::of(path)).collect::<Result<_, _>>()?,
        })
    }

    /// None where there is none, or it is of no use.
    pub(crate) fn read(dir: &StateDir) -> Option<Saved> {
        let bytes = dir.read(File::Saved).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    pub(crate) fn write(&self, dir: &StateDir) -> Result<(), Error> {
        dir.write(File::Saved, &bytes(self))
    }

    /// Whether the memory fits a machine that is about to run as `record` says. If not: why.
    pub(crate) fn fits(&self, record: &Record) -> Result<(), String> {
        let differs = [
            ("QEMU", self.record.qemu != record.qemu),
            ("the image", self.record.image != record.image),
            ("the machine", self.record.spec != record.spec),
        ];
        if let Some((what, _)) = differs.iter().find(|(_, differs)| *differs) {
            return Err(format!("{what} is another one now"));
        }
        for file in &self.files {
            if Stamp::of(&file.path).ok().as_ref() != Some(file) {
                return Err(format!("{} has changed", file.path.display()));
            }
        }
        Ok(())
    }

    /// From now on no saved memory counts. To be done before a guest runs.
    pub(crate) fn discard(dir: &StateDir) -> Result<(), Error> {
        let path = dir.file(File::Saved);
        if path.exists() {
            files::remove(&path)?;
            files::sync_dir(dir.root()).map_err(Error::file("sync", dir.root()))?;
        }
        Ok(())
    }
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    // These types have string keys only, and their numbers are finite.
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use avocado_qemu::{Accelerator, Architecture, Drive, Format, Sockets};

    use super::*;
    use crate::launch::Idle;

    fn record(disk: &Path) -> Record {
        let path = PathBuf::from("/x");
        Record {
            identity: None,
            spec: Spec {
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
                    format: Format::Raw,
                    read_only: false,
                }],
                workspace: None,
                sockets: Sockets {
                    supervisor: path.clone(),
                    public: path.clone(),
                    agent: path.clone(),
                    control: path.clone(),
                },
                serial_log: path.clone(),
                error_log: path.clone(),
                pid_file: path.clone(),
                tpm: None,
                device_tree: None,
            },
            qemu: BinaryIdentity {
                path: path.clone(),
                mtime: 1,
                size: 2,
            },
            image: ImageFacts {
                platform: "p".into(),
                architecture: "x86_64".into(),
                version: None,
                digests: BTreeMap::new(),
            },
            launch: Launch {
                image: path,
                cpus: 1,
                memory_mib: 128,
                var_size: 0,
                ssh_port: None,
                infra_port: None,
                docker_stream: false,
                cmdline_extra: None,
                workspace: None,
                dns: Vec::new(),
                dns_search: Vec::new(),
                idle: Idle::default(),
                qemu: None,
                accelerator: None,
                device_tree: None,
                notify: None,
                ready_timeout_secs: 1,
            },
            tunnel: None,
            ready: false,
        }
    }

    #[test]
    fn saved_memory_fits_only_what_it_was_saved_from() {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        let disk = place.path().join("disk");
        std::fs::write(&disk, "one").unwrap();
        let record = record(&disk);
        assert_eq!(Saved::read(&dir), None);
        Saved::of(&record).unwrap().write(&dir).unwrap();
        let saved = Saved::read(&dir).unwrap();
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

        std::fs::write(&disk, "two").unwrap();
        let why = saved.fits(&record).unwrap_err();
        assert_eq!(why, format!("{} has changed", disk.display()));
        Saved::discard(&dir).unwrap();
        Saved::discard(&dir).unwrap();
        assert_eq!(Saved::read(&dir), None);
        std::fs::write(dir.file(File::Saved), "{").unwrap();
        assert_eq!(Saved::read(&dir), None);
    }
}
