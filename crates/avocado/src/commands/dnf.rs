//! `avocado sdk|ext|runtime|rootfs|initramfs dnf`: questions to dnf as the install of that part has it.

use std::process::ExitCode;

use avocado_project::PackageScope;
use clap::Args;

use crate::failure::Result;
use crate::session::Session;

/// What dnf is asked.
#[derive(Debug, Args)]
pub(crate) struct DnfQuestion {
    /// A command of dnf that changes nothing, such as `repoquery`, `list` or `info`, with its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

#[cfg(target_os = "linux")]
pub(super) fn run(
    session: &Session,
    scope: &PackageScope,
    question: &DnfQuestion,
) -> Result<ExitCode> {
    use super::build_run::{cancellable, failure, options};
    use super::project;

    let mut options = options(session)?;
    project::check_scope(&options.project, scope)?;
    // Asking changes nothing: not even the first question pins a snapshot.
    options.unsaved = true;
    let cancel = cancellable(session)?;
    let command = &question.command;
    let answer = avocado_build::query_packages(&options, scope, command, &cancel, &*session.output);
    let answer = answer.map_err(|e| failure(&e))?;
    session.output.answer(&answer, || answer.output.clone())?;
    Ok(ExitCode::from(u8::try_from(answer.status).unwrap_or(1)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn run(_: &Session, _: &PackageScope, _: &DnfQuestion) -> Result<ExitCode> {
    Err(super::only_on_linux("… dnf"))
}
