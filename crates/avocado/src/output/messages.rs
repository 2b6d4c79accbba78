//! The sentences that both human forms share.

use std::io::Write;
use std::time::Duration;

use avocado_events::{Event, EventKind};
use avocado_project::Diagnostic;
use avocado_text::strip;

use super::style::TextStyle;
use crate::failure::{ExitStatus, Failure};

/// What is said at the first Ctrl-C.
pub(super) const STOPPING: &str = "stopping (Ctrl-C again leaves at once)";

/// How a person is spoken to.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageFormatter {
    pub(super) style: TextStyle,
    pub(super) verbose: bool,
}

impl MessageFormatter {
    pub(super) fn new(verbose: bool, color: bool) -> Self {
        MessageFormatter {
            style: TextStyle { color },
            verbose,
        }
    }

    /// An information or a warning; it may name the step or the place that it comes from.
    pub(super) fn said(self, event: &Event) -> String {
        let message = paragraph(&event.message, "  ");
        let message = match event.stage.as_str() {
            "" => message,
            stage => format!("{}: {message}", self.style.strong(stage)),
        };
        match event.kind {
            EventKind::Warning => format!("{} {message}", self.style.warning("warning:")),
            _ => message,
        }
    }

    pub(super) fn tool_line(self, stage: &str, line: &str) -> String {
        self.style.faint(&format!("{stage} | {}", strip(line)))
    }

    pub(super) fn skipped(self, event: &Event) -> String {
        let line = match event.message.as_str() {
            "" => format!("{}: up to date", event.stage),
            why => format!("{}: skipped: {}", event.stage, strip(why)),
        };
        self.style.faint(&line)
    }

    pub(super) fn finished(self, stage: &str, message: &str, time: Duration) -> String {
        let time = self
            .style
            .faint(&format!("({})", avocado_text::duration(time)));
        match message {
            "" => format!("{stage}: {} {time}", self.style.good("done")),
            what => format!(
                "{stage}: {} {time}: {}",
                self.style.good("done"),
                strip(what)
            ),
        }
    }

    /// A failed step and what its tools had printed, unless the reader has seen it already.
    pub(super) fn failed(self, stage: &str, time: Duration, log: &[String]) -> Vec<String> {
        let time = self
            .style
            .faint(&format!("({})", avocado_text::duration(time)));
        let head = format!("{stage}: {} {time}", self.style.error("failed"));
        let log = if self.verbose { &[] } else { log };
        let log = log
            .iter()
            .map(|line| format!("  {} {line}", self.style.faint("|")));
        std::iter::once(head).chain(log).collect()
    }

    /// A step that ended early, because a stop was asked for.
    pub(super) fn stopped(self, stage: &str, time: Duration) -> String {
        let time = self
            .style
            .faint(&format!("({})", avocado_text::duration(time)));
        format!("{stage}: {} {time}", self.style.warning("stopped"))
    }

    /// A finding in avocado.yaml with its line.
    fn diagnostic(self, diagnostic: &Diagnostic) -> String {
        if self.style.color {
            diagnostic.render_colored()
        } else {
            diagnostic.render()
        }
    }

    pub(super) fn failure(self, failure: &Failure) -> String {
        if !failure.diagnostics.is_empty() {
            let blocks: Vec<String> = failure
                .diagnostics
                .iter()
                .map(|d| self.diagnostic(d))
                .collect();
            return blocks.join("\n");
        }
        let message = paragraph(&failure.message, "  ");
        let mut lines = vec![match failure.code {
            // The user wished it.
            ExitStatus::Interrupted => message,
            _ => format!("{} {message}", self.style.error("error:")),
        }];
        for cause in &failure.causes {
            lines.push(format!("  caused by: {}", paragraph(cause, "    ")));
        }
        if let Some(hint) = &failure.hint {
            lines.push(format!(
                "{} {}",
                self.style.strong("hint:"),
                paragraph(hint, "  ")
            ));
        }
        lines.join("\n")
    }
}

/// Text of several lines, safe for a terminal; the lines after the first are indented.
pub(super) fn paragraph(text: &str, indent: &str) -> String {
    let lines: Vec<String> = text.trim_end().lines().map(strip).collect();
    lines.join(&format!("\n{indent}"))
}

/// Says a line on stderr. Where that fails there is no other place to say so.
pub(super) fn print_line(line: &str) {
    _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_is_no_error() {
        let format = MessageFormatter::new(false, true);
        assert_eq!(format.failure(&Failure::interrupted()), "interrupted");
        let stopped = format.stopped("sdk install", Duration::from_secs(1));
        assert!(stopped.contains("\u{1b}[1;33mstopped"), "{stopped}");
    }

    #[test]
    fn a_failure_reads_well() {
        let mut failure = Failure::new("cannot install `nope`").hint("see\nthere");
        failure.causes = vec![
            "dnf failed:\nNo match\u{1b}[31m".into(),
            "exit code 1".into(),
        ];
        let format = MessageFormatter::new(false, false);
        insta::assert_snapshot!(format.failure(&failure), @r"
        error: cannot install `nope`
          caused by: dnf failed:
            No match
          caused by: exit code 1
        hint: see
          there
        ");
    }
}
