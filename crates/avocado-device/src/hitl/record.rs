use std::path::PathBuf;
use std::time::SystemTime;

use avocado_manifest::Name;
use serde::{Deserialize, Serialize};

use super::server::HitlServer;
use crate::error::FailureReason;
use crate::paths::DevicePaths;
use crate::store::files;

/// An extension that is mounted from a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HitlMount {
    pub(crate) name: Name,
    pub(crate) server: HitlServer,
    /// Tells this mount from others of that name, before it and after.
    #[serde(default)]
    pub(crate) id: u64,
    /// What of it is merged, where the server counts its changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<String>,
}

impl HitlMount {
    /// Whether both are the same mount, whatever is merged of it.
    pub(crate) fn is_same(&self, other: &HitlMount) -> bool {
        (&self.name, self.server, self.id) == (&other.name, other.server, other.id)
    }
}

/// What is mounted: `/run/avocado/hitl.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HitlRecord {
    #[serde(default)]
    pub(crate) mounts: Vec<HitlMount>,
}

const LIMIT: u64 = 1 << 20;

impl HitlRecord {
    /// Nothing where there is no file, or one that cannot be read.
    pub(crate) fn load(paths: &DevicePaths) -> Self {
        let bytes = files::read(&file(paths), LIMIT).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    pub(crate) fn save(&self, paths: &DevicePaths) -> Result<(), FailureReason> {
        let file = file(paths);
        if self.mounts.is_empty() {
            return files::remove(&file);
        }
        files::create_dir(&paths.run)?;
        files::write_json(&file, self)
    }

    pub(crate) fn get(&self, name: &Name) -> Option<&HitlMount> {
        self.mounts.iter().find(|mount| mount.name == *name)
    }

    /// Whether a mount is there still, and no other one in its place.
    pub(crate) fn holds(&self, mount: &HitlMount) -> bool {
        self.mounts.iter().any(|now| now.is_same(mount))
    }

    pub(crate) fn without(&self, names: &[Name]) -> Self {
        let mounts = self.mounts.iter().filter(|m| !names.contains(&m.name));
        HitlRecord {
            mounts: mounts.cloned().collect(),
        }
    }
}

/// An id that no mount has yet, of this boot.
pub(super) fn new_id() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

fn file(paths: &DevicePaths) -> PathBuf {
    paths.run.join("hitl.json")
}
