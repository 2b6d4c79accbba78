//! What is written down about a running or saved machine, for the next supervisor.

use std::collections::BTreeMap;

use avocado_qemu::{BinaryIdentity, MachineSpec, ProcessIdentity};
use serde::{Deserialize, Serialize};

use super::forwards::PublishedPort;
use crate::dir::{StateDir, StateFile};
use crate::image::ImageDir;
use crate::launch::VmLaunch;
use crate::{VmError, files};

/// What is known of the image that a machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageIdentity {
    pub(crate) platform: String,
    pub(crate) architecture: String,
    pub(crate) version: Option<String>,
    /// By role.
    pub(super) digests: BTreeMap<String, String>,
}

impl ImageIdentity {
    pub(crate) fn of(image: &ImageDir) -> Self {
        let manifest = image.manifest();
        let artifacts = manifest.artifacts.iter();
        ImageIdentity {
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
pub(crate) struct MachineRecord {
    /// Which process. None while it is being started.
    pub(crate) identity: Option<ProcessIdentity>,
    pub(crate) spec: MachineSpec,
    pub(crate) qemu: BinaryIdentity,
    pub(crate) image: ImageIdentity,
    pub(crate) launch: VmLaunch,
    /// The tunnel's process.
    #[serde(default)]
    pub(crate) tunnel: Option<ProcessIdentity>,
    /// Whether the guest has answered since it booted.
    #[serde(default)]
    pub(crate) ready: bool,
    /// What its containers publish.
    #[serde(default)]
    pub(crate) published: Vec<PublishedPort>,
}

impl MachineRecord {
    /// None where there is none, or it is of no use.
    pub(crate) fn read(dir: &StateDir) -> Option<MachineRecord> {
        let bytes = dir.read(StateFile::Machine).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    pub(crate) fn write(&self, dir: &StateDir) -> Result<(), VmError> {
        let path = dir.file(StateFile::Machine);
        files::write(&path, &files::to_json(&path, self)?)
    }

    /// The process, if it is there. Of one whose supervisor was killed before it wrote down which
    /// it is, QEMU's own file tells.
    pub(crate) fn process(&self, dir: &StateDir) -> Option<ProcessIdentity> {
        let found = match &self.identity {
            Some(identity) => identity.clone(),
            None => {
                let pid = dir.read_line(StateFile::QemuPid)?.parse().ok()?;
                ProcessIdentity::of(pid)
                    .filter(|found| found.names(&dir.file(StateFile::QemuPid)))?
            }
        };
        found.is_alive().then_some(found)
    }
}
