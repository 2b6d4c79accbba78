//! `avocado ext build`.

use super::ExtArgs;
use crate::commands::build_run::{BuildRun, Goal};
use crate::failure::Result;
use crate::session::Session;

pub(super) fn run(session: &Session, args: &ExtArgs) -> Result<()> {
    BuildRun::new(session, "ext build", &args.tools)?.run(Goal::ExtBuild(args.name().cloned()))
}
