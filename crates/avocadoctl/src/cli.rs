//! The arguments. No other module is used here: the man pages and completions are made from this
//! file alone.

use std::path::PathBuf;

use avocado_device::{BadUrl, check_url};
use clap::{Args, Parser, Subcommand, ValueEnum};

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

/// What is shown for `runtime` alone.
pub(crate) const RUNTIME: &str = "\
avocadoctl runtime - the runtimes on this device

  avocadoctl runtime list            all of them, the active one first
  avocadoctl runtime add --url URL   download, verify and stage one
  avocadoctl runtime activate ID     make one the active one

Try `avocadoctl runtime --help` for all commands.
";

/// What is shown for `ext` alone.
pub(crate) const EXT: &str = "\
avocadoctl ext - the extensions of the active runtime

  avocadoctl ext status              what is merged
  avocadoctl ext list                what is on this device
  avocadoctl ext refresh             bring what is merged in line

Try `avocadoctl ext --help` for all commands.
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
  NO_COLOR                no colours

Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
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
    /// Add, list, inspect, activate, pin, verify and remove runtimes
    Runtime {
        #[command(subcommand)]
        command: Option<Runtime>,
    },
    /// List, merge and unmerge extensions
    Ext {
        #[command(subcommand)]
        command: Option<Ext>,
    },
    /// Merge the extensions of the active runtime (alias for `ext merge`)
    Merge,
    /// Unmerge all extensions (alias for `ext unmerge`)
    Unmerge(Unmerge),
    /// Bring what is merged in line with the active runtime (alias for `ext refresh`)
    Refresh,
    /// Enable extensions for when no runtime is active
    Enable(Enable),
    /// Disable extensions for when no runtime is active
    Disable(Disable),
    /// Show whom this device trusts
    #[command(long_about = "\
Show whom this device trusts: the trust anchor that every repository is verified against, and \
what its keys sign for.

authority: says which keys are trusted (root); signing: signs what is offered (targets); \
metadata: keeps it together (snapshot); freshness: keeps it from being held back (timestamp).")]
    RootAuthority {
        #[command(subcommand)]
        command: Option<RootAuthority>,
    },
    /// Run the service
    Serve(Serve),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RootAuthority {
    /// Forget what was verified of a repository that was set up anew
    #[command(long_about = "\
Forget what was verified of a repository, so that one that you have set up anew at the same address \
is accepted again. The trust anchor, and what has replaced it, is never forgotten.

A repository that goes back looks like an attack, and may be one: forget only when you know why.")]
    Forget {
        /// The repository
        #[arg(long, value_parser = url)]
        url: String,
        /// What to forget
        #[arg(long, value_enum, default_value_t)]
        what: What,
    },
}

/// How much of what was verified of a repository is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum What {
    /// Which roles there were and their versions, but for the timestamp: always safe
    #[default]
    Roles,
    /// All versions: once, anything that has not expired may be offered
    Versions,
    /// The newest known time as well: the clock alone says what has expired
    Time,
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
    #[command(after_long_help = "\
Example:
  The beginning of an id will do, as long as no other id begins so:
    avocadoctl runtime activate 4f2a")]
    Activate {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Make the runtime active again that was active before
    Rollback,
    /// Keep a runtime from being removed
    Pin {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Let a pinned runtime be removed again
    Unpin {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Remove a runtime that is not active
    Remove {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Remove what is not needed any more
    Prune(Prune),
    /// Read every image again and say what is corrupt, missing or not needed
    #[command(after_help = "Ends with exit code 1 when something is corrupt or missing.")]
    Verify,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A bearer token for the servers is taken from AVOCADO_TUF_AUTH_TOKEN.",
    after_long_help = "\
A bearer token for the servers is taken from AVOCADO_TUF_AUTH_TOKEN.

A download that is interrupted goes on where it was, another time. Files that the device has \
already are not downloaded again.

Examples:
  From a repository, after a look at what it would cost:
    avocadoctl runtime add --plan --url https://updates.example.com/fleet
    avocadoctl runtime add --url https://updates.example.com/fleet

  From a stick, when its images were copied into /var/lib/avocado/images:
    avocadoctl runtime add --manifest /mnt/manifest.json"
)]
pub(crate) struct Add {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Download images from here instead of from the repository
    #[arg(long, value_name = "URL", requires = "url", value_parser = url)]
    pub(crate) artifacts_url: Option<String>,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct How {
    /// Only say whether there is a runtime that is not on this device yet
    #[arg(long)]
    pub(crate) check: bool,
    /// Only say what would be downloaded, what is there already, and whether a reboot is needed
    #[arg(long)]
    pub(crate) plan: bool,
    /// Only download the images, so that adding the runtime later is quick
    #[arg(long, conflicts_with = "manifest")]
    pub(crate) download_only: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Source {
    /// A TUF repository: the address below which metadata/ and targets/ are
    #[arg(long, value_parser = url)]
    pub(crate) url: Option<String>,
    /// A manifest whose images are in the pool already
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
}

/// What cannot be a URL is wrong usage, whatever the network is like.
fn url(text: &str) -> Result<String, BadUrl> {
    check_url(text).map(|()| text.to_owned())
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
The active runtime is kept in any case, and so are the one before it, pinned ones, and one whose \
OS update is under way.

Examples:
  What would go, if three runtimes were kept:
    avocadoctl runtime prune --keep 3 --dry-run

  Only images that no runtime needs:
    avocadoctl runtime prune")]
pub(crate) struct Prune {
    /// Keep so many runtimes, and remove the oldest ones [default: keep all]
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<u32>,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ext {
    /// List the extensions that are on this device
    List,
    /// Show which extensions are merged, and from what
    Status,
    /// Merge the extensions of the active runtime
    Merge,
    /// Unmerge all extensions
    Unmerge(Unmerge),
    /// Bring what is merged in line with the active runtime
    Refresh,
}

#[derive(Debug, Args)]
pub(crate) struct Unmerge {
    /// Unmount their images as well; otherwise merging them again is quicker
    #[arg(long)]
    pub(crate) unmount: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
While no runtime is active, `avocadoctl refresh` merges what is enabled for the release that runs. \
Where one is active, it alone says what is merged.")]
pub(crate) struct Enable {
    /// The VERSION_ID of the operating system [default: that of the running one]
    #[arg(long, value_name = "VERSION")]
    pub(crate) os_release: Option<String>,
    /// Extensions, as `avocadoctl ext list` names them
    #[arg(required = true, value_name = "EXT")]
    pub(crate) extensions: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "What is merged stays merged until `avocadoctl refresh`.")]
pub(crate) struct Disable {
    /// The VERSION_ID of the operating system [default: that of the running one]
    #[arg(long, value_name = "VERSION")]
    pub(crate) os_release: Option<String>,
    /// Every extension that is enabled
    #[arg(long, conflicts_with = "extensions")]
    pub(crate) all: bool,
    /// Extensions that are enabled
    #[arg(required_unless_present = "all", value_name = "EXT")]
    pub(crate) extensions: Vec<String>,
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
