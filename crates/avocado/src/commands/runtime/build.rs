//! `avocado runtime build`.

use super::RuntimeSelection;
use crate::commands::build_run::BuildRun;
use crate::commands::tools::ToolArgs;
use crate::failure::Result;
use crate::session::Session;

pub(super) fn run(
    session: &Session,
    runtime: &RuntimeSelection,
    no_var: bool,
    tools: &ToolArgs,
) -> Result<()> {
    BuildRun::new(session, "runtime build", tools)?
        .without_var(no_var)
        .run_runtime(runtime.name())
}
