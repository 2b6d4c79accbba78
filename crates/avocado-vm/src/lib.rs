//! The development VM: its state directory, configuration and image, and the supervisor that
//! owns QEMU, lets it sleep while no client uses it and wakes it on the next connection.

#[cfg(unix)]
pub mod acceleration;
pub mod access;
pub mod autostart_unit;
pub mod channel;
pub mod config;
#[cfg(unix)]
pub mod control;
#[cfg(unix)]
pub mod copy;
pub mod dir;
pub mod disk;
mod error;
mod files;
pub mod image;
pub mod launch;
pub mod lock;
pub mod named;
pub mod status;
#[cfg(unix)]
pub mod supervisor;

pub use error::VmError;
