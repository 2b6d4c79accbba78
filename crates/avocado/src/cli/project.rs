use std::path::PathBuf;

use avocado_manifest::Name;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The directory of the project; it is created where it is missing
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,

    /// The name of the project's own extension
    #[arg(long, value_name = "NAME", default_value = "app")]
    pub(crate) name: Name,
}

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
