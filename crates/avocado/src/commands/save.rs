//! `avocado save`: the state of a project as one file, for another machine.

use std::path::PathBuf;

use clap::Args;

use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// File to write; `-` for standard output
    #[arg(value_name = "FILE", required_unless_present = "out")]
    file: Option<PathBuf>,

    /// The same as FILE
    #[arg(short = 'o', value_name = "FILE", conflicts_with = "file", hide = true)]
    out: Option<PathBuf>,
}

#[cfg(not(target_os = "linux"))]
pub(super) fn run(_: &Session, _: &SaveArgs) -> Result<()> {
    Err(super::only_on_linux("save"))
}

#[cfg(target_os = "linux")]
pub(super) fn run(session: &Session, args: &SaveArgs) -> Result<()> {
    linux::run(session, args)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{IsTerminal as _, Write};
    use std::path::Path;

    use avocado_build::{Options, save_state};
    use avocado_fs::WriteOptions;

    use super::SaveArgs;
    use crate::commands::build_run::{cancellable, failure, options};
    use crate::commands::moved_state::{is_pipe, summary};
    use crate::failure::{Failure, Result};
    use crate::global_args::OutputFormat;
    use crate::output::WorkStart;
    use crate::session::Session;

    pub(super) fn run(session: &Session, args: &SaveArgs) -> Result<()> {
        let file = args.file.as_ref().or(args.out.as_ref());
        let file = file.ok_or_else(|| Failure::usage("name the file to write"))?;
        if is_pipe(file) {
            check_standard_output(session)?;
        }
        let options = options(session)?;
        session.output.start(&WorkStart {
            action: "save",
            target: session.global.target.as_ref().map(|target| target.as_str()),
            runtime: None,
        });
        let cancel = cancellable(session)?;
        let save = |to: &mut dyn Write| {
            let only = session.global.target.as_ref();
            save_state(&options, only, to, &cancel, &*session.output).map_err(|e| failure(&e))
        };
        if is_pipe(file) {
            let saved = save(&mut std::io::stdout().lock())?;
            return session.output.complete(summary("Saved", &saved, None));
        }
        check_place(&options, file)?;
        // What a script wrote into its build directory may be a secret.
        let pending = WriteOptions::new().mode(0o600).create(file);
        let mut pending = pending.map_err(|e| Failure::from_error(&e))?;
        let saved = save(&mut pending)?;
        pending.commit().map_err(|e| Failure::from_error(&e))?;
        session
            .output
            .complete(summary("Saved", &saved, Some(file)))
    }

    fn check_standard_output(session: &Session) -> Result<()> {
        if session.global.output == OutputFormat::Json {
            let what = "`save -` writes the state to standard output, where --output json goes";
            return Err(Failure::usage(what).hint("name a file"));
        }
        if std::io::stdout().is_terminal() {
            let what = "`save -` writes no state to a terminal";
            return Err(Failure::usage(what).hint("name a file, or pipe it into another program"));
        }
        Ok(())
    }

    /// That the file is not among what is saved: the next save would have it in it.
    fn check_place(options: &Options, file: &Path) -> Result<()> {
        if file.is_dir() {
            let what = format!("{} is a directory", file.display());
            return Err(Failure::new(what).hint("name a file in it"));
        }
        let directory = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let real = |path: &Path| path.canonicalize().ok();
        let (place, state) = (real(directory), real(&options.project.state_dir()));
        if let (Some(place), Some(state)) = (place, state)
            && place.starts_with(&state)
        {
            let what = format!("{} is in the state that is to be saved", file.display());
            return Err(Failure::new(what).hint("name a file elsewhere"));
        }
        Ok(())
    }
}
