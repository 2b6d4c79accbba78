//! The version of an extension as a text, in place of where it is read from.

use std::path::Path;

use avocado_manifest::Name;

use super::Document;
use super::change::{end_of, says_the_same, written};
use crate::error::ProjectError;
use crate::model::SourcePlace;
use crate::yaml::{Entry, Node, Scalar, Style, Value};

/// The text with these versions in it, each of the extension whose key is at that place: for those who
/// have neither the file that a version is read from nor the variable. `path` is for messages.
///
/// # Errors
/// [`ProjectError::Invalid`], with what to write by hand, where that cannot be done safely.
pub fn state_versions(
    path: &Path,
    text: &str,
    versions: &[(SourcePlace, Name)],
) -> Result<String, ProjectError> {
    let document = Document::read(path, text)?;
    let mut new_text = text.to_owned();
    let mut wanted = document.root.clone();
    // From the last to the first, so that what is before stays where it is.
    let mut spans: Vec<_> = Vec::new();
    for (place, version) in versions {
        if let Some(extension) = extension_at(&document.root, place) {
            collect(text, &extension.value, version, &mut spans);
        }
        if let Some(Value::Mapping(entries)) = child_mut(&mut wanted, "extensions")
            && let Some(extension) = entries.iter_mut().find(|entry| is_at(entry, place))
        {
            state(&mut extension.value, version);
        }
    }
    spans.sort_by_key(|(start, ..)| std::cmp::Reverse(*start));
    for (start, end, version) in spans {
        if let (Some(before), Some(after)) = (new_text.get(..start), new_text.get(end..)) {
            // Text, whatever it reads like.
            new_text = format!("{before}: \"{version}\"{after}");
        }
    }
    match document.reread(&new_text) {
        Some(now) if says_the_same(&now, &wanted) => Ok(new_text),
        _ => {
            let span = versions
                .first()
                .and_then(|(place, _)| Some(extension_at(&document.root, place)?.key.span));
            let place = document.report.place(span.unwrap_or(document.root.span));
            let message = "the version of an extension cannot be written here in place of where it is \
                           read from";
            let hint = "write each `version` as a text, or without anchors and merges";
            Err(place.error(message).with_hint(hint).into())
        }
    }
}

/// The entry of an extension, by the place of its key: that may be a template.
fn extension_at<'r>(root: &'r Node, place: &SourcePlace) -> Option<&'r Entry> {
    let mut extensions = root.get("extensions")?.entries()?.iter();
    extensions.find(|entry| is_at(entry, place))
}

fn is_at(entry: &Entry, place: &SourcePlace) -> bool {
    (entry.key.span.line, entry.key.span.column) == (place.line, place.column)
}

fn child_mut<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Value> {
    let Value::Mapping(entries) = &mut node.value else {
        return None;
    };
    let mut entries = entries.iter_mut();
    let found = entries.find(|entry| entry.key.text == key)?;
    Some(&mut found.value.value)
}

fn is_override(entry: &Entry) -> bool {
    entry.key.text.starts_with("target-")
}

fn is_stated(entry: &Entry, version: &Name) -> bool {
    entry.value.as_text() == Some(version.as_str())
}

/// What is between the key and the end of each version that is not stated: of the extension, and of
/// what differs for a target.
fn collect(text: &str, extension: &Node, version: &Name, spans: &mut Vec<(usize, usize, Name)>) {
    for entry in written(extension) {
        if entry.key.text == "version" && !is_stated(entry, version) {
            let span = (entry.key.span.end, end_of(text, entry), version.clone());
            spans.push(span);
        } else if is_override(entry) {
            collect(text, &entry.value, version, spans);
        }
    }
}

/// The same in the tree.
fn state(extension: &mut Node, version: &Name) {
    let Value::Mapping(entries) = &mut extension.value else {
        return;
    };
    for entry in entries {
        if entry.key.text == "version" && !is_stated(entry, version) {
            entry.value.value = Value::Scalar(Scalar {
                text: version.to_string(),
                style: Style::Quoted,
            });
        } else if is_override(entry) {
            state(&mut entry.value, version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(text: &str, line: u32, column: u32) -> Result<String, ProjectError> {
        let place = SourcePlace {
            file: "avocado.yaml".into(),
            line,
            column,
            snippet: None,
        };
        let versions = [(place, "1.2.0-rc.1".parse().unwrap())];
        state_versions(Path::new("avocado.yaml"), text, &versions)
    }

    #[test]
    fn a_version_of_another_file_becomes_a_text() {
        for (text, expected) in [
            (
                "extensions:\n  a: # kept\n    version:\n      file: Cargo.toml\n      key: package.version\n    # kept too\n    types: [sysext]\n",
                "extensions:\n  a: # kept\n    version: \"1.2.0-rc.1\"\n    # kept too\n    types: [sysext]\n",
            ),
            (
                "extensions:\n  a: {version: {file: v.json}, types: [sysext]}\n",
                "extensions:\n  a: {version: \"1.2.0-rc.1\", types: [sysext]}\n",
            ),
            (
                "extensions:\n  a:\n    version: '{{ env.VERSION }}'\n    target-x:\n      version: {file: v}\n",
                "extensions:\n  a:\n    version: \"1.2.0-rc.1\"\n    target-x:\n      version: \"1.2.0-rc.1\"\n",
            ),
            // Another one, and one that is stated.
            (
                "extensions:\n  a:\n    version: 1.2.0-rc.1\n  b:\n    version: {file: v}\n",
                "extensions:\n  a:\n    version: 1.2.0-rc.1\n  b:\n    version: {file: v}\n",
            ),
        ] {
            assert_eq!(stated(text, 2, 3).unwrap(), expected);
        }
    }

    #[test]
    fn what_others_have_as_well_is_not_edited() {
        let text = "x: &v {file: v}\nextensions:\n  a:\n    version: &w {file: v}\n  b:\n    version: *w\n";
        let error = stated(text, 3, 3).unwrap_err();
        assert_eq!(error.diagnostics()[0].line, 3, "{error}");
    }
}
