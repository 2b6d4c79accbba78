//! `avocado vm status`.

use std::time::Duration;

use avocado_vm::status::{VmForward, VmState, VmStatus};

use super::{machine, state_dir};
use crate::failure::Result;
use crate::session::Session;

pub(super) fn run(session: &Session) -> Result<()> {
    let status = machine::look(&state_dir(session)?)?;
    session.output.answer(&status, || human(&status))
}

/// What it is doing, and how it goes on.
fn headline(status: &VmStatus) -> &'static str {
    match (status.state, status.paused) {
        (VmState::Stopped, _) => "stopped",
        (VmState::Starting, _) => "starting",
        (VmState::Stopping, _) => "stopping",
        (VmState::Hibernated, _) | (VmState::Running, Some(true)) => {
            "running (hibernated — wakes on next ssh/docker call)"
        }
        (VmState::Released, _) => {
            "running (hibernated, memory released — wakes on next ssh/docker call)"
        }
        (VmState::Running, Some(false)) => "running",
        (VmState::Running, None) => "running (nobody could say whether it is paused)",
        (VmState::Unsupervised, Some(true)) => {
            "running without supervisor (paused; `avocado vm start` takes it over)"
        }
        (VmState::Unsupervised, _) => {
            "running without supervisor (`avocado vm start` takes it over)"
        }
        (VmState::Unresponsive, _) => "unknown (its supervisor does not answer)",
    }
}

/// The state in a word.
pub(super) fn word(state: VmState) -> &'static str {
    match state {
        VmState::Stopped => "stopped",
        VmState::Starting => "starting",
        VmState::Running => "running",
        VmState::Hibernated => "hibernated",
        VmState::Released => "released",
        VmState::Stopping => "stopping",
        VmState::Unsupervised => "unsupervised",
        VmState::Unresponsive => "unresponsive",
    }
}

fn human(status: &VmStatus) -> String {
    let mut rows = vec![("state", headline(status).to_owned())];
    let mut row = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            rows.push((name, avocado_text::escape(&value)));
        }
    };
    row("problem", status.problem.clone());
    row("since", since(status));
    row(
        "last wake",
        status
            .last_wake
            .as_ref()
            .map(|wake| format!("{} ({})", wake.at, wake.reason)),
    );
    row("pid", status.pid.map(|pid| pid.to_string()));
    row(
        "supervisor",
        status.supervisor_pid.map(|pid| pid.to_string()),
    );
    let port = |port: Option<u16>| port.map(|port| format!("127.0.0.1:{port}"));
    row("ssh", port(status.ports.ssh));
    row("ssh (infra)", port(status.ports.infra_ssh));
    row(
        "docker",
        status
            .docker_socket
            .as_ref()
            .map(|socket| format!("unix://{}", socket.display())),
    );
    for forward in &status.forwards {
        row("forward", Some(describe(forward)));
    }
    if status.running && status.supervisor_pid.is_some() {
        let open = &status.connections;
        let infra = match open.infra {
            0 => String::new(),
            infra => format!(", and {infra} that do not count"),
        };
        row("connections", Some(format!("{}{infra}", open.counted)));
    }
    row("work", status.work.clone());
    if status.keep_awakes > 0 {
        row("keep-awakes", Some(status.keep_awakes.to_string()));
    }
    let seconds = |secs| avocado_text::duration(Duration::from_secs(secs));
    row("idle for", status.idle_secs.map(seconds));
    row("accelerator", status.accelerator.clone());
    let cpu = |ms| avocado_text::duration(Duration::from_millis(ms));
    row("cpu time", status.cpu_ms.map(cpu));
    row("memory", status.memory_bytes.map(avocado_text::bytes));
    row("platform", status.platform.clone());
    row("architecture", status.architecture.clone());
    row("image", status.image_version.clone());
    row("state dir", Some(status.state_dir.display().to_string()));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect()
}

fn describe(forward: &VmForward) -> String {
    let at = forward.addresses.join(", ");
    let of = match (&forward.container, forward.command) {
        (Some(name), _) => format!(" of container {name}"),
        (None, Some(process)) => format!(" of the guest, for process {process}"),
        (None, None) => " of the guest".to_owned(),
    };
    format!("{at} → port {}{of}", forward.guest_port)
}

fn since(status: &VmStatus) -> Option<String> {
    let since = status.since.as_ref()?;
    Some(match &status.reason {
        Some(reason) => format!("{since} ({reason})"),
        None => since.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use avocado_vm::status::{ConnectionCounts, LastWake, VERSION, VmPorts};

    fn stopped() -> VmStatus {
        VmStatus {
            version: VERSION,
            running: false,
            state: VmState::Stopped,
            paused: None,
            reason: None,
            since: None,
            last_wake: None,
            pid: None,
            supervisor_pid: None,
            ports: VmPorts::default(),
            forwards: Vec::new(),
            connections: ConnectionCounts::default(),
            work: None,
            keep_awakes: 0,
            idle_secs: None,
            accelerator: None,
            cpu_ms: None,
            memory_bytes: None,
            platform: None,
            architecture: None,
            image_version: None,
            state_dir: "/home/me/.avocado/vm".into(),
            docker_socket: None,
            problem: None,
        }
    }

    fn hibernated() -> VmStatus {
        VmStatus {
            running: true,
            state: VmState::Hibernated,
            paused: Some(true),
            reason: Some("idle".into()),
            since: Some("2026-06-01T10:00:00Z".into()),
            last_wake: Some(LastWake {
                reason: "docker".into(),
                at: "2026-06-01T09:58:00Z".into(),
            }),
            pid: Some(41),
            supervisor_pid: Some(40),
            ports: VmPorts {
                ssh: Some(2222),
                internal_ssh: Some(40001),
                infra_ssh: Some(2223),
            },
            forwards: vec![
                VmForward {
                    addresses: vec!["127.0.0.1:8088".into(), "[::1]:8088".into()],
                    guest_port: 8088,
                    container: Some("web".into()),
                    command: None,
                },
                VmForward {
                    addresses: vec!["127.0.0.1:5432".into()],
                    guest_port: 5433,
                    container: None,
                    command: Some(42),
                },
            ],
            connections: ConnectionCounts {
                counted: 0,
                infra: 1,
            },
            work: Some("ssh".into()),
            keep_awakes: 2,
            idle_secs: Some(62),
            accelerator: Some("kvm".into()),
            cpu_ms: Some(61_500),
            memory_bytes: Some(900 << 20),
            platform: Some("avocado-qemux86-64".into()),
            architecture: Some("x86_64".into()),
            image_version: Some("1.2.0".into()),
            docker_socket: Some("/home/me/.avocado/vm/docker.sock".into()),
            ..stopped()
        }
    }

    #[test]
    fn what_a_person_reads() {
        insta::assert_snapshot!(human(&stopped()), @r"
        state      stopped
        state dir  /home/me/.avocado/vm
        ");
        insta::assert_snapshot!(human(&hibernated()), @r"
        state         running (hibernated — wakes on next ssh/docker call)
        since         2026-06-01T10:00:00Z (idle)
        last wake     2026-06-01T09:58:00Z (docker)
        pid           41
        supervisor    40
        ssh           127.0.0.1:2222
        ssh (infra)   127.0.0.1:2223
        docker        unix:///home/me/.avocado/vm/docker.sock
        forward       127.0.0.1:8088, [::1]:8088 → port 8088 of container web
        forward       127.0.0.1:5432 → port 5433 of the guest, for process 42
        connections   0, and 1 that do not count
        work          ssh
        keep-awakes   2
        idle for      1 min 02 s
        accelerator   kvm
        cpu time      1 min 01 s
        memory        900.0 MiB
        platform      avocado-qemux86-64
        architecture  x86_64
        image         1.2.0
        state dir     /home/me/.avocado/vm
        ");
    }

    #[test]
    fn every_state_has_its_words() {
        let words = |state, paused| {
            headline(&VmStatus {
                state,
                paused,
                ..hibernated()
            })
        };
        assert_eq!(words(VmState::Running, Some(false)), "running");
        let unknown = words(VmState::Running, None);
        assert_eq!(unknown, "running (nobody could say whether it is paused)");
        assert!(words(VmState::Running, Some(true)).contains("(hibernated — wakes on next"));
        assert!(words(VmState::Released, None).contains("memory released — wakes on next"));
        assert!(words(VmState::Unsupervised, None).contains("`avocado vm start` takes it over"));
    }
}
