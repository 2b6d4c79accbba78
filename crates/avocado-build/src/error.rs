use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use avocado_backend::{BackendError, JobError, LoopMountError, ToolError};
use avocado_project::{Diagnostic, ExtensionSource, LockFileError, SourceKind};
use avocado_tuf::writer::WriterError;

use crate::failure_kind::FailureKind;

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
    #[error("only root can make the var image with btrfs-progs before 6.12")]
    VarImageNeedsRoot,
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
    /// Of which kind it is, where there is something that a user can do about it.
    pub fn kind(&self) -> Option<FailureKind> {
        match self {
            BuildError::Step { source, .. }
            | BuildError::Install { source, .. }
            | BuildError::Fetch { source, .. }
            | BuildError::References { source, .. }
            | BuildError::Hook { source, .. } => source.kind(),
            BuildError::Scriptlet { source, .. } => {
                source.kind().or(Some(FailureKind::ScriptletFailed))
            }
            BuildError::CommitGone { .. } => Some(FailureKind::CommitGone),
            BuildError::OtherTarget { .. } => Some(FailureKind::OtherTarget),
            BuildError::Io { source, .. } => FailureKind::of_io(source),
            BuildError::Tool(failure) => failure.kind,
            BuildError::LoopMount(LoopMountError::Mount { source, .. })
            | BuildError::Backend(BackendError::Tool(source)) => FailureKind::of_tool(source),
            BuildError::Backend(BackendError::Failed { kind, .. }) => {
                kind.as_deref().and_then(FailureKind::from_name)
            }
            BuildError::Backend(BackendError::Namespace { .. }) => {
                Some(FailureKind::NamespaceRefused)
            }
            BuildError::Feed { .. } => Some(FailureKind::FeedUnreachable),
            BuildError::NoKernel { .. } => Some(FailureKind::KernelNotFound),
            BuildError::NotInCache { .. } => Some(FailureKind::NotInCache),
            BuildError::SnapshotGone { .. } => Some(FailureKind::SnapshotGone),
            BuildError::OtherContents { .. } => Some(FailureKind::PackageChanged),
            BuildError::Changed { .. } => Some(FailureKind::ResultChanged),
            BuildError::NoKey { .. } => Some(FailureKind::SigningKeyMissing),
            BuildError::VarImageNeedsRoot => Some(FailureKind::VarImageNeedsRoot),
            BuildError::Repository(WriterError::OtherKey { .. }) => {
                Some(FailureKind::OtherSigningKey)
            }
            // Of what has no kind of its own it may still be the disk that is full.
            _ => kind_of_causes(self.source()),
        }
    }

    /// What is wrong with the project, where that is the reason.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            BuildError::Project { diagnostics } => diagnostics,
            BuildError::Configuration(error) => error.diagnostics(),
            BuildError::Step { source, .. } | BuildError::Install { source, .. } => {
                source.diagnostics()
            }
            _ => &[],
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            BuildError::Project { .. } | BuildError::Configuration(_) => {
                self.diagnostics().iter().find_map(|d| d.hint.clone())
            }
            BuildError::Step { source, .. }
            | BuildError::Install { source, .. }
            | BuildError::Fetch { source, .. } => source.hint(),
            BuildError::NotFetched { hint, .. } => Some(hint.clone()),
            BuildError::WouldReplace { .. } => Some(
                "nothing was written; --force replaces them, or name another --src-path".to_owned(),
            ),
            BuildError::NoQuestion { option, .. } => Some(format!(
                "`avocado install PACKAGES {option}` and `avocado uninstall PACKAGES {option}` change the project and what is installed; dnf answers repoquery, list, info, search, provides, check-update and the like, with its own options behind the command"
            )),
            BuildError::NoKey { key, .. } => {
                Some(format!("create it: avocado signing-keys create {key}"))
            }
            BuildError::Lock(LockFileError::Locked { .. }) => Some(
                "run `avocado install` without --locked, look at what it changed, and commit the lock file"
                    .to_owned(),
            ),
            _ => self.kind().map(|kind| kind.hint().to_owned()),
        }
    }

    /// Whether the user asked to stop.
    pub fn is_cancelled(&self) -> bool {
        match self {
            BuildError::Cancelled | BuildError::Backend(BackendError::Cancelled) => true,
            BuildError::Step { source, .. }
            | BuildError::Install { source, .. }
            | BuildError::References { source, .. }
            | BuildError::Fetch { source, .. } => source.is_cancelled(),
            _ => false,
        }
    }
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

impl From<avocado_fs::PathError> for BuildError {
    fn from(error: avocado_fs::PathError) -> Self {
        BuildError::Io {
            action: error.action,
            path: error.path,
            source: error.source,
        }
    }
}

impl avocado_engine::TaskError for BuildError {
    fn is_cancelled(&self) -> bool {
        BuildError::is_cancelled(self)
    }
}

impl From<avocado_engine::EngineError<BuildError>> for BuildError {
    fn from(error: avocado_engine::EngineError<BuildError>) -> Self {
        use avocado_engine::EngineError;
        let failed = |step, source| BuildError::Step {
            step,
            source: Box::new(source),
        };
        match error {
            EngineError::Task { stage, source } => failed(stage, source),
            EngineError::Stamp { stage, source } => failed(stage, source.into()),
            EngineError::Graph(error) => error.into(),
            EngineError::Stopped => BuildError::Cancelled,
            other => BuildError::Invalid(other.to_string()),
        }
    }
}

fn kind_of_causes(mut cause: Option<&(dyn std::error::Error + 'static)>) -> Option<FailureKind> {
    while let Some(error) = cause {
        if let Some(kind) = error.downcast_ref().and_then(FailureKind::of_io) {
            return Some(kind);
        }
        cause = error.source();
    }
    None
}

impl JobError for BuildError {
    fn kind(&self) -> Option<&'static str> {
        BuildError::kind(self).map(FailureKind::name)
    }
}

/// A tool's failure, and what it is about as far as the one who ran it can tell.
#[derive(Debug)]
pub struct ToolFailure {
    error: ToolError,
    kind: Option<FailureKind>,
}

impl ToolFailure {
    /// The failure of a tool whose words are known to whoever ran it: `kind` reads them.
    pub(crate) fn read_by(
        error: ToolError,
        kind: impl FnOnce(&ToolError) -> Option<FailureKind>,
    ) -> Self {
        ToolFailure {
            kind: FailureKind::of_tool(&error).or_else(|| kind(&error)),
            error,
        }
    }
}

impl fmt::Display for ToolFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ToolFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<ToolError> for BuildError {
    fn from(error: ToolError) -> Self {
        BuildError::Tool(ToolFailure::read_by(error, |_| None))
    }
}

/// Says on which file an I/O error happened.
pub(crate) trait At<T> {
    /// `action` reads as in "cannot `action` `path`".
    fn at(self, action: &'static str, path: &Path) -> Result<T, BuildError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, BuildError> {
        self.map_err(|source| BuildError::Io {
            action,
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_through_the_steps_around_it() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let in_step = |source| BuildError::Step {
            step: "rootfs install".into(),
            source: Box::new(source),
        };
        let from_child = |kind: Option<&str>| {
            BuildError::Backend(BackendError::Failed {
                kind: kind.map(ToOwned::to_owned),
                message: "No space left on device; cannot start `dnf`".into(),
                source: None,
            })
        };
        for (error, kind) in [
            (
                in_step(from_child(Some("package_not_found"))),
                Some(FailureKind::PackageNotFound),
            ),
            // The words decide nothing.
            (in_step(from_child(None)), None),
            (from_child(Some("of_the_future")), None),
            (
                in_step(BuildError::Io {
                    action: "write",
                    path: "x".into(),
                    source: full(),
                }),
                Some(FailureKind::StorageFull),
            ),
            (
                BuildError::Install {
                    feed: "f".into(),
                    source: Box::new(BuildError::Changed { path: "x".into() }),
                },
                Some(FailureKind::ResultChanged),
            ),
            (BuildError::Invalid("is not what was built".into()), None),
            (BuildError::Cancelled, None),
        ] {
            assert_eq!(error.kind(), kind, "{error:?}");
            assert_eq!(
                error.hint().as_deref(),
                kind.map(FailureKind::hint),
                "{error:?}"
            );
            assert_eq!(JobError::kind(&error), kind.map(FailureKind::name));
        }
    }

    #[test]
    fn a_stop_is_no_failure_and_a_failure_no_stop() {
        let in_step = |source| BuildError::Step {
            step: "rootfs install".into(),
            source: Box::new(source),
        };
        let broken = || BuildError::Invalid("broken".into());
        for (error, cancelled) in [
            (BuildError::Cancelled, true),
            (BuildError::Backend(BackendError::Cancelled), true),
            (in_step(BuildError::Cancelled), true),
            (broken(), false),
            (in_step(broken()), false),
        ] {
            assert_eq!(error.is_cancelled(), cancelled, "{error:?}");
            // By this the engine tells a step that was stopped from one that failed.
            let by_engine = avocado_engine::TaskError::is_cancelled(&error);
            assert_eq!(by_engine, cancelled, "{error:?}");
        }
    }

    #[test]
    fn a_missing_key_is_named_in_its_hint() {
        let error = BuildError::NoKey {
            runtime: "dev".into(),
            key: "mine".into(),
            registry: "/keys".into(),
        };
        assert!(error.hint().unwrap().ends_with("create mine"));
    }
}
