//! What a start takes over from the one before, so that a user has the same ports and lanes.

use std::path::PathBuf;

use avocado_events::{Event, Sink};
use avocado_vm::launch::VmLaunch;

use super::start_args::StartArgs;

/// Ports, lanes and workspace: what was told now, or else at the last start.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    /// To be had again if it is free. What is told now is not here.
    pub(super) ssh_port: Option<u16>,
    pub(super) infra_port: Option<u16>,
    pub(super) docker_stream: bool,
    workspace: Option<PathBuf>,
}

impl Remembered {
    pub(super) fn of(args: &StartArgs, last: Option<&VmLaunch>) -> Remembered {
        let last = last.filter(|_| !args.forget);
        let infra_port = args.infra_port.or(last.and_then(|last| last.infra_port));
        let ssh_port = last.and_then(|last| last.last_ssh_port.or(last.ssh_port));
        Remembered {
            // It would take the place of a port that was asked for.
            ssh_port: ssh_port.filter(|port| args.ssh_port.is_none() && infra_port != Some(*port)),
            infra_port,
            docker_stream: args.docker_socket_stream || last.is_some_and(|last| last.docker_stream),
            workspace: last.and_then(|last| last.workspace.clone()),
        }
    }

    /// The workspace of the last start, if it is still there. Says so if it is not.
    pub(super) fn workspace(&self, sink: &dyn Sink) -> Option<PathBuf> {
        let workspace = self.workspace.as_ref()?;
        if workspace.is_dir() {
            return Some(workspace.clone());
        }
        sink.emit(Event::warning(format!(
            "the guest gets no workspace: {}, that of the last start, is not there any more",
            workspace.display()
        )));
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn last() -> VmLaunch {
        serde_json::from_value(json!({
            "image": "/i", "cpus": 1, "memory_mib": 128, "var_size": 0, "last_ssh_port": 2222,
            "infra_port": 2223, "docker_stream": true, "workspace": "/", "dns": [],
            "dns_search": [], "ready_timeout_secs": 1,
            "idle": {
                "hibernate_after_secs": 0, "release_memory_after_secs": 0,
                "silent_connection_secs": 0, "containers_keep_awake": false,
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_is_not_told_is_as_it_was() {
        let all = Remembered {
            ssh_port: Some(2222),
            infra_port: Some(2223),
            docker_stream: true,
            workspace: Some("/".into()),
        };
        let args = StartArgs::default;
        assert_eq!(Remembered::of(&args(), None), Remembered::default());
        assert_eq!(Remembered::of(&args(), Some(&last())), all);
        let forget = StartArgs {
            forget: true,
            ..args()
        };
        assert_eq!(
            Remembered::of(&forget, Some(&last())),
            Remembered::default()
        );
        let told = StartArgs {
            ssh_port: Some(9),
            ..args()
        };
        let found = Remembered::of(&told, Some(&last()));
        assert_eq!((found.ssh_port, found.infra_port), (None, Some(2223)));
        let told = StartArgs {
            infra_port: Some(2222),
            ..args()
        };
        let found = Remembered::of(&told, Some(&last()));
        assert_eq!((found.ssh_port, found.infra_port), (None, Some(2222)));
        // As a start before this version wrote it down.
        let before = VmLaunch {
            last_ssh_port: None,
            ssh_port: Some(7),
            ..last()
        };
        assert_eq!(Remembered::of(&args(), Some(&before)).ssh_port, Some(7));
    }

    #[test]
    fn a_workspace_that_is_gone_is_told() {
        let gone = VmLaunch {
            workspace: Some("/does/not/exist".into()),
            ..last()
        };
        let remembered = Remembered::of(&StartArgs::default(), Some(&gone));
        let said = std::sync::Mutex::new(Vec::new());
        struct Heard<'a>(&'a std::sync::Mutex<Vec<String>>);
        impl Sink for Heard<'_> {
            fn emit(&self, event: Event) {
                self.0.lock().unwrap().push(event.message);
            }
        }
        assert_eq!(remembered.workspace(&Heard(&said)), None);
        assert!(
            said.lock().unwrap()[0].contains("/does/not/exist"),
            "{said:?}"
        );
    }
}
