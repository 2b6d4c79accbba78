//! `avocadoctl runtime pin` and `unpin`.

use super::report;
use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;

pub(super) fn pin(id: &str, context: &Context) -> Result<(), Failure> {
    let mut device = context.device(AccessMode::Write)?;
    let runtime = device.pin(id, true, &context.progress)?;
    report(context, &runtime, "pinned")
}

pub(super) fn unpin(id: &str, context: &Context) -> Result<(), Failure> {
    let mut device = context.device(AccessMode::Write)?;
    let runtime = device.pin(id, false, &context.progress)?;
    report(context, &runtime, "not pinned any more")
}
