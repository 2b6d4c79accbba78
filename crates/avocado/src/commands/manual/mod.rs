//! `avocado manual`: the documents that follow from the program itself.

mod project_reference;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, Command};

use crate::failure::{Context as _, Result};

/// In columns.
const HELP_WIDTH: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct ManualArgs {
    /// Where to write them; it is made
    directory: PathBuf,

    /// The reference of avocado.yaml and a page for each command, in place of man pages
    #[arg(long)]
    markdown: bool,
}

/// Writes a man page for each command, which `scripts/dist` puts into the packages beside the
/// program; or what the repository has in `docs/reference/`.
pub(super) fn run(args: &ManualArgs) -> Result<()> {
    let directory = &args.directory;
    let what = || format!("cannot write the manual to {}", directory.display());
    fs::create_dir_all(directory).context(what)?;
    if args.markdown {
        write_markdown(directory).context(what)
    } else {
        clap_mangen::generate_to(<super::Cli as clap::CommandFactory>::command(), directory)
            .context(what)
    }
}

fn write_markdown(directory: &Path) -> io::Result<()> {
    let project = project_reference::markdown(&avocado_project::json_schema());
    fs::write(directory.join("avocado-yaml.md"), project)?;
    let mut program = <super::Cli as clap::CommandFactory>::command().term_width(HELP_WIDTH);
    // Gives each command its whole name, and the options that all have.
    program.build();
    for command in shown_subcommands(&mut program) {
        let mut page = String::new();
        add_help(&mut page, command, 1);
        fs::write(
            directory.join(format!("avocado-{}.md", command.get_name())),
            page,
        )?;
    }
    Ok(())
}

/// The help of a command and of each below it, as it is shown on a terminal.
fn add_help(page: &mut String, command: &mut Command, depth: usize) {
    let name = command.get_bin_name().unwrap_or_default().to_owned();
    let help = command.render_help().to_string();
    let _ = write!(
        page,
        "{} {name}\n\n```text\n{}\n```\n",
        "#".repeat(depth),
        help.trim_end()
    );
    for below in shown_subcommands(command) {
        page.push('\n');
        add_help(page, below, 2);
    }
}

fn shown_subcommands(command: &mut Command) -> impl Iterator<Item = &mut Command> {
    let all = command.get_subcommands_mut();
    all.filter(|command| !command.is_hide_set() && command.get_name() != "help")
}
