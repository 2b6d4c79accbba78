//! Programs that avocado calls.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::{Area, Finding, FindingState};

/// How long a service may take to answer before it counts as one that does not work.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A program, and what it is for.
pub(super) struct NeededProgram {
    pub(super) area: Area,
    pub(super) name: &'static str,
    /// With these arguments it says its version in a first line.
    pub(super) version: &'static [&'static str],
    /// What does not work without it.
    pub(super) purpose: &'static str,
    /// What there is where it is not there.
    pub(super) without: FindingState,
    /// The package of Debian and of Fedora that has it.
    pub(super) packages: [&'static str; 2],
}

impl NeededProgram {
    /// Looks for it in the directories of `search_path`.
    pub(super) fn look(&self, search_path: &OsStr) -> Finding {
        let finding = |state, found, advice| Finding {
            area: self.area,
            state,
            subject: self.name.to_owned(),
            found,
            advice,
        };
        match find(search_path, self.name) {
            Some(path) => {
                let said = first_line(&path, self.version);
                let found = said.unwrap_or_else(|| path.display().to_string());
                finding(FindingState::Good, found, None)
            }
            None => {
                let [debian, fedora] = self.packages;
                let advice = if debian == fedora {
                    format!("install the package {debian}")
                } else {
                    format!("install the package {debian} (Debian) or {fedora} (Fedora)")
                };
                finding(self.without, self.purpose.to_owned(), Some(advice))
            }
        }
    }
}

/// Where a program is in these directories.
pub(super) fn find(search_path: &OsStr, name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    avocado_fs::find_program(&file, std::env::split_paths(search_path))
}

/// Whether a program does what it is asked; otherwise what it says.
pub(super) fn answers(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let status = ended_within(&mut child, ANSWER_LIMIT).map_err(|error| error.to_string())?;
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("gave no answer within {ANSWER_LIMIT:?}"));
    };
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_end(&mut said);
    }
    Err(first_of(&said).unwrap_or_else(|| status.to_string()))
}

fn ended_within(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let begin = Instant::now();
    loop {
        let ended = child.try_wait()?;
        if ended.is_some() || begin.elapsed() > limit {
            return Ok(ended);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a program says first, on either stream: some say their version on the second.
fn first_line(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    [output.stdout, output.stderr]
        .iter()
        .find_map(|said| first_of(said))
}

fn first_of(said: &[u8]) -> Option<String> {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(avocado_text::strip(line))
}
