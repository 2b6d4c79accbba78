//! `avocadoctl runtime activate`.

use super::report_activation;
use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;

pub(super) fn run(id: &str, context: &Context) -> Result<(), Failure> {
    let progress = &context.progress;
    let result = context.device(AccessMode::Write)?.activate(id, progress);
    progress.clear();
    report_activation(context, &result?, "activated")
}
