//! `avocado ext checkout`.

use std::path::PathBuf;

use clap::Args;

use super::ExtArgs;
use crate::commands::build_run::{BuildRun, Goal};
use crate::failure::{Failure, Result};
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct ExtCheckoutArgs {
    #[command(flatten)]
    pub(crate) ext: ExtArgs,

    /// What is copied: a file, or a directory with all that is in it; from the root of the extension
    #[arg(long, value_name = "PATH")]
    pub(crate) ext_path: PathBuf,

    /// Where it is copied to, relative to the source directory of the project; a directory is merged
    /// into what is there, and a file is put into a directory
    #[arg(long, value_name = "PATH")]
    pub(crate) src_path: PathBuf,
}

pub(super) fn run(session: &Session, args: &ExtCheckoutArgs) -> Result<()> {
    let Some(name) = args.ext.name() else {
        return Err(Failure::usage("which extension is something copied from?")
            .hint("`avocado ext list` lists them"));
    };
    let run = BuildRun::new(session, "ext checkout", &args.ext.tools)?;
    run.run_and(Goal::ExtBuild(Some(name.clone())), |_, _| {
        copy(session, name, args)
    })
}

#[cfg(target_os = "linux")]
fn copy(
    session: &Session,
    name: &avocado_manifest::Name,
    args: &ExtCheckoutArgs,
) -> Result<Vec<PathBuf>> {
    use avocado_events::{Event, Sink};

    use crate::commands::build_run::{cancellable, failure};
    use crate::commands::project;

    let project = project::load_quietly(session)?.project;
    let cancel = cancellable(session)?;
    let wanted = avocado_build::CheckedOut {
        extension: name,
        from: &args.ext_path,
        to: &args.src_path,
        replace: args.ext.tools.force,
    };
    let written = avocado_build::checkout_extension(&project, &wanted, &cancel, &*session.output)
        .map_err(|e| failure(&e))?;
    if written.is_empty() {
        let all = "all of it is in the sources already";
        session.output.emit(Event::info(all.to_owned()));
    }
    Ok(written)
}

#[cfg(not(target_os = "linux"))]
fn copy(
    _session: &Session,
    _name: &avocado_manifest::Name,
    _args: &ExtCheckoutArgs,
) -> Result<Vec<PathBuf>> {
    Err(crate::commands::only_on_linux("ext checkout"))
}
