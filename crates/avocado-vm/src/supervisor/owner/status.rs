//! What the owner tells of the VM.

use std::time::Instant;

use avocado_qemu::Machine;

use super::super::machine_record::MachineRecord;
use super::super::policy::{PolicyState, SleepPolicy};
use super::super::shared_state::SharedState;
use super::super::work::WorkSign;
use crate::dir::{StateDir, StateFile};
use crate::status::{self, ConnectionCounts, LastWake, VmPorts, VmState, VmStatus};

/// What the status is made from.
pub(super) struct StatusParts<'a> {
    pub(super) dir: &'a StateDir,
    pub(super) policy: &'a SleepPolicy,
    pub(super) shared: &'a SharedState,
    pub(super) machine: Option<&'a Machine>,
    pub(super) record: Option<&'a MachineRecord>,
    /// For users, and the one that never wakes the guest.
    pub(super) ports: (u16, Option<u16>),
    pub(super) since: &'a str,
    pub(super) last_wake: Option<&'a LastWake>,
    /// What showed at the last look that the guest works.
    pub(super) work: Option<WorkSign>,
    pub(super) problem: Option<&'a str>,
    /// Why it is not known whether the guest works.
    pub(super) work_problem: Option<&'a str>,
    pub(super) panic: Option<String>,
    /// What is wrong with the saved memory.
    pub(super) saved: Option<&'a str>,
}

/// The status, with `paused` as QEMU says.
pub(super) fn vm_status(parts: &StatusParts<'_>, paused: Option<bool>) -> VmStatus {
    let image = parts.record.map(|record| &record.image);
    let usage = parts.machine.and_then(Machine::usage);
    let state = match parts.policy.state() {
        PolicyState::Starting => VmState::Starting,
        PolicyState::Running | PolicyState::Pausing => VmState::Running,
        PolicyState::Hibernated | PolicyState::Waking | PolicyState::Saving => VmState::Hibernated,
        PolicyState::Released | PolicyState::Restoring => VmState::Released,
        PolicyState::Stopping => VmState::Stopping,
        PolicyState::Gone => VmState::Stopped,
    };
    let active = parts
        .policy
        .last_activity()
        .max(parts.shared.last_traffic());
    let idle = Instant::now().saturating_duration_since(active);
    VmStatus {
        version: status::VERSION,
        running: state != VmState::Stopped,
        state,
        paused,
        reason: Some(parts.policy.reason().name().to_owned()),
        since: Some(parts.since.to_owned()),
        last_wake: parts.last_wake.cloned(),
        pid: parts.machine.map(|machine| machine.identity().pid),
        supervisor_pid: Some(std::process::id()),
        ports: VmPorts {
            ssh: Some(parts.ports.0),
            internal_ssh: parts.shared.forward_port(),
            infra_ssh: parts.ports.1,
        },
        forwards: parts.shared.forwards().forwards(),
        connections: ConnectionCounts {
            counted: parts.policy.open_leases(),
            infra: parts.shared.infra_connections(),
        },
        work: parts.work.map(|sign| sign.name().to_owned()),
        keep_awakes: parts.policy.keep_awakes(),
        idle_secs: Some(idle.as_secs()),
        accelerator: parts
            .record
            .map(|record| record.spec.accelerator.name().to_owned()),
        cpu_ms: usage.map(|usage| usage.cpu_ms),
        memory_bytes: usage.map(|usage| usage.memory_bytes),
        platform: image.map(|image| image.platform.clone()),
        architecture: image.map(|image| image.architecture.clone()),
        image_version: image.and_then(|image| image.version.clone()),
        state_dir: parts.dir.root().to_owned(),
        docker_socket: Some(parts.dir.file(StateFile::Docker)),
        problem: all_problems([
            parts.panic.clone(),
            parts.saved.map(str::to_owned),
            parts.problem.map(str::to_owned),
            parts.work_problem.map(str::to_owned),
            parts.shared.forwards().problem(),
            parts.shared.loads().problem(),
        ]),
    }
}

/// Everything that is wrong, in one text.
fn all_problems(problems: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let told: Vec<String> = problems.into_iter().flatten().collect();
    (!told.is_empty()).then(|| told.join("; "))
}
