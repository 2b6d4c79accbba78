use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::absent::or_default;
use crate::model::Packages;

/// The key of what says where an extension comes from.
const SOURCE: &str = "source";

/// What such a source says that it is, where it is a git repository, and where it is a package.
pub(super) const GIT_TYPE: &str = "git";
pub(super) const PACKAGE_TYPES: [&str; 2] = ["package", "repo"];

/// An extension or a runtime: its packages, and what else the file says of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub(super) struct LockedTree {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) packages: Packages,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// What is asked of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitSource {
    /// Its URL, without secrets.
    pub url: String,
    /// The branch, tag or commit, where it is stated.
    pub reference: Option<String>,
}

/// What a lock says of an extension from a git repository.
pub(super) struct LockedCommit<'a> {
    pub(super) git: GitSource,
    pub(super) commit: &'a str,
}

impl LockedTree {
    /// The `source` of an extension, if it is that of a git repository.
    pub(super) fn source(&self) -> Option<LockedCommit<'_>> {
        let source = self.other.get(SOURCE)?;
        let text = |key: &str| source.get(key)?.as_str();
        if text("type")? != GIT_TYPE {
            return None;
        }
        let commit = text("commit")?;
        // It becomes an argument of git.
        let is_commit = [40, 64].contains(&commit.len());
        if !is_commit || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let git = GitSource {
            url: text("url")?.to_owned(),
            reference: text("ref").map(str::to_owned),
        };
        Some(LockedCommit { git, commit })
    }

    /// The package that an extension is fetched as, with its version, if it is locked.
    pub(super) fn package<'a>(&'a self, extension: &'a str) -> Option<(&'a str, &'a str)> {
        let source = self.other.get(SOURCE)?;
        let text = |key: &str| source.get(key)?.as_str();
        if !PACKAGE_TYPES.contains(&text("type")?) {
            return None;
        }
        // A wish is no lock.
        let version = text("version").filter(|version| *version != "*")?;
        Some((text("package").unwrap_or(extension), version))
    }

    /// Of which kind the place is that it comes from, if that is locked; nothing where the file does
    /// not say so.
    pub(super) fn source_type(&self) -> Option<&str> {
        let source = self.other.get(SOURCE)?;
        let stated = source.get("type").and_then(Value::as_str);
        Some(stated.unwrap_or_default())
    }

    pub(super) fn remove_source(&mut self) {
        self.other.remove(SOURCE);
    }

    pub(super) fn set_package(&mut self, package: &str, version: &str) {
        let source = Map::from_iter([
            ("type".to_owned(), Value::from(PACKAGE_TYPES[0])),
            ("package".to_owned(), Value::from(package)),
            ("version".to_owned(), Value::from(version)),
        ]);
        self.other.insert(SOURCE.to_owned(), Value::Object(source));
    }

    /// Other readers of the format know `type`; the rest is beside it.
    pub(super) fn set_commit(&mut self, git: &GitSource, commit: &str) {
        let mut source = Map::from_iter([
            ("type".to_owned(), Value::from(GIT_TYPE)),
            ("url".to_owned(), Value::from(git.url.as_str())),
            ("commit".to_owned(), Value::from(commit)),
        ]);
        if let Some(reference) = &git.reference {
            source.insert("ref".to_owned(), Value::from(reference.as_str()));
        }
        self.other.insert(SOURCE.to_owned(), Value::Object(source));
    }
}
