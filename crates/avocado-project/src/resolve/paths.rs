//! Paths of the project: what a step can reach.

use std::path::{Component, Path, PathBuf};

use crate::decode::{Spanned, TextOr};
use crate::diagnostic::quoted;
use crate::model::{Overlay, OverlayMode};
use crate::raw::{RawOverlay, Text};
use crate::suggest;

use super::Resolver;

impl Resolver<'_, '_> {
    /// A path below the source directory, without `.` and `..`.
    pub(super) fn source_path(&mut self, text: &Text, what: &str) -> Option<PathBuf> {
        match relative(&text.value) {
            Ok(path) => Some(path),
            Err(why) => {
                let message = format!("the {what} {} cannot be used: {why}", quoted(text));
                self.report
                    .error(text.span, message)
                    .hint("steps see the source directory only; paths are relative to it");
                None
            }
        }
    }

    /// A script that exists.
    pub(super) fn script(&mut self, text: Option<&Text>) -> Option<PathBuf> {
        let text = text?;
        let path = self.source_path(text, "script")?;
        let full = self.src_dir.join(&path);
        if full.is_file() {
            return Some(path);
        }
        let message = format!("the script {} does not exist", quoted(text));
        self.missing(text, message, &full);
        None
    }

    /// An overlay whose directory exists.
    pub(super) fn overlay(&mut self, raw: Option<Spanned<TextOr<RawOverlay>>>) -> Option<Overlay> {
        let Spanned { value, span } = raw?;
        let (dir, mode) = match value {
            TextOr::Text(value) => (Some(Spanned { value, span }), None),
            TextOr::Other(raw) => {
                let preprocess = raw.preprocess.as_ref();
                if let Some(preprocess) = preprocess.filter(|p| !is_false(&p.value)) {
                    self.unsupported(preprocess.span, "`preprocess` of an overlay");
                }
                (raw.dir, raw.mode)
            }
        };
        let Some(dir) = dir else {
            self.report.error(span, "the overlay has no `dir`");
            return None;
        };
        let mode = self.overlay_mode(mode.as_ref());
        let path = self.source_path(&dir, "overlay directory")?;
        let full = self.src_dir.join(&path);
        if !full.is_dir() {
            let message = match full.exists() {
                true => format!("the overlay {} is not a directory", quoted(&dir)),
                false => format!("the overlay directory {} does not exist", quoted(&dir)),
            };
            self.missing(&dir, message, &full);
            return None;
        }
        Some(Overlay { dir: path, mode })
    }

    fn overlay_mode(&mut self, text: Option<&Text>) -> OverlayMode {
        let Some(text) = text else {
            return OverlayMode::default();
        };
        match text.as_str() {
            "merge" => OverlayMode::Merge,
            "opaque" => OverlayMode::Opaque,
            other => {
                let message = format!("{} is not a mode of an overlay", quoted(other));
                self.report
                    .error(text.span, message)
                    .hint(suggest::hint(other, ["merge", "opaque"]));
                OverlayMode::default()
            }
        }
    }

    fn missing(&mut self, text: &Text, message: String, full: &Path) {
        self.report
            .error(text.span, message)
            .hint(format!("it is looked for at {}", full.display()));
    }

    /// `var_files` of an extension: paths of its tree, from the root of the tree. A `/*` or `/**`
    /// at the end stays; a slash at the start goes.
    pub(super) fn var_patterns(&mut self, texts: Option<Vec<Text>>) -> Vec<String> {
        let mut patterns = Vec::new();
        for text in texts.unwrap_or_default() {
            match var_pattern(&text.value) {
                Ok(pattern) => patterns.push(pattern),
                Err(why) => {
                    let message = format!("{} cannot be used: {why}", quoted(&text));
                    self.report
                        .error(text.span, message)
                        .hint("write for example `var/lib/app` or `var/lib/app/**`");
                }
            }
        }
        patterns
    }

    /// A path below `/var` of the device.
    pub(super) fn var_dest(&mut self, text: &Text) -> Option<PathBuf> {
        match relative(&text.value) {
            Ok(mut path) => {
                // A slash at the end says that this is a directory to put things into.
                if text.ends_with('/') {
                    path.push("");
                }
                Some(path)
            }
            Err(why) => {
                let message = format!("the destination {} cannot be used: {why}", quoted(text));
                self.report
                    .error(text.span, message)
                    .hint("it is relative to /var, for example `lib/app`");
                None
            }
        }
    }
}

fn is_false<T>(value: &TextOr<T>) -> bool {
    matches!(value, TextOr::Text(text) if text == "false")
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
    match path.as_os_str().is_empty() {
        true => Err("it names nothing"),
        false => Ok(path),
    }
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
