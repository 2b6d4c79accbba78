//! The program from outside: what it says and what it leaves in the file system.

#[path = "cli/bill.rs"]
mod bill;
#[path = "cli/clean.rs"]
mod clean;
#[path = "cli/completion.rs"]
mod completion;
#[path = "cli/config.rs"]
mod config;
#[cfg(target_os = "linux")]
#[path = "cli/deploy.rs"]
mod deploy;
#[cfg(target_os = "linux")]
#[path = "cli/diff.rs"]
mod diff;
#[cfg(target_os = "linux")]
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/errors.rs"]
mod errors;
#[cfg(target_os = "linux")]
#[path = "cli/ext_package.rs"]
mod ext_package;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/init.rs"]
mod init;
#[cfg(target_os = "linux")]
#[path = "cli/init_reference.rs"]
mod init_reference;
#[cfg(target_os = "linux")]
#[path = "cli/interrupt.rs"]
mod interrupt;
#[cfg(target_os = "linux")]
#[path = "cli/json_output.rs"]
mod json_output;
#[path = "cli/lock.rs"]
mod lock;
#[path = "cli/logging.rs"]
mod logging;
#[cfg(target_os = "linux")]
#[path = "cli/moved_state.rs"]
mod moved_state;
#[cfg(target_os = "linux")]
#[path = "cli/prune.rs"]
mod prune;
#[path = "cli/public_projects.rs"]
mod public_projects;
#[path = "cli/reference.rs"]
mod reference;
#[path = "cli/signing_keys.rs"]
mod signing_keys;
#[cfg(target_os = "linux")]
#[path = "cli/verify.rs"]
mod verify;

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// A directory to play in, and the program in surroundings that hold nothing else.
struct Place(tempfile::TempDir);

/// How a run ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_avocado"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .current_dir(self.0.path());
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.end(self.command().args(args))
    }

    fn end(&self, command: &mut Command) -> Ended {
        let output = command.output().unwrap();
        // The place has another name in every run.
        let text = |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(self.0.path().to_str().unwrap(), "[PLACE]")
        };
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

impl Ended {
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    fn failed(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }

    /// The lines of stdout, each of which is JSON.
    fn documents(&self) -> Vec<serde_json::Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn there(path: impl AsRef<Path>) -> bool {
    path.as_ref().symlink_metadata().is_ok()
}
