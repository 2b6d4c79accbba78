//! `avocadoctl runtime remove`.

use serde_json::json;

use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;

pub(super) fn run(id: &str, context: &Context) -> Result<(), Failure> {
    let progress = &context.progress;
    let result = context.device(AccessMode::Write)?.remove(id, progress);
    progress.clear();
    result?;
    context.output.result(&json!({"status": "ok"}), || {
        "The runtime is removed.\n".to_owned()
    })
}
