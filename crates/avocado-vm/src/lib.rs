//! The development VM: its state directory, configuration and image, and the supervisor that
//! owns QEMU, lets it sleep while nobody uses it and wakes it on the next connection.

pub mod dir;
pub mod launch;
pub mod status;
