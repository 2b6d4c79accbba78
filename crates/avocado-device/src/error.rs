use std::io;
use std::path::{Path, PathBuf};

use avocado_manifest::{ManifestError, NameError, RuntimeId};
use avocado_tuf::http::BadUrl;

use crate::ConfigError;

/// What an operation on the device can end with. The variants are the errors of the varlink
/// interfaces; [`Reason`] says what exactly went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No runtime has this id, and none has an id that begins with it.
    #[error("there is no runtime `{}` on this device", id.escape_debug())]
    RuntimeNotFound {
        /// The id as asked for.
        id: String,
    },
    /// Several runtimes have an id that begins like this.
    #[error("`{id}` is the beginning of more than one runtime id: {}", candidates.join(", "))]
    AmbiguousRuntimeId {
        /// The id as asked for.
        id: String,
        /// The full ids.
        candidates: Vec<String>,
    },
    /// The active runtime cannot be removed.
    #[error("the active runtime cannot be removed: activate another one first")]
    RemoveActiveRuntime,
    /// A runtime that is pinned cannot be removed.
    #[error("runtime {id} is pinned and cannot be removed: unpin it first")]
    RemovePinnedRuntime {
        /// The runtime.
        id: RuntimeId,
    },
    /// There is no runtime to go back to.
    #[error("there is no runtime to go back to: no other one was active before, or it was removed")]
    NoPreviousRuntime,
    /// The device has no root of trust to check a repository against.
    #[error("this device has no trust anchor: {} cannot be read", path.display())]
    NoTrustAnchor {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: io::Error,
    },
    /// A runtime could not be added.
    #[error("the runtime was not added")]
    Staging(#[source] Reason),
    /// A runtime could not be activated.
    #[error("runtime {id} was not activated; {}", match back_to {
        Some(id) => format!("{id} is still the active one"),
        None => "no runtime is active".to_owned(),
    })]
    Update {
        /// The runtime that was to become active.
        id: RuntimeId,
        /// The runtime that is active now.
        back_to: Option<RuntimeId>,
        /// Why.
        #[source]
        source: Box<Reason>,
    },
    /// The extensions could not be merged.
    #[error("the extensions were not merged{}", if *restored {
        "; those merged before still are"
    } else {
        ", and those merged before could not be brought back"
    })]
    Merge {
        /// Whether what was merged before is merged still.
        restored: bool,
        /// Why.
        #[source]
        source: Reason,
    },
    /// The extensions could not be unmerged.
    #[error("the extensions were not unmerged")]
    Unmerge(#[source] Reason),
    /// There is no such extension, or it is not enabled.
    #[error("there is no extension `{}`", name.escape_debug())]
    ExtensionNotFound {
        /// The name as asked for.
        name: String,
    },
    /// The `VERSION_ID` for which extensions are enabled is none, or none that can be used.
    #[error("the release of the operating system {}", match .0 {
        Some(_) => "cannot be used",
        None => "is not known: os-release has no VERSION_ID",
    })]
    Release(#[source] Option<NameError>),
    /// The configuration cannot be used.
    #[error("the configuration cannot be used")]
    Configuration(#[from] ConfigError),
    /// The store could not be read or changed.
    #[error("the store of this device cannot be used")]
    Store(#[source] Reason),
}

/// What exactly went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A file or directory could not be read or changed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was to be done, for example `read`.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file is larger than anything sensible.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// A manifest cannot be used.
    #[error("{} cannot be used", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// A manifest says two things that exclude each other, or something that cannot be done.
    #[error("the manifest of runtime {id} {why}")]
    Contradiction {
        /// The runtime.
        id: RuntimeId,
        /// What is wrong with it.
        why: String,
    },
    /// `active` does not lead to a runtime.
    #[error("{} does not lead to a runtime: {why}", path.display())]
    Active {
        /// The symlink.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A text is not the URL of a repository.
    #[error("`{}` is not the URL of a repository", url.escape_debug())]
    Url {
        /// The text.
        url: String,
        /// What is wrong with it.
        #[source]
        source: BadUrl,
    },
    /// A repository cannot be used.
    #[error("the repository {url} cannot be used")]
    Repository {
        /// The repository.
        url: String,
        /// Why.
        #[source]
        source: Box<avocado_tuf::Error>,
    },
    /// A repository does not offer something that is needed.
    #[error("the repository {url} does not offer {what} ({target})")]
    NotOffered {
        /// The repository.
        url: String,
        /// What is missing, for people.
        what: String,
        /// The name of the target.
        target: String,
    },
    /// What is to be downloaded does not fit.
    #[error(
        "{} has {available} bytes free, and {needed} are to be downloaded",
        path.display()
    )]
    NoSpace {
        /// The store.
        path: PathBuf,
        /// Bytes that are to be downloaded.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// An image is not in the pool.
    #[error("{image} is not in the image pool ({})", path.display())]
    ImageMissing {
        /// The extension or part of the OS.
        image: String,
        /// The file that should be there.
        path: PathBuf,
    },
    /// An image's bytes are not those that the manifest names.
    #[error("the image of {image} is corrupt ({})", path.display())]
    ImageWrong {
        /// The extension or part of the OS.
        image: String,
        /// The file.
        path: PathBuf,
    },
    /// An image is of no kind that can be mounted.
    #[error("{} is neither squashfs nor erofs", path.display())]
    ImageKind {
        /// The file.
        path: PathBuf,
    },
    /// An image does not describe itself as the extension that it should be.
    #[error("the image of {extension} has no usable extension-release file for it")]
    NoRelease {
        /// The extension, with its version.
        extension: String,
    },
    /// systemd left an extension out.
    #[error("{tool} did not merge {}{}", extensions.join(", "), if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    })]
    LeftOut {
        /// The program.
        tool: String,
        /// Names and versions of what it left out.
        extensions: Vec<String>,
        /// What it printed.
        said: String,
    },
    /// A program could not be started.
    #[error("{program} cannot be started")]
    NoTool {
        /// The program.
        program: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{command} failed ({status}){}", if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    })]
    Tool {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// The last lines that it printed.
        said: String,
    },
    /// The runtime belongs to another build of the operating system.
    #[error(
        "it needs the OS build {needed}, and this device runs {running}; \
         this version cannot update the OS"
    )]
    OtherOs {
        /// The build that the runtime was made for.
        needed: String,
        /// The build that runs.
        running: String,
    },
    /// Somebody asked for the work to stop. What was downloaded so far is kept, and the same work
    /// goes on from there.
    #[error("it was cancelled")]
    Cancelled,
    /// A program did not end in time, and was ended.
    #[error("{command} did not end within {seconds} seconds and was killed{}", if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    })]
    Timeout {
        /// The program and its arguments.
        command: String,
        /// The time that it had, in seconds.
        seconds: u64,
        /// The last lines that it printed.
        said: String,
    },
    /// A command that an extension wants to be run after the merge failed.
    #[error("a command of the extension {extension} failed")]
    Hook {
        /// The extension, with its version.
        extension: String,
        /// How.
        #[source]
        source: Box<Reason>,
    },
    /// The merge failed; what was merged before is merged still, or not.
    #[error("merging failed")]
    Merge(#[source] Box<Error>),
}

impl Error {
    /// Whether it is that somebody asked for the work to stop ([`crate::Cancel`]).
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Error::Staging(Reason::Cancelled) | Error::Store(Reason::Cancelled)
        )
    }
}

impl Reason {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Reason {
        let path = path.to_owned();
        move |source| Reason::File {
            action,
            path,
            source,
        }
    }
}
