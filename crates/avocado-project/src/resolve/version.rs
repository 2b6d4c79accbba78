//! The version of an extension: stated, or a value of another file.

use std::fs;
use std::io;
use std::path::Path;

use avocado_manifest::Name;
use serde_json::Value as Json;

use super::context::ResolveContext;
use super::paths;
use super::values::is_version;
use crate::decode::{Spanned, TextOr};
use crate::model::Needed;
use crate::raw::{RawVersionFile, Text};
use crate::report::Report;
use crate::source::{FileId, Span};
use crate::suggest;
use crate::text::quoted;
use crate::yaml::{self, Node};

/// A file of the project that has a version in it is smaller than this.
const LARGEST_FILE: u64 = 1 << 20;

const HINT: &str = "write three numbers or more, for example `0.1.0`, `1.2.3-rc.1` or `1.2.3+7`";

/// `None` where it is wrong, which is reported. One that a template leaves without a version, or
/// that is in a file which does not have it, is for those who need it to complain of.
pub(super) fn version(
    cx: &mut ResolveContext<'_>,
    version: Spanned<TextOr<RawVersionFile>>,
) -> Option<Needed<Name>> {
    let span = version.span;
    match version.value {
        TextOr::Other(file) => from_file(cx, file, span),
        TextOr::Text(value) if is_version(&value) => {
            cx.name(&Spanned { value, span }).map(Needed::Known)
        }
        TextOr::Text(value) => {
            let message = match value.trim() {
                "" => "the version of the extension is empty".to_owned(),
                _ => format!("{} is not a version of an extension", quoted(&value)),
            };
            if cx.report.is_template(span) {
                let why = cx.place(span).error(message);
                let why = why.with_hint("are the variables of this template set?");
                return Some(Needed::Missing(Box::new(why)));
            }
            cx.report.error(span, message).hint(HINT);
            None
        }
    }
}

/// How a file is read.
#[derive(Clone, Copy)]
enum FileFormat {
    Toml,
    Json,
    Yaml,
}

const FORMATS: [(&str, FileFormat); 4] = [
    ("toml", FileFormat::Toml),
    ("json", FileFormat::Json),
    ("yaml", FileFormat::Yaml),
    ("yml", FileFormat::Yaml),
];

fn from_file(cx: &mut ResolveContext<'_>, raw: RawVersionFile, span: Span) -> Option<Needed<Name>> {
    let Some(file) = raw.file else {
        let message = "a version that is read from a file has no `file`";
        cx.report.error(span, message);
        return None;
    };
    let path = paths::source_path(cx, &file, "file")?;
    let format = format(cx, raw.format.as_ref(), &path, &file)?;
    let key = raw
        .key
        .map_or_else(|| "version".to_owned(), |key| key.value);
    let full = cx.src_dir.join(&path);
    let found = within(cx, &full).and_then(|()| read(&full, format, &key));
    let found = found.and_then(|text| {
        let text = text.trim();
        match text.parse::<Name>() {
            Ok(version) if is_version(text) => Ok(version),
            _ => Err(format!(
                "has {} as `{key}`, which is not a version",
                quoted(text)
            )),
        }
    });
    Some(match found {
        Ok(version) => Needed::Known(version),
        Err(why) => {
            let message = format!("the file {} {why}", quoted(&file));
            let hint = format!("it is looked for at {}", full.display());
            let why = cx.place(file.span).error(message);
            Needed::Missing(Box::new(why.with_hint(hint)))
        }
    })
}

/// What was fetched says nothing of what else is on this machine: a link of it does not lead there.
fn within(cx: &ResolveContext<'_>, file: &Path) -> Result<(), String> {
    if !cx.is_foreign {
        return Ok(());
    }
    match (file.canonicalize(), cx.src_dir.canonicalize()) {
        (Ok(file), Ok(directory)) if !file.starts_with(&directory) => {
            Err("leads out of what was fetched".to_owned())
        }
        // That it is not there is told where it is read.
        _ => Ok(()),
    }
}

/// The stated format, or the one that the name of the file tells.
fn format(
    cx: &mut ResolveContext<'_>,
    stated: Option<&Text>,
    path: &Path,
    file: &Text,
) -> Option<FileFormat> {
    let suffix = path.extension().unwrap_or_default().to_string_lossy();
    let name = stated.map_or(&*suffix, |text| text.as_str());
    if let Some((_, format)) = FORMATS.iter().find(|(known, _)| *known == name) {
        return Some(*format);
    }
    let names = FORMATS.map(|(name, _)| name);
    match stated {
        Some(stated) => {
            let message = format!(
                "{} is not a format that a version is read from",
                quoted(stated)
            );
            cx.report
                .error(stated.span, message)
                .hint(suggest::hint(stated, names));
        }
        None => {
            let message = format!("the format of {} is not known", quoted(file));
            cx.report
                .error(file.span, message)
                .hint("add `format: toml`, `json` or `yaml`");
        }
    }
    None
}

/// The text at a path of keys with dots between; an error is what is wrong with the file.
fn read(file: &Path, format: FileFormat, key: &str) -> Result<String, String> {
    let unreadable = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let metadata = fs::metadata(file).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    let bytes =
        avocado_fs::read_at_most(file, LARGEST_FILE).map_err(|error| unreadable(&error.source))?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let found = match format {
        FileFormat::Json => {
            let root: Json = serde_json::from_str(&text).map_err(|e| format!("is no JSON: {e}"))?;
            json_at(&root, key)
        }
        FileFormat::Toml => {
            let root: Json = toml::from_str(&text)
                .map_err(|error| format!("is no TOML: {}", error.message()))?;
            json_at(&root, key)
        }
        FileFormat::Yaml => {
            let mut report = Report::new(file, text);
            let root = yaml::parse(FileId::MAIN, &mut report);
            let root = root.ok_or_else(|| {
                let found = report.finish();
                let first = found.first().map(|d| format!(": {}", d.message));
                format!("is no YAML{}", first.unwrap_or_default())
            })?;
            let node = key.split('.').try_fold(&root, |node, key| node.get(key));
            node.and_then(Node::as_text).map(str::to_owned)
        }
    };
    found.ok_or_else(|| format!("has no `{key}`"))
}

fn json_at(root: &Json, key: &str) -> Option<String> {
    match key.split('.').try_fold(root, |value, key| value.get(key))? {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
