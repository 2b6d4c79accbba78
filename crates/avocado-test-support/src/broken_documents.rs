//! Many documents that are wrong in one way each: what is said, where it points, and that it says
//! what to do.

use std::error::Error;

/// A document with its marks taken out, and where they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenDocument {
    /// What is wrong with it.
    pub name: &'static str,
    /// The whole of it.
    pub text: String,
    /// What is wrong, as it is written there.
    pub token: String,
    /// The line of the token, from 1.
    pub line: usize,
    /// Its first character in that line, from 1.
    pub column: usize,
}

impl BrokenDocument {
    /// Those of a file: before each a line `=== ` with its name, and `«` and `»` around what is to be
    /// pointed at. Without the second that is nothing but the place.
    ///
    /// # Panics
    /// Where one of them has no name or no mark.
    pub fn all(file: &'static str) -> Vec<Self> {
        let texts = file.split("=== ").skip(1);
        texts.map(BrokenDocument::of).collect()
    }

    fn of(text: &'static str) -> Self {
        let (name, marked) = text.split_once('\n').expect("a document has a name");
        let (before, rest) = marked
            .split_once('«')
            .unwrap_or_else(|| panic!("{name}: it has no mark"));
        let (token, after) = rest.split_once('»').unwrap_or(("", rest));
        BrokenDocument {
            name,
            text: format!("{before}{token}{after}"),
            token: token.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
        }
    }
}

/// What was said of many documents.
#[derive(Debug, Default)]
pub struct BrokenReport {
    all: String,
    count: usize,
    inexact: Vec<String>,
}

impl BrokenReport {
    /// Adds what was said of one, and whether it points at the token.
    pub fn add(&mut self, document: &BrokenDocument, said: &str, is_exact: bool) {
        self.count += 1;
        self.all += &format!("== {}\n{said}\n", document.name);
        if !is_exact {
            let BrokenDocument {
                name, line, column, ..
            } = document;
            let inexact = format!("{name} at {line}:{column}\n{said}");
            self.inexact.push(inexact);
        }
    }

    /// Adds an error and its causes: it begins with `place` where it points at the token, and says
    /// behind a semicolon what to do.
    ///
    /// # Panics
    /// Where it does not say what to do.
    pub fn add_error(&mut self, document: &BrokenDocument, error: &dyn Error, place: &str) {
        let message = error.to_string();
        assert!(
            message.contains("; "),
            "{}: what to do? {message}",
            document.name
        );
        let is_exact = message.starts_with(place);
        let causes = std::iter::successors(error.source(), |error| (*error).source());
        let causes: String = causes.map(|cause| format!("\n  {cause}")).collect();
        self.add(document, &(message + &causes), is_exact);
    }

    /// All that was said, to be compared with what was said before.
    pub fn all(&self) -> &str {
        &self.all
    }

    /// Of at least so many documents, nearly all have to be pointed at exactly.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn check(&self, at_least: usize) {
        assert!(self.count >= at_least, "{}", self.count);
        let most = self.count / 20;
        assert!(
            self.inexact.len() <= most,
            "{}: {}",
            self.inexact.len(),
            self.inexact.join("\n")
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const FILE: &str = "=== first\na: 1\nä«bc»d\n=== second\n«{\n";

    #[test]
    fn marks_are_taken_out_and_say_the_place() {
        let [first, second] = &BrokenDocument::all(FILE)[..] else {
            panic!("there are two");
        };
        assert_eq!(
            (
                first.name,
                &*first.text,
                &*first.token,
                first.line,
                first.column
            ),
            ("first", "a: 1\näbcd\n", "bc", 2, 2)
        );
        assert_eq!(
            (
                second.name,
                &*second.text,
                &*second.token,
                second.line,
                second.column
            ),
            ("second", "{\n", "", 1, 1)
        );
    }

    #[test]
    fn an_error_is_reported_with_its_place() {
        let documents = BrokenDocument::all(FILE);
        let mut report = BrokenReport::default();
        report.add_error(
            &documents[0],
            &io::Error::other("f:2:2: no; do it"),
            "f:2:2: ",
        );
        report.check(1);
        assert_eq!(report.all(), "== first\nf:2:2: no; do it\n");
    }

    #[test]
    #[should_panic(expected = "second at 1:1")]
    fn what_points_elsewhere_is_told() {
        let documents = BrokenDocument::all(FILE);
        let mut report = BrokenReport::default();
        report.add(&documents[1], "elsewhere", false);
        report.check(1);
    }

    #[test]
    #[should_panic(expected = "what to do")]
    fn an_error_says_what_to_do() {
        let documents = BrokenDocument::all(FILE);
        BrokenReport::default().add_error(&documents[0], &io::Error::other("no"), "");
    }

    #[test]
    #[should_panic(expected = "0")]
    fn no_document_is_too_few() {
        BrokenReport::default().check(1);
    }
}
