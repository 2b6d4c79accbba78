//! Diagnostics as people read them, laid out by the crate that cargo and rustc use.

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use super::{Diagnostic, Severity};

impl Diagnostic {
    /// Several lines for people, without colour: severity and message, place, source line with
    /// its part underlined, hint. Ends without a line end. Control characters of the file are
    /// made harmless.
    pub fn render(&self) -> String {
        self.render_with(&Renderer::plain())
    }

    /// As [`Diagnostic::render`], with the colours of a terminal.
    pub fn render_colored(&self) -> String {
        self.render_with(&Renderer::styled())
    }

    fn render_with(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let path = self.file.to_string_lossy();
        let title = level.primary_title(&self.message);
        let line = usize::try_from(self.line).unwrap_or(usize::MAX);
        let mut group = match &self.snippet {
            Some(snippet) => title.element(
                Snippet::source(&snippet.line)
                    .path(path)
                    .line_start(line)
                    .annotation(AnnotationKind::Primary.span(snippet.start..snippet.end)),
            ),
            None if self.line == 0 => title.element(Origin::path(path)),
            None => {
                let column = usize::try_from(self.column).unwrap_or(usize::MAX);
                title.element(Origin::path(path).line(line).char_column(column))
            }
        };
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint));
        }
        renderer.render(&[group])
    }
}

#[cfg(test)]
mod tests {
    use crate::report::Report;
    use crate::source::{FileId, Span};
    use std::path::Path;

    #[test]
    fn the_part_is_underlined_and_control_characters_are_harmless() {
        let text = "a: 1\n\tb: \u{1b}[31m\n";
        let mut report = Report::new(Path::new("avocado.yaml"), text);
        let span = Span {
            file: FileId::MAIN,
            line: 2,
            column: 5,
            start: 9,
            end: 14,
        };
        report.error(span, "wrong").hint("do right");
        let [d] = &report.finish()[..] else {
            panic!("one diagnostic");
        };
        assert_eq!(d.to_string(), "avocado.yaml:2:5: wrong");
        insta::assert_snapshot!(d.render(), @r"
        error: wrong
         --> avocado.yaml:2:5
          |
        2 |     b: ␛[31m
          |        ^^^^^
          |
          = hint: do right
        ");
        assert!(d.render_colored().contains("\u{1b}[1m"));
    }

    #[test]
    fn a_diagnostic_points_into_its_own_file() {
        let mut report = Report::new(Path::new("avocado.yaml"), "a: 1\n");
        let other = report.add_file(Path::new("os/avocado.yaml"), "x: 1\ny: 2\n");
        let span = Span {
            file: other,
            line: 2,
            column: 4,
            start: 8,
            end: 9,
        };
        report.error(span, "wrong in the second file");
        report.error(
            Span {
                file: FileId::MAIN,
                line: 1,
                column: 4,
                start: 3,
                end: 4,
            },
            "wrong in the first",
        );
        let found: Vec<String> = report.finish().iter().map(|d| d.render()).collect();
        insta::assert_snapshot!(found.join("\n"), @r"
        error: wrong in the first
         --> avocado.yaml:1:4
          |
        1 | a: 1
          |    ^
        error: wrong in the second file
         --> os/avocado.yaml:2:4
          |
        2 | y: 2
          |    ^
        ");
    }
}
