//! Taking over a QEMU that an earlier process of ours started.

use super::connect::connect_qmp;
use super::handle::{ANSWER_LIMIT, Machine};
use super::memory::cancel_orphaned_save;
use crate::error::QemuError;
use crate::events::MachineEvents;
use crate::process::{self, ProcessIdentity};
use crate::spec::MachineSpec;

/// Takes over a machine that an earlier process of ours started. None: that process is gone,
/// or its id is another process's by now. A [`crate::save_memory`] that the earlier process had
/// begun is over then, one way or the other.
///
/// Of `spec` only the sockets and the log have a meaning here.
///
/// # Errors
/// [`QemuError::Busy`] where another client holds the supervisor's socket,
/// [`QemuError::WrongProcess`] where another process serves it, [`QemuError::Exited`] where QEMU
/// ends in this moment.
pub async fn adopt_machine(
    identity: &ProcessIdentity,
    spec: &MachineSpec,
) -> Result<Option<(Machine, MachineEvents)>, QemuError> {
    let Some(process) = process::adopt(identity) else {
        return Ok(None);
    };
    let (qmp, notifications) =
        connect_qmp(&process, spec, ANSWER_LIMIT, Some(identity.pid)).await?;
    let (machine, events) = Machine::new(spec, process, qmp, notifications);
    cancel_orphaned_save(&machine).await?;
    Ok(Some((machine, events)))
}
