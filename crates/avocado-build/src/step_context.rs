//! What a step has to work with inside the child.

use std::ffi::OsString;

use avocado_backend::LoopMounts;
use avocado_events::Sink;
use avocado_manifest::Name;

use crate::layout::Layout;
use crate::trees::CopyModes;

/// What a step has to work with inside the child, where the published mounts are.
pub(crate) struct StepContext<'a> {
    pub(crate) target: Name,
    pub(crate) layout: Layout,
    /// The same as users see it.
    pub(crate) host_layout: Layout,
    /// Seconds since 1970 for every time stamp.
    pub(crate) epoch: u64,
    /// PATH for tools.
    pub(crate) search_path: OsString,
    /// How files of the project are copied.
    pub(crate) modes: CopyModes,
    pub(crate) sink: &'a dyn Sink,
    /// The right to mount images, where the step asked for it and the backend can do it.
    pub(crate) loop_mounts: Option<&'a LoopMounts>,
}
