//! What the supervisor was started with.

use std::path::PathBuf;
use std::sync::Arc;

use avocado_events::Sink;

use crate::dir::StateDir;
use crate::launch::VmLaunch;

/// What a machine is made from.
#[derive(Clone)]
pub(crate) struct SupervisorContext {
    pub(crate) dir: StateDir,
    pub(crate) launch: VmLaunch,
    /// Where to look for QEMU.
    pub(crate) search: Vec<PathBuf>,
    pub(crate) sink: Arc<dyn Sink>,
}
