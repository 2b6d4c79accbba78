//! `avocado completion`, and the answers that its script asks this program for.

use std::ffi::OsStr;
use std::path::Path;

use avocado_manifest::Name;
use avocado_project::{LoadOptions, Project};
use clap::{Args, Command};
use clap_complete::env::Shells;
use clap_complete::{ArgValueCompleter, CompleteEnv, CompletionCandidate};

use super::project;
use crate::environment::Environment;
use crate::failure::{Context as _, Failure, Result};
use crate::output::write_data;

/// With it, the program answers the script of the shell that it names.
const VARIABLE: &str = "AVOCADO_COMPLETE";

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell to complete for
    shell: clap_complete::Shell,
}

/// Prints a script that asks the program itself: it knows the project's names, and so does
/// whatever version comes next.
pub(super) fn run(args: &CompletionArgs) -> Result<()> {
    let shell = args.shell.to_string();
    let shells = Shells::builtins();
    let completer = shells
        .completer(&shell)
        .ok_or_else(|| Failure::usage(format!("nothing is known of the shell {shell}")))?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "avocado", "avocado", "avocado", &mut script)
        .context(|| "cannot write the completion script".into())?;
    write_data(&script)
}

/// Answers where a shell asks what may come next; whether it did.
pub(crate) fn answer(environment: &Environment) -> bool {
    let arguments = std::env::args_os();
    let directory = std::env::current_dir().ok();
    let with_names = || {
        let environment = environment.clone();
        completed(super::command(), &environment)
    };
    let answered = CompleteEnv::with_factory(with_names)
        .var(VARIABLE)
        .try_complete(arguments, directory.as_deref());
    // A shell has no use for a complaint.
    answered.unwrap_or(true)
}

/// The command line with what the project has for its arguments, which are known by their ids.
fn completed(command: Command, environment: &Environment) -> Command {
    let command = command.mut_args(|arg| {
        let list: fn(&Project) -> Vec<String> = match arg.get_id().as_str() {
            "extension" | "extension_name" => {
                |project| names(project.extensions.iter().map(|e| &e.name))
            }
            "runtime" | "runtime_name" | "runtime_option" => {
                |project| names(project.runtimes.iter().map(|r| &r.name))
            }
            "target" => |project| project.supported_targets.clone(),
            _ => return arg,
        };
        let environment = environment.clone();
        arg.add(ArgValueCompleter::new(move |begun: &OsStr| {
            let project = load(&environment);
            let mut all = project.as_ref().map(list).unwrap_or_default();
            all.retain(|name| begun.to_str().is_some_and(|begun| name.starts_with(begun)));
            all.into_iter().map(CompletionCandidate::new).collect()
        }))
    });
    command.mut_subcommands(|command| completed(command, environment))
}

fn names<'n>(names: impl Iterator<Item = &'n Name>) -> Vec<String> {
    names.map(ToString::to_string).collect()
}

/// The project that is here, if it can be read.
fn load(environment: &Environment) -> Option<Project> {
    let loaded = avocado_project::load(&LoadOptions {
        text: None,
        config: &project::usual_path(Path::new("")),
        target: None,
        env: &|name| environment.variable(name),
        cli_version: env!("CARGO_PKG_VERSION"),
    });
    Some(loaded.ok()?.project)
}
