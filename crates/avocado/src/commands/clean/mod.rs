//! `avocado clean`.

#[cfg(target_os = "linux")]
mod part;
#[cfg(target_os = "linux")]
mod remove;

use std::path::PathBuf;

use avocado_project::PackageScope;
use clap::Args;

use crate::failure::Result;
use crate::session::Session;

#[cfg(target_os = "linux")]
pub(super) use remove::{lock, run};

#[derive(Debug, Args)]
pub(crate) struct CleanArgs {
    /// The directory of the project
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Remove only the stamps of the target: its steps run again, its files stay
    #[arg(long)]
    pub(crate) stamps: bool,

    /// Also clear the target's pins in the lock file
    #[arg(long)]
    pub(crate) unlock: bool,

    /// Keep the state directory, which takes the place of the container volume
    #[arg(long)]
    pub(crate) skip_volumes: bool,

    /// Do not ask (nothing asks in this version)
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Removes what builds made of one part of the project.
#[cfg(target_os = "linux")]
pub(super) fn run_part(session: &Session, scope: PackageScope) -> Result<()> {
    part::run(session, &avocado_build::CleanedPart::Whole(scope))
}

/// Removes what sections of `sdk.compile` compiled; without a name the whole SDK.
#[cfg(target_os = "linux")]
pub(super) fn run_sections(session: &Session, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return run_part(session, PackageScope::Sdk);
    }
    part::run(
        session,
        &avocado_build::CleanedPart::Sections(names.to_vec()),
    )
}

#[cfg(not(target_os = "linux"))]
pub(super) fn run_part(_: &Session, _: PackageScope) -> Result<()> {
    Err(super::only_on_linux("… clean"))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn run_sections(_: &Session, _: &[String]) -> Result<()> {
    Err(super::only_on_linux("sdk clean"))
}
