//! When the guest sleeps and when it wakes: a state machine without clock, files or processes.
//!
//! Events go in, each with its instant; actions come out. At most one command to QEMU is under way
//! at any time, and its outcome comes back as an event. Whether the guest runs is never remembered
//! from what was asked for, but taken from what QEMU says.

mod action;
mod clients;
mod event;
mod open_requests;
mod request;
mod settings;
mod sleep_policy;
mod state;

#[cfg(test)]
mod tests;

pub(crate) use action::PolicyAction;
pub(crate) use event::PolicyEvent;
pub(crate) use request::{CountedLane, Refusal, VmRequest};
pub(crate) use settings::SleepSettings;
pub(crate) use sleep_policy::SleepPolicy;
pub(crate) use state::{PolicyState, StateReason};
