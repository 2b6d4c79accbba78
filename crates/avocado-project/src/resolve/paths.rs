//! Paths of the project: what a step can reach.

use std::path::{Component, Path, PathBuf};

use crate::decode::{Spanned, TextOr};
use crate::diagnostic::Diagnostic;
use crate::model::{Overlay, OverlayMode, Placed, PreprocessedFiles};
use crate::path_pattern::PathPattern;
use crate::raw::{RawOverlay, Text};
use crate::suggest;
use crate::text::quoted;

use super::context::ResolveContext;

/// Whether it is there, those see who use it.
pub(super) fn file_of_project(
    cx: &ResolveContext<'_>,
    text: &Text,
    what: &str,
    unusable: &mut Vec<Diagnostic>,
) -> PathBuf {
    let path = cx.src_dir.join(&text.value);
    if !path.is_file() {
        let message = format!("the {what} {} does not exist", quoted(text));
        let error = cx.place(text.span).error(message);
        unusable.push(error.with_hint(format!("it is looked for at {}", path.display())));
    }
    path
}

/// A path below the source directory, without `.` and `..`.
pub(super) fn source_path(cx: &mut ResolveContext<'_>, text: &Text, what: &str) -> Option<PathBuf> {
    match relative(&text.value) {
        Ok(path) => Some(path),
        Err(why) => {
            let message = format!("the {what} {} cannot be used: {why}", quoted(text));
            cx.report
                .error(text.span, message)
                .hint("steps see the source directory only; paths are relative to it");
            None
        }
    }
}

/// A path below the source directory, with its place: whether it is there is seen when it is used.
pub(super) fn placed_path(
    cx: &mut ResolveContext<'_>,
    text: Option<&Text>,
    what: &str,
) -> Option<Placed<PathBuf>> {
    let text = text?;
    let path = source_path(cx, text, what)?;
    Some(cx.placed(path, text.span))
}

/// A script.
pub(super) fn script(cx: &mut ResolveContext<'_>, text: Option<&Text>) -> Option<Placed<PathBuf>> {
    placed_path(cx, text, "script")
}

/// The directories in which the files are that a stone manifest names.
pub(super) fn stone_include_paths(
    cx: &mut ResolveContext<'_>,
    texts: Option<Vec<Text>>,
) -> Vec<Placed<PathBuf>> {
    let texts = texts.unwrap_or_default();
    let paths = texts.iter();
    paths
        .filter_map(|text| placed_path(cx, Some(text), "directory"))
        .collect()
}

/// An overlay.
pub(super) fn overlay(
    cx: &mut ResolveContext<'_>,
    raw: Option<Spanned<TextOr<RawOverlay>>>,
) -> Option<Overlay> {
    let Spanned { value, span } = raw?;
    let (dir, mode, preprocess) = match value {
        TextOr::Text(value) => (Some(Spanned { value, span }), None, None),
        TextOr::Other(raw) => (raw.dir, raw.mode, raw.preprocess),
    };
    let Some(dir) = dir else {
        cx.report.error(span, "the overlay has no `dir`");
        return None;
    };
    let mode = overlay_mode(cx, mode.as_ref());
    Some(Overlay {
        dir: source_path(cx, &dir, "overlay directory")?,
        place: cx.place(dir.span),
        mode,
        preprocess: preprocess.and_then(|preprocess| preprocessed_files(cx, preprocess)),
    })
}

fn preprocessed_files(
    cx: &mut ResolveContext<'_>,
    stated: Spanned<TextOr<Vec<Text>>>,
) -> Option<PreprocessedFiles> {
    let patterns = match stated.value {
        TextOr::Other(patterns) => patterns,
        TextOr::Text(text) if text == "true" => return Some(PreprocessedFiles::All),
        TextOr::Text(text) if text == "false" => return None,
        TextOr::Text(value) => vec![Spanned {
            value,
            span: stated.span,
        }],
    };
    let hint = "write for example `etc/*.conf` or `usr/lib/app/**`, or true for all files";
    let mut usable = Vec::new();
    for text in patterns {
        let path = text.trim_start_matches('/');
        if let Err(why) = relative(path) {
            let message = format!("{} matches no file: {why}", quoted(&text));
            cx.report.error(text.span, message).hint(hint);
        } else if let Some(pattern) = path_pattern(cx, &text, path, hint) {
            usable.push(pattern);
        }
    }
    Some(PreprocessedFiles::Matching(usable))
}

/// `package_files`: patterns of what is below the source directory, `.` for all of it.
pub(super) fn package_files(
    cx: &mut ResolveContext<'_>,
    texts: Option<Vec<Text>>,
) -> Vec<Placed<PathPattern>> {
    let hint =
        "write for example `src/**/*.c` or a directory, which is meant with all that is in it";
    let mut usable = Vec::new();
    for text in texts.unwrap_or_default() {
        let mut parts = Path::new(&text.value).components();
        let is_everything = !text.is_empty() && parts.all(|part| part == Component::CurDir);
        let path = match relative(&text.value) {
            Ok(path) => path,
            Err(_) if is_everything => "*".into(),
            Err(why) => {
                let message = format!("{} is no path below the sources: {why}", quoted(&text));
                cx.report.error(text.span, message).hint(hint);
                continue;
            }
        };
        usable.extend(path_pattern(cx, &text, &path.to_string_lossy(), hint));
    }
    usable
}

/// The pattern `path`, which is written as `text`.
fn path_pattern(
    cx: &mut ResolveContext<'_>,
    text: &Text,
    path: &str,
    hint: &str,
) -> Option<Placed<PathPattern>> {
    match PathPattern::new(path) {
        Ok(pattern) => Some(cx.placed(pattern, text.span)),
        Err(why) => {
            let message = format!("{} is no pattern: {why}", quoted(text));
            cx.report.error(text.span, message).hint(hint);
            None
        }
    }
}

fn overlay_mode(cx: &mut ResolveContext<'_>, text: Option<&Text>) -> OverlayMode {
    let Some(text) = text else {
        return OverlayMode::default();
    };
    match text.as_str() {
        "merge" => OverlayMode::Merge,
        "opaque" => OverlayMode::Opaque,
        other => {
            let message = format!("{} is not a mode of an overlay", quoted(other));
            cx.report
                .error(text.span, message)
                .hint(suggest::hint(other, ["merge", "opaque"]));
            OverlayMode::default()
        }
    }
}

/// `var_files` of an extension: paths of its tree, from the root of the tree. A `/*` or `/**`
/// at the end stays; a slash at the start goes.
///
/// `release_directories` are where systemd looks for what the extension is.
pub(super) fn var_patterns(
    cx: &mut ResolveContext<'_>,
    texts: Option<Vec<Text>>,
    release_directories: &[&str],
) -> Vec<String> {
    let mut patterns = Vec::new();
    for text in texts.unwrap_or_default() {
        match var_pattern(&text.value) {
            Ok(pattern) => {
                let left_out = pattern.trim_end_matches('*').trim_end_matches('/');
                let has_release = |directory: &&&str| Path::new(directory).starts_with(left_out);
                if let Some(directory) = release_directories.iter().find(has_release) {
                    let message = format!(
                        "{} leaves {directory} out of the image, by which systemd knows the \
                         extension: no image can be made",
                        quoted(&text)
                    );
                    cx.report
                        .warning(text.span, message)
                        .hint("name what belongs on the var partition alone");
                }
                patterns.push(pattern);
            }
            Err(why) => {
                let message = format!("{} cannot be used: {why}", quoted(&text));
                cx.report
                    .error(text.span, message)
                    .hint("write for example `var/lib/app` or `var/lib/app/**`");
            }
        }
    }
    patterns
}

/// Where a file goes, below `/var` of the device.
pub(super) fn var_dest(cx: &mut ResolveContext<'_>, text: &Text) -> Option<PathBuf> {
    let mut path = path_on_var(cx, text, "destination")?;
    // A slash at the end says that this is a directory to put things into.
    if text.ends_with('/') {
        path.push("");
    }
    Some(path)
}

/// A path below `/var` of the device.
pub(super) fn path_on_var(cx: &mut ResolveContext<'_>, text: &Text, what: &str) -> Option<PathBuf> {
    match relative(&text.value) {
        Ok(path) => Some(path),
        Err(why) => {
            let message = format!("the {what} {} cannot be used: {why}", quoted(text));
            cx.report
                .error(text.span, message)
                .hint("it is relative to /var, for example `lib/app`");
            None
        }
    }
}

/// A relative path that stays below where it starts, without its `.` parts.
fn relative(text: &str) -> Result<PathBuf, &'static str> {
    if text.chars().any(char::is_control) {
        return Err("it has control characters");
    }
    let mut path = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err("it has `..`"),
            Component::RootDir | Component::Prefix(_) => return Err("it is absolute"),
        }
    }
    if path.as_os_str().is_empty() {
        return Err("it names nothing");
    }
    Ok(path)
}

fn var_pattern(text: &str) -> Result<String, &'static str> {
    let text = text.trim_start_matches('/');
    let (path, end) = match text.strip_suffix("/**") {
        Some(path) => (path, "/**"),
        None => match text.strip_suffix("/*") {
            Some(path) => (path, "/*"),
            None => (text, ""),
        },
    };
    if path.contains(['*', '?', '[']) {
        return Err("only `/*` or `/**` at the end is a pattern");
    }
    let path = relative(path)?;
    // A component of UTF-8 text is UTF-8.
    Ok(format!("{}{end}", path.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_of_var_files() {
        for (text, expected) in [
            ("var/lib/app", Ok("var/lib/app")),
            ("var/lib/app/", Ok("var/lib/app")),
            ("/var/lib/app/**", Ok("var/lib/app/**")),
            ("var//lib/./app/*", Ok("var/lib/app/*")),
            ("var/../etc", Err(())),
            ("var/*/app", Err(())),
            ("**", Err(())),
            ("/", Err(())),
            ("", Err(())),
            ("var/a\nb", Err(())),
        ] {
            let found = var_pattern(text).map_err(drop);
            assert_eq!(
                found.as_deref(),
                expected.as_ref().map(|s| *s).map_err(|()| &()),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_relative_path_stays_below(text in "[a./*\\PC]{0,20}") {
            if let Ok(path) = relative(&text) {
                prop_assert!(path.components().all(|c| matches!(c, Component::Normal(_))));
                prop_assert!(Path::new("/base").join(&path).starts_with("/base"));
            }
        }
    }
}
