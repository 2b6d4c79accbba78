//! Directories of this machine that a client of docker's API wants in a container.
//!
//! A path in such a request is one of the client's machine; the engine takes it for one of the guest's,
//! finds nothing there, makes an empty directory, and what a container writes into it is lost. So
//! these requests are held until they are whole (`gate`), and each path is looked at (`places`): one inside
//! of the workspace becomes that of the workspace in the guest, those that mean something in the
//! guest stay as they are, and every other one is refused with what to do (`review`). Which
//! parts of a request name paths is in `body`.
//!
//! The workspace is not mounted at its own path instead, as other development VMs do: the guest's root is
//! read-only, and such a path may be one that the guest needs itself.
//!
//! This keeps users from losing results. It is no border: who reaches the socket is root in the guest.

mod body;
mod gate;
mod json;
mod places;
mod review;

pub(super) use gate::{GateStep, HeldRequest, RequestGate};
pub(super) use places::HostPlaces;
pub(super) use review::{Review, review};

#[cfg(test)]
mod tests;
