//! What guests run on here, for who asks before there is a VM.

use std::path::Path;

use avocado_qemu::{Architecture, probe_accelerator};

/// How fast guests run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceleration {
    /// On this machine's processors, by what has this name.
    Hardware(&'static str),
    /// Emulated, for this reason: a sentence.
    None(String),
}

/// Tries a tiny guest with the QEMU `binary` for this machine's own processor: a device node proves
/// little. Takes 4 seconds at most. `scratch` is a directory for temporary files.
pub fn probe_acceleration(binary: &Path, scratch: &Path) -> Acceleration {
    probe(binary, scratch).unwrap_or_else(Acceleration::None)
}

fn probe(binary: &Path, scratch: &Path) -> Result<Acceleration, String> {
    let architecture: Architecture = std::env::consts::ARCH
        .parse()
        .map_err(|error| format!("no guest is for this processor: {error}"))?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build();
    let runtime = runtime.map_err(|error| format!("a guest cannot be tried: {error}"))?;
    let probe = runtime.block_on(probe_accelerator(binary, architecture, scratch));
    let probe = probe.map_err(|error| avocado_events::chain(&error))?;
    Ok(match probe.notice {
        None => Acceleration::Hardware(probe.accelerator.name()),
        Some(notice) => Acceleration::None(notice),
    })
}
