//! What a user is told beside an error, and what the program itself goes by. All of it is found
//! through the errors that only say where another one happened.

use std::error::Error as _;

use avocado_backend::{BackendError, LoopMountError};
use avocado_project::{Diagnostic, LockFileError};
use avocado_tuf::writer::WriterError;

use super::BuildError;
use crate::failure_kind::FailureKind;

impl BuildError {
    /// The error that this one only says the place of.
    fn inner(&self) -> Option<&BuildError> {
        match self {
            BuildError::Step { source, .. }
            | BuildError::Hook { source, .. }
            | BuildError::Scriptlet { source, .. }
            | BuildError::Install { source, .. }
            | BuildError::Fetch { source, .. }
            | BuildError::ContainerImage { source, .. }
            | BuildError::References { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Of which kind it is, where there is something that a user can do about it.
    pub fn kind(&self) -> Option<FailureKind> {
        match self {
            BuildError::Scriptlet { source, .. } => {
                source.kind().or(Some(FailureKind::ScriptletFailed))
            }
            BuildError::CommitGone { .. } => Some(FailureKind::CommitGone),
            BuildError::OtherTarget { .. } => Some(FailureKind::OtherTarget),
            BuildError::Io { source, .. } => FailureKind::of_io(source),
            BuildError::Tool(failure) => failure.kind(),
            BuildError::LoopMount(LoopMountError::Mount { source, .. })
            | BuildError::Backend(BackendError::Tool(source)) => FailureKind::of_tool(source),
            BuildError::Backend(BackendError::Failed { kind, .. }) => {
                kind.as_deref().and_then(FailureKind::from_name)
            }
            BuildError::Backend(BackendError::Namespace { .. }) => {
                Some(FailureKind::NamespaceRefused)
            }
            BuildError::Backend(BackendError::Engine { .. } | BackendError::NoImage { .. })
            | BuildError::NoEngine
            | BuildError::NoSdkImage => Some(FailureKind::ContainerEngine),
            BuildError::Share(_) => Some(FailureKind::NotExported),
            BuildError::Backend(BackendError::Ssh(_) | BackendError::RemoteLost { .. }) => {
                Some(FailureKind::RemoteUnreachable)
            }
            BuildError::Backend(BackendError::Share { .. }) => Some(FailureKind::ShareUnreachable),
            BuildError::Backend(BackendError::NotShared { .. }) => Some(FailureKind::NotShared),
            BuildError::Backend(BackendError::RemoteNotRoot { .. }) => {
                Some(FailureKind::RemoteNotRoot)
            }
            BuildError::Backend(
                BackendError::Remote { .. }
                | BackendError::RemoteSystem { .. }
                | BackendError::NoRemoteTerminal { .. },
            ) => Some(FailureKind::NotOnRemote),
            BuildError::Backend(BackendError::NoEmulation { .. }) => Some(FailureKind::NotEmulated),
            BuildError::Backend(BackendError::UnmountablePath { .. }) => {
                Some(FailureKind::NotInContainer)
            }
            BuildError::Feed { .. } => Some(FailureKind::FeedUnreachable),
            BuildError::NoKernel { .. } => Some(FailureKind::KernelNotFound),
            BuildError::NotInCache { .. } => Some(FailureKind::NotInCache),
            BuildError::SnapshotGone { .. } => Some(FailureKind::SnapshotGone),
            BuildError::OtherContents { .. } => Some(FailureKind::PackageChanged),
            BuildError::Changed { .. } => Some(FailureKind::ResultChanged),
            BuildError::NoKey { .. } => Some(FailureKind::SigningKeyMissing),
            BuildError::VarImageNeedsRoot { .. } => Some(FailureKind::VarImageNeedsRoot),
            BuildError::Repository(WriterError::OtherKey { .. }) => {
                Some(FailureKind::OtherSigningKey)
            }
            _ => match self.inner() {
                Some(inner) => inner.kind(),
                // Of what has no kind of its own it may still be the disk that is full.
                None => kind_of_causes(self.source()),
            },
        }
    }

    /// What is wrong with the project, where that is the reason.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            BuildError::Project { diagnostics } => diagnostics,
            BuildError::Configuration(error) => error.diagnostics(),
            _ => self.inner().map_or(&[], BuildError::diagnostics),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            BuildError::Project { .. } | BuildError::Configuration(_) => {
                self.diagnostics().iter().find_map(|d| d.hint.clone())
            }
            BuildError::NotFetched { hint, .. } => Some(hint.clone()),
            BuildError::WouldReplace { .. } => Some(
                "nothing was written; --force replaces them, or name another --src-path".to_owned(),
            ),
            BuildError::StateThere { .. } => Some(
                "--force puts the saved one in its place; `avocado save` keeps what is there".to_owned(),
            ),
            BuildError::Served { .. } => {
                Some("stop it first, or load into another clone of the project".to_owned())
            }
            BuildError::NoQuestion { option, .. } => Some(format!(
                "`avocado install PACKAGES {option}` and `avocado uninstall PACKAGES {option}` change the project and what is installed; dnf answers repoquery, list, info, search, provides, check-update and the like, with its own options behind the command"
            )),
            BuildError::BillOfOutdated { .. } => Some(
                "run `avocado build`, and then again what you wanted; give --no-scripts, --dnf-arg and \
                 --backend here as well if it was built with them"
                    .to_owned(),
            ),
            BuildError::Backend(BackendError::Ssh(error)) => error.hint().map(ToOwned::to_owned),
            BuildError::NoKey { key, .. } => {
                Some(format!("create it: avocado signing-keys create {key}"))
            }
            BuildError::Lock(LockFileError::Locked { .. }) => Some(
                "run `avocado install` without --locked, look at what it changed, and commit the lock file"
                    .to_owned(),
            ),
            _ => self
                .inner()
                .and_then(BuildError::hint)
                .or_else(|| self.kind().map(|kind| kind.hint().to_owned())),
        }
    }

    /// Whether the user asked to stop.
    pub fn is_cancelled(&self) -> bool {
        match self {
            BuildError::Cancelled | BuildError::Backend(BackendError::Cancelled) => true,
            _ => self.inner().is_some_and(BuildError::is_cancelled),
        }
    }

    /// Whether what does a step ended before it had said anything, as one does that a signal met.
    pub fn is_without_result(&self) -> bool {
        match self {
            BuildError::Backend(BackendError::Died { .. }) => true,
            _ => self.inner().is_some_and(BuildError::is_without_result),
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

#[cfg(test)]
mod tests {
    use std::io;

    use avocado_backend::JobError;
    use avocado_project::Severity;

    use super::*;

    /// An error in each of those that only say where it happened.
    fn in_each(inner: impl Fn() -> BuildError) -> Vec<BuildError> {
        let source = || Box::new(inner());
        let text = || "x".to_owned();
        vec![
            BuildError::Step {
                step: text(),
                source: source(),
            },
            BuildError::Hook {
                script: text().into(),
                log: text().into(),
                source: source(),
            },
            BuildError::Scriptlet {
                package: text(),
                scriptlet: "%post",
                source: source(),
            },
            BuildError::Install {
                feed: text(),
                source: source(),
            },
            BuildError::Fetch {
                extension: text(),
                from: text(),
                stated_at: text(),
                source: source(),
            },
            BuildError::ContainerImage {
                image: text(),
                stated_at: text(),
                source: source(),
            },
            BuildError::References {
                repository: text(),
                source: source(),
            },
        ]
    }

    #[test]
    fn wherever_it_happened_an_error_stays_what_it_is() {
        let diagnostic = || Diagnostic {
            severity: Severity::Error,
            file: "avocado.yaml".into(),
            line: 1,
            column: 1,
            message: "it is wrong".into(),
            hint: Some("mend it".into()),
            snippet: None,
        };
        let project = || BuildError::Project {
            diagnostics: vec![diagnostic()],
        };
        let gone = || BuildError::SnapshotGone {
            snapshot: "s".into(),
            release: "r".into(),
            channel: "c".into(),
            url: "u".into(),
        };
        for error in in_each(|| BuildError::Cancelled) {
            assert!(error.is_cancelled(), "{error:?}");
        }
        for error in in_each(gone) {
            assert!(!error.is_cancelled(), "{error:?}");
            assert_eq!(error.kind(), Some(FailureKind::SnapshotGone), "{error:?}");
            assert_eq!(error.hint(), gone().hint(), "{error:?}");
        }
        for error in in_each(project) {
            assert_eq!(error.diagnostics(), [diagnostic()], "{error:?}");
            assert_eq!(error.hint().as_deref(), Some("mend it"), "{error:?}");
        }
        // Steps are in steps.
        for error in in_each(gone) {
            let outer = BuildError::Step {
                step: "rootfs install".into(),
                source: Box::new(error),
            };
            assert_eq!(outer.hint(), gone().hint(), "{outer:?}");
        }
    }

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
