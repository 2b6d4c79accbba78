//! A failure as an error reply of the service, and read back from it. Both by hand: what is derived for
//! the variants takes 50 KiB of the program, and this takes two.

use avocado_varlink::client::ClientError;
use serde_json::{Map, Value, json};

use super::{FailedWork, Failure};

impl Failure {
    /// The error reply of the service: the full name of the error and its parameters; `None` for
    /// what no interface declares.
    pub(crate) fn reply(&self) -> Option<(&'static str, Map<String, Value>)> {
        let texts = |texts: &[(&str, &String)]| {
            let members = texts.iter().map(|(key, text)| (*key, json!(text)));
            members.map(|(key, text)| (key.to_owned(), text)).collect()
        };
        Some(match self {
            Failure::RuntimeNotFound { id } => {
                ("org.avocado.Runtimes.RuntimeNotFound", texts(&[("id", id)]))
            }
            Failure::AmbiguousRuntimeId { id, candidates } => {
                let mut parameters: Map<_, _> = texts(&[("id", id)]);
                parameters.insert("candidates".to_owned(), json!(candidates));
                ("org.avocado.Runtimes.AmbiguousRuntimeId", parameters)
            }
            Failure::RemoveActiveRuntime {} => {
                ("org.avocado.Runtimes.RemoveActiveRuntime", Map::new())
            }
            Failure::RemovePinnedRuntime { id } => (
                "org.avocado.Runtimes.RemovePinnedRuntime",
                texts(&[("id", id)]),
            ),
            Failure::MetadataKeyNotFound { id, key } => (
                "org.avocado.Runtimes.MetadataKeyNotFound",
                texts(&[("id", id), ("key", key)]),
            ),
            Failure::NoPreviousRuntime {} => ("org.avocado.Runtimes.NoPreviousRuntime", Map::new()),
            Failure::StagingFailed { what, cause } => {
                let mut parameters = what.parameters();
                if let Some(cause) = cause {
                    parameters.insert("cause".to_owned(), json!(cause));
                }
                ("org.avocado.Runtimes.StagingFailed", parameters)
            }
            Failure::UpdateFailed(what) => ("org.avocado.Runtimes.UpdateFailed", what.parameters()),
            Failure::MergeFailed(what) => ("org.avocado.Extensions.MergeFailed", what.parameters()),
            Failure::UnmergeFailed(what) => {
                ("org.avocado.Extensions.UnmergeFailed", what.parameters())
            }
            Failure::ExtensionNotFound { name } => (
                "org.avocado.Extensions.ExtensionNotFound",
                texts(&[("name", name)]),
            ),
            Failure::ConfigurationError { message } => (
                "org.avocado.Extensions.ConfigurationError",
                texts(&[("message", message)]),
            ),
            Failure::CommandFailed { command, message } => (
                "org.avocado.Extensions.CommandFailed",
                texts(&[("command", command), ("message", message)]),
            ),
            Failure::HitlMountFailed { extension, reason } => (
                "org.avocado.Hitl.MountFailed",
                texts(&[("extension", extension), ("reason", reason)]),
            ),
            Failure::HitlUnmountFailed { extension, reason } => (
                "org.avocado.Hitl.UnmountFailed",
                texts(&[("extension", extension), ("reason", reason)]),
            ),
            Failure::NoRootAuthority {} => {
                ("org.avocado.RootAuthority.NoRootAuthority", Map::new())
            }
            Failure::ParseFailed { reason } => (
                "org.avocado.RootAuthority.ParseFailed",
                texts(&[("reason", reason)]),
            ),
            Failure::ForgetFailed { reason } => (
                "org.avocado.RootAuthority.ForgetFailed",
                texts(&[("reason", reason)]),
            ),
            Failure::Configuration(_)
            | Failure::Usage(_)
            | Failure::NoAccess { .. }
            | Failure::ServiceDenied
            | Failure::NoActiveRuntime
            | Failure::Connection(_)
            | Failure::NoResult { .. }
            | Failure::NotUtf8(_)
            | Failure::VerificationFailed { .. }
            | Failure::Serve(_)
            | Failure::Output(_) => return None,
        })
    }

    /// What [`Failure::reply`] writes. None: no interface of this version declares it like that.
    fn of_reply(name: &str, parameters: &Map<String, Value>) -> Option<Self> {
        let text = |key: &str| parameters.get(key)?.as_str().map(str::to_owned);
        Some(match name {
            "org.avocado.Runtimes.RuntimeNotFound" => Failure::RuntimeNotFound { id: text("id")? },
            "org.avocado.Runtimes.AmbiguousRuntimeId" => {
                let candidates = parameters.get("candidates")?.as_array()?.iter();
                let candidates = candidates.map(|id| id.as_str().map(str::to_owned));
                Failure::AmbiguousRuntimeId {
                    id: text("id")?,
                    candidates: candidates.collect::<Option<_>>()?,
                }
            }
            "org.avocado.Runtimes.RemoveActiveRuntime" => Failure::RemoveActiveRuntime {},
            "org.avocado.Runtimes.RemovePinnedRuntime" => {
                Failure::RemovePinnedRuntime { id: text("id")? }
            }
            "org.avocado.Runtimes.MetadataKeyNotFound" => Failure::MetadataKeyNotFound {
                id: text("id")?,
                key: text("key")?,
            },
            "org.avocado.Runtimes.NoPreviousRuntime" => Failure::NoPreviousRuntime {},
            "org.avocado.Runtimes.StagingFailed" => Failure::StagingFailed {
                what: FailedWork::of_parameters(parameters)?,
                cause: optional(parameters, "cause").ok()?,
            },
            "org.avocado.Runtimes.UpdateFailed" => {
                Failure::UpdateFailed(FailedWork::of_parameters(parameters)?)
            }
            "org.avocado.Extensions.MergeFailed" => {
                Failure::MergeFailed(FailedWork::of_parameters(parameters)?)
            }
            "org.avocado.Extensions.UnmergeFailed" => {
                Failure::UnmergeFailed(FailedWork::of_parameters(parameters)?)
            }
            "org.avocado.Extensions.ExtensionNotFound" => Failure::ExtensionNotFound {
                name: text("name")?,
            },
            "org.avocado.Extensions.ConfigurationError" => Failure::ConfigurationError {
                message: text("message")?,
            },
            "org.avocado.Extensions.CommandFailed" => Failure::CommandFailed {
                command: text("command")?,
                message: text("message")?,
            },
            "org.avocado.Hitl.MountFailed" => Failure::HitlMountFailed {
                extension: text("extension")?,
                reason: text("reason")?,
            },
            "org.avocado.Hitl.UnmountFailed" => Failure::HitlUnmountFailed {
                extension: text("extension")?,
                reason: text("reason")?,
            },
            "org.avocado.RootAuthority.NoRootAuthority" => Failure::NoRootAuthority {},
            "org.avocado.RootAuthority.ParseFailed" => Failure::ParseFailed {
                reason: text("reason")?,
            },
            "org.avocado.RootAuthority.ForgetFailed" => Failure::ForgetFailed {
                reason: text("reason")?,
            },
            _ => return None,
        })
    }
}

impl FailedWork {
    fn parameters(&self) -> Map<String, Value> {
        let mut parameters = Map::from_iter([("reason".to_owned(), json!(self.reason))]);
        if let Some(hint) = &self.hint {
            parameters.insert("hint".to_owned(), json!(hint));
        }
        parameters
    }

    fn of_parameters(parameters: &Map<String, Value>) -> Option<Self> {
        Some(FailedWork {
            reason: parameters.get("reason")?.as_str()?.to_owned(),
            hint: optional(parameters, "hint").ok()?,
        })
    }
}

/// A text that may be missing or null. What is something else is the error.
fn optional<'a>(
    parameters: &'a Map<String, Value>,
    key: &str,
) -> Result<Option<String>, &'a Value> {
    match parameters.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(other),
    }
}

/// A failure of a call through the socket. An error reply of the interfaces is the variant that
/// the service made it from.
impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        if let ClientError::Service { name, .. } = &error
            && name == "org.varlink.service.PermissionDenied"
        {
            return Failure::ServiceDenied;
        }
        if let ClientError::Service { name, parameters } = &error
            && let Some(declared) = Failure::of_reply(name, parameters)
        {
            return declared;
        }
        Failure::Connection(error)
    }
}
