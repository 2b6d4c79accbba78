//! From a launch to a machine: one that runs already (`adopt`), one whose memory was saved
//! (`restore`), or a new one (`boot`). `prepare` makes what QEMU needs.

mod adopt;
mod boot;
mod machine_spec;
mod prepare;
mod restore;
mod started;

use std::sync::Arc;

use avocado_events::Event;
use avocado_qemu::BinaryIdentity;

use super::context::SupervisorContext;
use super::error::SupervisorError;
use super::machine_record::{ImageIdentity, MachineRecord};
use super::saved_memory::SavedMemory;

use boot::boot;
use restore::restore;

pub(crate) use adopt::adopt_machine;
pub(crate) use started::{RestoreFailure, StartKind, StartedMachine};

/// Brings the machine up for `vm start`, where there is none to take over.
pub(crate) async fn start_machine(
    context: &Arc<SupervisorContext>,
) -> Result<StartedMachine, SupervisorError> {
    let dir = &context.dir;
    let record = prepare::prepare_machine(context).await?;
    let Some(saved) = SavedMemory::read(dir) else {
        return boot(context, record).await;
    };
    // It fits no machine with a device more: one that was saved without these goes on without.
    let mut as_saved = record.clone();
    as_saved.spec.panic_device = saved.record.spec.panic_device;
    as_saved.spec.gives_back = saved.record.spec.gives_back;
    match saved.fits(&as_saved) {
        Ok(()) => match restore(context, as_saved).await {
            Ok(up) => Ok(up),
            Err(RestoreFailure { error, kept: true }) => {
                let text = "the saved memory is kept for another try; `avocado vm stop --force` \
                            gives it up";
                context.sink.emit(Event::warning(text));
                Err(error)
            }
            Err(RestoreFailure { error, kept: false }) => {
                warn_memory_unused(context, &error.to_string());
                boot(context, record).await
            }
        },
        Err(why) => {
            warn_memory_unused(context, &why);
            boot(context, record).await
        }
    }
}

/// Brings the machine back whose memory was saved by this supervisor.
pub(crate) async fn bring_back_machine(
    context: &Arc<SupervisorContext>,
    mut record: MachineRecord,
) -> Result<StartedMachine, RestoreFailure> {
    let kept = |kept| move |error: SupervisorError| RestoreFailure { error, kept };
    // It may have been replaced meanwhile.
    let qemu = BinaryIdentity::of(&record.spec.binary);
    record.qemu = qemu.map_err(|error| kept(true)(error.into()))?;
    let fits = match SavedMemory::read(&context.dir) {
        None => Err("it is not there any more".to_owned()),
        Some(saved) => saved.fits(&record),
    };
    let why = match fits {
        Ok(()) => match restore(context, record.clone()).await {
            Err(RestoreFailure { error, kept: false }) => error.to_string(),
            other => return other,
        },
        Err(why) => why,
    };
    warn_memory_unused(context, &why);
    let image = prepare::load_image(context).await.map_err(kept(false))?;
    let facts = ImageIdentity::of(&image);
    let record = MachineRecord {
        image: facts,
        ..record
    };
    boot(context, record).await.map_err(kept(false))
}

/// The saved memory is of no use: the guest boots, and says why.
fn warn_memory_unused(context: &SupervisorContext, why: &str) {
    let text = format!("the saved memory is not used, and the guest boots anew: {why}");
    context.sink.emit(Event::warning(text));
}
