//! The harness of the system tests, and of everything else that wants the real thing: the built
//! programs, the sample feed over HTTP, and a device with systemd as its PID 1. And what is enough
//! for less: the device's program over a store of its own, a repository without a build, and what
//! the kernel counts of a process.
//!
//! Whatever is started here ends with its owner: on drop, on Ctrl-C ([`cleanup`]), and after a
//! SIGKILL at the next start ([`claim::reap`]).
//!
//! ```no_run
//! use avocado_testbed::device::{DeviceOptions, TestDevice};
//! use avocado_testbed::keys::SshKeys;
//!
//! let keys = SshKeys::create("work".as_ref())?;
//! let options = DeviceOptions::new("rootfs.erofs", "var", "work", keys);
//! let device = TestDevice::boot(options)?;
//! device.ssh(&["systemd-sysext", "status"])?;
//! # Ok::<(), avocado_testbed::HarnessError>(())
//! ```
// Linux is what is tested, and with.
#![cfg(target_os = "linux")]

pub mod agent;
pub mod arm64;
pub mod board;
mod cgroup;
pub mod claim;
pub mod cleanup;
pub mod cut_guest;
mod debian_packages;
pub mod device;
pub mod disk_guest;
pub mod docker;
mod error;
pub mod feed;
pub mod host;
pub mod kernel;
pub mod keys;
mod loops;
pub mod network;
pub mod nfs_guest;
pub mod project;
pub mod published;
pub mod published_os;
pub mod registry;
pub mod remote_guest;
pub mod sdk_image;
pub mod shared_fixture;
pub mod small_guest;
pub mod tools;
pub mod uboot_board;
pub mod vm;
pub mod vm_image;
pub mod volatile_disk;
mod wait;

pub use error::HarnessError;
