//! QEMU's own device tree.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use super::cache::{DeviceTreeCache, MACHINE};
use super::run::run_qemu;
use crate::arguments::processor;
use crate::error::QemuError;
use crate::spec::MachineSpec;

/// The device tree that QEMU would give this machine.
pub(super) async fn dump_device_tree(
    spec: &MachineSpec,
    cache: &DeviceTreeCache<'_>,
) -> Result<Vec<u8>, QemuError> {
    let file = RemoveOnDrop(cache.temporary("dump"));
    // QEMU runs in the cache's directory, so that the name has no comma in it: commas separate
    // options.
    let name = file.0.file_name().unwrap_or_default();
    let mut machine = OsString::from(format!("{},dumpdtb=", MACHINE));
    machine.push(name);
    let mut arguments = vec!["-machine".into(), machine];
    arguments.extend(processor(spec.accelerator));
    let rest = [
        "-smp",
        &spec.cpus.to_string(),
        "-m",
        &spec.memory_mib.to_string(),
        "-nodefaults",
        "-display",
        "none",
    ];
    arguments.extend(rest.map(OsString::from));
    run_qemu(&spec.binary, &arguments, cache.directory()).await?;
    fs::read(&file.0).map_err(|source| QemuError::File {
        action: "read",
        path: file.0.clone(),
        source,
    })
}

/// A file that is removed in the end.
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // It may never have been there.
        let _ = fs::remove_file(&self.0);
    }
}
