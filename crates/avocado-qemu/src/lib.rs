//! A QEMU process: command line, QMP, guest agent, pause, save, restore.
//!
//! [`MachineSpec`] says what to run; [`boot_machine`], [`restore_machine`] and [`adopt_machine`]
//! give a [`Machine`], which is what runs. Who ends what: dropping a [`Machine`] (and its
//! [`MachineEvents`]) ends nothing. QEMU lives on until the guest powers off, [`Machine::quit`] or
//! [`Machine::kill`], and is reaped by a task of the runtime that started it; where the whole
//! process ends, QEMU lives on and [`adopt_machine`] takes it over.

mod accelerator;
mod arguments;
mod binary;
pub mod device_tree;
mod error;
mod events;
mod exit_status;
mod guest_agent;
mod line_reader;
mod machine;
mod process;
mod qmp;
mod socket;
mod spec;
mod tpm;

pub use accelerator::{AcceleratorProbe, AcceleratorProbeKey, probe_accelerator};
pub use binary::{BinaryIdentity, find_binary};
pub use error::QemuError;
pub use events::{MachineEvent, MachineEvents};
pub use exit_status::ExitStatus;
pub use guest_agent::{CommandOutput, GuestAgent};
pub use machine::{Machine, RunState, adopt_machine, boot_machine, restore_machine, save_memory};
pub use process::{KillOnDrop, ProcessIdentity, ProcessUsage};
#[cfg(unix)]
pub use socket::connect_when_room;
pub use socket::nobody_listens;
pub use spec::{
    Accelerator, Architecture, Drive, DriveFormat, MachineSockets, MachineSpec, UnknownName,
};
pub use tpm::{SoftwareTpm, find_swtpm};
