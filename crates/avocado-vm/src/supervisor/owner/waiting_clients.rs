//! Clients that wait for the owner's answer.

use tokio::sync::oneshot;

use super::super::owner_handle::{ConnectionLease, OwnerHandle};
use super::super::policy::{CountedLane, Refusal, VmRequest};
use super::super::protocol::SupervisorFailure;
use super::super::request_client::RequestClient;

type LeaseReply = oneshot::Sender<Result<ConnectionLease, Refusal>>;
type WakeReply = oneshot::Sender<Result<(), Refusal>>;
type RequestReply = oneshot::Sender<Result<(), SupervisorFailure>>;

/// Every client that waits, until it is answered. A client that went away meanwhile hears nothing.
#[derive(Debug, Default)]
pub(super) struct WaitingClients {
    leases: Vec<(CountedLane, LeaseReply)>,
    wakes: Vec<WakeReply>,
    requests: Vec<OpenRequest>,
}

/// A request that was not answered yet, and who waits for the answer.
#[derive(Debug)]
struct OpenRequest {
    asked: VmRequest,
    reply: RequestReply,
    client: RequestClient,
}

impl WaitingClients {
    pub(super) fn wait_for_lease(&mut self, lane: CountedLane, reply: LeaseReply) {
        self.leases.push((lane, reply));
    }

    pub(super) fn wait_for_wake(&mut self, reply: WakeReply) {
        self.wakes.push(reply);
    }

    pub(super) fn wait_for_request(
        &mut self,
        asked: VmRequest,
        reply: RequestReply,
        client: RequestClient,
    ) {
        self.requests.push(OpenRequest {
            asked,
            reply,
            client,
        });
    }

    /// Forgets requests of clients that gave up. If there were any: what others still ask for.
    pub(super) fn drop_left(&mut self) -> Option<Vec<VmRequest>> {
        let before = self.requests.len();
        self.requests.retain(|open| !open.client.has_left());
        let some_left = self.requests.len() < before;
        some_left.then(|| self.requests.iter().map(|open| open.asked).collect())
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
        for open in self.requests.extract_if(.., |open| same(&open.asked)) {
            let _ = open.reply.send(match &failure {
                None => Ok(()),
                Some(failure) => Err(failure.clone()),
            });
        }
    }

    /// Answers every request, whatever it asks for.
    pub(super) fn fail_requests(&mut self, failure: &SupervisorFailure) {
        for open in self.requests.drain(..) {
            let _ = open.reply.send(Err(failure.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_only_clients_asked_for_that_gave_up_is_forgotten() {
        let mut waiting = WaitingClients::default();
        let mut ask = |request| {
            let (theirs, ours) = UnixStream::pair().unwrap();
            let (reply, answer) = oneshot::channel();
            waiting.wait_for_request(request, reply, RequestClient::new(&ours).unwrap());
            (theirs, ours, answer)
        };
        let first = ask(VmRequest::Stop { force: false });
        let _second = ask(VmRequest::Wake);
        assert_eq!(waiting.drop_left(), None);
        drop(first.0);
        assert_eq!(waiting.drop_left(), Some(vec![VmRequest::Wake]));
        assert_eq!(waiting.drop_left(), None);
    }
}
