//! A panic of the guest's kernel: what is told of it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::jobs::JobOutcome;
use super::super::log;
use super::vm_owner::VmOwner;
use crate::dir::StateFile;

/// How a kernel begins its last words.
const PANIC: &str = "Kernel panic";
/// How a kernel begins the line after its last words.
const PANIC_END: &str = "---[ end";
/// The longest line that goes into the status, in characters.
const LONGEST: usize = 300;
/// How long a kernel may take to write its last words: some do after they told QEMU.
const WORDS_LIMIT: Duration = Duration::from_secs(10);
/// How often they are looked for.
const WORDS_POLL: Duration = Duration::from_millis(100);
/// How much before the moment of the panic they may begin, and how much is read from there.
const WORDS_PLACE: (u64, u64) = (16 << 10, 256 << 10);

/// The last panic of the guest.
#[derive(Debug)]
pub(super) struct PanicReport {
    at: String,
    /// None until they are found.
    words: Option<String>,
    restarted: bool,
}

impl PanicReport {
    /// For the status.
    pub(super) fn problem(&self) -> String {
        let words = self.words.as_deref().unwrap_or("it has said nothing yet");
        let restarted = if self.restarted {
            "; it has started anew"
        } else {
            ""
        };
        format!(
            "the guest's kernel panicked at {}: {words} (`avocado vm logs` shows all of it){restarted}",
            self.at
        )
    }
}

impl VmOwner {
    /// Notes a panic, and looks for its last words.
    pub(super) fn on_panic(&mut self) {
        let path = self.context.dir.file(StateFile::SerialLog);
        self.log.line("the guest's kernel panicked");
        self.panic = Some(PanicReport {
            at: log::now(),
            words: None,
            restarted: false,
        });
        self.jobs.spawn(find_last_words(path));
    }

    pub(super) fn on_last_words(&mut self, words: String) {
        self.log.line(&format!("its last words: {words}"));
        if let Some(panic) = &mut self.panic {
            panic.words = Some(words);
        }
    }

    /// A guest that panicked has started anew. That it did stays of interest.
    pub(super) fn note_restart(&mut self) {
        if let Some(panic) = &mut self.panic {
            panic.restarted = true;
        }
    }
}

/// Waits for the last words of a guest that has just panicked.
async fn find_last_words(console: PathBuf) -> JobOutcome {
    let length = std::fs::metadata(&console).map_or(0, |found| found.len());
    let start = length.saturating_sub(WORDS_PLACE.0);
    let deadline = Instant::now() + WORDS_LIMIT;
    loop {
        let text = read_from(&console, start).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if let Some(words) = last_words(&text) {
            return JobOutcome::LastWords(words);
        }
        if Instant::now() >= deadline {
            let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
            return JobOutcome::LastWords(shorten(last.unwrap_or("it said nothing")));
        }
        sleep(WORDS_POLL).await;
    }
}

fn read_from(console: &Path, start: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(console)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(WORDS_PLACE.1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The line that says why a kernel panicked: the last one, if it is whole.
fn last_words(console: &str) -> Option<String> {
    let mut lines = console
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let line = lines.rfind(|line| line.contains(PANIC) && !line.contains(PANIC_END))?;
    Some(shorten(line.trim()))
}

fn shorten(line: &str) -> String {
    line.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_why_is_found() {
        for (console, words) in [
            ("", None),
            ("a\n\nlast\n", None),
            ("[    9.5] Kernel panic - not sync", None),
            (
                "[    1.0] up\n[    9.5] Kernel panic - not syncing: no init\n[    9.5] CPU: 0\n\
                 [    9.6] ---[ end Kernel panic - not syncing: no init ]---\n",
                Some("[    9.5] Kernel panic - not syncing: no init"),
            ),
        ] {
            assert_eq!(last_words(console).as_deref(), words, "{console}");
        }
    }

    #[tokio::test]
    async fn words_that_come_late_are_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("serial.log");
        std::fs::write(&path, "up\n").unwrap();
        let found = tokio::spawn(find_last_words(path.clone()));
        tokio::task::yield_now().await;
        std::fs::write(&path, "up\nKernel panic - not syncing: x\n").unwrap();
        let Ok(JobOutcome::LastWords(words)) = found.await else {
            panic!("no words");
        };
        assert_eq!(words, "Kernel panic - not syncing: x");
    }
}
