//! What the owner says about the VM.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use avocado_qemu::Machine;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Owner, State};
use crate::dir::File;
use crate::status::{self, Connections, Ports, Status};
use crate::supervisor::jobs;

/// How long QEMU may take to say whether the guest is paused.
const LOOK: Duration = Duration::from_millis(500);

impl Owner {
    /// Answers with what QEMU says, not with what is believed.
    pub(super) fn answer_status(&mut self, reply: oneshot::Sender<Status>) {
        match self.machine.clone() {
            Some(machine) => {
                let mut status = self.status(None);
                self.jobs.spawn(async move {
                    let paused = timeout(LOOK, jobs::is_paused(&machine)).await;
                    status.paused = paused.ok().flatten();
                    let _ = reply.send(status);
                    jobs::Outcome::Nothing
                });
            }
            None => {
                let asleep = matches!(self.policy.state(), State::Released | State::Restoring);
                let _ = reply.send(self.status(asleep.then_some(true)));
            }
        }
    }

    /// The status, with `paused` as QEMU says.
    pub(super) fn status(&self, paused: Option<bool>) -> Status {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let image = record.as_ref().map(|record| &record.image);
        let usage = self.machine.as_ref().and_then(Machine::usage);
        let state = match self.policy.state() {
            State::Starting => status::State::Starting,
            State::Running | State::Pausing => status::State::Running,
            State::Hibernated | State::Waking | State::Saving => status::State::Hibernated,
            State::Released | State::Restoring => status::State::Released,
            State::Stopping => status::State::Stopping,
            State::Gone => status::State::Stopped,
        };
        let active = self.policy.active().max(self.hub.gate.traffic());
        let idle = Instant::now().saturating_duration_since(active);
        let dir = &self.context.dir;
        Status {
            version: status::VERSION,
            running: state != status::State::Stopped,
            state,
            paused,
            reason: Some(self.policy.reason().name().to_owned()),
            since: Some(self.since.clone()),
            last_wake: self.last_wake.clone(),
            pid: self.machine.as_ref().map(|machine| machine.identity().pid),
            supervisor_pid: Some(std::process::id()),
            ports: Ports {
                ssh: Some(self.ports.0),
                internal_ssh: self.hub.gate.port(),
                infra_ssh: self.ports.1,
            },
            connections: Connections {
                counted: self.policy.open(),
                infra: self.hub.gate.infra(),
            },
            idle_secs: Some(idle.as_secs()),
            accelerator: record
                .as_ref()
                .map(|record| record.spec.accelerator.name().to_owned()),
            cpu_ms: usage.map(|usage| usage.cpu_ms),
            memory_bytes: usage.map(|usage| usage.memory_bytes),
            platform: image.map(|image| image.platform.clone()),
            architecture: image.map(|image| image.architecture.clone()),
            image_version: image.and_then(|image| image.version.clone()),
            state_dir: dir.root().to_owned(),
            docker_socket: Some(dir.file(File::Docker)),
            problem: self.problem.clone(),
        }
    }
}
