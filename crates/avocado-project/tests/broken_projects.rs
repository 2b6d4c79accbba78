//! Many projects that are wrong in one way each: what is said, and that it points at the token that
//! is wrong.

mod common;

use avocado_project::{Diagnostic, ProjectError};
use common::Site;

/// Each has a name, and `«` and `»` around what the first thing that is said should point at.
const PROJECTS: &str = include_str!("broken/projects.txt");

/// A project with its marks taken out, and where they were: the line and the part of it.
struct BrokenProject {
    name: &'static str,
    yaml: String,
    line: usize,
    token: String,
}

impl BrokenProject {
    fn all() -> Vec<Self> {
        let texts = PROJECTS.split("=== ").skip(1);
        texts.map(BrokenProject::of).collect()
    }

    fn of(text: &'static str) -> Self {
        let (name, marked) = text.split_once('\n').unwrap();
        let (before, rest) = marked.split_once('«').unwrap();
        let (token, after) = rest.split_once('»').unwrap();
        BrokenProject {
            name,
            yaml: format!("{before}{token}{after}"),
            line: before.matches('\n').count() + 1,
            token: token.to_owned(),
        }
    }

    /// Whether what was said first points at the token, and at nothing but that.
    fn is_exact(&self, found: &Diagnostic) -> bool {
        let snippet = found.snippet.as_ref();
        let shown = snippet.and_then(|s| s.line.get(s.start..s.end));
        // Something has to be underlined even where nothing is written.
        let shown = if self.token.is_empty() {
            Some("")
        } else {
            shown
        };
        // An excerpt has a mask of the same width in the place of a password.
        let masked = "*".repeat(self.token.chars().count());
        let is_token = shown == Some(self.token.as_str()) || shown == Some(masked.as_str());
        found.line as usize == self.line && is_token
    }
}

#[test]
fn what_is_wrong_is_told_at_its_token() {
    let site = Site::new();
    let (mut all, mut inexact) = (String::new(), Vec::new());
    let projects = BrokenProject::all();
    for project in &projects {
        let found = match site.load(&project.yaml) {
            Ok(loaded) => loaded.warnings,
            Err(ProjectError::Invalid { diagnostics }) => diagnostics,
            Err(error) => panic!("{}: {error}", project.name),
        };
        match found.first() {
            Some(first) if project.is_exact(first) => {}
            Some(first) => inexact.push(format!("{}\n{}", project.name, first.render())),
            None => inexact.push(project.name.to_owned()),
        }
        all += &format!("== {}\n{}\n\n", project.name, site.said(&project.yaml));
    }
    insta::assert_snapshot!(all);
    assert!(projects.len() >= 100, "{}", projects.len());
    let most = projects.len() / 20;
    assert!(
        inexact.len() <= most,
        "{}: {}",
        inexact.len(),
        inexact.join("\n")
    );
}
