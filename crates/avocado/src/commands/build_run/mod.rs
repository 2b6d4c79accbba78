//! One run of the build engine, for the commands that build.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other_systems;

#[cfg(target_os = "linux")]
pub(super) use avocado_build::Goal;
#[cfg(target_os = "linux")]
pub(super) use linux::{
    BuildRun, BuiltWith, cancellable, complete, copy_artifacts, failure, options, outdated, start,
};
#[cfg(not(target_os = "linux"))]
pub(super) use other_systems::{BuildRun, Goal};
