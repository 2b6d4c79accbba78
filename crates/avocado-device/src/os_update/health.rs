//! Whether a system on trial is well: its boot comes to its end, and what its owner has put there to say so
//! succeeds. That are programs in `health.d`, and in the directories of greenboot.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use avocado_events::{Event, Sink};

use super::error::OsUpdateError;
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::merge::service_manager::ServiceManager;
use crate::tool;

/// The service that ends a trial. It comes with the agent, and is started by the merge that begins one.
pub(crate) const UNIT: &str = "avocado-commit.service";

/// What is started at a boot, and after it what others order their own checks of the boot before.
const BOOT: [&str; 2] = ["multi-user.target", "boot-complete.target"];

/// The most that is kept of what a check printed, in characters: the end of it.
const KEPT: usize = 1000;

/// The longest first line of a script that says what it is written for, in bytes: as for the kernel.
const FIRST_LINE: u64 = 256;

/// Whether this system has something that asks for its health. One of an older agent has not: there
/// nothing would ever end a trial.
pub(crate) fn is_asked_for(context: &DeviceContext) -> bool {
    let manager = ServiceManager::running(&context.paths);
    manager.is_some_and(|manager| manager.is_enabled(UNIT))
}

/// Starts what ends the trial of this boot, or settles later in it what the merge could not. Where that cannot
/// be, the next merge does it, or the next boot, which is counted.
pub(crate) fn ask(context: &DeviceContext, sink: &dyn Sink) {
    let Some(manager) = ServiceManager::running(&context.paths) else {
        return;
    };
    if let Err(reason) = manager.ask("start", &[UNIT]) {
        let why = avocado_events::chain(&reason);
        sink.emit(Event::warning(format!(
            "an OS update waits for its proof, and {UNIT} cannot be started: {why}"
        )));
    }
}

/// What the trial of this boot waits for, for people.
pub(crate) fn waits_for(context: &DeviceContext) -> String {
    let said = fs::read_to_string(told_in(context)).unwrap_or_default();
    if said.is_empty() {
        UNIT.to_owned()
    } else {
        said
    }
}

fn told_in(context: &DeviceContext) -> PathBuf {
    context.paths.run.join("os-trial")
}

/// One trial: all that it waits for has one deadline.
pub(super) struct HealthCheck<'a> {
    context: &'a DeviceContext,
    sink: &'a dyn Sink,
    begun: Instant,
}

impl<'a> HealthCheck<'a> {
    /// The time runs from now on.
    pub(super) fn new(context: &'a DeviceContext, sink: &'a dyn Sink) -> Self {
        HealthCheck {
            context,
            sink,
            begun: Instant::now(),
        }
    }

    /// Waits for the boot, and asks everything that says whether the system is well. What is only wanted
    /// to succeed is told where it does not.
    pub(super) fn run(&self) -> Result<(), FailureReason> {
        let paths = &self.context.paths;
        self.boot()?;
        for directory in &paths.os.health_required {
            for check in self.checks(directory)? {
                self.call(&check)?;
            }
        }
        for directory in &paths.os.health_wanted {
            match self.checks(directory) {
                // Each is asked, whatever the others say.
                Ok(checks) => {
                    let asked = checks.iter().map(|check| self.call(check));
                    asked
                        .filter_map(Result::err)
                        .for_each(|why| self.tell(&why));
                }
                Err(reason) => self.tell(&reason),
            }
        }
        Ok(())
    }

    /// Waits for the boot.
    pub(super) fn boot(&self) -> Result<(), FailureReason> {
        let paths = &self.context.paths;
        if !paths.systemd.exists() {
            return Ok(());
        }
        let start = [&["start", "--"][..], &BOOT].concat();
        let start: Vec<&OsStr> = start.into_iter().map(OsStr::new).collect();
        self.must(&BOOT.join(" and "), &paths.tools.systemctl, &start)
    }

    fn tell(&self, reason: &FailureReason) {
        let why = avocado_events::chain(reason);
        self.sink.emit(Event::warning(format!(
            "a wanted health check failed: {why}"
        )));
    }

    /// The programs in a directory, by name. One that does not exist has none.
    fn checks(&self, directory: &Path) -> Result<Vec<PathBuf>, FailureReason> {
        let failed = |source| FailureReason::file("read", directory)(source);
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let path = entry.path();
            match fs::metadata(&path) {
                _ if hidden => {}
                Ok(about) if about.is_file() && about.permissions().mode() & 0o111 != 0 => {
                    all.push(path);
                }
                Ok(about) if about.is_dir() => {}
                // A check that somebody counts on, perhaps.
                _ => self.sink.emit(Event::warning(format!(
                    "{} is no program, and not taken for a health check",
                    path.display()
                ))),
            }
        }
        all.sort();
        Ok(all)
    }

    fn call(&self, check: &Path) -> Result<(), FailureReason> {
        let what = check.display().to_string();
        match interpreter_of(check) {
            Some((interpreter, argument)) => {
                let args: Vec<&OsStr> = argument
                    .as_deref()
                    .into_iter()
                    .chain([check.as_os_str()])
                    .collect();
                self.must(&what, &interpreter, &args)
            }
            None => self.must(&what, check, &[]),
        }
    }

    fn must(&self, what: &str, program: &Path, args: &[&OsStr]) -> Result<(), FailureReason> {
        let limit = self.context.config.health_deadline;
        let left = limit.saturating_sub(self.begun.elapsed());
        // Only people read it.
        let _ = fs::write(told_in(self.context), what);
        let too_late = |said| OsUpdateError::Deadline {
            what: what.to_owned(),
            seconds: limit.as_secs(),
            said,
        };
        if left.is_zero() {
            return Err(too_late(String::new()).into());
        }
        match tool::must_within(program, args, left) {
            Err(FailureReason::Timeout { said, .. }) => Err(too_late(end_of(said)).into()),
            Err(FailureReason::Tool {
                command,
                status,
                said,
            }) => Err(FailureReason::Tool {
                command,
                status,
                said: end_of(said),
            }),
            other => other.map(drop),
        }
    }
}

/// What a script is written for, and the argument for that, as the kernel reads its first line. Scripts are
/// called by it: systemd-confext merges `/etc` so that nothing can be executed from there.
fn interpreter_of(check: &Path) -> Option<(PathBuf, Option<OsString>)> {
    let mut begin = Vec::new();
    let file = File::open(check).ok()?;
    file.take(FIRST_LINE).read_to_end(&mut begin).ok()?;
    let line = begin
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let line = line.trim_ascii();
    let end = line.iter().position(u8::is_ascii_whitespace);
    let (interpreter, argument) = line.split_at(end.unwrap_or(line.len()));
    let argument = argument.trim_ascii();
    let argument = (!argument.is_empty()).then(|| OsStr::from_bytes(argument).to_owned());
    (!interpreter.is_empty()).then(|| {
        (
            Path::new(OsStr::from_bytes(interpreter)).to_owned(),
            argument,
        )
    })
}

fn end_of(said: String) -> String {
    match said.char_indices().nth_back(KEPT - 1) {
        Some((at, _)) => said[at..].to_owned(),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_what_it_is_written_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("check");
        for (text, expected) in [
            ("#!/bin/sh\nexit 1\n", Some(("/bin/sh", None))),
            (
                "#! /usr/bin/env python3 -E \n",
                Some(("/usr/bin/env", Some("python3 -E"))),
            ),
            ("#!/bin/sh", Some(("/bin/sh", None))),
            ("#!\n", None),
            ("\x7fELF", None),
            ("", None),
        ] {
            fs::write(&path, text).unwrap();
            let expected = expected
                .map(|(program, argument)| (PathBuf::from(program), argument.map(OsString::from)));
            assert_eq!(interpreter_of(&path), expected, "{text:?}");
        }
    }
}
