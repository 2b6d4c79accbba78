//! One run of the build engine, for the commands that build.

#[cfg(target_os = "linux")]
mod backend;
#[cfg(target_os = "linux")]
mod bucket_access;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other_systems;

#[cfg(target_os = "linux")]
pub(super) use avocado_build::Goal;
#[cfg(target_os = "linux")]
pub(super) use backend::{choice_of, containers};
#[cfg(target_os = "linux")]
pub(super) use linux::{
    BuildRun, cancellable, complete, copy_artifacts, failure, options, options_as_built,
    options_now, outdated, start,
};
#[cfg(not(target_os = "linux"))]
pub(super) use other_systems::{BuildRun, Goal};
