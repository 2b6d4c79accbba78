//! Collects what is wrong while a project is read.

use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Severity, Snippet, mask};
use crate::place::SourcePlace;
use crate::source::{FileId, SourceFile, SourceMap, Span, line};

/// No more than this many diagnostics are kept: a file with more has one cause.
const MOST: usize = 50;

/// A source line longer than this (bytes) is not shown.
const LONGEST_SNIPPET: usize = 300;

/// Collects diagnostics about the files of one project.
#[derive(Debug)]
pub(crate) struct Report {
    sources: SourceMap,
    found: Vec<(FileId, Diagnostic)>,
}

impl Report {
    /// About a project that has one file so far.
    pub(crate) fn new(path: &Path, text: impl Into<String>) -> Self {
        Report {
            sources: SourceMap::new(path, text),
            found: Vec::new(),
        }
    }

    /// An empty report about the same files.
    pub(crate) fn scratch(&self) -> Report {
        Report {
            sources: self.sources.clone(),
            found: Vec::new(),
        }
    }

    /// One more file that diagnostics may point into.
    pub(crate) fn add_file(&mut self, path: &Path, text: impl Into<String>) -> FileId {
        self.sources.add(path, text)
    }

    pub(crate) fn file(&self, id: FileId) -> Arc<SourceFile> {
        self.sources.file(id)
    }

    /// Adds an error; without a span it is about the main file as a whole.
    pub(crate) fn error(
        &mut self,
        span: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Error, span.into(), message.into())
    }

    /// Adds a warning; without a span it is about the main file as a whole.
    pub(crate) fn warning(
        &mut self,
        span: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Warning, span.into(), message.into())
    }

    /// The place of a span, for what is said when the project is used.
    pub(crate) fn place(&self, span: Span) -> SourcePlace {
        let file = self.sources.file(span.file);
        SourcePlace {
            file: file.path.clone(),
            line: span.line,
            column: span.column,
            snippet: snippet(&file.text, span),
        }
    }

    /// Whether what is written there is a template.
    pub(crate) fn is_template(&self, span: Span) -> bool {
        let file = self.sources.file(span.file);
        let written = file.text.get(span.start..span.end);
        written.is_some_and(|text| text.contains("{{"))
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.error_count() > 0
    }

    /// How many errors there are so far: a step that adds none has gone well.
    pub(crate) fn error_count(&self) -> usize {
        let errors = self.found.iter();
        errors
            .filter(|(_, d)| d.severity == Severity::Error)
            .count()
    }

    /// Adds what is wrong with a file that could not become one of this report's.
    pub(crate) fn take_over(&mut self, other: Report) {
        for diagnostic in other.finish() {
            let file = self.sources.add(&diagnostic.file, "");
            self.found.push((file, diagnostic));
        }
    }

    /// What was found, file by file and in the order of each, each once (an alias shows its text
    /// repeatedly).
    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        let mut found = self.found;
        found.sort_by_key(|(file, d)| (*file, d.line, d.column, d.severity));
        found.dedup();
        if found.len() > MOST {
            // Errors are what the reader needs; keep them before warnings.
            found.sort_by_key(|(_, d)| d.severity);
            found.truncate(MOST);
            found.sort_by_key(|(file, d)| (*file, d.line, d.column));
        }
        found.into_iter().map(|(_, d)| d).collect()
    }

    fn push(&mut self, severity: Severity, span: Option<Span>, message: String) -> &mut Diagnostic {
        let span = span.unwrap_or_default();
        let diagnostic = Diagnostic {
            severity,
            ..self.place(span).error(message)
        };
        // Vec::push_mut is not stable.
        let at = self.found.len();
        self.found.push((span.file, diagnostic));
        &mut self.found[at].1
    }
}

fn snippet(text: &str, span: Span) -> Option<Snippet> {
    if span.line == 0 {
        return None;
    }
    let mut from = line::start(text, span.start);
    let mut line = line::content(text, from);
    if let Some(rest) = line.strip_prefix('\u{feff}') {
        from += line.len() - rest.len();
        line = rest;
    }
    if line.len() > LONGEST_SNIPPET {
        return None;
    }
    let within = |at: usize| line.floor_char_boundary(at.saturating_sub(from).min(line.len()));
    let start = within(span.start);
    let (line, shown) = mask::hidden(line, start..within(span.end).max(start));
    Some(Snippet {
        line,
        start: shown.start,
        end: shown.end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
