//! Results on stdout: tables that fit a serial console, or one JSON document.

mod device;
mod runtimes;
mod upkeep;

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde::Serialize;
use serde_json::json;

use crate::cli::Format;
use crate::failure::{Failure, printable};

pub(crate) use device::{authority, extensions, status, statuses};
pub(crate) use runtimes::{runtime, runtimes};
pub(crate) use upkeep::{check, downloaded, plan, pruned, verification};

/// The columns of a serial console.
const WIDTH: usize = 80;

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
    /// The user wants no colours.
    pub(crate) plain: bool,
}

impl Output {
    /// Prints a result: `value` as JSON, or `text` for people.
    pub(crate) fn result(
        self,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => text(),
            Format::Json => document(value),
        };
        self.print(&text)
    }

    /// Prints a text on stdout. A reader that left is no failure.
    pub(crate) fn print(self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
        {
            Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::new(
                "Output",
                format!("cannot write to stdout: {e}"),
            )),
            _ => Ok(()),
        }
    }

    /// Prints what failed: on stderr for people, on stdout as JSON.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.format == Format::Json {
            // Nothing more can be done about a stdout that does not take it.
            let _ = self.print(&document(&json!({ "error": failure })));
            return;
        }
        let colour = io::stderr().is_terminal() && !self.plain;
        let (red, bold, off) = match colour {
            true => ("\x1b[1;31m", "\x1b[1m", "\x1b[0m"),
            false => ("", "", ""),
        };
        let message = lines(&failure.message);
        let mut text = format!("{red}error:{off} {message}\n");
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("{bold}hint:{off} {}\n", lines(hint)));
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// A message keeps its line breaks, and nothing else that a terminal would obey.
fn lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(printable).collect();
    lines.join("\n")
}

fn document(value: &impl Serialize) -> String {
    // Our types have string keys and finite numbers only.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_else(|_| "null".to_owned());
    text.push('\n');
    text
}

/// Columns two spaces apart, no wider than a serial console: the widest columns are cut.
pub(super) fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned))
        .chain(rows)
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let room = WIDTH.saturating_sub(2 * N.saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        let Some(widest) = widths.iter_mut().max() else {
            break;
        };
        *widest -= 1;
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{:<width$}  ", cut(cell, *width)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_a_serial_console() {
        let long = |n: usize| "x".repeat(n);
        let text = table(
            ["A", "B", "C"],
            vec![[long(200), long(5), long(90)], [long(1), long(2), long(3)]],
        );
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(
            text.contains("  xxxxx  "),
            "short columns are left alone: {text}"
        );
        assert_eq!(table(["A"], vec![]), "A\n");
    }
}
