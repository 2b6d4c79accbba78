//! Many projects that are wrong in one way each: what is said, and that it points at the token that
//! is wrong.

mod common;

use avocado_project::{Diagnostic, ProjectError};
use avocado_test_support::{BrokenDocument, BrokenReport};
use common::Site;

const PROJECTS: &str = include_str!("broken/projects.txt");

/// Whether what was said first points at the token, and at nothing but that.
fn is_exact(broken: &BrokenDocument, found: &Diagnostic) -> bool {
    let snippet = found.snippet.as_ref();
    let shown = snippet.and_then(|s| s.line.get(s.start..s.end));
    // Something has to be underlined even where nothing is written.
    let shown = if broken.token.is_empty() {
        Some("")
    } else {
        shown
    };
    // An excerpt has a mask of the same width in the place of a password.
    let masked = "*".repeat(broken.token.chars().count());
    let is_token = shown == Some(broken.token.as_str()) || shown == Some(masked.as_str());
    found.line as usize == broken.line && is_token
}

#[test]
fn what_is_wrong_is_told_at_its_token() {
    let site = Site::new();
    let mut report = BrokenReport::default();
    for broken in BrokenDocument::all(PROJECTS) {
        let found = match site.load(&broken.text) {
            Ok(loaded) => loaded.warnings,
            Err(ProjectError::Invalid { diagnostics }) => diagnostics,
            Err(error) => panic!("{}: {error}", broken.name),
        };
        let first = found.first();
        let is_exact = first.is_some_and(|first| is_exact(&broken, first));
        report.add(&broken, &format!("{}\n", site.said(&broken.text)), is_exact);
    }
    insta::assert_snapshot!(report.all());
    report.check(100);
}
