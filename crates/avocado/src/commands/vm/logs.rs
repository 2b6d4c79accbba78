//! `avocado vm logs`.

use clap::Args;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use avocado_vm::dir;
use serde_json::json;

use super::state_dir;
use crate::failure::{Failure, Result};
use crate::output::write_data;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on with what is added
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// What the supervisor did: when the guest slept, and what woke it
    #[arg(long, conflicts_with = "qemu")]
    pub(crate) supervisor: bool,

    /// What QEMU said
    #[arg(long)]
    pub(crate) qemu: bool,
}

/// How often a log is looked at for more.
const LOOK: Duration = Duration::from_millis(200);
/// What is longer comes in pieces.
const LONGEST_LINE: u64 = 64 << 10;

pub(super) fn run(session: &Session, args: &LogsArgs) -> Result<()> {
    let (name, what) = match (args.supervisor, args.qemu) {
        (true, _) => (dir::StateFile::SupervisorLog, "supervisor"),
        (_, true) => (dir::StateFile::QemuLog, "QEMU"),
        _ => (dir::StateFile::SerialLog, "guest's console"),
    };
    let path = state_dir(session)?.file(name);
    let mut log = match LogReader::open(&path, LogPosition::Beginning) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Failure::new(format!(
                "there is no log of the {what}: {} is not there",
                path.display()
            ))
            .hint("start the VM with `avocado vm start`"));
        }
        other => other.map_err(|e| cannot_read(&path, &e))?,
    };
    let json = session.global.output == crate::global_args::OutputFormat::Json;
    let on_terminal = session.environment.shows_data();
    let say = |line: &[u8]| {
        if json {
            let line = String::from_utf8_lossy(line);
            let document = json!({"event": "log", "line": line.trim_end_matches(['\n', '\r'])});
            return write_data(format!("{document}\n").as_bytes());
        }
        if on_terminal {
            // What the guest says must not move the cursor.
            let line = avocado_text::strip(&String::from_utf8_lossy(line));
            write_data(format!("{}\n", line.trim_end()).as_bytes())
        } else {
            write_data(line)
        }
    };
    loop {
        log.read(&mut |line| say(line))?;
        if !args.follow {
            return log.finish(&mut |line| say(line));
        }
        std::thread::sleep(LOOK);
        log.look_again();
    }
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read {}", path.display())).because(error)
}

/// Where to begin in a log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LogPosition {
    Beginning,
    End,
}

/// A log that grows, and that a new start may replace or shorten.
struct LogReader {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    /// The beginning of a line whose end is not there yet.
    begun: Vec<u8>,
}

impl LogReader {
    fn open(path: &Path, start: LogPosition) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        let at = match start {
            LogPosition::Beginning => 0,
            LogPosition::End => file.seek(SeekFrom::End(0))?,
        };
        Ok(LogReader {
            path: path.to_owned(),
            file: BufReader::new(file),
            at,
            begun: Vec::new(),
        })
    }

    /// Hands over every line that is there.
    fn read(&mut self, to: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        loop {
            let room = LONGEST_LINE.saturating_sub(self.begun.len() as u64);
            let got = (&mut self.file)
                .take(room)
                .read_until(b'\n', &mut self.begun);
            let got = got.map_err(|e| cannot_read(&self.path, &e))?;
            self.at += got as u64;
            let whole = self.begun.ends_with(b"\n") || self.begun.len() as u64 >= LONGEST_LINE;
            if whole {
                to(&std::mem::take(&mut self.begun))?;
            } else if got == 0 {
                return Ok(());
            }
        }
    }

    /// Hands over what is left of a line.
    fn finish(&mut self, to: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if self.begun.is_empty() {
            Ok(())
        } else {
            to(&std::mem::take(&mut self.begun))
        }
    }

    /// Begins again where there is another file now, or the file was shortened.
    fn look_again(&mut self) {
        let Ok(file) = File::open(&self.path) else {
            return;
        };
        let shorter = file.metadata().is_ok_and(|found| found.len() < self.at);
        if shorter || !same(&file, self.file.get_ref()) {
            self.file = BufReader::new(file);
            self.at = 0;
            self.begun.clear();
        }
    }
}

#[cfg(unix)]
fn same(a: &File, b: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |file: &File| file.metadata().map(|m| (m.dev(), m.ino()));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(not(unix))]
fn same(_a: &File, _b: &File) -> bool {
    true
}

/// Hands every line that is added to a log from now on to `to`, until `done`.
pub(super) fn watch(path: &Path, done: &AtomicBool, to: &dyn Fn(&str)) {
    let mut log = LogReader::open(path, LogPosition::End).ok();
    loop {
        let last = done.load(Ordering::SeqCst);
        match &mut log {
            Some(log) => {
                log.look_again();
                let said = log.read(&mut |line| {
                    to(&avocado_text::strip(&String::from_utf8_lossy(line)));
                    Ok(())
                });
                if said.is_err() {
                    return;
                }
            }
            None => log = LogReader::open(path, LogPosition::Beginning).ok(),
        }
        if last {
            return;
        }
        std::thread::sleep(LOOK);
    }
}
