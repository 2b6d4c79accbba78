use std::io;
use std::path::{Path, PathBuf};

use avocado_fs::PathError;
use avocado_http::RepositoryUrlError;
use avocado_manifest::{ManifestError, NameError, RuntimeId};

use crate::config::DeviceConfigError;
use crate::degraded::DegradedState;
use crate::hitl::HitlServer;
use crate::merge::release_misfit::ReleaseMisfit;
use crate::os_update::error::OsUpdateError;

/// What an operation on the device can end with. The variants are the errors of the varlink
/// interfaces; [`FailureReason`] says what exactly went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
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
    /// Nothing is kept of a runtime under this key.
    #[error("there is no `{}` among the metadata of runtime {id}", key.escape_debug())]
    MetadataKeyNotFound {
        /// The runtime.
        id: RuntimeId,
        /// The key as asked for.
        key: String,
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
    Staging(#[source] FailureReason),
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
        source: Box<FailureReason>,
    },
    /// The extensions could not be merged.
    #[error("{}", DeviceError::not_merged(*restored))]
    Merge {
        /// Whether what was merged before is merged still.
        restored: bool,
        /// Why.
        #[source]
        source: FailureReason,
    },
    /// What should be merged cannot be; something else is merged, so that the device has something.
    #[error("{state}")]
    Degraded {
        /// What is merged now.
        state: Box<DegradedState>,
        /// Why what should be merged is not.
        #[source]
        source: FailureReason,
    },
    /// The operating system that runs on trial was not committed.
    #[error("the OS update was not committed")]
    Trial(#[source] FailureReason),
    /// The extensions could not be unmerged.
    #[error("the extensions were not unmerged")]
    Unmerge(#[source] FailureReason),
    /// There is no such extension, or it is not enabled.
    #[error("there is no extension `{}`", name.escape_debug())]
    ExtensionNotFound {
        /// The name as asked for.
        name: String,
    },
    /// What is asked for is about the active runtime, and there is none.
    #[error("no runtime is active on this device")]
    NoActiveRuntime,
    /// The `VERSION_ID` for which extensions are enabled is none, or none that can be used.
    #[error("the release of the operating system {}", match .0 {
        Some(_) => "cannot be used",
        None => "is not known: os-release has no VERSION_ID",
    })]
    Release(#[source] Option<NameError>),
    /// An extension of a server could not be mounted; what was merged before is again.
    #[error("the extension `{}` was not mounted", extension.escape_debug())]
    HitlMount {
        /// The extension as asked for.
        extension: String,
        /// Why.
        #[source]
        source: Box<FailureReason>,
    },
    /// An extension of a server could not be unmounted.
    #[error("the extension `{}` was not unmounted", extension.escape_debug())]
    HitlUnmount {
        /// The extension as asked for.
        extension: String,
        /// Why.
        #[source]
        source: Box<FailureReason>,
    },
    /// The configuration cannot be used.
    #[error("the configuration cannot be used")]
    Configuration(#[from] DeviceConfigError),
    /// The store could not be read or changed.
    #[error("the store of this device cannot be used")]
    Store(#[source] FailureReason),
}

/// What exactly went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FailureReason {
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
    /// A file is no manifest. What is in it is not said: who named it may not be allowed to read it.
    #[error("{} is no runtime manifest: line {line}, column {column} does not fit", path.display())]
    NoManifest {
        /// The file.
        path: PathBuf,
        /// Where it ceases to be one: the line, from 1 on.
        line: usize,
        /// And the column.
        column: usize,
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
        source: RepositoryUrlError,
    },
    /// A repository cannot be used.
    #[error("the repository {url} cannot be used")]
    Repository {
        /// The repository.
        url: String,
        /// Why.
        #[source]
        source: Box<avocado_tuf::TufError>,
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
        "{} has {available} bytes free, {needed} are to be downloaded, and {reserve} must stay \
         free (`avocado.update.reserve_mib`)",
        path.display()
    )]
    NoSpace {
        /// The store.
        path: PathBuf,
        /// Bytes that are to be downloaded.
        needed: u64,
        /// Bytes that have to stay free.
        reserve: u64,
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
    /// An extension would take the place of a part of the operating system.
    #[error(
        "the extension {extension} has {}{}, which would hide what the operating system has there",
        path.display(),
        attribute.map(|name| format!(" with the attribute {name}")).unwrap_or_default()
    )]
    HidesOs {
        /// The extension, with its version.
        extension: String,
        /// The directory of the operating system, or the link to it.
        path: PathBuf,
        /// The attribute of the extension's directory that would do so. None where it is something
        /// else than a directory, or where the operating system has a link.
        attribute: Option<&'static str>,
    },
    /// systemd left an extension out.
    #[error("{tool} did not merge {}{}", extensions.join(", "), why_left_out(misfits, said))]
    LeftOut {
        /// The program.
        tool: String,
        /// Names and versions of what it left out.
        extensions: Vec<String>,
        /// What does not fit the operating system, as far as that is known.
        misfits: Box<[ReleaseMisfit]>,
        /// What it printed.
        said: String,
    },
    /// There are more extensions than an overlay can be made of.
    #[error(
        "{count} extensions are too many for {hierarchy}: their names take {needed} bytes of mount \
         options, and the kernel reads {limit}"
    )]
    TooManyLayers {
        /// What they extend.
        hierarchy: String,
        /// How many they are.
        count: usize,
        /// The least that the options would take, in bytes.
        needed: usize,
        /// What the kernel reads, in bytes.
        limit: usize,
    },
    /// An overlay that systemd made is not what it should be. It was not shown.
    #[error("the overlay for {hierarchy} has no {}: its mount options may be too long", if extensions.is_empty() {
        "operating system beneath it".to_owned()
    } else {
        extensions.join(", ")
    })]
    LayersMissing {
        /// What it extends.
        hierarchy: String,
        /// Names and versions of what it lacks. None: it lacks the operating system.
        extensions: Vec<String>,
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
    /// The runtime belongs to another build of the operating system, which was not written.
    #[error("it needs {needed}, this device runs {running}, and the OS was not updated")]
    OtherOs {
        /// The build that the runtime was made for.
        needed: String,
        /// The build that runs.
        running: String,
        /// Why it was not.
        #[source]
        source: Box<FailureReason>,
    },
    /// An update of the operating system was refused or failed.
    #[error(transparent)]
    OsUpdate(Box<OsUpdateError>),
    /// The caller asked for the work to stop. What was downloaded so far is kept, and the same work
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
        source: Box<FailureReason>,
    },
    /// The name of an extension is none.
    #[error("it is no name of an extension")]
    HitlName(#[source] NameError),
    /// No extension was named.
    #[error("name at least one extension")]
    HitlNothingNamed,
    /// An extension is not mounted from a server.
    #[error("it is not mounted from a server")]
    HitlNotMounted,
    /// A server does not answer.
    #[error("no NFS server answers at {server}")]
    HitlServer {
        /// The server.
        server: HitlServer,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An extension names a service that cannot be one.
    #[error(
        "the extension {extension} names the service `{}`, which is no name of a unit",
        service.escape_debug()
    )]
    HitlService {
        /// The extension.
        extension: String,
        /// What it names.
        service: String,
    },
    /// There is no service manager to watch a server.
    #[error(
        "systemd does not run: nothing notices when the server is gone, until \
         `avocadoctl hitl unmount`"
    )]
    HitlUnwatched,
    /// The merge failed; what was merged before is merged still, or not.
    #[error("merging failed")]
    Merge(#[source] Box<DeviceError>),
}

impl DeviceError {
    pub(crate) fn not_merged(restored: bool) -> &'static str {
        if restored {
            "the extensions were not merged; those merged before still are"
        } else {
            "the extensions were not merged, and those merged before could not be brought back"
        }
    }

    /// Whether the caller asked for the work to stop ([`crate::Cancel`]).
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            DeviceError::Staging(FailureReason::Cancelled)
                | DeviceError::Store(FailureReason::Cancelled)
        )
    }

    /// Whether it is that a repository is not signed by the keys that this device trusts.
    pub fn is_untrusted_signature(&self) -> bool {
        use avocado_tuf::{MetadataError, TufError};
        let DeviceError::Staging(FailureReason::Repository { source, .. }) = self else {
            return false;
        };
        matches!(
            **source,
            TufError::Metadata {
                source: MetadataError::Signatures { .. },
                ..
            }
        )
    }
}

/// What is known, or else what the program printed.
fn why_left_out(misfits: &[ReleaseMisfit], said: &str) -> String {
    let known: Vec<_> = misfits.iter().map(ToString::to_string).collect();
    match (known.as_slice(), said) {
        ([], "") => String::new(),
        ([], said) => format!(": {said}"),
        (known, _) => format!(": {}", known.join("; ")),
    }
}

impl From<OsUpdateError> for FailureReason {
    fn from(error: OsUpdateError) -> Self {
        FailureReason::OsUpdate(Box::new(error))
    }
}

impl From<PathError> for FailureReason {
    fn from(error: PathError) -> Self {
        FailureReason::File {
            action: error.action,
            path: error.path,
            source: error.source,
        }
    }
}

impl FailureReason {
    /// Whether nothing more can be written to a disk, or by this user.
    pub(crate) fn is_disk_full(&self) -> bool {
        let kind = match self {
            FailureReason::File { source, .. } => source.kind(),
            FailureReason::Repository { source, .. } => match &**source {
                avocado_tuf::TufError::Io(error) => error.kind(),
                _ => return false,
            },
            _ => return false,
        };
        [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&kind)
    }

    pub(crate) fn file(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> FailureReason {
        let path = path.to_owned();
        move |source| FailureReason::File {
            action,
            path,
            source,
        }
    }
}
