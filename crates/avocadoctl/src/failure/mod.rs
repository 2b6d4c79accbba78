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
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::interface::Verification;

/// A command has failed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub(crate) enum Failure {
    #[serde(rename = "org.avocado.Runtimes.RuntimeNotFound")]
    RuntimeNotFound { id: String },
    #[serde(rename = "org.avocado.Runtimes.AmbiguousRuntimeId")]
    AmbiguousRuntimeId { id: String, candidates: Vec<String> },
    #[serde(rename = "org.avocado.Runtimes.RemoveActiveRuntime")]
    RemoveActiveRuntime {},
    #[serde(rename = "org.avocado.Runtimes.RemovePinnedRuntime")]
    RemovePinnedRuntime { id: String },
    #[serde(rename = "org.avocado.Runtimes.NoPreviousRuntime")]
    NoPreviousRuntime {},
    #[serde(rename = "org.avocado.Runtimes.StagingFailed")]
    StagingFailed {
        #[serde(flatten)]
        what: FailedWork,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
    #[serde(rename = "org.avocado.Runtimes.UpdateFailed")]
    UpdateFailed(FailedWork),
    #[serde(rename = "org.avocado.Extensions.MergeFailed")]
    MergeFailed(FailedWork),
    #[serde(rename = "org.avocado.Extensions.UnmergeFailed")]
    UnmergeFailed(FailedWork),
    #[serde(rename = "org.avocado.Extensions.ExtensionNotFound")]
    ExtensionNotFound { name: String },
    #[serde(rename = "org.avocado.Extensions.ConfigurationError")]
    ConfigurationError { message: String },
    #[serde(rename = "org.avocado.Extensions.CommandFailed")]
    CommandFailed { command: String, message: String },
    #[serde(rename = "org.avocado.Hitl.MountFailed")]
    HitlMountFailed { extension: String, reason: String },
    #[serde(rename = "org.avocado.Hitl.UnmountFailed")]
    HitlUnmountFailed { extension: String, reason: String },
    #[serde(rename = "org.avocado.RootAuthority.NoRootAuthority")]
    NoRootAuthority {},
    #[serde(rename = "org.avocado.RootAuthority.ParseFailed")]
    ParseFailed { reason: String },
    #[serde(rename = "org.avocado.RootAuthority.ForgetFailed")]
    ForgetFailed { reason: String },

    // What follows no interface declares: it never gets as far as the device.
    /// The configuration of this program.
    #[serde(skip)]
    Configuration(String),
    /// Wrong usage of this program.
    #[serde(skip)]
    Usage(String),
    /// This user may not use the store, and there is no service to do it for them.
    #[serde(skip)]
    NoAccess {
        /// `read` or `change`.
        verb: &'static str,
        base: PathBuf,
        /// Where no service listens, if one was looked for.
        service: Option<VarlinkAddress>,
    },
    /// The service does this for root alone.
    #[serde(skip)]
    ServiceDenied,
    /// No runtime is active, and no other one was asked for.
    #[serde(skip)]
    NoActiveRuntime,
    /// The service could not be called, or answered with an error that is not of its interfaces.
    #[serde(skip)]
    Connection(ClientError),
    /// The service ended its replies without the one that counts.
    #[serde(skip)]
    NoResult {
        /// The method, where one is to be named.
        method: Option<String>,
    },
    /// A path that varlink cannot carry.
    #[serde(skip)]
    NotUtf8(PathBuf),
    /// The store holds something that is corrupt or missing.
    #[serde(skip)]
    VerificationFailed {
        /// All of it, for a person.
        message: String,
        verification: Verification,
    },
    /// The service cannot run.
    #[serde(skip)]
    Serve(String),
    /// Standard output does not take the result.
    #[serde(skip)]
    Output(io::Error),
}

/// Work that failed, for a person.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FailedWork {
    /// What failed, and why.
    pub(crate) reason: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
