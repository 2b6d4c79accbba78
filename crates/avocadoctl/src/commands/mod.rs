//! The command line: one file for each command, with its arguments, what it does, and what people
//! get to read.

mod disable;
mod enable;
mod ext;
mod hitl;
mod merge;
mod os;
mod refresh;
mod root_authority;
mod runtime;
mod serve;
mod status;
mod unmerge;

use std::ffi::OsStr;
use std::path::PathBuf;

use avocado_device::{RepositoryUrl, RepositoryUrlError, without_secrets};
use avocado_text::escape;
use avocado_varlink::activation::ListenVariables;
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::access::{AccessMode, AccessSettings, DeviceAccess};
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::progress::ProgressPrinter;
use disable::DisableArgs;
use enable::EnableArgs;
use ext::ExtCommand;
use hitl::HitlCommand;
use os::OsCommand;
use root_authority::RootAuthorityCommand;
use runtime::RuntimeCommand;
use serve::ServeArgs;
use unmerge::UnmergeArgs;

/// What is shown when no command is given.
pub(crate) const OVERVIEW: &str = "\
avocadoctl - runtimes and extensions of this Avocado Linux device

  avocadoctl status                  what is active and merged
  avocadoctl runtime list            the runtimes on this device
  avocadoctl runtime add --url URL   download, verify and stage a runtime
  avocadoctl runtime activate ID     make a runtime the active one
  avocadoctl runtime rollback        go back to the one before

Try `avocadoctl --help` for all commands.
";

/// Manage the runtimes and extensions of this Avocado Linux device.
///
/// A runtime is a set of extensions, described by a manifest. Adding one stages it: it is
/// downloaded and verified, and nothing on the running system changes. Activating it merges its
/// extensions into /usr, /opt and /etc. Earlier runtimes stay, so that one can go back.
///
/// Everything is done through the avocadoctl service where it runs, so members of the group
/// `avocado` may do it, and otherwise directly, which takes root.
#[derive(Debug, Parser)]
#[command(
    name = "avocadoctl",
    version,
    disable_help_subcommand = true,
    max_term_width = 80,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage.",
    after_long_help = "\
Examples:
  Stage the runtime that a repository offers, and make it the active one:
    avocadoctl runtime add --url https://updates.example.com/fleet
    avocadoctl runtime list
    avocadoctl runtime activate 4f2a

  And back again:
    avocadoctl runtime rollback

  For scripts, one JSON document on stdout, also when something fails:
    avocadoctl -o json runtime list

  As a member of the group `avocado`, from any varlink client:
    varlinkctl call /run/avocado/avocadoctl.sock org.avocado.Runtimes.List {}

Environment:
  AVOCADO_TUF_AUTH_TOKEN  a bearer token for update servers
  AVOCADO_BASE_DIR        the store, instead of that of the configuration
  AVOCADO_LOG             what to log: error, warn, info, debug or trace,
                          and others for parts: warn,avocado_http=debug
  NO_COLOR                no colours

Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Configuration file [default: /etc/avocado/avocadoctl.conf]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Say more about what is being done; twice, also how (see AVOCADO_LOG)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print results as a `table` for people, or as one `json` document, errors included
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,
    /// Use the service at this address (unix:/path/to/socket)
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) socket: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the active runtime and its extensions
    Status,
    /// Add, list, inspect, activate, pin, verify and remove runtimes
    Runtime {
        #[command(subcommand)]
        command: Option<RuntimeCommand>,
    },
    /// List, merge and unmerge extensions
    Ext {
        #[command(subcommand)]
        command: Option<ExtCommand>,
    },
    /// Merge the extensions of the active runtime (alias for `ext merge`)
    Merge,
    /// Unmerge all extensions (alias for `ext unmerge`)
    Unmerge(UnmergeArgs),
    /// Bring what is merged in line with the active runtime (alias for `ext refresh`)
    Refresh,
    /// Enable extensions for when no runtime is active
    Enable(EnableArgs),
    /// Disable extensions for when no runtime is active
    Disable(DisableArgs),
    /// Hardware-in-the-loop (HITL) testing commands
    Hitl {
        #[command(subcommand)]
        command: Option<HitlCommand>,
    },
    /// Commit an OS update that runs on trial
    Os {
        #[command(subcommand)]
        command: Option<OsCommand>,
    },
    /// Show whom this device trusts
    #[command(long_about = "\
Show whom this device trusts: the root that every repository is verified against, and what its \
keys sign for. It is the trust anchor that the device came with, or what has replaced that; a key \
that was replaced at one repository is replaced at all.

authority: says which keys are trusted (root); signing: signs what is offered (targets); \
metadata: keeps it together (snapshot); freshness: keeps it from being held back (timestamp).")]
    RootAuthority {
        #[command(subcommand)]
        command: Option<RootAuthorityCommand>,
    },
    /// Run the service
    Serve(ServeArgs),
}

/// Everything that a command may need.
pub(crate) struct Context {
    pub(crate) settings: AccessSettings,
    pub(crate) output: Output,
    pub(crate) progress: ProgressPrinter,
    /// The bearer token for servers.
    pub(crate) auth_token: Option<String>,
    /// The sockets that a service manager passes.
    pub(crate) passed: ListenVariables,
}

impl Context {
    fn device(&self, mode: AccessMode) -> Result<DeviceAccess, Failure> {
        DeviceAccess::open(&self.settings, mode)
    }
}

/// Runs a command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Status => status::run(context),
        Command::Runtime { command } => runtime::run(command.as_ref(), context),
        Command::Ext { command } => ext::run(command.as_ref(), context),
        Command::Merge => merge::run(context),
        Command::Unmerge(args) => unmerge::run(args, context),
        Command::Refresh => refresh::run(context),
        Command::Enable(args) => enable::run(args, context),
        Command::Disable(args) => disable::run(args, context),
        Command::Hitl { command } => hitl::run(command.as_ref(), context),
        Command::Os { command } => os::run(command.as_ref(), context),
        Command::RootAuthority { command } => root_authority::run(command.as_ref(), context),
        Command::Serve(args) => serve::run(args, context.settings.config.clone(), &context.passed),
    }
}

/// What a group of commands is for, when none of them is given.
fn group_hint(context: &Context, text: &str) -> Result<(), Failure> {
    let document = json!({"hint": text.lines().last().unwrap_or_default()});
    context.output.result(&document, || text.to_owned())
}

/// Takes the URL of a repository. What cannot be one is wrong usage, whatever the network is like,
/// and is told without a password that may be in it.
#[derive(Debug, Clone)]
struct UrlParser;

impl TypedValueParser for UrlParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        let text = value.to_string_lossy();
        let Err(why) = text.parse::<RepositoryUrl>() else {
            return Ok(text.into_owned());
        };
        let told = escape(&without_secrets(&text));
        let argument = argument.map_or_else(String::new, |a| format!(" for '{a}'"));
        let hint = match why {
            RepositoryUrlError::Credentials => {
                "Pass the token of the server in AVOCADO_TUF_AUTH_TOKEN."
            }
            _ => "For more information, try '--help'.",
        };
        let message = format!("invalid value '{told}'{argument}: {why}\n\n{hint}\n");
        Err(clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command))
    }
}
