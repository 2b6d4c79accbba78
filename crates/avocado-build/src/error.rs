use std::io;
use std::path::{Path, PathBuf};

/// A build did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
        source: Box<Error>,
    },
    /// The backend could not run the step, or the step said why it failed.
    #[error(transparent)]
    Sdk(#[from] avocado_sdk::SdkError),
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] avocado_sdk::ToolError),
    /// The lock file cannot be used.
    #[error(transparent)]
    Lock(#[from] avocado_project::Error),
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
        source: Box<Error>,
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
    Repository(#[from] avocado_tuf::writer::WriteError),
    /// A result is not what the step that made it left behind.
    #[error("{} is not what was built", path.display())]
    Changed {
        /// The file or directory.
        path: PathBuf,
    },
    /// Something in the project or in its packages makes a step impossible.
    #[error("{0}")]
    Invalid(String),
    /// The user asked to stop.
    #[error("stopped; what was finished is kept, a rerun goes on from there")]
    Cancelled,
}

fn known(names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!(" (it has {})", names.join(", "))
    }
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Error::Step { source, .. } => return source.hint(),
            Error::SnapshotGone { .. } => {
                "run `avocado update` to move the project to the newest snapshot".into()
            }
            Error::Feed { .. } => {
                "check the network and `distro.repo.url` (or AVOCADO_REPO_URL), then run it again"
                    .into()
            }
            Error::NoKey { key, .. } => format!("create it: avocado signing-keys create {key}"),
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space and run it again; finished steps are kept".into()
            }
            _ => return hint_from_chain(self),
        };
        Some(text)
    }

    /// Whether the user asked to stop.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Error::Cancelled | Error::Sdk(avocado_sdk::SdkError::Cancelled) => true,
            Error::Step { source, .. } | Error::Install { source, .. } => source.is_cancelled(),
            _ => false,
        }
    }
}

/// Errors of a step come from another process as text; what they are about can still be told.
fn hint_from_chain(error: &Error) -> Option<String> {
    let text: String = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source())
        .map(|e| format!("{e}\n"))
        .collect();
    let rules = [
        (
            "No space left on device",
            "free some space and run it again; finished steps are kept",
        ),
        (
            "Failed writing received data to disk",
            "free some space and run it again; finished steps are kept",
        ),
        (
            "nable to find a match",
            "check the package's name, or run `avocado update` if the feed no longer has the locked version",
        ),
        (
            "o match for argument",
            "check the package's name, or run `avocado update` if the feed no longer has the locked version",
        ),
        (
            "Cannot download repomd.xml",
            "check the network and `distro.repo.url` (or AVOCADO_REPO_URL), then run it again",
        ),
        (
            "Failed to download metadata",
            "check the network and `distro.repo.url` (or AVOCADO_REPO_URL), then run it again",
        ),
        (
            "Cannot find a valid compressor",
            "this mkfs.erofs cannot do that compression: zstd needs erofs-utils 1.8; `erofs-lz4` works with older ones",
        ),
        ("is not what was built", "remove it and run the build again"),
        (
            "belongs to another signing key",
            "sign with the key it was published with; to change the key, remove that directory, and know that devices trust only the old one until they are provisioned anew",
        ),
        (
            "make a namespace for the step",
            "run it as root, or let users make namespaces (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
        ),
        (
            "cannot start `/opt/src",
            "is the interpreter in the first line of the script installed?",
        ),
        (
            "cannot start `",
            "the host backend needs this tool on PATH; install it and run it again",
        ),
    ];
    rules
        .iter()
        .find(|(sign, _)| text.contains(sign))
        .map(|(_, hint)| (*hint).to_owned())
}

/// Says on which file an I/O error happened.
pub(crate) trait At<T> {
    /// `action` reads as in "cannot `action` `path`".
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            action,
            path: path.to_owned(),
            source,
        })
    }
}
