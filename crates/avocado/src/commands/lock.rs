//! `avocado lock`: the lock file.

use std::path::{Path, PathBuf};
use std::process::Command;

use avocado_project::{LockChange, LockFile, LockedThing};
use avocado_text::{count, table};
use clap::Subcommand;
use serde_json::json;

use super::project;
use crate::failure::{Context, Failure, Result};
use crate::output::{WorkStart, WorkSummary};
use crate::session::Session;

/// The name of the lock file in a project.
const LOCK: &str = "avocado.lock";

#[derive(Debug, Subcommand)]
pub(crate) enum LockCommand {
    /// Tell in which packages, kernels and snapshots two lock files differ
    Diff {
        /// A lock file, or a commit of git that has one [default: HEAD]
        #[arg(value_name = "OLD")]
        old: Option<PathBuf>,
        /// Another one [default: the avocado.lock that is there]
        #[arg(value_name = "NEW")]
        new: Option<PathBuf>,
    },
}

pub(super) fn run(session: &Session, command: &LockCommand) -> Result<()> {
    let LockCommand::Diff { old, new } = command;
    let src_dir = project::load(session)?.src_dir;
    session.output.start(&WorkStart {
        action: "lock diff",
        target: None,
        runtime: None,
    });
    let old = read(&src_dir, old.as_deref().unwrap_or(Path::new("HEAD")))?;
    let new = match new {
        Some(new) => read(&src_dir, new)?,
        None => LockFile::load(&src_dir).map_err(|e| Failure::from_error(&e))?,
    };
    let changes = old.changes_to(&new);
    let mut summary = WorkSummary::default();
    summary.fields.insert("changes".to_owned(), json!(changes));
    if changes.is_empty() {
        summary.closing = "The same packages, kernels and snapshots".to_owned();
    } else {
        let header = ["TARGET", "TREE", "NAME", "OLD", "NEW"];
        summary.data = table(header, changes.iter().map(row), None);
        summary.closing = count(changes.len() as u64, "change");
    }
    session.output.complete(summary)
}

fn row(change: &LockChange) -> [String; 5] {
    let or_dash = |text: &str| match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    };
    let name = match change.kind {
        LockedThing::Contents => format!("{} (contents)", change.name),
        _ => change.name.clone(),
    };
    let shown = |value: &Option<String>| {
        let text = or_dash(value.as_deref().unwrap_or_default());
        match change.kind {
            // The algorithm is the same for all.
            LockedThing::Contents | LockedThing::ContainerImage => {
                let digest = text.rsplit(':').next().unwrap_or_default();
                digest.chars().take(12).collect()
            }
            _ => text,
        }
    };
    let (old, new) = (shown(&change.old), shown(&change.new));
    [
        or_dash(&change.target),
        or_dash(&change.tree),
        name,
        old,
        new,
    ]
}

/// The lock file at a path, or else the project's in a commit.
fn read(src_dir: &Path, place: &Path) -> Result<LockFile> {
    let (path, bytes) = if place.is_file() {
        let bytes = std::fs::read(place).context(|| format!("cannot read {}", place.display()))?;
        (place.to_owned(), bytes)
    } else {
        let path = PathBuf::from(format!("{}:{LOCK}", place.display()));
        (path, of_commit(src_dir, place)?)
    };
    LockFile::parse(&path, &bytes).map_err(|e| Failure::from_error(&e))
}

fn of_commit(src_dir: &Path, commit: &Path) -> Result<Vec<u8>> {
    let shown = commit.display();
    let failed = || {
        Failure::new(format!("there is no {LOCK} at `{shown}`"))
            .hint("name a lock file, or a commit of git in which the project has one")
    };
    // It would be an option of git.
    let Some(commit) = commit.to_str().filter(|text| !text.starts_with('-')) else {
        return Err(failed());
    };
    let output = Command::new("git")
        .arg("-C")
        .arg(src_dir)
        .args(["show", "--no-textconv", "--end-of-options"])
        .arg(format!("{commit}:./{LOCK}"))
        .output()
        .context(|| "cannot start git".into())?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = avocado_text::escape_lines(said.trim());
    Err(failed().because(&std::io::Error::other(said)))
}
