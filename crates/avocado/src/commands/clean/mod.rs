//! `avocado clean`.

#[cfg(target_os = "linux")]
mod remove;

use std::path::PathBuf;

use clap::Args;

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
