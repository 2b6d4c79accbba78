//! A QEMU process: command line, QMP, guest agent, pause, save, restore.
//!
//! [`Spec`] says what to run, [`Machine`] is what runs. Who ends what: dropping a [`Machine`] (and
//! its [`Events`]) ends nothing. QEMU lives on until the guest powers off, [`Machine::quit`] or
//! [`Machine::kill`], and is reaped by a task of the runtime that started it; where the whole
//! process ends, QEMU lives on and [`Machine::adopt`] takes it over.

mod accelerator;
mod agent;
mod agent_wire;
mod arguments;
mod binary;
mod clock;
pub mod device_tree;
mod error;
mod events;
mod launch;
mod lines;
mod machine;
mod memory;
mod process;
mod qmp;
mod socket;
mod spec;
mod tpm;

pub use accelerator::{Probe, ProbeKey, probe};
pub use agent::{Agent, Output};
pub use binary::{BinaryIdentity, find_binary};
pub use error::Error;
pub use events::{Events, MachineEvent};
pub use machine::{Machine, RunState};
pub use process::{ExitStatus, Identity, Usage};
pub use spec::{Accelerator, Architecture, Drive, Format, Sockets, Spec, UnknownName};
pub use tpm::{Tpm, find_swtpm};
