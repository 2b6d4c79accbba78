//! `avocado ext build`.

use super::ExtArgs;
use crate::commands::Session;
use crate::commands::build_run::{BuildRun, Goal};
use crate::failure::Result;

pub(super) fn run(session: &Session, args: &ExtArgs) -> Result<()> {
    BuildRun::new(session, "ext build", &args.tools)?.run(Goal::ExtBuild(args.name().cloned()))
}
