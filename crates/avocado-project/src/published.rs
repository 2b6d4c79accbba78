//! What of avocado.yaml is not for everybody, where its text is given to others.

use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::error::ProjectError;
use crate::report::Report;
use crate::source::{FileId, Span};
use crate::yaml::{self, Node, Value};

/// That a text of avocado.yaml holds no password: each is to be a reference to a variable. `path` is
/// for messages, which show none.
///
/// # Errors
/// [`ProjectError::Invalid`] with the place of each password.
pub fn check_published(path: &Path, text: &str) -> Result<(), ProjectError> {
    let mut report = Report::new(path, text);
    let Some(root) = yaml::parse(FileId::MAIN, &mut report) else {
        return Err(ProjectError::invalid(report));
    };
    let mut found = Vec::new();
    collect(&root, false, &mut found);
    let complaint = |(span, what): (Span, &str)| {
        let why =
            format!("{what} is written here, and everybody would get it who gets the package");
        let mut complaint: Diagnostic = report.place(span).error(why);
        complaint.snippet = None;
        complaint.with_hint(
            "write `{{ env.NAME }}` instead, and set that variable where the project is built",
        )
    };
    let diagnostics: Vec<_> = found.into_iter().map(complaint).collect();
    if diagnostics.is_empty() {
        return Ok(());
    }
    Err(ProjectError::Invalid { diagnostics })
}

/// `of_repository`: below `repo` or `repos`, whose `password` is one. That of a user of the device is a
/// hash, which every image holds.
fn collect(node: &Node, of_repository: bool, found: &mut Vec<(Span, &'static str)>) {
    match &node.value {
        Value::Mapping(entries) => {
            for entry in entries {
                let (key, value) = (&*entry.key.text, &entry.value);
                if of_repository && key == "password" && value.as_text().is_some_and(is_literal) {
                    found.push((value.span, "a password"));
                }
                let of_repository = of_repository || ["repo", "repos"].contains(&key);
                collect(value, of_repository, found);
            }
        }
        Value::Sequence(nodes) => {
            for node in nodes {
                collect(node, of_repository, found);
            }
        }
        Value::Scalar(scalar) => {
            if has_literal_password(&scalar.text) {
                found.push((node.span, "a URL with a password"));
            }
        }
    }
}

fn is_literal(text: &str) -> bool {
    !text.is_empty() && !text.trim_start().starts_with("{{")
}

/// Whether a URL in `text` has `user:password@` before its host.
fn has_literal_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '"', '\'', ',']).next().unwrap_or(rest);
        let user = authority.rsplit_once('@').map(|(user, _host)| user);
        let password = user.and_then(|user| Some(user.split_once(':')?.1));
        password.is_some_and(is_literal)
    })
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
