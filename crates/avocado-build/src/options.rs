use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use avocado_backend::{ContainerEngine, Processor};
use avocado_cache::BucketCredentials;
use avocado_http::NetworkSettings;
use avocado_project::Project;

use crate::remote::RemoteSettings;

/// Everything that a build depends on besides its goal.
#[derive(Debug, Clone)]
pub struct Options {
    /// The project, resolved for its target.
    pub project: Project,
    /// Our own program, re-executed as `avocado step`.
    pub exe: PathBuf,
    /// What makes the containers that steps run in; without it they run on this host.
    pub containers: Option<ContainerSettings>,
    /// The machine that steps run on; without it this one.
    pub remote: Option<RemoteSettings>,
    /// The processor that the SDK's tools are for: that of this machine, or one that it emulates.
    pub sdk_processor: Processor,
    /// PATH for tools of this host.
    pub search_path: OsString,
    /// Further variables for tools: those by which a network is reached, such as `https_proxy`.
    pub proxy_environment: BTreeMap<String, OsString>,
    /// What references to variables in files of overlays mean: the user's variables that are text.
    pub variables: BTreeMap<String, String>,
    /// The whole environment of git and skopeo, which fetch as the user: where his home is, how ssh is
    /// reached, what he logged in with, and the way through a proxy.
    pub fetch_environment: BTreeMap<String, OsString>,
    /// How this process itself reaches the feed: its proxy. What the project says of the feed's
    /// certificate counts besides.
    pub network: NetworkSettings,
    /// How many steps may run at once; at least 1.
    pub jobs: usize,
    /// False: neither read nor write stamps, so every step runs.
    pub stamps: bool,
    /// How the cache of the project is reached, where it has one; `None`: it is left out.
    pub cache: Option<CacheOptions>,
    /// Say of each step that runs which of its inputs differs, with both values.
    pub explain: bool,
    /// Whether a runtime is not published of which there is something to tell: files of extensions
    /// that hide others, or that no device will show.
    pub strict: bool,
    /// Fail where the lock file would have to change.
    pub locked: bool,
    /// Leave the lock file as it is, whatever is installed.
    pub unsaved: bool,
    /// Make no request, of the feed or of a git repository: all that is needed is in the cache of
    /// earlier runs.
    pub frozen: bool,
    /// Run the scriptlets of packages.
    pub scriptlets: bool,
    /// Further arguments for dnf.
    pub dnf_args: Vec<String>,
    /// The directory with the signing keys; needed only by what signs.
    pub keyring: Option<PathBuf>,
    /// The signing keys of the user to whom the project belongs, where this is another one (root):
    /// what that user published is published again with that user's key.
    pub owner_keyring: Option<PathBuf>,
    /// The user's home directory, of which a step sees nothing but what belongs to the project and
    /// the tools on PATH.
    pub home: Option<PathBuf>,
    /// The time of this run: for stamps and for the expiry of metadata, never for an image.
    pub now: jiff::Timestamp,
    /// The version of the program.
    pub cli_version: String,
}

/// How the cache of a team is reached.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// Where results are that are kept for this user alone.
    pub directory: Option<PathBuf>,
    /// How this process reaches a server: its proxy.
    pub network: NetworkSettings,
    /// How a bucket is reached, where the cache is in one.
    pub bucket: Option<BucketAccess>,
}

/// How a bucket is reached: as the project states it, or else the environment.
#[derive(Debug, Clone)]
pub struct BucketAccess {
    /// The URL of its server.
    pub endpoint: String,
    /// The region of its server.
    pub region: String,
    /// Who asks; nothing where that is not said.
    pub credentials: Option<BucketCredentials>,
}

/// What is known of containers before a project is.
#[derive(Debug, Clone)]
pub struct ContainerSettings {
    /// What makes them; nothing where this machine has none.
    pub engine: Option<ContainerEngine>,
    /// The user's own arguments for them, beside those of the project.
    pub arguments: Vec<String>,
}
