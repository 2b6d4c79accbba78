//! `avocado ext fetch`.

use super::ExtArgs;
use crate::commands::build_run::BuildRun;
use crate::failure::Result;
use crate::session::Session;

pub(super) fn run(session: &Session, args: &ExtArgs) -> Result<()> {
    BuildRun::new(session, "ext fetch", &args.tools)?.run_fetch(args.name(), None)
}
