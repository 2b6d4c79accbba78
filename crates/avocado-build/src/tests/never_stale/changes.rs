//! Every change of a sample project.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::sample::SampleProject;

/// A change of something that a build reads.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// avocado.yaml is this.
    Project {
        what: String,
        document: Value,
    },
    /// avocado.lock is this.
    Lock {
        what: String,
        document: Value,
    },
    /// A variable has this value, or none.
    Variable {
        name: String,
        value: Option<String>,
    },
    File {
        path: PathBuf,
        change: FileChange,
    },
}

#[derive(Debug, Clone)]
pub(super) enum FileChange {
    /// This byte is another one; size and times are as they were.
    Byte(usize),
    Longer,
    Executable,
    Gone,
    Renamed,
    /// A new one beside it.
    Neighbour,
    /// A link is in its place.
    Link,
}

impl Change {
    /// Whether it is of who asks a feed, or of how one is reached.
    pub(super) fn is_of_access(&self) -> bool {
        match self {
            Change::Project { what, .. } => ["username", "password", "/ca ", "tls_verify"]
                .iter()
                .any(|key| what.contains(key)),
            Change::Variable { name, .. } => name.ends_with("_PASSWORD"),
            Change::File { path, .. } => path.ends_with("trust/ca.pem"),
            Change::Lock { .. } => false,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Project { what, .. } => write!(f, "avocado.yaml: {what}"),
            Change::Lock { what, .. } => write!(f, "avocado.lock: {what}"),
            Change::Variable { name, value } => write!(f, "{name} is {value:?}"),
            Change::File { path, change } => write!(f, "{}: {change:?}", path.display()),
        }
    }
}

/// All changes of a project that was built.
pub(super) fn of(sample: &SampleProject) -> Vec<Change> {
    let mut all = Vec::new();
    for (what, document) in of_document(&sample.document()) {
        all.push(Change::Project { what, document });
    }
    for (what, document) in of_document(&sample.lock()) {
        all.push(Change::Lock { what, document });
    }
    for name in sample.variables() {
        for value in [Some("another"), Some(""), None] {
            let (name, value) = (name.clone(), value.map(ToOwned::to_owned));
            all.push(Change::Variable { name, value });
        }
    }
    for path in sample.files() {
        all.extend(of_file(&path, sample.size(&path)));
    }
    all
}

fn of_file(path: &Path, size: usize) -> impl Iterator<Item = Change> + '_ {
    let bytes = [0, size / 3, size / 2, size.saturating_sub(1)];
    let mut bytes: Vec<usize> = bytes.into_iter().filter(|at| *at < size).collect();
    bytes.dedup();
    let others = [
        FileChange::Longer,
        FileChange::Executable,
        FileChange::Gone,
        FileChange::Renamed,
        FileChange::Neighbour,
        FileChange::Link,
    ];
    let changes = bytes.into_iter().map(FileChange::Byte).chain(others);
    changes.map(|change| Change::File {
        path: path.to_owned(),
        change,
    })
}

/// The documents that differ from this one in one place, each with what differs.
fn of_document(document: &Value) -> Vec<(String, Value)> {
    let mut places = Vec::new();
    collect(document, String::new(), &mut places);
    let mut all = Vec::new();
    for pointer in places {
        let value = document.pointer(&pointer).unwrap();
        for (what, other) in others_for(value) {
            let mut changed = document.clone();
            *changed.pointer_mut(&pointer).unwrap() = other;
            all.push((format!("{pointer} {what}"), changed));
        }
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let mut changed = document.clone();
        let key = key.replace("~1", "/").replace("~0", "~");
        match changed.pointer_mut(parent).unwrap() {
            Value::Object(entries) => {
                entries.shift_remove(&key);
            }
            Value::Array(items) => {
                items.remove(key.parse::<usize>().unwrap());
            }
            _ => unreachable!("only these have something in them"),
        }
        all.push((format!("{pointer} is gone"), changed));
    }
    all
}

fn collect(value: &Value, at: String, places: &mut Vec<String>) {
    if !at.is_empty() {
        places.push(at.clone());
    }
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let key = key.replace('~', "~0").replace('/', "~1");
                collect(value, format!("{at}/{key}"), places);
            }
        }
        Value::Array(items) => {
            for (nth, item) in items.iter().enumerate() {
                collect(item, format!("{at}/{nth}"), places);
            }
        }
        _ => {}
    }
}

/// What may stand in the place of a value.
fn others_for(value: &Value) -> Vec<(&'static str, Value)> {
    match value {
        Value::Bool(is) => vec![("is the other one", json!(!is))],
        Value::Number(number) => {
            let number = number.as_u64().unwrap();
            vec![
                ("is one more", json!(number + 1)),
                ("is half", json!(number / 2)),
            ]
        }
        Value::String(text) => of_text(text),
        Value::Array(items) if items.len() > 1 => {
            let turned = items.iter().rev().cloned().collect();
            vec![("is turned around", Value::Array(turned))]
        }
        _ => Vec::new(),
    }
}

/// Other texts that are likely to be of use where this one is.
fn of_text(text: &str) -> Vec<(&'static str, Value)> {
    // Words of which there are few.
    const WORDS: [&[&str]; 8] = [
        &["erofs", "erofs-lz4", "erofs-zst", "squashfs"],
        &["cpio", "cpio.zst", "cpio.gz"],
        &["sysext", "confext"],
        &["system", "portable", "initrd"],
        &["merge", "opaque"],
        &["feed", "own"],
        &["target", "sdk"],
        &["app", "net", "base"],
    ];
    let others = WORDS.iter().filter(|words| words.contains(&text));
    let others = others.flat_map(|words| words.iter().filter(|word| **word != text));
    let mut all: Vec<(&str, Value)> = others
        .map(|word| ("is another word", json!(word)))
        .collect();
    if text == "*" {
        all.push(("is an exact version", json!("3-r0")));
    }
    if text.starts_with("scripts/") {
        all.push(("is another script", json!("scripts/other")));
    } else if text.starts_with("overlays/") {
        all.push(("is another overlay", json!("overlays/other")));
    }
    all.push(("is longer", json!(format!("{text}1"))));
    all.push((
        "has a template",
        json!(format!("{text}{{{{ env.GREETING }}}}")),
    ));
    all
}
