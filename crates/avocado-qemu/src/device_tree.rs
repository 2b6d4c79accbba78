//! A device tree with idle states for arm64 guests, where QEMU burns a processor without them.
//!
//! QEMU describes no idle states, so a guest idles with the instruction `WFI`. Under HVF, QEMU 11.0
//! does not sleep then (QEMU's issue 3433); asked through PSCI, it does. The patched tree costs
//! something: with one that it did not make, QEMU leaves out the nodes of devices that are plugged
//! into the platform bus, the TPM among them. So it is used only where it helps and takes nothing
//! away.

mod cache;
mod dump;
mod policy;
#[cfg(test)]
mod tests;
mod version;

use std::path::{Path, PathBuf};

use avocado_fdt::{Tree, idle_states};

use crate::{BinaryIdentity, Error, Spec};
use cache::Cache;
use policy::Verdict;

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// Idle states where they help.
    #[default]
    Automatic,
    /// Idle states whatever the QEMU, and even where a TPM disappears. For arm64 guests only.
    Always,
    /// Never idle states.
    Never,
}

/// The device tree that this machine should get, for [`Spec::device_tree`]; none where QEMU's own
/// is good. One that is set already stays.
///
/// What was made before for the same QEMU and machine is taken from `cache`, a directory that is
/// made if it is missing. Making one takes QEMU some hundred milliseconds; asking QEMU for its
/// version is done once for each of its builds.
///
/// # Errors
/// QEMU fails or does not end in time, its device tree is not that of an arm64 machine with PSCI,
/// or the cache cannot be written. The machine can do without: nothing but its idling is worse.
pub async fn prepare(spec: &Spec, choice: Choice, cache: &Path) -> Result<Option<PathBuf>, Error> {
    if spec.device_tree.is_some() {
        return Ok(spec.device_tree.clone());
    }
    let verdict = policy::verdict(spec, choice);
    if verdict == Verdict::No {
        return Ok(None);
    }
    let identity = BinaryIdentity::of(&spec.binary)?;
    let cache = Cache::open(cache)?;
    if verdict == Verdict::IfAffected {
        let text = version::of(&spec.binary, &identity, &cache).await?;
        if !version::parse(&text).is_some_and(policy::is_affected) {
            return Ok(None);
        }
    }
    let key = cache::tree_key(&identity, spec);
    if let Some(kept) = cache.find(&key, is_patched) {
        return Ok(Some(kept));
    }
    let mut tree = Tree::parse(&dump::dump(spec, &cache).await?)?;
    idle_states::add(&mut tree)?;
    Ok(Some(cache.keep(&key, &tree.to_bytes()?)?))
}

/// Whether it is what [`prepare`] makes, whole.
fn is_patched(bytes: &[u8]) -> bool {
    let tree = Tree::parse(bytes).ok();
    let cpus = tree.as_ref().and_then(|tree| tree.root.child("cpus"));
    cpus.is_some_and(|cpus| cpus.child("idle-states").is_some())
}
