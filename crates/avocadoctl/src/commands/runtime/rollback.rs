//! `avocadoctl runtime rollback`.

use super::report_activation;
use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let progress = &context.progress;
    let result = context.device(AccessMode::Write)?.rollback(progress);
    progress.clear();
    report_activation(context, &result?, "active again")
}
