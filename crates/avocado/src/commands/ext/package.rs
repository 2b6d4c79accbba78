//! `avocado ext package`.

use std::path::PathBuf;

use clap::Args;

use super::ExtSelection;

#[derive(Debug, Args)]
pub(crate) struct ExtPackageArgs {
    #[command(flatten)]
    pub(crate) selection: ExtSelection,

    /// Output directory on host to copy the resulting package to
    #[arg(long, value_name = "OUT_DIR")]
    pub(crate) out_dir: Option<PathBuf>,
}

#[cfg(target_os = "linux")]
pub(super) fn run(
    session: &crate::session::Session,
    args: &ExtPackageArgs,
) -> crate::failure::Result<()> {
    use std::time::Instant;

    use crate::commands::build_run::{cancellable, complete, copy_artifacts, failure, start};
    use crate::commands::project;

    let began = Instant::now();
    let projects = project::load_for_every_target(session)?;
    let name = named(&projects[0], &args.selection)?;
    start(session, "ext package", &projects[0], None);
    let cancel = cancellable(session)?;
    let out_dir = args.out_dir.as_deref();
    let package =
        avocado_build::package_extension(&projects, name, out_dir, &cancel, &*session.output)
            .map_err(|e| failure(&e))?;
    let report = avocado_build::Report {
        skipped_scriptlets: Vec::new(),
        ran: vec![format!("ext package {name}")],
        skipped: Vec::new(),
        from_cache: Vec::new(),
        processes: 0,
        artifacts: vec![package],
    };
    let copied = match &args.out_dir {
        Some(dir) => copy_artifacts(&report.artifacts, dir)?,
        None => Vec::new(),
    };
    complete(session, &report, &copied, began.elapsed())
}

/// The extension that was named, or the only one that the project has itself.
#[cfg(target_os = "linux")]
fn named<'a>(
    project: &'a avocado_project::Project,
    selection: &'a ExtSelection,
) -> crate::failure::Result<&'a avocado_manifest::Name> {
    if let Some(name) = selection.name() {
        return Ok(name);
    }
    let own = project.extensions.iter().filter(|e| e.fetched_to.is_none());
    let own: Vec<_> = own.map(|extension| &extension.name).collect();
    match own[..] {
        [only] => Ok(only),
        _ => {
            let names: Vec<&str> = own.iter().map(|name| name.as_str()).collect();
            let hint = format!("the project has {}", names.join(", "));
            Err(crate::failure::Failure::usage("which extension is to be packaged?").hint(hint))
        }
    }
}
