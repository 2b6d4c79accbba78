//! Python with the `varlink` package, for the tests that let it talk to us.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::{FlockOperation, flock};

/// The version that the tests are written for.
const PACKAGE: &str = "varlink==31.0.0";

/// A Python that has the package, in an environment that is made once, below the cache directory.
/// `None`, and the test `name` is skipped, when it cannot be had.
pub fn python(name: &str) -> Option<PathBuf> {
    match environment() {
        Ok(python) => Some(python),
        Err(why) => {
            avocado_test_support::skip(name, why);
            None
        }
    }
}

fn environment() -> Result<PathBuf, String> {
    let failed = |e: std::io::Error| format!("no Python environment: {e}");
    let directory = cache_dir().join("python-varlink");
    fs::create_dir_all(&directory).map_err(failed)?;
    // Other test programs want it as well.
    let lock = File::create(directory.join("lock")).map_err(failed)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
    let (venv, made) = (directory.join("venv"), directory.join("made"));
    let python = venv.join("bin/python");
    if fs::read_to_string(&made).is_ok_and(|text| text == PACKAGE) && python.exists() {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&venv))?;
    let options = [
        "--quiet",
        "--disable-pip-version-check",
        "--retries=1",
        "--timeout=15",
    ];
    run(Command::new(&python)
        .args(["-m", "pip", "install"])
        .args(options)
        .arg(PACKAGE))?;
    fs::write(&made, PACKAGE).map_err(failed)?;
    Ok(python)
}

fn cache_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = variable("AVOCADO_CACHE_DIR") {
        return path.into();
    }
    let home = || PathBuf::from(variable("HOME").unwrap_or_else(|| "/root".into())).join(".cache");
    variable("XDG_CACHE_HOME")
        .map_or_else(home, PathBuf::from)
        .join("avocado")
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} failed: {}", last_line(&output.stderr)))
    }
}

fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_end()
        .lines()
        .next_back()
        .unwrap_or_default()
        .to_owned()
}

/// Runs a program of the package against `socket`; its stdout.
pub fn ok(python: &Path, arguments: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(python)
        .args(arguments)
        .env("PYTHONUNBUFFERED", "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{arguments:?}: {stdout}\n{stderr}");
    stdout
}
