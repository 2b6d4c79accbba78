//! `avocado completion`, and the answers that its script asks this program for.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use avocado_manifest::Name;
use avocado_project::{LoadOptions, Project, ProjectError, ReadProject};
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
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let directory = std::env::current_dir().ok();
    let begun = BegunLine::new(environment, &arguments);
    let answered = CompleteEnv::with_factory(|| {
        completed(<super::Cli as clap::CommandFactory>::command(), &begun)
    })
    .var(VARIABLE)
    .try_complete(arguments.iter().cloned(), directory.as_deref());
    // A shell has no use for a complaint.
    answered.unwrap_or(true)
}

/// The command line with what the project has for its arguments, which are known by their ids.
fn completed(command: Command, begun: &BegunLine) -> Command {
    let command = command.mut_args(|arg| {
        let list: fn(&BegunLine) -> Option<Vec<String>> = match arg.get_id().as_str() {
            "extension" | "extension_name" => |begun| {
                let project = begun.project()?;
                Some(names(project.extensions.iter().map(|e| &e.name)))
            },
            "runtime" | "runtime_name" | "runtime_option" => |begun| {
                let project = begun.project()?;
                Some(names(project.runtimes.iter().map(|r| &r.name)))
            },
            "section" | "sections" => |begun| {
                let sections = begun.project()?.sdk.compile.into_iter();
                Some(sections.map(|section| section.name.value).collect())
            },
            // Before there is one.
            "target" => |begun| begun.with_options(ReadProject::read, |p| p.supported_targets()),
            _ => return arg,
        };
        let line = begun.clone();
        arg.add(ArgValueCompleter::new(move |begun: &OsStr| {
            let mut all = list(&line).unwrap_or_default();
            all.retain(|name| begun.to_str().is_some_and(|begun| name.starts_with(begun)));
            all.into_iter().map(CompletionCandidate::new).collect()
        }))
    });
    command.mut_subcommands(|command| completed(command, begun))
}

/// What the words that are there say of the project that is meant.
#[derive(Clone)]
struct BegunLine {
    environment: Environment,
    config: PathBuf,
    target: Option<String>,
}

impl BegunLine {
    fn new(environment: &Environment, arguments: &[OsString]) -> Self {
        // Behind this program's own name and `--` is the line, as far as it is.
        let line = arguments.iter().skip_while(|word| *word != "--").skip(1);
        let line: Vec<&str> = line.filter_map(|word| word.to_str()).collect();
        let config = option(&line, "-C", "--config").map(PathBuf::from);
        BegunLine {
            environment: environment.clone(),
            config: config.unwrap_or_else(|| project::usual_path(Path::new(""))),
            target: option(&line, "-t", "--target").map(str::to_owned),
        }
    }

    /// The project that is meant, if it can be read.
    fn project(&self) -> Option<Project> {
        self.with_options(avocado_project::load, |loaded| loaded.project)
    }

    fn with_options<P, T>(
        &self,
        read: impl FnOnce(&LoadOptions<'_>) -> std::result::Result<P, ProjectError>,
        of: impl FnOnce(P) -> T,
    ) -> Option<T> {
        let read = read(&LoadOptions {
            text: None,
            config: &self.config,
            target: self.target.as_deref(),
            env: &|name| self.environment.variable(name),
            cli_version: env!("CARGO_PKG_VERSION"),
        });
        read.ok().map(of)
    }
}

/// The value that an option has in a line: behind it, with or without `=`, or as the next word.
fn option<'w>(line: &[&'w str], short: &str, long: &str) -> Option<&'w str> {
    let mut words = line.iter().take_while(|word| **word != "--");
    while let Some(word) = words.next() {
        if *word == short || *word == long {
            return words.next().copied().filter(|value| !value.is_empty());
        }
        let long_value = word
            .strip_prefix(long)
            .and_then(|rest| rest.strip_prefix('='));
        let short_value = word.strip_prefix(short).map(|rest| {
            let value = rest.strip_prefix('=');
            value.unwrap_or(rest)
        });
        if let Some(value) = long_value.or(short_value) {
            return Some(value);
        }
    }
    None
}

fn names<'n>(names: impl Iterator<Item = &'n Name>) -> Vec<String> {
    names.map(ToString::to_string).collect()
}
