//! QEMU's own device tree, and other short runs of QEMU.

use std::ffi::OsString;
use std::fs;
use std::path::{self, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::cache::Cache;
use crate::arguments::processor;
use crate::{Error, Spec};

/// These runs take less than a second.
const LIMIT: Duration = Duration::from_secs(20);

/// The device tree that QEMU would give this machine.
pub(super) async fn dump(spec: &Spec, cache: &Cache<'_>) -> Result<Vec<u8>, Error> {
    let file = Removed(cache.temporary("dump"));
    // QEMU runs in the cache's directory, so that the name has no comma in it: commas separate
    // options.
    let name = file.0.file_name().unwrap_or_default();
    let mut machine = OsString::from(format!("{},dumpdtb=", super::cache::MACHINE));
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
    run(&spec.binary, &arguments, cache.directory()).await?;
    fs::read(&file.0).map_err(|source| Error::File {
        action: "read",
        path: file.0.clone(),
        source,
    })
}

/// Runs QEMU to its end; gives what it wrote to its standard output.
pub(super) async fn run(
    binary: &Path,
    arguments: &[OsString],
    directory: &Path,
) -> Result<Vec<u8>, Error> {
    let spawn = |source| Error::Spawn {
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
            return Err(Error::Timeout {
                command: command(),
                limit: LIMIT,
            });
        }
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Refused {
        command: command(),
        description: format!("{}: {}", output.status, said.trim()),
    })
}

/// A file that is removed in the end.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // It may never have been there.
        let _ = fs::remove_file(&self.0);
    }
}
