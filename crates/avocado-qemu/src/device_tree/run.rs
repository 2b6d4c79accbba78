//! Short runs of QEMU, which only answer a question.

use std::ffi::OsString;
use std::path::{self, Path};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::error::QemuError;

/// These runs take less than a second.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs QEMU to its end; gives what it wrote to its standard output.
pub(super) async fn run_qemu(
    binary: &Path,
    arguments: &[OsString],
    directory: &Path,
) -> Result<Vec<u8>, QemuError> {
    let spawn = |source| QemuError::Spawn {
        binary: binary.to_owned(),
        source,
    };
    let command = || {
        let words = arguments.iter().map(|word| word.to_string_lossy());
        let program = binary.to_string_lossy();
        let line: Vec<_> = std::iter::once(program).chain(words).collect();
        line.join(" ")
    };
    let child = Command::new(path::absolute(binary).map_err(spawn)?)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match timeout(LIMIT, child).await {
        Ok(output) => output.map_err(spawn)?,
        Err(_) => {
            return Err(QemuError::Timeout {
                command: command(),
                limit: LIMIT,
            });
        }
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(QemuError::Refused {
        command: command(),
        description: format!("{}: {}", output.status, said.trim()),
    })
}
