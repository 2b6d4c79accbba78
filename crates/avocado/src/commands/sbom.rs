//! `avocado sbom`: what is in the images of a runtime.

use std::path::PathBuf;

use avocado_manifest::Name;
use clap::{Args, ValueEnum};

use super::tools::BuiltWithArgs;
use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct SbomArgs {
    /// Runtime whose images it is of [default: the default runtime, or the only one]
    #[arg(short, long, value_name = "RUNTIME", conflicts_with = "extension")]
    runtime: Option<Name>,

    /// Extension whose image alone it is of
    #[arg(short, long, value_name = "EXTENSION")]
    extension: Option<Name>,

    /// CycloneDX 1.6 or SPDX 3.0.1, both as JSON
    #[arg(long, value_name = "FORMAT", default_value = "cyclonedx")]
    format: SbomFormat,

    /// File to write it to [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,

    #[command(flatten)]
    built_with: BuiltWithArgs,
}

/// The formats of bills.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SbomFormat {
    #[value(name = "cyclonedx")]
    CycloneDx,
    Spdx,
}

#[cfg(target_os = "linux")]
pub(super) fn run(session: &Session, args: &SbomArgs) -> Result<()> {
    linux::run(session, args)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn run(_: &Session, _: &SbomArgs) -> Result<()> {
    Err(super::only_on_linux("sbom"))
}

#[cfg(target_os = "linux")]
pub(super) use linux::bill;

#[cfg(target_os = "linux")]
mod linux {
    use avocado_build::BillScope;
    use avocado_events::{Event, Sink};
    use avocado_sbom::{BillFormat, BillOfMaterials, FileComponent, ImageComponent};
    use avocado_text::count;

    use super::{SbomArgs, SbomFormat};
    use crate::commands::build_run::{cancellable, failure, options_as_built};
    use crate::commands::project;
    use crate::commands::tools::BuiltWithArgs;
    use crate::failure::{Failure, Result};
    use crate::output::write_data;
    use crate::session::Session;

    pub(super) fn run(session: &Session, args: &SbomArgs) -> Result<()> {
        let scope = match &args.extension {
            Some(name) => BillScope::Extension(name.clone()),
            None => {
                let project = project::load(session)?;
                let runtime = project::runtime(session, &project, args.runtime.as_ref())?;
                BillScope::Runtime(runtime.name.clone())
            }
        };
        let bill = bill(session, &scope, &args.built_with)?;
        let format = match args.format {
            SbomFormat::CycloneDx => BillFormat::CycloneDx,
            SbomFormat::Spdx => BillFormat::Spdx,
        };
        let bytes = format.write(&bill).map_err(|e| Failure::from_error(&e))?;
        match &args.out {
            Some(path) => {
                avocado_fs::write(path, &bytes).map_err(|e| Failure::from_error(&e))?;
            }
            None => write_data(&bytes)?,
        }
        tell(session, &bill);
        Ok(())
    }

    /// The bill of what was built last.
    pub(in crate::commands) fn bill(
        session: &Session,
        scope: &BillScope,
        built_with: &BuiltWithArgs,
    ) -> Result<BillOfMaterials> {
        let project = project::load(session)?;
        let options = options_as_built(session, project, built_with)?;
        let cancel = cancellable(session)?;
        avocado_build::bill_of_materials(&options, scope, &cancel, &*session.output)
            .map_err(|e| failure(&e))
    }

    /// How many files are named when there are many.
    const NAMED: usize = 20;

    fn tell(session: &Session, bill: &BillOfMaterials) {
        let named = |files: &[(&ImageComponent, &FileComponent)]| {
            let first = files.iter().take(NAMED);
            let first = first.map(|(image, file)| format!("\n  {}:/{}", image.name, file.path));
            let more = files.len().saturating_sub(NAMED);
            let more = (more > 0).then(|| format!("\n  and {more} more"));
            first.chain(more).collect::<String>()
        };
        let changed: Vec<_> = bill.changed().collect();
        if !changed.is_empty() {
            session.output.emit(Event::warning(format!(
                "{} not as the package brought it:{}",
                count(changed.len() as u64, "file"),
                named(&changed)
            )));
        }
        let unknown: Vec<_> = bill.unattributed().collect();
        if !unknown.is_empty() {
            session.output.emit(Event::warning(format!(
                "{} of unknown origin: no package, overlay, script or step of the build made it:{}",
                count(unknown.len() as u64, "file"),
                named(&unknown)
            )));
        }
        let files = bill.files().count();
        let packages: usize = bill.images.iter().map(|image| image.packages.len()).sum();
        session.output.emit(Event::info(format!(
            "{}, {}, {}, of which the origin of {} is known",
            count(bill.images.len() as u64, "image"),
            count(packages as u64, "package"),
            count(files as u64, "file"),
            files - unknown.len(),
        )));
    }
}
