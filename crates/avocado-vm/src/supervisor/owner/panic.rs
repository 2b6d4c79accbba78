//! A panic of the guest's kernel: what is told of it.

use super::super::log;
use super::vm_owner::VmOwner;
use crate::dir::StateFile;

/// Lines of the console that go into the log.
const CONSOLE_LINES: usize = 40;
/// How a kernel begins its last words.
const PANIC: &str = "Kernel panic";
/// The longest line that goes into the status, in characters.
const LONGEST: usize = 300;

impl VmOwner {
    /// Notes a panic, with its last words: the console has them before QEMU tells of it.
    pub(super) fn on_panic(&mut self) {
        let path = self.context.dir.file(StateFile::SerialLog);
        let console = log::last_lines(&path, CONSOLE_LINES);
        let words = last_words(&console);
        let text = format!(
            "the guest's kernel panicked at {}: {words} (`avocado vm logs` shows all of it)",
            log::now()
        );
        self.log.line(&format!("{text}\n{console}"));
        self.panic = Some(text);
    }

    /// A guest that panicked has started anew. That it did stays of interest.
    pub(super) fn note_restart(&mut self) {
        const RESTARTED: &str = "; it has started anew";
        if let Some(panic) = self.panic.as_mut().filter(|p| !p.ends_with(RESTARTED)) {
            panic.push_str(RESTARTED);
        }
    }
}

/// The line that says why, or the last one.
fn last_words(console: &str) -> String {
    let mut lines = console.lines().rev().map(str::trim);
    let panic = lines
        .clone()
        .find(|line| line.contains(PANIC) && !line.contains("end Kernel"));
    let line = panic.or_else(|| lines.find(|line| !line.is_empty()));
    line.unwrap_or("it said nothing")
        .chars()
        .take(LONGEST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn the_line_that_says_why_is_found() {
        for (console, words) in [
            ("", "it said nothing"),
            ("a\n\nlast\n", "last"),
            (
                "[    1.0] up\n[    9.5] Kernel panic - not syncing: no init\n[    9.5] CPU: 0\n\
                 [    9.6] ---[ end Kernel panic - not syncing: no init ]---\n",
                "[    9.5] Kernel panic - not syncing: no init",
            ),
        ] {
            assert_eq!(last_words(console), words, "{console}");
        }
    }
}
