//! Settling the OS update of this boot: what its merge could not, and then the health of a system on trial.

use avocado_events::{Event, Sink, chain};

use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::merge::MergeMode;
use crate::merging;
use crate::os_update::proof;
use crate::os_update::trial::{self, TrialEnd};

/// Commits the update that is on trial if the system is well, or goes back. What the merge of this boot could not
/// settle, because the boot loader's programs did not find its devices yet, is settled first.
pub(crate) fn commit(context: &DeviceContext, sink: &dyn Sink) -> Result<TrialEnd, FailureReason> {
    if proof::is_unsettled(context) {
        trial::wait_for_boot(context, sink)?;
        if let Err(error) = merging::merge(context, MergeMode::IfNeeded, sink) {
            sink.emit(Event::warning(chain(&error)));
        }
        if proof::is_unsettled(context) {
            return Ok(TrialEnd::Unsettled);
        }
    }
    trial::end(context, sink)
}
