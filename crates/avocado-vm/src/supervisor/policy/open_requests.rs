//! Requests that were not answered yet.

use std::time::Instant;

use super::action::PolicyAction;
use super::request::{Refusal, VmRequest};

/// What commands ask for, and wait for.
#[derive(Debug, Default)]
pub(super) struct OpenRequests {
    /// To wake the guest.
    pub(super) wake: bool,
    /// To pause it, until this instant at the latest.
    pub(super) hibernate: Option<Instant>,
    /// To release its memory.
    pub(super) release: bool,
    /// To stop the VM; not yet begun.
    pub(super) stop: Option<PendingStop>,
}

/// A request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingStop {
    /// Without asking the guest.
    pub(super) force: bool,
}

impl OpenRequests {
    /// The guest runs: the commands that asked for that have it.
    pub(super) fn finish_wake(&mut self, actions: &mut Vec<PolicyAction>) {
        if std::mem::take(&mut self.wake) {
            actions.push(PolicyAction::Done(VmRequest::Wake));
        }
    }

    /// The guest is paused: the commands that asked for that have it.
    pub(super) fn finish_hibernate(&mut self, actions: &mut Vec<PolicyAction>) {
        if self.hibernate.take().is_some() {
            actions.push(PolicyAction::Done(VmRequest::Hibernate));
        }
    }

    /// The memory is released: the commands that asked for that have it.
    pub(super) fn finish_release(&mut self, actions: &mut Vec<PolicyAction>) {
        if std::mem::take(&mut self.release) {
            actions.push(PolicyAction::Done(VmRequest::Release));
        }
    }

    pub(super) fn deny_wake(&mut self, why: Refusal, actions: &mut Vec<PolicyAction>) {
        if std::mem::take(&mut self.wake) {
            actions.push(PolicyAction::Denied(VmRequest::Wake, why));
        }
    }

    pub(super) fn deny_hibernate(&mut self, why: Refusal, actions: &mut Vec<PolicyAction>) {
        if self.hibernate.take().is_some() {
            actions.push(PolicyAction::Denied(VmRequest::Hibernate, why));
        }
    }

    pub(super) fn deny_release(&mut self, why: Refusal, actions: &mut Vec<PolicyAction>) {
        if std::mem::take(&mut self.release) {
            actions.push(PolicyAction::Denied(VmRequest::Release, why));
        }
    }

    /// The guest sleeps no more, or will not: neither of the two can be had.
    pub(super) fn deny_sleep(&mut self, why: Refusal, actions: &mut Vec<PolicyAction>) {
        self.deny_hibernate(why, actions);
        self.deny_release(why, actions);
    }
}
