//! How a command can fail: one vocabulary for the command line, the service and its clients.
//!
//! What the varlink interfaces declare has its declared name and its parameters as the fields of a
//! variant. The service writes a variant as an error reply, a client reads it back into the same
//! variant, and a command that works without the service makes that variant itself: what a person
//! or a program gets to see is made from it in one place, here.

mod message;
mod of_device;
mod wire;

#[cfg(test)]
mod tests;

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use avocado_varlink::client::{ClientError, VarlinkAddress};
use serde_json::{Map, Value, json};

use crate::interface::Verification;

/// A command has failed.
#[derive(Debug)]
pub(crate) enum Failure {
    RuntimeNotFound {
        id: String,
    },
    AmbiguousRuntimeId {
        id: String,
        candidates: Vec<String>,
    },
    RemoveActiveRuntime {},
    RemovePinnedRuntime {
        id: String,
    },
    MetadataKeyNotFound {
        id: String,
        key: String,
    },
    NoPreviousRuntime {},
    StagingFailed {
        what: FailedWork,
        cause: Option<String>,
    },
    UpdateFailed(FailedWork),
    MergeFailed(FailedWork),
    UnmergeFailed(FailedWork),
    ExtensionNotFound {
        name: String,
    },
    ConfigurationError {
        message: String,
    },
    CommandFailed {
        command: String,
        message: String,
    },
    HitlMountFailed {
        extension: String,
        reason: String,
    },
    HitlUnmountFailed {
        extension: String,
        reason: String,
    },
    NoRootAuthority {},
    ParseFailed {
        reason: String,
    },
    ForgetFailed {
        reason: String,
    },

    // What follows no interface declares: it never gets as far as the device.
    /// The configuration of this program.
    Configuration(String),
    /// Wrong usage of this program.
    Usage(String),
    /// This user may not use the store, and there is no service to do it for them.
    NoAccess {
        /// `read` or `change`.
        verb: &'static str,
        base: PathBuf,
        /// Where no service listens, if one was looked for.
        service: Option<VarlinkAddress>,
    },
    /// The service does this for root alone.
    ServiceDenied,
    /// No runtime is active, and no other one was asked for.
    NoActiveRuntime,
    /// The service could not be called, or answered with an error that is not of its interfaces.
    Connection(ClientError),
    /// The service ended its replies without the one that counts.
    NoResult {
        /// The method, where one is to be named.
        method: Option<String>,
    },
    /// A path that varlink cannot carry.
    NotUtf8(PathBuf),
    /// The store holds something that is corrupt or missing.
    VerificationFailed {
        /// All of it, for a person.
        message: String,
        verification: Verification,
    },
    /// The service cannot run.
    Serve(String),
    /// Standard output does not take the result.
    Output(io::Error),
}

/// Work that failed, for a person.
#[derive(Debug)]
pub(crate) struct FailedWork {
    /// What failed, and why.
    pub(crate) reason: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// What kind of failure it is, for programs: the declared name without its interface, or a
    /// word of this program.
    pub(crate) fn kind(&self) -> String {
        let kind = match self {
            Failure::Configuration(_) => "Configuration",
            Failure::Usage(_) => "Usage",
            Failure::NoAccess { .. } | Failure::ServiceDenied => "PermissionDenied",
            Failure::NoActiveRuntime => "RuntimeNotFound",
            Failure::Connection(ClientError::Service { name, .. }) => name,
            Failure::Connection(ClientError::Closed(_)) => "ConnectionClosed",
            Failure::Connection(_) | Failure::NoResult { .. } => "Connection",
            Failure::NotUtf8(_) => "Path",
            Failure::VerificationFailed { .. } => "VerificationFailed",
            Failure::Serve(_) => "Serve",
            Failure::Output(_) => "Output",
            declared => {
                let name = declared.reply().map(|(name, _)| name).unwrap_or_default();
                return name.rsplit('.').next().unwrap_or_default().to_owned();
            }
        };
        kind.to_owned()
    }

    /// The parameters of the error, for programs.
    fn parameters(&self) -> Option<Map<String, Value>> {
        match self {
            Failure::Connection(ClientError::Service { parameters, .. }) => {
                Some(parameters.clone())
            }
            Failure::VerificationFailed { verification, .. } => Some(Map::from_iter([(
                "verification".to_owned(),
                json!(verification),
            )])),
            declared => {
                let (_, parameters) = declared.reply()?;
                (!parameters.is_empty()).then_some(parameters)
            }
        }
    }

    /// The document that programs get.
    pub(crate) fn document(&self) -> Value {
        let mut error = Map::from_iter([
            ("kind".to_owned(), json!(self.kind())),
            ("message".to_owned(), json!(self.to_string())),
        ]);
        if let Some(hint) = self.hint() {
            error.insert("hint".to_owned(), json!(hint));
        }
        if let Some(parameters) = self.parameters() {
            error.insert("parameters".to_owned(), json!(parameters));
        }
        json!({ "error": error })
    }
}

impl StdError for Failure {}

/// An error with everything that caused it, in one line per line that they have.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(cause.to_string().trim_end());
        next = cause.source();
    }
    text
}
