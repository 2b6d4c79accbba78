//! What travels between the supervisor and those who start or ask it: JSON, one value per line.

use serde::{Deserialize, Serialize};

use super::policy;
use crate::status::Status;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed.
    pub message: String,
    /// Why, from the nearest cause to the farthest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>, hint: Option<&str>) -> Self {
        Failure {
            message: message.into(),
            causes: Vec::new(),
            hint: hint.map(str::to_owned),
        }
    }
}

/// The last line that a supervisor writes on its standard output, after events.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The VM is up.
    Ready(Box<Status>),
    /// It is not, and nothing of it is left.
    Failed(Failure),
}

/// A request to `supervisor.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
pub(crate) enum Request {
    Status {},
    Stop {
        #[serde(default)]
        force: bool,
        /// How long the guest may take to power off.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_secs: Option<u64>,
    },
    Wake {},
    Hibernate {},
    Release {},
}

impl Request {
    /// Reads a line. `params` may be missing.
    pub(crate) fn parse(line: &str) -> Result<Request, serde_json::Error> {
        let mut value: serde_json::Value = serde_json::from_str(line)?;
        if let Some(object) = value.as_object_mut() {
            object
                .entry("params")
                .or_insert_with(|| serde_json::json!({}));
        }
        serde_json::from_value(value)
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response {
    Result(serde_json::Value),
    Error(Failure),
}

impl policy::Refusal {
    /// For a person.
    pub(crate) fn failure(self) -> Failure {
        use policy::Refusal;
        let (message, hint) = match self {
            Refusal::Stopping => ("the VM is stopping", None),
            Refusal::Gone => ("the VM has ended", Some("start it with `avocado vm start`")),
            Refusal::Starting => ("the VM is still starting", None),
            Refusal::NotWoken => ("the VM could not be woken", Some(LOG)),
            Refusal::NotPaused => ("the VM could not be paused", Some(LOG)),
            Refusal::NotSaved => ("the memory of the VM was not saved", None),
            Refusal::NotRestored => (
                "the saved memory of the VM could not be restored",
                Some(
                    "supervisor.log in the VM's directory says more; `avocado vm stop --force` gives it up",
                ),
            ),
            Refusal::InUse => (
                "the VM is in use: connections are open",
                Some("`avocado vm status` counts them"),
            ),
            Refusal::NotStopped => (
                "the guest has not powered off in time; until it does, the VM goes on",
                Some("`avocado vm stop --force` ends it without asking the guest"),
            ),
        };
        Failure::new(message, hint)
    }
}

const LOG: &str = "supervisor.log in the VM's directory says more";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (line, expected) in [
            (r#"{"method":"status"}"#, Request::Status {}),
            (r#"{"method":"wake","params":{},"id":1}"#, Request::Wake {}),
            (
                r#"{"method":"stop","params":{"force":true}}"#,
                Request::Stop {
                    force: true,
                    timeout_secs: None,
                },
            ),
        ] {
            assert_eq!(Request::parse(line).unwrap(), expected);
            let again = serde_json::to_string(&expected).unwrap();
            assert_eq!(Request::parse(&again).unwrap(), expected);
        }
        for line in ["", "[]", "{}", r#"{"method":"explode"}"#, r#"{"method":7}"#] {
            assert!(Request::parse(line).is_err(), "{line}");
        }
    }
}
