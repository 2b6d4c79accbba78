//! Results on stdout: tables that fit a serial console, or one JSON document.

use std::io::{self, ErrorKind, IsTerminal, Write};

use avocado_text::{escape, escape_lines};
use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;

/// The columns of a serial console, which no table exceeds.
pub(crate) const WIDTH: Option<usize> = Some(80);

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON document, errors included
    Json,
}

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
            Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(e)),
            _ => Ok(()),
        }
    }

    /// Prints what failed: on stderr for people, on stdout as JSON.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.format == Format::Json {
            // Nothing more can be done about a stdout that does not take it.
            let _ = self.print(&document(&failure.document()));
            return;
        }
        let colour = io::stderr().is_terminal() && !self.plain;
        let (red, bold, off) = if colour {
            ("\x1b[1;31m", "\x1b[1m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let message = escape_lines(&failure.to_string());
        let mut text = format!("{red}error:{off} {message}\n");
        if let Some(hint) = failure.hint() {
            text.push_str(&format!("{bold}hint:{off} {}\n", escape_lines(&hint)));
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

fn document(value: &impl Serialize) -> String {
    // Our types have string keys and finite numbers only.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_else(|_| "null".to_owned());
    text.push('\n');
    text
}

/// A time to the minute, if it is in the usual form.
pub(crate) fn minute(text: &str) -> String {
    let minute = text
        .get(..16)
        .filter(|t| t.as_bytes().get(10) == Some(&b'T'));
    minute.map_or_else(|| escape(text), |t| t.replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(minute("2026-01-02T03:04:05Z"), "2026-01-02 03:04");
        assert_eq!(minute("yesterday"), "yesterday");
        assert_eq!(minute("\u{1b}[2J"), "\\u{1b}[2J");
    }
}
