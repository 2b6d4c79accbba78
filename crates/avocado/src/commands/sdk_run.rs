//! `avocado sdk run`: a command of the user's in the environment of the SDK.

use std::process::ExitCode;

use avocado_manifest::Name;
use clap::Args;

use super::tools::{BackendChoice, key_values};
use crate::failure::{Failure, Result};
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct SdkRunArgs {
    /// Tell the command of this extension: its tree and its name, as its scripts know them
    #[arg(short, long, value_name = "EXTENSION")]
    extension: Option<Name>,

    /// Tell the command of this runtime, as its scripts know it
    #[arg(short, long, value_name = "RUNTIME")]
    runtime: Option<Name>,

    /// Set a variable of its environment
    #[arg(short = 'E', long = "env", value_name = "KEY=VALUE")]
    variables: Vec<String>,

    /// Where the command runs: on this machine in a namespace of its own, or in a container of
    /// `sdk.image`
    #[arg(long, value_name = "BACKEND")]
    backend: Option<BackendChoice>,

    /// Additional arguments to pass to the container runtime
    #[arg(
        long = "container-arg",
        value_name = "CONTAINER_ARGS",
        allow_hyphen_values = true
    )]
    container_args: Vec<String>,

    // A container's name is avocado's, and it ends with it.
    #[arg(long, hide = true)]
    name: Option<String>,
    #[arg(short, long, hide = true)]
    detach: bool,
    // It has the terminal anyway.
    #[arg(short, long, hide = true)]
    interactive: bool,

    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

impl SdkRunArgs {
    fn check(&self) -> Result<()> {
        let refused = [("--name", self.name.is_some()), ("--detach", self.detach)];
        let Some((option, _)) = refused.into_iter().find(|(_, is)| *is) else {
            return Ok(());
        };
        let what =
            format!("`{option}` is about a container that outlives avocado, and there is none");
        Err(Failure::usage(what).hint("leave it out: the command ends with avocado"))
    }
}

#[cfg(target_os = "linux")]
pub(super) fn run(session: &Session, args: &SdkRunArgs) -> Result<ExitCode> {
    use super::build_run::{containers, failure, options};
    use super::project;
    use avocado_build::{Cancel, Layout, SdkCommand};
    use avocado_project::PackageScope;

    args.check()?;
    let mut options = options(session)?;
    let (backend, stated) = (args.backend, &args.container_args);
    options.containers = containers(session, backend, stated, &options.project)?;
    let inside = Layout::in_step(&options.project.target);
    let mut variables = Vec::new();
    let terminal = session.environment.variable("TERM");
    variables.extend(terminal.map(|kind| ("TERM".to_owned(), kind)));
    if let Some(name) = &args.extension {
        project::check_scope(&options.project, &PackageScope::Extension(name.clone()))?;
        let tree = inside.extension(name).display().to_string();
        variables.push(("AVOCADO_EXT_NAME".to_owned(), name.to_string()));
        variables.push(("AVOCADO_BUILD_EXT_SYSROOT".to_owned(), tree));
    }
    if let Some(name) = &args.runtime {
        project::check_scope(&options.project, &PackageScope::Runtime(name.clone()))?;
        let tree = inside.runtime(name).display().to_string();
        variables.push(("AVOCADO_RUNTIME".to_owned(), name.to_string()));
        variables.push(("AVOCADO_RUNTIME_NAME".to_owned(), name.to_string()));
        variables.push(("AVOCADO_RUNTIME_BUILD_DIR".to_owned(), tree));
    }
    variables.extend(key_values(&args.variables)?);
    let command = SdkCommand {
        command: args.command.clone(),
        variables,
    };
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let interrupts =
        crate::interrupt::until_left_to_a_child(&session.output, move || stop.cancel())?;
    let begins = || interrupts.leave();
    let status =
        avocado_build::run_sdk_command(&options, command, begins, &cancel, &*session.output);
    status.map(ExitCode::from).map_err(|error| {
        // An engine that has only just begun passes it to nothing: it ends.
        if error.is_without_result() && interrupts.came_to_child() {
            Failure::interrupted()
        } else {
            failure(&error)
        }
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn run(_: &Session, args: &SdkRunArgs) -> Result<ExitCode> {
    args.check().and(key_values(&args.variables)).map(drop)?;
    let _ = (
        &args.extension,
        &args.runtime,
        args.backend,
        &args.container_args,
        args.interactive,
        &args.command,
    );
    Err(super::only_on_linux("sdk run"))
}
