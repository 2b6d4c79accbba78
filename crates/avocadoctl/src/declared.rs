//! Errors as the varlink interfaces declare them. Both doors end with these, so a failure has the
//! same name and the same words through either.

use avocado_device::{Error, Reason};
use serde_json::{Map, Value};

use crate::failure::chain;
use crate::model::word;

/// The interfaces, with the dot.
pub(crate) const RUNTIMES: &str = "org.avocado.Runtimes.";
pub(crate) const EXTENSIONS: &str = "org.avocado.Extensions.";
pub(crate) const ROOT_AUTHORITY: &str = "org.avocado.RootAuthority.";

/// An error of one of the interfaces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declared {
    interface: &'static str,
    /// Without the interface.
    pub(crate) name: &'static str,
    pub(crate) parameters: Map<String, Value>,
}

impl std::fmt::Display for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        self.parameters.values().try_for_each(|value| match value {
            Value::String(text) => write!(f, " {text}"),
            other => write!(f, " {other}"),
        })
    }
}

impl std::error::Error for Declared {}

impl Declared {
    pub(crate) fn new(interface: &'static str, name: &'static str) -> Self {
        Declared {
            interface,
            name,
            parameters: Map::new(),
        }
    }

    pub(crate) fn with(mut self, parameter: &str, value: impl Into<Value>) -> Self {
        self.parameters.insert(parameter.to_owned(), value.into());
        self
    }

    /// The full name.
    pub(crate) fn full_name(&self) -> String {
        format!("{}{}", self.interface, self.name)
    }

    /// What org.avocado.Runtimes declares for `error`. What it has no name for is a failed
    /// activation or a failed staging, by what was attempted.
    pub(crate) fn of_runtimes(error: &Error, activating: bool) -> Self {
        let new = |name| Declared::new(RUNTIMES, name);
        match error {
            Error::RuntimeNotFound { id } => new("RuntimeNotFound").with("id", id.as_str()),
            Error::AmbiguousRuntimeId { id, candidates } => new("AmbiguousRuntimeId")
                .with("id", id.as_str())
                .with("candidates", candidates.clone()),
            Error::RemoveActiveRuntime => new("RemoveActiveRuntime"),
            Error::RemovePinnedRuntime { id } => new("RemovePinnedRuntime").with("id", id.as_str()),
            Error::NoPreviousRuntime => new("NoPreviousRuntime"),
            Error::Update { .. } | Error::Merge { .. } | Error::Unmerge(_) => {
                new("UpdateFailed").reason(error)
            }
            error if activating => new("UpdateFailed").reason(error),
            error => new("StagingFailed").reason(error),
        }
    }

    /// What org.avocado.Extensions declares for `error`, which ended `command`.
    pub(crate) fn of_extensions(error: &Error, command: &str) -> Self {
        let new = |name| Declared::new(EXTENSIONS, name);
        match error {
            Error::Merge { .. } => new("MergeFailed").reason(error),
            Error::Unmerge(_) => new("UnmergeFailed").reason(error),
            Error::ExtensionNotFound { name } => {
                new("ExtensionNotFound").with("name", name.as_str())
            }
            Error::Configuration(_) | Error::Release(_) => {
                new("ConfigurationError").with("message", chain(error))
            }
            error => new("CommandFailed")
                .with("command", command)
                .with("message", chain(error)),
        }
    }

    fn reason(self, error: &Error) -> Self {
        let declared = self.with("reason", chain(error));
        match hint(error) {
            Some(hint) => declared.with("hint", hint),
            None => declared,
        }
    }
}

/// What to do about it, where that is known.
fn hint(error: &Error) -> Option<String> {
    Some(match error {
        Error::NoTrustAnchor { path, .. } => format!(
            "the trust anchor comes with provisioning or claiming; a project's own is put there \
             by hand: copy its root.json to {}",
            path.display()
        ),
        Error::Staging(Reason::NoSpace { .. }) => {
            "`avocadoctl runtime prune` removes what no runtime needs".to_owned()
        }
        error => {
            let (url, what) = error.forgettable()?;
            let what = word(what);
            format!(
                "this may be an attack; if you have set the repository up anew: `avocadoctl \
                 root-authority forget --what {what} --url {url}`"
            )
        }
    })
}
