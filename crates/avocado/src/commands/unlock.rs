//! `avocado unlock`.

#[cfg(target_os = "linux")]
use avocado_project::LockFile;
use clap::Args;

use super::scope::ScopeArgs;
#[cfg(target_os = "linux")]
use super::{clean, project, scope};
#[cfg(target_os = "linux")]
use crate::failure::{Failure, Result};
#[cfg(target_os = "linux")]
use crate::output::{WorkStart, WorkSummary};
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct UnlockArgs {
    #[command(flatten)]
    scope: ScopeArgs,
}

#[cfg(target_os = "linux")]
pub(super) fn run(session: &Session, args: &UnlockArgs) -> Result<()> {
    let project = project::load(session)?;
    session.output.start(&WorkStart {
        action: "unlock",
        target: Some(project.target.as_str()),
        runtime: None,
    });
    let failure = |e: avocado_project::LockFileError| Failure::from_error(&e);
    let _lock = clean::lock(&project.state_dir())?;
    let mut lock = LockFile::load(&project.src_dir).map_err(failure)?;
    let what = match args.scope.scope() {
        None => {
            lock.clear_target(&project.target);
            format!("everything of target {}", project.target)
        }
        Some(scope) => {
            project::check_scope(&project, &scope)?;
            if lock.target(&project.target).is_some() {
                lock.target_mut(&project.target).unlock(&scope);
            }
            format!("{} for target {}", scope::shown(&scope), project.target)
        }
    };
    let changed = lock.save().map_err(failure)?;
    let closing = if changed {
        format!("Unlocked {what}\nNext: avocado install")
    } else {
        format!("Nothing is locked of {what}")
    };
    session.output.complete(WorkSummary {
        closing,
        ..WorkSummary::default()
    })
}
