//! Clients that wait for the owner's answer.

use tokio::sync::oneshot;

use super::super::owner_handle::{ConnectionLease, OwnerHandle};
use super::super::policy::{CountedLane, Refusal, VmRequest};
use super::super::protocol::SupervisorFailure;

type LeaseReply = oneshot::Sender<Result<ConnectionLease, Refusal>>;
type WakeReply = oneshot::Sender<Result<(), Refusal>>;
type RequestReply = oneshot::Sender<Result<(), SupervisorFailure>>;

/// Every client that waits, until it is answered. A client that went away meanwhile hears nothing.
#[derive(Debug, Default)]
pub(super) struct WaitingClients {
    leases: Vec<(CountedLane, LeaseReply)>,
    wakes: Vec<WakeReply>,
    requests: Vec<(VmRequest, RequestReply)>,
}

impl WaitingClients {
    pub(super) fn wait_for_lease(&mut self, lane: CountedLane, reply: LeaseReply) {
        self.leases.push((lane, reply));
    }

    pub(super) fn wait_for_wake(&mut self, reply: WakeReply) {
        self.wakes.push(reply);
    }

    pub(super) fn wait_for_request(&mut self, request: VmRequest, reply: RequestReply) {
        self.requests.push((request, reply));
    }

    /// The guest runs: every client that waits for that may go on.
    pub(super) fn grant(&mut self, handle: &OwnerHandle) {
        for (lane, reply) in self.leases.drain(..) {
            // A client that went away meanwhile drops its lease at once.
            let _ = reply.send(Ok(ConnectionLease::new(lane, handle.clone())));
        }
        for reply in self.wakes.drain(..) {
            let _ = reply.send(Ok(()));
        }
    }

    /// Sends every client away that waits for the guest to run.
    pub(super) fn refuse(&mut self, why: Refusal) {
        for (_, reply) in self.leases.drain(..) {
            let _ = reply.send(Err(why));
        }
        for reply in self.wakes.drain(..) {
            let _ = reply.send(Err(why));
        }
    }

    /// Answers every request of this kind; a stop is one kind, with or without force.
    pub(super) fn answer(
        &mut self,
        request: VmRequest,
        result: Result<(), Refusal>,
        problem: Option<&str>,
    ) {
        let same =
            |asked: &VmRequest| std::mem::discriminant(asked) == std::mem::discriminant(&request);
        let mut failure = result.err().map(SupervisorFailure::from);
        if let (Some(failure), Some(problem)) = (&mut failure, problem) {
            failure.causes.push(problem.to_owned());
        }
        for (_, reply) in self.requests.extract_if(.., |(asked, _)| same(asked)) {
            let _ = reply.send(match &failure {
                None => Ok(()),
                Some(failure) => Err(failure.clone()),
            });
        }
    }

    /// Answers every request, whatever it asks for.
    pub(super) fn fail_requests(&mut self, failure: &SupervisorFailure) {
        for (_, reply) in self.requests.drain(..) {
            let _ = reply.send(Err(failure.clone()));
        }
    }
}
