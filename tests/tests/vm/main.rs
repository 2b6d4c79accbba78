//! The development VM with a real guest: an image that `avocado build` made from the sample feed,
//! in a real QEMU, driven by the static `avocado`.
//!
//! A boot is slow where the guest is emulated. So there is one long story, and what needs no guest
//! is beside it.
#![allow(missing_docs)]
#![allow(clippy::print_stdout, reason = "the runner shows it when a test fails")]

#[path = "../common/mod.rs"]
mod common;

mod copying;
mod ending;
mod given_back;
mod harness;
mod released;
mod sleeping;
mod story;
mod trouble;
mod working;
