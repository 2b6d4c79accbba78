//! What `avocado save` and `avocado load` say in the end.

use std::path::Path;

use avocado_build::MovedState;
use avocado_text::{bytes, count};
use serde_json::{Value, json};

use crate::output::WorkSummary;

/// Whether the file is a standard stream.
pub(super) fn is_pipe(file: &Path) -> bool {
    file == Path::new("-")
}

/// `done` is `Saved` or `Loaded`. A line of standard output says the digest of the file as `sha256sum`
/// does; without a file nothing is said there.
pub(super) fn summary(done: &str, moved: &MovedState, file: Option<&Path>) -> WorkSummary {
    let targets = moved.targets.iter();
    let targets: Vec<Value> = targets
        .map(|saved| {
            json!({
                "target": saved.target,
                "architectures": saved.architectures,
                "files": saved.files(),
                "bytes": saved.bytes(),
            })
        })
        .collect();
    let mut summary = WorkSummary::default();
    for (key, value) in [
        ("targets", json!(targets)),
        ("file", json!(file)),
        ("size", json!(moved.size)),
        ("sha256", json!(moved.sha256)),
    ] {
        summary.fields.insert(key.to_owned(), value);
    }
    let names: Vec<&str> = moved.targets.iter().map(|t| t.target.as_str()).collect();
    let files = moved.targets.iter().map(|t| t.files()).sum();
    let unpacked = moved.targets.iter().map(|t| t.bytes()).sum();
    summary.closing = format!(
        "{done} the state of {}: {}, {}; {} as a file",
        names.join(", "),
        count(files, "file"),
        bytes(unpacked),
        bytes(moved.size),
    );
    match file {
        Some(file) => summary.data = format!("{}  {}\n", moved.sha256, file.display()),
        None => summary.closing += &format!(", sha256 {}", moved.sha256),
    }
    summary
}
