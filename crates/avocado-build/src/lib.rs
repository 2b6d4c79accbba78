//! The steps of a build, and the graph that they make for a project and a goal.
//!
//! [`run`] takes a resolved project and a [`Goal`] and brings every step that the goal needs up
//! to date. The way through the files:
//!
//! - `goal` names the steps that a goal asks for; `plan` makes the graph of these and of
//!   everything that they need; `avocado_engine` runs it, and skips what its stamps show to be
//!   up to date.
//! - `steps` has a file for each kind of step, with both of its sides. Those that need tools
//!   send a request (`step_request`) to a child process of the same program ([`step_main`],
//!   `worker`), in the backend that `avocado_backend` provides. `build_context` is what the
//!   parent's side can see, `step_context` what the child's side can.
//! - `packages`, `scriptlets`, `trees` and `images` are what the steps are made of.
//! - `disk_device` writes the image of a disk to a card or a stick; no step does that.
// Steps run in Linux namespaces; see `avocado_backend`.
#![cfg(target_os = "linux")]

mod architecture;
mod artifact;
mod bill;
mod build_context;
mod cache;
mod clean_part;
mod containers;
mod disk_device;
mod error;
mod extension_checkout;
mod extension_package;
mod failure_kind;
mod file_digest;
mod goal;
mod host_check;
mod images;
mod kept_warnings;
mod keys;
mod known_files;
mod known_trees;
mod layout;
mod moving;
mod needed;
mod options;
mod package_query;
mod packages;
mod plan;
mod project_lock;
mod provenance;
mod provisioning;
mod prune;
mod rebuild;
mod reference;
mod remote;
mod rpm_package;
mod run;
mod scriptlets;
mod sdk_command;
mod shared_environment;
mod sources;
mod step_context;
mod step_environment;
mod step_request;
mod steps;
mod stone_files;
mod trees;
mod update;
mod worker;

#[cfg(test)]
mod tests;

pub use artifact::Artifact;
pub use avocado_backend::{ContainerEngine, Emulation, Processor, WorkerStart, find_tool};
pub use avocado_cache::BucketCredentials;
pub use avocado_engine::OutdatedTask;
pub use avocado_events::Cancel;
pub use bill::{BillScope, bill_of_materials};
pub use clean_part::{CleanedPart, clean_part};
pub use disk_device::{DiskDevice, DiskDeviceError, DiskDevicePaths, HeldDisk, WrittenDisk};
pub use error::{BuildError, ToolFailure, TreeFault};
pub use extension_checkout::{CheckedOut, checkout_extension};
pub use extension_package::package_extension;
pub use failure_kind::FailureKind;
pub use goal::Goal;
pub use host_check::{check_host_steps, emulation_of_host_steps, may_mount};
pub use images::btrfs::MkfsVersion;
pub use images::gpt::copy_with_holes;
pub use keys::{DEVELOPMENT_KEY, signing_key};
pub use layout::Layout;
pub use moving::{LoadWish, MovedState, SAVED_STATE_FORMAT, SavedTarget, load_state, save_state};
pub use needed::shortcomings;
pub use options::{BucketAccess, CacheOptions, ContainerSettings, Options};
pub use package_query::{InstalledTree, PackageAnswer, installed_packages, query_packages};
pub use provisioning::{ProvisioningProfile, provisioning_profiles};
pub use prune::{Leftover, Pruned, prune};
pub use rebuild::{RebuiltImage, rebuild};
pub use reference::{ReferenceSource, ReferenceWish, TakenReference, take_reference};
pub use remote::RemoteSettings;
pub use run::{Report, outdated, run};
pub use scriptlets::SkippedScriptlets;
pub use scriptlets::commands::{CommandEnd, scriptlet_command};
pub use sdk_command::{SdkCommand, run_sdk_command};
pub use steps::disk_image::{DISK_ARTIFACT, ProvisionWish};
pub use update::{Updated, update};
pub use worker::step_main;
