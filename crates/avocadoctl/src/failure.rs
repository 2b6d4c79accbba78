//! What the user gets to read when something fails.

use avocado_varlink::client::ClientError;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::declared::{Declared, EXTENSIONS, ROOT_AUTHORITY, RUNTIMES};

/// The kind of failure that the service hung up instead of answering.
pub(crate) const CLOSED: &str = "ConnectionClosed";

/// A command has failed.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// What kind of failure, for programs: the name of a varlink error, or a word of ours.
    pub(crate) kind: String,
    /// What failed, on what, and why.
    pub(crate) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// The parameters of the varlink error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameters: Option<Box<Map<String, Value>>>,
}

impl Failure {
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        Failure {
            kind: kind.to_owned(),
            message: message.into(),
            hint: None,
            parameters: None,
        }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Failure {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub(crate) fn with(self, parameter: &str, value: Value) -> Self {
        let mut parameters = self.parameters.unwrap_or_default();
        parameters.insert(parameter.to_owned(), value);
        Failure {
            parameters: Some(parameters),
            ..self
        }
    }

    /// The failure that a declared error stands for.
    pub(crate) fn declared(name: &str, parameters: Map<String, Value>) -> Self {
        let text = |key: &str| {
            parameters
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let id = printable(text("id"));
        let candidates = parameters.get("candidates").and_then(Value::as_array);
        let candidates = candidates.into_iter().flatten().filter_map(Value::as_str);
        let (message, hint) = match name {
            "RuntimeNotFound" => (
                format!("there is no runtime `{id}` on this device"),
                Some("`avocadoctl runtime list` shows what there is".to_owned()),
            ),
            "AmbiguousRuntimeId" => {
                let list: String = candidates
                    .map(|c| format!("\n  {}", printable(c)))
                    .collect();
                (
                    format!("`{id}` is the beginning of more than one runtime id"),
                    Some(format!("give more of one of these:{list}")),
                )
            }
            "RemoveActiveRuntime" => (
                "the active runtime cannot be removed".to_owned(),
                Some("activate another one first: `avocadoctl runtime activate ID`".to_owned()),
            ),
            "RemovePinnedRuntime" => (
                format!("runtime {id} is pinned and cannot be removed"),
                Some(format!("unpin it first: `avocadoctl runtime unpin {id}`")),
            ),
            "NoPreviousRuntime" => (
                "there is no runtime to go back to: no other one was active before, or it was \
                 removed"
                    .to_owned(),
                Some("`avocadoctl runtime list` shows what there is".to_owned()),
            ),
            "ExtensionNotFound" => (
                format!(
                    "there is no extension `{}` on this device",
                    printable(text("name"))
                ),
                Some("`avocadoctl ext list` shows what there is".to_owned()),
            ),
            "ConfigurationError" | "CommandFailed" => (text("message").to_owned(), None),
            "ParseFailed" => (
                format!("the trust anchor cannot be read: {}", text("reason")),
                None,
            ),
            "ForgetFailed" => (format!("not forgotten: {}", text("reason")), None),
            _ => {
                let hint = parameters.get("hint").and_then(Value::as_str);
                (text("reason").to_owned(), hint.map(str::to_owned))
            }
        };
        Failure {
            kind: name.to_owned(),
            message,
            hint,
            parameters: (!parameters.is_empty()).then(|| Box::new(parameters)),
        }
    }
}

/// A failure of a call through the socket.
impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Service { name, parameters } => match without_interface(&name) {
                Some(name) => Failure::declared(name, parameters),
                None => {
                    let error = ClientError::Service {
                        name: name.clone(),
                        parameters: parameters.clone(),
                    };
                    let message = format!("the service refused the call: {error}");
                    Failure {
                        parameters: Some(Box::new(parameters)),
                        ..Failure::new(&name, message)
                            .hint("the service may be of another version: restart it")
                    }
                }
            },
            error => {
                let failure = Failure::new("Connection", chain(&error));
                match &error {
                    ClientError::Closed(_) => Failure {
                        kind: CLOSED.to_owned(),
                        ..failure
                    },
                    ClientError::Connect { source, .. }
                        if source.kind() == std::io::ErrorKind::PermissionDenied =>
                    {
                        failure.hint("run it as root, or as a member of the group `avocado`")
                    }
                    ClientError::Connect { .. } => {
                        failure.hint("`systemctl start avocadoctl.socket` starts the service")
                    }
                    _ => failure,
                }
            }
        }
    }
}

impl From<Declared> for Failure {
    fn from(declared: Declared) -> Self {
        Failure::declared(declared.name, declared.parameters)
    }
}

/// The name of an error of ours.
fn without_interface(name: &str) -> Option<&str> {
    [RUNTIMES, EXTENSIONS, ROOT_AUTHORITY]
        .iter()
        .find_map(|interface| name.strip_prefix(interface))
}

/// An error with everything that caused it, in one line per line that they have.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(cause.to_string().trim_end());
        next = cause.source();
    }
    text
}

/// A text from elsewhere, without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}
