//! Where an extension is fetched from, or a section of the project.

use std::fmt;
use std::path::{Path, PathBuf};

use avocado_manifest::Name;
use serde::Serialize;

use super::git_source;
use crate::lock::GitSource;
use crate::place::SourcePlace;
use crate::raw::{RawSource, Text};
use crate::report::Report;
use crate::source::Span;
use crate::suggest;
use crate::text::quoted;

/// What of a fetched project is taken over besides the extension, where its source does not say.
const DEFAULT_INCLUDE: [&str; 2] = ["sdk.packages.*", "sdk.compile.*"];

/// The sections that may come from elsewhere.
pub(crate) const SOURCED_SECTIONS: [&str; 3] = ["rootfs", "initramfs", "kernel"];

/// Where an extension is fetched from, or a section of the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtensionSource {
    /// The extension. A section has a name that no extension has.
    pub extension: Name,
    /// The section, where it is no extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section: Option<SourcedSection>,
    /// The place.
    pub kind: SourceKind,
    /// Where its files are, if they are here.
    pub fetched_to: Option<PathBuf>,
    /// Where the project says so: `avocado.yaml:12:5`.
    pub stated_at: String,
    /// Where it says which version, or which branch, tag or commit, if it does.
    #[serde(skip)]
    pub version_at: Option<SourcePlace>,
    /// What of the rest of the fetched avocado.yaml is taken over: `a.b`, or `a.b.*`.
    #[serde(skip)]
    pub(super) include: Vec<String>,
    #[serde(skip)]
    pub(super) span: Span,
}

/// An entry of `rootfs`, `initramfs` or `kernel` that comes from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourcedSection {
    /// The section.
    pub section: String,
    /// The name of the entry; `default` where the section is one.
    pub entry: String,
}

impl SourcedSection {
    /// What it is fetched as.
    pub(crate) fn source_name(section: &str, entry: &str) -> String {
        format!("{section}~{entry}")
    }
}

impl fmt::Display for SourcedSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry.as_str() {
            "default" => write!(f, "`{}`", self.section),
            entry => write!(f, "`{}.{entry}`", self.section),
        }
    }
}

/// A kind of place that an extension is fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A package of the feed.
    Package {
        /// Its name.
        package: String,
        /// `*`, or an exact version.
        version: String,
        /// The repository that has it, where it is stated.
        repository: Option<String>,
    },
    /// A git repository.
    Git {
        /// Its URL, or its path on this machine.
        url: String,
        /// The branch, tag or commit, where it is stated.
        reference: Option<String>,
        /// What is checked out; empty for everything.
        sparse_checkout: Vec<String>,
    },
    /// A directory of this machine, absolute, which is used where it is.
    Path {
        /// The directory.
        path: PathBuf,
    },
}

impl SourceKind {
    /// What is asked of a git repository, as the lock has it.
    pub fn git_source(&self) -> Option<GitSource> {
        match self {
            SourceKind::Git { url, reference, .. } => Some(GitSource {
                url: without_secrets(url),
                reference: reference.clone(),
            }),
            _ => None,
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceKind::Package { package, .. } => write!(f, "the package {package}"),
            SourceKind::Git { url, .. } => write!(f, "{}", without_secrets(url)),
            SourceKind::Path { path } => write!(f, "{}", path.display()),
        }
    }
}

/// A URL without the user and the password in it.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{scheme}://{host}{path}")
}

/// What a `source` says; `None`, and an error, where it cannot be used.
pub(super) fn source(
    extension: Name,
    section: Option<SourcedSection>,
    raw: RawSource,
    span: Span,
    src_dir: &Path,
    report: &mut Report,
) -> Option<ExtensionSource> {
    let Some(kind) = raw.r#type else {
        report
            .error(span, "the source has no `type`")
            .hint("write `type: package`, `type: git` or `type: path`");
        return None;
    };
    let required = |value: Option<Text>, key: &str, report: &mut Report| {
        if value.is_none() {
            report.error(span, format!("the source has no `{key}`"));
        }
        value
    };
    let errors_before = report.error_count();
    let version = match kind.as_str() {
        "git" => raw.r#ref.as_ref(),
        _ => raw.version.as_ref(),
    };
    let version_at = version.map(|text| report.place(text.span));
    let kind = match kind.as_str() {
        "package" | "repo" => {
            let version = required(raw.version, "version", report)?;
            let package = match (raw.package, &section) {
                // It has no name that could be that of a package.
                (None, Some(_)) => return required(None, "package", report).and(None),
                (package, _) => package,
            };
            for text in [Some(&version), package.as_ref(), raw.repo_name.as_ref()] {
                text.into_iter().for_each(|text| word(text, report));
            }
            SourceKind::Package {
                version: version.value,
                package: package.map_or_else(|| extension.to_string(), |text| text.value),
                repository: raw.repo_name.map(|text| text.value),
            }
        }
        "git" => {
            let url = required(raw.url, "url", report)?;
            let sparse_checkout = raw.sparse_checkout.unwrap_or_default();
            git_source::check_pattern(&sparse_checkout, report);
            SourceKind::Git {
                url: git_source::url(&url, src_dir, report).unwrap_or_default(),
                reference: raw
                    .r#ref
                    .and_then(|text| git_source::reference(text, report)),
                sparse_checkout: sparse_checkout.into_iter().map(|t| t.value).collect(),
            }
        }
        "path" => {
            let path = src_dir.join(required(raw.path, "path", report)?.value);
            // Without the `.` in it; links are followed where it is used.
            SourceKind::Path {
                path: std::path::absolute(&path).unwrap_or(path),
            }
        }
        other => {
            let message = format!("{} is not a type of source", quoted(other));
            report
                .error(kind.span, message)
                .hint(suggest::hint(other, ["package", "git", "path"]));
            return None;
        }
    };
    if report.error_count() > errors_before {
        return None;
    }
    let include = match raw.include {
        Some(include) => include.into_iter().map(|text| text.value).collect(),
        None if section.is_some() => Vec::new(),
        None => DEFAULT_INCLUDE.map(str::to_owned).to_vec(),
    };
    Some(ExtensionSource {
        stated_at: report.place(span).to_string(),
        version_at,
        section,
        extension,
        kind,
        fetched_to: None,
        include,
        span,
    })
}

/// Makes sure that a text is no option of dnf, and no more than one of its arguments.
fn word(text: &Text, report: &mut Report) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+~^:*-".contains(c);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(is_plain) {
        let message = format!("{} cannot be a part of a package's name", quoted(text));
        report.error(text.span, message);
    }
}
