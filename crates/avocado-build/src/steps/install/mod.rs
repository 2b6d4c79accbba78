//! Installing packages with dnf into one tree: the SDK, a rootfs, an initramfs, an extension or
//! a runtime. Every install starts from an empty tree, so what is in the tree follows from the
//! request, the lock and the snapshot alone.
//!
//! `package_tree` says which trees there are, `plan` which of them a build has, `task` is the
//! parent's side, and `request` the child's, which does what `spec` says;
//! `target_repositories` come first. `uninstall` is for trees that have no packages any more.

mod include;
mod kernel;
mod package_tree;
mod plan;
mod publish;
mod request;
#[cfg(test)]
mod small_feed;
mod spec;
mod target_repositories;
mod task;
#[cfg(test)]
mod tests;
mod uninstall;
mod wanted_kernel;

pub(crate) use package_tree::PackageTree;
pub(crate) use plan::{plan, plan_base, plan_extension, plan_runtime, plan_sdk, plan_tree};
pub(crate) use publish::{COMPILED_LIST, compiled as publish_compiled, copy_published};
pub(crate) use request::{FinishInstallRequest, InstallRequest, PublishRequest};
pub(crate) use task::InstallOutput;
pub(crate) use uninstall::Uninstall;
