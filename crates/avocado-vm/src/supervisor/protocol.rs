//! What travels between the supervisor and those who start or ask it: JSON, one value per line.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::Refusal;
use crate::launch::IdleChange;
use crate::status::VmStatus;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorFailure {
    /// What failed.
    pub message: String,
    /// Why, from the nearest cause to the farthest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl SupervisorFailure {
    pub(crate) fn new(message: impl Into<String>, hint: Option<&str>) -> Self {
        SupervisorFailure {
            message: message.into(),
            causes: Vec::new(),
            hint: hint.map(str::to_owned),
        }
    }
}

/// The last line that a supervisor writes on its standard output, after events.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartVerdict {
    /// The VM is up.
    Ready(Box<VmStatus>),
    /// It is not, and nothing of it is left.
    Failed(SupervisorFailure),
}

/// How long the guest may take to power off, unless the request says otherwise: longer than systemd
/// waits for a service that does not end.
pub const STOP_LIMIT: Duration = Duration::from_secs(120);

/// A request to `supervisor.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
pub(crate) enum SupervisorRequest {
    Status {},
    Stop {
        #[serde(default)]
        force: bool,
        /// How long the guest may take to power off.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_secs: Option<u64>,
    },
    /// Sleep by other settings from now on.
    Configure {
        idle: IdleChange,
    },
    Wake {},
    Hibernate {},
    /// Wakes the guest and keeps it awake for as long as this connection is open.
    KeepAwake {},
    /// Forwards ports of the guest for as long as this connection is open.
    Forward {
        ports: Vec<WantedForward>,
    },
    Release {},
}

/// A port of the guest that a command wants to have at this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedForward {
    /// At which address of this host; without one at the loopback addresses.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// At which port of it.
    pub port: u16,
    /// The guest's port, on its loopback address.
    pub guest_port: u16,
}

impl SupervisorRequest {
    /// Reads a line. `params` may be missing.
    pub(crate) fn parse(line: &str) -> Result<SupervisorRequest, serde_json::Error> {
        let mut value: serde_json::Value = serde_json::from_str(line)?;
        if let Some(object) = value.as_object_mut() {
            object
                .entry("params")
                .or_insert_with(|| serde_json::json!({}));
        }
        serde_json::from_value(value)
    }
}

/// The answer to a [`SupervisorRequest`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SupervisorResponse {
    Result(serde_json::Value),
    Error(SupervisorFailure),
}

impl From<Refusal> for SupervisorFailure {
    /// For a person.
    fn from(refusal: Refusal) -> Self {
        let (message, hint) = match refusal {
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
                Some(
                    "`avocado vm status` counts them; a client that waits for an answer counts as well",
                ),
            ),
            Refusal::KeptAwake => (
                "a command keeps the guest awake",
                Some("`avocado vm status` counts such commands; they are `avocado vm keep-awake`"),
            ),
            Refusal::NotStopped => (
                "the guest has not powered off in time; until it does, the VM goes on",
                Some("`avocado vm stop --force` ends it without asking the guest"),
            ),
        };
        SupervisorFailure::new(message, hint)
    }
}

const LOG: &str = "supervisor.log in the VM's directory says more";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (line, expected) in [
            (r#"{"method":"status"}"#, SupervisorRequest::Status {}),
            (
                r#"{"method":"wake","params":{},"id":1}"#,
                SupervisorRequest::Wake {},
            ),
            (
                r#"{"method":"keep_awake"}"#,
                SupervisorRequest::KeepAwake {},
            ),
            (
                r#"{"method":"forward","params":{"ports":[{"port":8080,"guest_port":80}]}}"#,
                SupervisorRequest::Forward {
                    ports: vec![WantedForward {
                        address: None,
                        port: 8080,
                        guest_port: 80,
                    }],
                },
            ),
            (
                r#"{"method":"stop","params":{"force":true}}"#,
                SupervisorRequest::Stop {
                    force: true,
                    timeout_secs: None,
                },
            ),
            (
                r#"{"method":"configure","params":{"idle":{"hibernate_after_secs":9}}}"#,
                SupervisorRequest::Configure {
                    idle: IdleChange {
                        hibernate_after_secs: Some(9),
                        ..IdleChange::default()
                    },
                },
            ),
        ] {
            assert_eq!(SupervisorRequest::parse(line).unwrap(), expected);
            let again = serde_json::to_string(&expected).unwrap();
            assert_eq!(SupervisorRequest::parse(&again).unwrap(), expected);
        }
        for line in ["", "[]", "{}", r#"{"method":"explode"}"#, r#"{"method":7}"#] {
            assert!(SupervisorRequest::parse(line).is_err(), "{line}");
        }
    }
}
