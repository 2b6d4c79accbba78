use std::fmt;
use std::path::{Path, PathBuf};

use crate::yaml::{Span, line};

/// No more than this many diagnostics are kept: a file with more has one cause.
const MOST: usize = 50;

/// A source line longer than this (bytes) is not shown.
const LONGEST_SNIPPET: usize = 300;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The project cannot be used.
    Error,
    /// The project can be used; something in it has no effect or is out of date.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One thing that is wrong with avocado.yaml. `Display` is one line,
/// `avocado.yaml:12:5: message`; [`Diagnostic::render`] adds the source line and the hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as it was named to [`crate::load`].
    pub file: PathBuf,
    /// From 1; 0 where the message is about the file as a whole.
    pub line: u32,
    /// From 1, in characters; 0 where the message is about the file as a whole.
    pub column: u32,
    /// What is wrong, on what.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The source line, without its line end and without control characters.
    pub snippet: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.line {
            0 => write!(f, "{file}: {}", self.message),
            line => write!(f, "{file}:{line}:{}: {}", self.column, self.message),
        }
    }
}

impl Diagnostic {
    /// Several lines for people, without colour: severity and message, place, source line with a
    /// mark below the column, hint. Ends without a line end.
    pub fn render(&self) -> String {
        use fmt::Write;
        let mut out = format!("{}: {}", self.severity, self.message);
        // Writing into a String does not fail.
        if self.line == 0 {
            let _ = write!(out, "\n  --> {}", self.file.display());
        } else {
            let (line, column) = (self.line, self.column);
            let _ = write!(out, "\n  --> {}:{line}:{column}", self.file.display());
            if let Some(snippet) = &self.snippet {
                let before = (column as usize).saturating_sub(1);
                // A tab stays a tab so that the mark stands below its column.
                let pad: String = snippet
                    .chars()
                    .take(before)
                    .map(|c| if c == '\t' { '\t' } else { ' ' })
                    .collect();
                let gutter = " ".repeat(line.to_string().len());
                let _ = write!(out, "\n  {line} | {snippet}\n  {gutter} | {pad}^");
            }
        }
        if let Some(hint) = &self.hint {
            let _ = write!(out, "\n  hint: {hint}");
        }
        out
    }

    /// Sets the hint.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Collects diagnostics about one file.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    file: &'a Path,
    text: &'a str,
    found: Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str) -> Self {
        Report {
            file,
            text,
            found: Vec::new(),
        }
    }

    /// An empty report about the same file.
    pub(crate) fn scratch(&self) -> Report<'a> {
        Report::new(self.file, self.text)
    }

    /// The source text.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Adds an error; without a span it is about the file as a whole.
    pub(crate) fn error(
        &mut self,
        span: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Error, span.into(), message.into())
    }

    /// Adds a warning; without a span it is about the file as a whole.
    pub(crate) fn warning(
        &mut self,
        span: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Warning, span.into(), message.into())
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|d| d.severity == Severity::Error)
    }

    /// What was found, in the order of the file, each once (an alias shows its text repeatedly).
    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        let mut found = self.found;
        found.sort_by_key(|d| (d.line, d.column, d.severity));
        found.dedup();
        if found.len() > MOST {
            // Errors are what the reader needs; keep them before warnings.
            found.sort_by_key(|d| d.severity);
            found.truncate(MOST);
            found.sort_by_key(|d| (d.line, d.column));
        }
        found
    }

    fn push(&mut self, severity: Severity, span: Option<Span>, message: String) -> &mut Diagnostic {
        let diagnostic = Diagnostic {
            severity,
            file: self.file.to_owned(),
            line: span.map_or(0, |s| s.line),
            column: span.map_or(0, |s| s.column),
            message,
            hint: None,
            snippet: span.and_then(|s| self.snippet(s)),
        };
        // Vec::push_mut is not stable.
        let at = self.found.len();
        self.found.push(diagnostic);
        &mut self.found[at]
    }

    fn snippet(&self, span: Span) -> Option<String> {
        let from = line::start(self.text, span.start);
        let line = line::content(self.text, from).trim_start_matches('\u{feff}');
        (line.len() <= LONGEST_SNIPPET).then(|| printable(line))
    }
}

/// Text from a file, safe for a terminal: control characters become `\u{fffd}`.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Text from a file for use in a message: between backquotes, on one line, at most 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(60)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_below_its_column() {
        let text = "a: 1\n\tb: \u{1b}[31m\n";
        let mut report = Report::new(Path::new("avocado.yaml"), text);
        let span = Span {
            line: 2,
            column: 5,
            start: 9,
            end: 10,
        };
        report.error(span, "wrong").hint("do right");
        let [d] = &report.finish()[..] else {
            panic!("one diagnostic");
        };
        assert_eq!(d.to_string(), "avocado.yaml:2:5: wrong");
        assert_eq!(
            d.render(),
            "error: wrong\n  --> avocado.yaml:2:5\n  2 | \tb: \u{fffd}[31m\n    | \t   ^\n  hint: do right"
        );
    }

    #[test]
    fn the_same_finding_is_reported_once_and_many_are_cut() {
        let mut report = Report::new(Path::new("f"), "");
        report.error(None, "twice");
        report.error(None, "twice");
        assert_eq!(report.finish().len(), 1);

        let mut report = Report::new(Path::new("f"), "");
        for n in 0..200 {
            report.warning(None, format!("w{n}"));
        }
        report.error(None, "the error");
        let found = report.finish();
        assert_eq!(found.len(), MOST);
        assert!(found.iter().any(|d| d.message == "the error"));
    }
}
