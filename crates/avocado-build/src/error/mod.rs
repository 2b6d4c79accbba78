//! What ends a build: the errors, and what each says. `advice` is what users are told beside that
//! and what the program goes by, `conversions` how errors of elsewhere become these, and
//! `tool_failure` the failure of a tool.

mod advice;
mod conversions;
mod tool_failure;

use std::io;
use std::path::PathBuf;

use avocado_backend::{BackendError, LoopMountError};
use avocado_nfs::NfsError;
use avocado_project::{Diagnostic, ExtensionSource, LockFileError, SourceKind};
use avocado_tuf::writer::WriterError;

pub(crate) use self::conversions::At;
pub use self::tool_failure::ToolFailure;
use crate::images::btrfs::MkfsVersion;

/// A build did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file or directory could not be worked with.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A step failed.
    #[error("{step} failed")]
    Step {
        /// The step's name, as in its events.
        step: String,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// A script of the project failed.
    #[error("the script `{}` failed; all that it said is in {}", script.display(), log.display())]
    Hook {
        /// The script, relative to its project.
        script: PathBuf,
        /// What it said.
        log: PathBuf,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// A scriptlet of a package failed.
    #[error("the scriptlet {scriptlet} of package {package} failed")]
    Scriptlet {
        /// The package.
        package: String,
        /// `%pre`, `%post`, …
        scriptlet: &'static str,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// The backend could not run the step, or the step said why it failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The project cannot be shared with the machine that steps are to run on.
    #[error(transparent)]
    Share(#[from] NfsError),
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] ToolFailure),
    /// An image could not be mounted.
    #[error(transparent)]
    LoopMount(#[from] LoopMountError),
    /// The lock file cannot be used.
    #[error(transparent)]
    Lock(#[from] LockFileError),
    /// A package is named after something that is not known.
    #[error(transparent)]
    Late(#[from] avocado_project::UnboundLateValue),
    /// The feed did not answer as it should.
    #[error("the package feed did not answer at {url}")]
    Feed {
        /// What was asked for.
        url: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Packages could not be installed.
    #[error("cannot install from {feed}")]
    Install {
        /// The part of the feed that was asked.
        feed: String,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// A package has the locked version and is not the locked one.
    #[error(
        "package {package} {version} is not the one in avocado.lock: its header has {found}, locked is {locked}"
    )]
    OtherContents {
        /// Its name.
        package: String,
        /// `version-release.arch`.
        version: String,
        /// The digest of its header.
        found: String,
        /// The digest that the lock has.
        locked: String,
    },
    /// Nothing was to be requested, and something is missing that only a request brings.
    #[error("not in the cache of earlier runs: {}", missing.join(", "))]
    NotInCache {
        /// What.
        missing: Vec<String>,
    },
    /// dnf was to change a tree.
    #[error("dnf answers questions here, and {} is none", command.as_ref().map_or_else(|| "that".to_owned(), |c| format!("`{c}`")))]
    NoQuestion {
        /// What was asked of it.
        command: Option<String>,
        /// What names the part of the project that was meant.
        option: String,
    },
    /// The feed has none of the kernels that the project wants.
    #[error("the feed has no kernel `{wanted}` ({stated_at}){}", known(available))]
    NoKernel {
        /// Which ones are meant.
        wanted: String,
        /// Where the project says so.
        stated_at: String,
        /// The versions that there are.
        available: Vec<String>,
    },
    /// Steps are to run in containers, and nothing makes any.
    #[error("there is no container engine: neither podman nor docker is on PATH")]
    NoEngine,
    /// Steps are to run in containers, and the project does not say of which image.
    #[error("the project states no `sdk.image` to make containers of")]
    NoSdkImage,
    /// The pinned snapshot is no longer in the feed.
    #[error("snapshot {snapshot} of {release}/{channel} is no longer in the feed ({url})")]
    SnapshotGone {
        /// The pinned snapshot.
        snapshot: String,
        /// The distribution's release.
        release: String,
        /// The distribution's channel.
        channel: String,
        /// What was looked for.
        url: String,
    },
    /// The name is not in the project.
    #[error("the project has no {kind} `{name}`{}", known(available))]
    Unknown {
        /// `extension`, `runtime`, …
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        available: Vec<String>,
    },
    /// An extension comes from elsewhere and is not here.
    #[error("the extension `{extension}` ({stated_at}) is not here: it comes from {from}")]
    NotFetched {
        /// Its name.
        extension: String,
        /// Where it is from.
        from: String,
        /// Where the project says so.
        stated_at: String,
        /// What to do.
        hint: String,
    },
    /// Nothing was to be told of a runtime, and something is.
    #[error("runtime `{runtime}` is not published, for the build is strict:\n{}", findings.join("\n"))]
    Findings {
        /// The runtime.
        runtime: String,
        /// What is to be told of it.
        findings: Vec<String>,
    },
    /// What a bill is of is older than its sources.
    #[error("{kind} `{name}` is older than its sources: a build would run `{stage}` ({reason})")]
    BillOfOutdated {
        /// `runtime` or `extension`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The first step that a build would run.
        stage: String,
        /// Why.
        reason: String,
    },
    /// An extension could not be fetched.
    #[error("cannot fetch the extension `{extension}` ({stated_at}) from {from}")]
    Fetch {
        /// Its name.
        extension: String,
        /// Where it is from.
        from: String,
        /// Where the project says so.
        stated_at: String,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// A container image could not be fetched.
    #[error("cannot fetch the container image `{image}`, which is stated at {stated_at}")]
    ContainerImage {
        /// Its name and tag.
        image: String,
        /// Where the project says so.
        stated_at: String,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// A repository has no reference project of that name.
    #[error("{repository} has no reference `{name}`{}", known(available))]
    NoReference {
        /// Where it was looked for.
        repository: String,
        /// What was asked for.
        name: String,
        /// What there is.
        available: Vec<String>,
    },
    /// Reference projects could not be fetched.
    #[error("cannot fetch the references of {repository}")]
    References {
        /// From where.
        repository: String,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// What is to be written has other contents than what is there.
    #[error("already there, and another: {}", paths(files))]
    WouldReplace {
        /// Which ones.
        files: Vec<PathBuf>,
    },
    /// The package of an extension is for other targets.
    #[error("package {package} is not for {target}: it is for {}", targets.join(", "))]
    OtherTarget {
        /// The package.
        package: String,
        /// The target of the project.
        target: String,
        /// Those that the package names.
        targets: Vec<String>,
    },
    /// A git repository no longer has a commit that is locked.
    #[error("the repository no longer has commit {commit}, which avocado.lock has")]
    CommitGone {
        /// The commit.
        commit: String,
        /// What git said.
        #[source]
        source: Box<BuildError>,
    },
    /// The signing key is not in the registry.
    #[error("runtime `{runtime}` is signed with key `{key}`, which is not in the registry {}", registry.display())]
    NoKey {
        /// The runtime.
        runtime: String,
        /// The key's name.
        key: String,
        /// Where keys are kept.
        registry: PathBuf,
    },
    /// The key registry cannot be used.
    #[error(transparent)]
    Keyring(#[from] avocado_tuf::keyring::KeyringError),
    /// The repository could not be written.
    #[error(transparent)]
    Repository(#[from] WriterError),
    /// The manifest of a runtime could not be made.
    #[error(transparent)]
    Manifest(#[from] avocado_manifest::ManifestError),
    /// The stone manifest of a target or a runtime cannot be used.
    #[error("the stone manifest {} cannot be used", path.display())]
    StoneFile {
        /// The manifest.
        path: PathBuf,
        /// Why.
        #[source]
        source: avocado_stone::StoneError,
    },
    /// Of a stone manifest and what was built no OS bundle can be made.
    #[error("the stone manifest does not go with what was built")]
    Stone(#[from] avocado_stone::StoneError),
    /// It cannot be stated how a runtime was made.
    #[error("cannot state how the runtime was made")]
    Statement(#[from] avocado_provenance::StatementError),
    /// That statement cannot be signed.
    #[error("cannot sign the statement of how the runtime was made")]
    Envelope(#[from] avocado_provenance::EnvelopeError),
    /// It cannot be said what that statement is about.
    #[error("cannot state how the runtime was made")]
    Subjects(#[from] avocado_provenance::SubjectsError),
    /// The manifest of a VM's image could not be made.
    #[error(transparent)]
    VmImage(#[from] avocado_manifest::VmImageError),
    /// A result is not what the step that made it left behind.
    #[error("{} is not what was built", path.display())]
    Changed {
        /// The file or directory.
        path: PathBuf,
    },
    /// A file of a tree is not what it must be.
    #[error("cannot use {}", tree.join(path).display())]
    Tree {
        /// The tree.
        tree: PathBuf,
        /// The file in it.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: TreeFault,
    },
    /// avocado.yaml cannot be read, or not be changed as it has to be.
    #[error(transparent)]
    Configuration(#[from] avocado_project::ProjectError),
    /// The project does not have what a step needs, or wants of it what this version cannot do.
    /// `Display` is a line for each.
    #[error("{}", lines(diagnostics))]
    Project {
        /// What, each with its place; at least one.
        diagnostics: Vec<Diagnostic>,
    },
    /// The image of the var partition has to be mounted to be filled, which this user may not.
    #[error(
        "with btrfs-progs before {needed} this var image can only be made by root, outside a container and on \
         this machine (without --runs-on)"
    )]
    VarImageNeedsRoot {
        /// The first version that makes it without a mount.
        needed: MkfsVersion,
    },
    /// A file is no saved state, or none that can be loaded here.
    #[error("cannot load the saved state: {what}")]
    SavedState {
        /// What is wrong with it.
        what: String,
    },
    /// A state was to be loaded where one is.
    #[error("target {target} has a state already, in {}; nothing was loaded", path.display())]
    StateThere {
        /// The target.
        target: String,
        /// Where its state is.
        path: PathBuf,
    },
    /// Devices are shown the state that would be replaced.
    #[error("`avocado hitl server` exports extensions of target {target} to devices")]
    Served {
        /// The target.
        target: String,
    },
    /// Something in the project or in its packages makes a step impossible.
    #[error("{0}")]
    Invalid(String),
    /// What a step did cannot be recorded.
    #[error(transparent)]
    Stamp(#[from] avocado_engine::StampError),
    /// The graph of steps is wrong: a mistake in this program.
    #[error(transparent)]
    Graph(#[from] avocado_engine::GraphError),
    /// A step reads what it does not need: a mistake in this program.
    #[error(transparent)]
    UndeclaredNeed(#[from] avocado_engine::UndeclaredNeed),
    /// The user asked to stop.
    #[error("stopped; what was finished is kept, a rerun goes on from there")]
    Cancelled,
}

/// What is wrong with a file of a tree.
#[derive(Debug, thiserror::Error)]
#[error("it {what} (what a package, an overlay or a hook puts into a tree counts only there)")]
pub struct TreeFault {
    /// What it is.
    pub(crate) what: String,
}

fn known(names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!(" (it has {})", names.join(", "))
    }
}

fn paths(files: &[PathBuf]) -> String {
    let shown = files.iter().map(|path| path.display().to_string());
    shown.collect::<Vec<_>>().join(", ")
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl BuildError {
    /// That the extension of this source could not be fetched.
    pub(crate) fn fetch(source: &ExtensionSource, error: BuildError) -> Self {
        BuildError::Fetch {
            extension: source.extension.to_string(),
            from: source.kind.to_string(),
            stated_at: source.stated_at.clone(),
            source: Box::new(error),
        }
    }

    /// That the extension of this source is not here.
    pub(crate) fn not_fetched(source: &ExtensionSource) -> Self {
        let hint = match &source.kind {
            SourceKind::Path { .. } => "put it there, or change `path`",
            SourceKind::Git { .. } | SourceKind::Package { .. } => "run `avocado fetch`",
        };
        BuildError::NotFetched {
            extension: source.extension.to_string(),
            from: source.kind.to_string(),
            stated_at: source.stated_at.clone(),
            hint: hint.to_owned(),
        }
    }
}
