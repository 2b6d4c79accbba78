//! Which accelerator really works. A device node proves little: there are hosts whose `/dev/kvm`
//! opens, and on which every guest dies.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::timeout;

use crate::arguments;
use crate::binary::BinaryIdentity;
use crate::error::QemuError;
use crate::spec::{Accelerator, Architecture};

mod guest;

/// Emulated, the guest takes a quarter of a second. An accelerator that takes so much longer
/// speeds nothing up.
const GUEST_LIMIT: Duration = Duration::from_secs(4);

/// What a probe depends on: while it is the same, so is the result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AcceleratorProbeKey {
    /// The QEMU.
    pub binary: BinaryIdentity,
    /// The guest's processor.
    pub architecture: Architecture,
    /// The host's kernel, and what it offers to us.
    pub host: String,
}

impl AcceleratorProbeKey {
    /// What a probe would depend on now.
    ///
    /// # Errors
    /// [`QemuError::File`] where there is no such program.
    pub fn of(binary: &Path, architecture: Architecture) -> Result<AcceleratorProbeKey, QemuError> {
        let offer = match host_accelerator(architecture) {
            Ok(accelerator) => accelerator.name().to_owned(),
            Err(notice) => notice,
        };
        Ok(AcceleratorProbeKey {
            binary: BinaryIdentity::of(binary)?,
            architecture,
            host: format!("{}: {offer}", kernel_version()),
        })
    }
}

/// The best accelerator that really executes a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorProbe {
    /// What the result depends on. The same as a fresh [`AcceleratorProbeKey::of`]: no need to probe again.
    pub key: AcceleratorProbeKey,
    /// The accelerator to use.
    pub accelerator: Accelerator,
    /// Why it is not a faster one, in a sentence for a person.
    pub notice: Option<String>,
}

/// Tries what this host offers with a tiny guest, and falls back to emulation. Takes a fraction
/// of a second where there is nothing wrong, and 4 seconds at most. `scratch` is a directory for
/// temporary files.
///
/// # Errors
/// [`QemuError::File`] where there is no such program, or nothing can be written to `scratch`.
pub async fn probe_accelerator(
    binary: &Path,
    architecture: Architecture,
    scratch: &Path,
) -> Result<AcceleratorProbe, QemuError> {
    let key = AcceleratorProbeKey::of(binary, architecture)?;
    let refusal = match host_accelerator(architecture) {
        Err(notice) => notice,
        Ok(accelerator) => match run_probe_guest(binary, architecture, accelerator, scratch).await?
        {
            Ok(()) => {
                return Ok(AcceleratorProbe {
                    key,
                    accelerator,
                    notice: None,
                });
            }
            Err(reason) => format!("{accelerator} does not run a guest on this host ({reason})"),
        },
    };
    Ok(AcceleratorProbe {
        key,
        accelerator: Accelerator::Tcg,
        notice: Some(format!("{refusal}: the guest is emulated, which is slow")),
    })
}

/// The accelerator that this host has for such a guest, or why it has none.
fn host_accelerator(architecture: Architecture) -> Result<Accelerator, String> {
    let host = std::env::consts::ARCH;
    if architecture.name() != host {
        return Err(format!(
            "the guest is for {architecture}, this host is {host}"
        ));
    }
    match std::env::consts::OS {
        "linux" => kvm(),
        "macos" => Ok(Accelerator::Hvf),
        other => Err(format!("there is no accelerator for {other}")),
    }
}

#[cfg(unix)]
fn kvm() -> Result<Accelerator, String> {
    use rustix::fs::{Access, access};
    use rustix::io::Errno;
    match access("/dev/kvm", Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Ok(Accelerator::Kvm),
        Err(Errno::ACCESS | Errno::PERM) => {
            Err("this user may not use /dev/kvm (the group kvm may)".to_owned())
        }
        Err(_) => Err("this host has no /dev/kvm".to_owned()),
    }
}

#[cfg(not(unix))]
fn kvm() -> Result<Accelerator, String> {
    Err("this host has no /dev/kvm".to_owned())
}

#[cfg(unix)]
fn kernel_version() -> String {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    format!("{} {}", text(uname.sysname()), text(uname.release()))
}

#[cfg(not(unix))]
fn kernel_version() -> String {
    std::env::consts::OS.to_owned()
}

/// A directory that goes with its contents.
struct ScratchDirectory(PathBuf);

impl ScratchDirectory {
    fn new(parent: &Path) -> std::io::Result<ScratchDirectory> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!(".probe-{}-{number}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(ScratchDirectory(path))
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the tiny guest; Ok with an inner error where it does not get through.
async fn run_probe_guest(
    binary: &Path,
    architecture: Architecture,
    accelerator: Accelerator,
    scratch: &Path,
) -> Result<Result<(), String>, QemuError> {
    let write = || {
        let scratch = ScratchDirectory::new(scratch)?;
        let image = match architecture {
            Architecture::X86_64 => guest::X86_64.to_vec(),
            Architecture::Aarch64 => guest::aarch64(),
        };
        std::fs::write(scratch.0.join("guest"), image)?;
        Ok(scratch)
    };
    let scratch = write().map_err(|source| QemuError::File {
        action: "write to",
        path: scratch.to_owned(),
        source,
    })?;
    let mut command = Command::new(binary);
    command
        .args(["-machine", arguments::machine(architecture)])
        .args(arguments::processor(accelerator))
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-m", "64"])
        .args(["-serial", "stdio", "-kernel", "guest"])
        // Also for what an aborted QEMU may leave there.
        .current_dir(&scratch.0)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if architecture == Architecture::X86_64 {
        let device = format!("isa-debug-exit,iobase={:#x},iosize=4", guest::X86_64_PORT);
        command.args(["-device", &device]);
    }
    let output = match timeout(GUEST_LIMIT, command.output()).await {
        Err(_) => {
            return Ok(Err(format!(
                "it takes longer than {} s",
                GUEST_LIMIT.as_secs()
            )));
        }
        Ok(Err(source)) => {
            return Err(QemuError::Spawn {
                binary: binary.to_owned(),
                source,
            });
        }
        Ok(Ok(output)) => output,
    };
    Ok(if has_succeeded(architecture, &output) {
        Ok(())
    } else {
        Err(failure_reason(&output))
    })
}

fn has_succeeded(architecture: Architecture, output: &Output) -> bool {
    match architecture {
        Architecture::X86_64 => output.status.code() == Some(guest::X86_64_EXIT),
        Architecture::Aarch64 => {
            output.status.code() == Some(0) && output.stdout == guest::AARCH64_SAYS
        }
    }
}

/// QEMU's first complaint, or how it ended.
fn failure_reason(output: &Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr);
    let complaint = words.lines().find(|line| !line.contains("warning:"));
    match complaint {
        // The program's name in front tells nothing here.
        Some(line) => line
            .split_once(": ")
            .map_or(line, |(_, rest)| rest)
            .to_owned(),
        None => output.status.to_string(),
    }
}

#[cfg(test)]
mod tests;
