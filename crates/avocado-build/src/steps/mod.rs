//! What a build consists of. Each kind of step has one file with both of its sides: the *task*
//! in the parent, which knows what the step consumes and needs, and the *work* in the child,
//! which has the published mounts and may start tools.

mod accounts;
mod board_images;
pub(crate) mod compile;
mod compiled_kernel;
mod compiled_package;
pub(crate) mod container_image;
pub(crate) mod container_store;
pub(crate) mod disk_image;
pub(crate) mod extension_build;
pub(crate) mod extension_image;
mod extension_metadata;
pub(crate) mod fetch;
pub(crate) mod hook;
pub(crate) mod install;
pub(crate) mod kernel_image;
pub(crate) mod os_bundle;
pub(crate) mod os_image;
mod overlay;
pub(crate) mod repository;
pub(crate) mod runtime_build;
pub(crate) mod runtime_compile;
mod runtime_kernel;
mod runtime_member;
mod scripts;
pub(crate) mod section_package;
pub(crate) mod var_image;
pub(crate) mod vm_image;

/// Package managers' state that no image carries.
const PACKAGE_STATE: [&str; 4] = ["var/lib/rpm", "var/lib/dnf", "var/cache/dnf", "var/log/dnf"];
