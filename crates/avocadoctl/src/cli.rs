//! The arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What is shown when no command is given.
pub(crate) const OVERVIEW: &str = "\
avocadoctl - runtimes and extensions of this Avocado Linux device

  avocadoctl status                  what is active and merged
  avocadoctl runtime list            the runtimes on this device
  avocadoctl runtime add --url URL   download, verify and stage a runtime
  avocadoctl runtime activate ID     make a runtime the active one

Try `avocadoctl --help` for all commands.
";

/// Manage the runtimes and extensions of this Avocado Linux device.
///
/// A runtime is a set of extensions, described by a manifest. Adding one stages it: it is
/// downloaded and verified, and nothing on the running system changes. Activating it merges its
/// extensions into /usr, /opt and /etc. Earlier runtimes stay, so that one can go back.
///
/// Runtimes are managed through the avocadoctl service where it runs, so members of the group
/// `avocado` may do it, and otherwise directly, which takes root.
#[derive(Debug, Parser)]
#[command(
    name = "avocadoctl",
    version,
    disable_help_subcommand = true,
    max_term_width = 80
)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Configuration file [default: /etc/avocado/avocadoctl.conf]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Say more about what is being done
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
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

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON document, errors included
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the active runtime and its extensions
    Status,
    /// Add, list, inspect, activate and remove runtimes
    #[command(subcommand)]
    Runtime(Runtime),
    /// Merge the extensions of the active runtime
    Merge,
    /// Unmerge all extensions
    Unmerge,
    /// Bring what is merged in line with the active runtime
    Refresh,
    /// Merge, unmerge and list extensions
    #[command(subcommand)]
    Ext(Ext),
    /// Run the service
    Serve(Serve),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Runtime {
    /// List the runtimes: the active one, then the others, the newest first
    List,
    /// Stage a runtime from a repository or from a manifest
    Add(Add),
    /// Show a runtime in full
    Inspect {
        /// Its id, or the beginning of it; without one, the active runtime
        id: Option<String>,
    },
    /// Make a runtime the active one and merge its extensions
    Activate {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Remove a runtime that is not active
    Remove {
        /// Its id, or the beginning of it
        id: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "A bearer token for the servers is taken from AVOCADO_TUF_AUTH_TOKEN.")]
pub(crate) struct Add {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Download images from here instead of from the repository
    #[arg(long, value_name = "URL", requires = "url")]
    pub(crate) artifacts_url: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Source {
    /// A TUF repository: the address below which metadata/ and targets/ are
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// A manifest whose images are in the pool already
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ext {
    /// List the extensions of the active runtime
    #[command(alias = "status")]
    List,
    /// Merge the extensions of the active runtime
    Merge,
    /// Unmerge all extensions
    Unmerge,
    /// Bring what is merged in line with the active runtime
    Refresh,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Listen here [default: the socket that systemd passes, else that of the configuration]
    #[arg(long)]
    pub(crate) address: Option<String>,
    /// Exit after so many seconds without a client; 0 for never. Applies only when the sockets
    /// come from systemd, which starts the service again for the next client
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) exit_on_idle: u64,
}
