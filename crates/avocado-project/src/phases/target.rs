//! What the top level of the file says: for which target, and where the sources are.

use std::path::{Path, PathBuf};

use avocado_manifest::Name;

use crate::decode::{Spanned, TextOr};
use crate::diagnostic::Diagnostic;
use crate::raw::{RawTop, Text};
use crate::report::Report;
use crate::suggest;
use crate::text::quoted;

/// The names of `supported_targets`; empty for all.
pub(super) fn supported(
    supported: &Spanned<TextOr<Vec<Text>>>,
    report: &mut Report,
) -> Vec<String> {
    match &supported.value {
        TextOr::Text(all) if all == "*" => Vec::new(),
        TextOr::Text(other) => {
            let message = format!("expected a list or `*`, found {}", quoted(other));
            report
                .error(supported.span, message)
                .hint(format!("write `[{other}]` for one target"));
            Vec::new()
        }
        TextOr::Other(list) if list.iter().any(|name| name.value == "*") => Vec::new(),
        TextOr::Other(list) => list.iter().map(|name| name.value.clone()).collect(),
    }
}

pub(super) fn target(
    wanted: Option<&str>,
    top: &RawTop,
    supported: &[String],
    report: &mut Report,
) -> Option<Name> {
    let Some(text) = wanted else {
        let hint = match supported {
            [] => "use `--target`, set AVOCADO_TARGET, or add `default_target:`".to_owned(),
            some => format!(
                "use `--target`, set AVOCADO_TARGET, or add `default_target:`; supported: {}",
                some.join(", ")
            ),
        };
        report.error(None, "no target is given").hint(hint);
        return None;
    };
    // The place of the default, where it is what was taken.
    let default = top.default_target.as_ref().filter(|d| d.value == text);
    let name: Name = match text.parse() {
        Ok(name) => name,
        Err(error) => {
            let message = format!("the target cannot be used: {error}");
            report.error(default.map(|d| d.span), message);
            return None;
        }
    };
    if !supported.is_empty() && !supported.iter().any(|s| s == text) {
        let place = top.supported_targets.as_ref().map(|s| s.span);
        report
            .error(
                place,
                format!(
                    "the target {} is not supported by the project",
                    quoted(text)
                ),
            )
            .hint(suggest::hint(text, supported.iter().map(String::as_str)));
        return None;
    }
    Some(name)
}

/// `src_dir`, which is relative to the directory of the file, or that directory; and what is wrong
/// with it.
pub(super) fn source_dir(
    config: &Path,
    src_dir: Option<&Text>,
    report: &Report,
) -> (PathBuf, Option<Diagnostic>) {
    let here = config.parent().unwrap_or(Path::new("/"));
    let Some(text) = src_dir else {
        return (here.to_owned(), None);
    };
    // `absolute` also takes the `.` out, without following links.
    let dir = here.join(&text.value);
    let dir = std::path::absolute(&dir).unwrap_or(dir);
    if dir.is_dir() {
        return (dir, None);
    }
    let message = format!("the source directory {} does not exist", quoted(text));
    let unusable = report.place(text.span).error(message);
    let unusable = unusable.with_hint(format!("it is looked for at {}", dir.display()));
    (dir, Some(unusable))
}
