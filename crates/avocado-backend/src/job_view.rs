//! What a job sees of the host.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Mount;
use crate::emulation::Emulator;

/// What a job sees of the host, as it declared it: see [`Job`](crate::Job).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct JobView {
    /// Whether the network of the host is reached.
    pub(crate) network: bool,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) visible: Vec<PathBuf>,
    pub(crate) hidden: Vec<PathBuf>,
    /// What runs programs for another processor, where the machine itself does not.
    pub(crate) emulator: Option<Emulator>,
}

impl JobView {
    /// Where something that is hidden would come into view again, as part of something else: where it
    /// is on the host, and where the job would see it.
    pub(crate) fn hidden_again(&self) -> Vec<(PathBuf, PathBuf)> {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let whole = self.visible.iter().map(|path| (path, path));
        let mounted = self
            .mounts
            .iter()
            .map(|mount| (&mount.source, &mount.target));
        let mut places = Vec::new();
        for (source, target) in mounted.chain(whole) {
            for hidden in &self.hidden {
                let hidden = real(hidden);
                let below = match hidden.strip_prefix(real(source)) {
                    Ok(below) if !below.as_os_str().is_empty() => target.join(below),
                    _ => continue,
                };
                places.push((hidden, below));
            }
        }
        places
    }
}
