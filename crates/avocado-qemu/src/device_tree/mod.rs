//! A device tree with idle states for arm64 guests, where QEMU burns a processor without them.
//!
//! QEMU describes no idle states, so a guest idles with the instruction `WFI`. Under HVF, QEMU 11.0
//! does not sleep then (QEMU's issue 3433); asked through PSCI, it does. The patched tree costs
//! something: with one that it did not make, QEMU leaves out the nodes of devices that are plugged
//! into the platform bus, the TPM among them. So it is used only where it helps and takes nothing
//! away.

mod cache;
mod dump;
mod need;
mod run;
#[cfg(test)]
mod tests;
mod version;

use std::path::{Path, PathBuf};

use avocado_fdt::{DeviceTree, idle_states};

use crate::binary::BinaryIdentity;
use crate::error::QemuError;
use crate::spec::MachineSpec;
use cache::DeviceTreeCache;
use need::IdleStatesNeed;

pub use need::IdleStatesChoice;

/// The device tree that this machine should get, for [`MachineSpec::device_tree`]; none where QEMU's own
/// is good. One that is set already stays.
///
/// What was made before for the same QEMU and machine is taken from `cache`, a directory that is
/// made if it is missing. Making one takes QEMU some hundred milliseconds; asking QEMU for its
/// version is done once for each of its builds.
///
/// # Errors
/// QEMU fails or does not end in time, its device tree is not that of an arm64 machine with PSCI,
/// or the cache cannot be written. The machine can do without: nothing but its idling is worse.
pub async fn prepare(
    spec: &MachineSpec,
    choice: IdleStatesChoice,
    cache: &Path,
) -> Result<Option<PathBuf>, QemuError> {
    if spec.device_tree.is_some() {
        return Ok(spec.device_tree.clone());
    }
    let need = need::idle_states_need(spec, choice);
    if need == IdleStatesNeed::No {
        return Ok(None);
    }
    let identity = BinaryIdentity::of(&spec.binary)?;
    let cache = DeviceTreeCache::open(cache)?;
    if need == IdleStatesNeed::IfAffected {
        let text = version::qemu_version(&spec.binary, &identity, &cache).await?;
        if !version::parse(&text).is_some_and(need::is_affected) {
            return Ok(None);
        }
    }
    let key = cache::tree_key(&identity, spec);
    if let Some(kept) = cache.find(&key, is_patched) {
        return Ok(Some(kept));
    }
    let mut tree = DeviceTree::parse(&dump::dump_device_tree(spec, &cache).await?)?;
    idle_states::add(&mut tree)?;
    Ok(Some(cache.keep(&key, &tree.to_bytes()?)?))
}

/// Whether it is what [`prepare`] makes, whole.
fn is_patched(bytes: &[u8]) -> bool {
    let tree = DeviceTree::parse(bytes).ok();
    let cpus = tree.as_ref().and_then(|tree| tree.root.child("cpus"));
    cpus.is_some_and(|cpus| cpus.child("idle-states").is_some())
}
