//! Removes what builds left behind, and nothing else.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink};
use avocado_project::{LockFile, Project};
use serde_json::json;

use super::CleanArgs;
use crate::commands::project;
use crate::failure::{Failure, Result};
use crate::output::{WorkStart, WorkSummary};
use crate::session::Session;

/// What a state directory is called while it is removed. An interrupted removal leaves one, never
/// half a state that the next build would believe.
const REMOVING: &str = "state.removing";

pub(in crate::commands) fn run(session: &Session, args: &CleanArgs) -> Result<()> {
    let dir = args.dir.clone().unwrap_or_default();
    let config = project::config_path(session, &dir);
    session.output.start(&WorkStart {
        action: "clean",
        target: None,
        runtime: None,
    });
    let mut removed = Vec::new();
    if args.stamps || args.unlock {
        let project = project::load_from(session, &config)?;
        let layout = project::layout(&project);
        let _lock = lock(&project.state_dir())?;
        if args.stamps {
            removed.extend(remove(&dot_avocado(&project.src_dir)?, layout.stamps())?);
        }
        if args.unlock && unlock(&project)? {
            let done = format!("cleared the pins of target {}", project.target);
            session.output.emit(Event::info(done));
        }
    }
    if !args.stamps && !args.skip_volumes {
        let src_dir = src_dir(session, args, &config)?;
        removed.extend(remove_state(&src_dir)?);
    }
    for path in &removed {
        session
            .output
            .emit(Event::info(format!("removed {}", path.display())));
    }
    let mut summary = WorkSummary::default();
    summary.fields.insert("removed".into(), json!(removed));
    if removed.is_empty() && !args.unlock {
        summary.closing = "Nothing to remove".to_owned();
    }
    session.output.complete(summary)
}

/// Forgets what the lock file pins for the project's target. Says whether there was anything.
fn unlock(project: &Project) -> Result<bool> {
    let mut lock = LockFile::load(&project.src_dir).map_err(|e| Failure::from_error(&e))?;
    lock.clear_target(&project.target);
    lock.save().map_err(|e| Failure::from_error(&e))
}

/// Where the state is. A project that cannot be read can still be cleaned, as long as it
/// was not asked for by its file.
fn src_dir(session: &Session, args: &CleanArgs, config: &Path) -> Result<PathBuf> {
    let dir = match &args.dir {
        Some(dir) if !dir.is_dir() => {
            return Err(Failure::new(format!(
                "{} is not a directory",
                dir.display()
            )));
        }
        Some(dir) => dir.clone(),
        None => session.environment.current_dir()?,
    };
    if session.global.config.is_none() && !config.exists() {
        return Ok(dir);
    }
    match project::load_from(session, config) {
        Ok(project) => Ok(project.src_dir),
        Err(failure) if session.global.config.is_some() => Err(failure),
        Err(failure) => {
            session.output.emit(Event::warning(format!(
                "{}\ncleaning {} all the same",
                failure.message,
                dir.join(".avocado").display()
            )));
            Ok(dir)
        }
    }
}

/// `<src_dir>/.avocado`, which must be a directory of its own: through a link the removal would
/// leave the project.
fn dot_avocado(src_dir: &Path) -> Result<PathBuf> {
    let dir = src_dir.join(".avocado");
    match fs::symlink_metadata(&dir) {
        Ok(found) if found.is_symlink() => Err(Failure::new(format!(
            "{} is a link; nothing was removed",
            dir.display()
        ))
        .hint("remove the link, or clean the directory that it points to")),
        Ok(_) => Ok(dir),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(dir),
        Err(e) => Err(Failure::new(format!("cannot look at {}", dir.display())).because(&e)),
    }
}

fn remove_state(src_dir: &Path) -> Result<Vec<PathBuf>> {
    let dot = dot_avocado(src_dir)?;
    let (state, removing) = (dot.join("state"), dot.join(REMOVING));
    remove(&dot, removing.clone())?;
    let _lock = lock(&state)?;
    match fs::rename(&state, &removing) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => {
            return Err(Failure::new(format!("cannot remove {}", state.display())).because(&e));
        }
    }
    remove(&dot, removing)?;
    Ok(vec![state])
}

/// The lock of a state directory: nothing is taken away under a running build.
pub(in crate::commands) fn lock(state: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(state.join(".lock")) else {
        return Ok(None);
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Failure::new(format!(
            "{} is in use by another avocado",
            state.display()
        ))
        .hint("wait for it to end, or stop it")),
        // A file system without locks cannot tell.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

/// Removes a path below `dot`, whatever it is, without following links. Says what was removed.
fn remove(dot: &Path, path: PathBuf) -> Result<Option<PathBuf>> {
    // Each directory on the way must be a real one.
    let mut parent = path.parent();
    while let Some(dir) = parent.filter(|dir| *dir != dot) {
        if !dir.starts_with(dot) || fs::symlink_metadata(dir).is_ok_and(|m| m.is_symlink()) {
            return Err(Failure::new(format!(
                "{} leads out of {}; nothing was removed",
                dir.display(),
                dot.display()
            )));
        }
        parent = dir.parent();
    }
    match fs::symlink_metadata(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            return Err(Failure::new(format!("cannot look at {}", path.display())).because(&e));
        }
        Ok(_) => {}
    }
    avocado_fs::remove_tree(&path).map_err(|e| Failure::from_error(&e))?;
    Ok(Some(path))
}
