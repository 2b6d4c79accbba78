//! Options that peers have and this version only refuses: listed where they are published, taken
//! everywhere.

use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _};

use super::Cli;
use crate::failure::{Failure, Result};
use crate::global_args::GlobalArgs;

/// By their ids.
const UNSUPPORTED: [&str; 2] = ["runs_on", "nfs_port"];

/// The command below the root whose help is published with them.
const PUBLISHED: [&str; 2] = ["ext", "image"];

/// The whole command line.
pub(crate) fn command() -> Command {
    let root = Cli::command();
    let options = root.get_arguments();
    let options = options.filter(|arg| UNSUPPORTED.contains(&arg.get_id().as_str()));
    let options: Vec<Arg> = options.cloned().collect();
    below(root, &options, &[])
}

/// Reads the arguments of this process, or ends it with help or a complaint.
pub(crate) fn parse() -> Cli {
    let mut command = command();
    let matches = command.get_matches_mut();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// Options that peers know and this version does not act on: better refused than ignored.
pub(super) fn check(global: &GlobalArgs) -> Result<()> {
    let unsupported = [
        ("--runs-on", global.runs_on.is_some()),
        ("--nfs-port", global.nfs_port.is_some()),
    ];
    match unsupported.iter().find(|(_, used)| *used) {
        None => Ok(()),
        Some((option, _)) => Err(Failure::usage(format!("{option} is not supported yet"))
            .hint("run the command on the machine that shall do the work")),
    }
}

/// Gives each command below `parent` its own copy of the options, in the place of what it would
/// inherit.
fn below(parent: Command, options: &[Arg], path: &[&str]) -> Command {
    parent.mut_subcommands(|command| {
        let name = command.get_name().to_owned();
        let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
        let listed = path == PUBLISHED;
        let own = options.iter().map(|arg| arg.clone().hide(!listed));
        below(command.args(own), options, &path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        command().debug_assert();
        let known = |id: &&str| Cli::command().get_arguments().any(|a| a.get_id() == *id);
        assert!(UNSUPPORTED.iter().all(known));
    }
}
