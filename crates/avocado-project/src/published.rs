//! What of avocado.yaml is not for everybody, where its text is given to others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::error::ProjectError;
use crate::interpolate;
use crate::report::Report;
use crate::secrets;
use crate::source::{FileId, Span};
use crate::yaml::{self, Node, Value};

/// That a text of avocado.yaml holds no secret: each is to be a reference to a variable. `path` is
/// for messages, which show none.
///
/// # Errors
/// [`ProjectError::Invalid`] with the place of each secret.
pub fn check_published(path: &Path, text: &str) -> Result<(), ProjectError> {
    let mut report = Report::new(path, text);
    let Some(root) = yaml::parse(FileId::MAIN, &mut report) else {
        return Err(ProjectError::invalid(report));
    };
    let mut secrets = WrittenSecrets {
        root: &root,
        followed: BTreeSet::new(),
        found: BTreeMap::new(),
    };
    secrets.collect(&root, false);
    let complaint = |(_, (span, what)): (usize, (Span, String))| {
        let why =
            format!("{what} is written here, and everybody would get it who gets the package");
        let mut complaint: Diagnostic = report.place(span).error(why);
        complaint.snippet = None;
        complaint.with_hint(
            "write `{{ env.NAME }}` instead, and set that variable where the project is built",
        )
    };
    let diagnostics: Vec<_> = secrets.found.into_iter().map(complaint).collect();
    if diagnostics.is_empty() {
        return Ok(());
    }
    Err(ProjectError::Invalid { diagnostics })
}

/// The secrets that a file has itself.
struct WrittenSecrets<'a> {
    root: &'a Node,
    /// The values that a secret refers to, by their first byte: each is looked at once.
    followed: BTreeSet<usize>,
    /// What is where, by the first byte.
    found: BTreeMap<usize, (Span, String)>,
}

impl<'a> WrittenSecrets<'a> {
    /// `of_repository`: below `repo` or `repos`, whose `password` is one. That of a user of the device
    /// is a hash, which every image holds.
    fn collect(&mut self, node: &'a Node, of_repository: bool) {
        match &node.value {
            Value::Mapping(entries) => {
                for entry in entries {
                    let (key, value) = (&*entry.key.text, &entry.value);
                    if of_repository
                        && key == "password"
                        && let Some(text) = value.as_text()
                    {
                        self.secret(text, value.span, "a password");
                    }
                    let of_repository = of_repository || ["repo", "repos"].contains(&key);
                    self.collect(value, of_repository);
                }
            }
            Value::Sequence(nodes) => {
                for node in nodes {
                    self.collect(node, of_repository);
                }
            }
            Value::Scalar(scalar) => {
                for secret in secrets::of_urls(&scalar.text) {
                    let what = "a URL with a password or a token";
                    self.secret(&scalar.text[secret], node.span, what);
                }
            }
        }
    }

    /// A secret is here, or in what this refers to of the same file.
    fn secret(&mut self, text: &str, span: Span, what: &str) {
        if secrets::is_literal(text) {
            let found = self.found.entry(span.start);
            found.or_insert_with(|| (span, what.to_owned()));
        }
        for expression in secrets::references(text) {
            let Some(node) = interpolate::value_of_config(expression, self.root) else {
                continue;
            };
            if self.followed.insert(node.span.start) {
                let what = format!("a password that line {} refers to", span.line);
                self.secret(node.as_text().unwrap_or_default(), node.span, &what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_text_for_others_is_refused_and_not_shown() {
        for (text, expected) in [
            ("repos: {vendor: {password: s3cret}}", &["f:1:28"][..]),
            (
                "distro:\n  repo:\n    username: me\n    password: \"s3cret\"\n",
                &["f:4:15"],
            ),
            (
                "repos:\n  vendor:\n    target-pi:\n      password: |\n        s3cret\n",
                &["f:5:9"],
            ),
            (
                "repos: {a: {url: 'https://me:s3cret@host/x'}, b: {password: s3cret}}",
                &["f:1:18", "f:1:61"],
            ),
            (
                "x: {source: {type: git, url: 'https://{{ env.ME }}:s3cret@host/x'}}",
                &["f:1:30"],
            ),
            ("x: ['git+ssh://a:s3cret@host']", &["f:1:5"]),
            ("repos: {a: {password: '{{ env.P }}'}}", &[]),
            ("repos: {a: {password: ''}}", &[]),
            ("repos: {a: {url: 'https://me:{{ env.P }}@host'}}", &[]),
            ("repos: {a: {url: 'https://host:8080/a@b'}}", &[]),
            ("repos: {a: {url: 'https://s3cret@host/x'}}", &["f:1:18"]),
            ("x: 'https://{{ env.TOKEN }}@host/x'", &[]),
            // Elsewhere in the file, which is published as a whole.
            (
                "a:\n  b: s3cret\nrepos: {a: {password: '{{ config.a.b }}'}}",
                &["f:2:6"],
            ),
            (
                "repos: {a: {url: 'https://me:{{ config.b }}@host'}}\nb: '{{config.c}}'\nc: s3cret",
                &["f:3:4"],
            ),
            (
                "x: 'https://{{ config.who }}@host'\nwho: me:s3cret",
                &["f:2:6"],
            ),
            // Each place once.
            (
                "p: s3cret\nrepos: {a: {password: '{{ config.p }}'}, b: {password: '{{ config.p }}'}}",
                &["f:1:4"],
            ),
            (
                "p: '{{ env.P }}'\nrepos: {a: {password: '{{ config.p }}'}}",
                &[],
            ),
            ("repos: {a: {password: '{{ config.no }}'}}", &[]),
            (
                "p: '{{ config.q }}'\nq: '{{ config.p }}'\nrepos: {a: {password: '{{ config.p }}'}}",
                &[],
            ),
            ("p: s3cret\nx: '{{ config.p }}'", &[]),
            ("x: {url: 'ssh://git@host/x'}", &[]),
            ("permissions: {users: {root: {password: '$6$x'}}}", &[]),
        ] {
            let checked = check_published("f".as_ref(), text);
            let diagnostics = match &checked {
                Ok(()) => &[][..],
                Err(ProjectError::Invalid { diagnostics }) => diagnostics,
                Err(other) => panic!("{text}: {other}"),
            };
            let places = diagnostics
                .iter()
                .map(|d| format!("f:{}:{}", d.line, d.column));
            assert_eq!(places.collect::<Vec<_>>(), expected, "{text}");
            let shown = format!("{diagnostics:?}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
