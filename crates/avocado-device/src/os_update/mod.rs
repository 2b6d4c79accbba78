//! Updates of the operating system: it is written to the slot that does not run, and proves itself when
//! it has been started.
//!
//! [`stream`] may write the slot before an update begins. [`slot_policy`] is the order of it, which no cut of the power may break. The steps before the reboot
//! are in [`apply`], once [`plan`] has found nothing in the way; those after it in [`proof`], and in [`trial`]
//! where [`health`] decides. What
//! outlives a cut is the marker ([`pending_update`]), the slots ([`partition`], on the disks that [`disk`] tells apart) and what decides which of
//! them is started ([`boot_loader`]).

pub(crate) mod apply;
mod boot_entry;
mod boot_loader;
mod bundle_file;
mod bundle_source;
mod chunk_fetch;
mod chunk_writer;
pub(crate) mod chunked_bundle;
mod damaged_marker;
mod disk;
pub(crate) mod error;
pub(crate) mod failed_update;
pub(crate) mod health;
mod partition;
pub(crate) mod pending_update;
pub(crate) mod plan;
pub(crate) mod proof;
pub(crate) mod reboot;
pub(crate) mod reboot_timer;
mod slot_contents;
mod slot_policy;
pub(crate) mod stream;
pub(crate) mod streamed_os;
pub(crate) mod trial;
mod zstd_reader;
