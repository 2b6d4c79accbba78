//! The way to the owner of the VM: messages to it, and the leases that it grants.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::policy::{CountedLane, Refusal, VmRequest};
use super::protocol::SupervisorFailure;
use super::request_client::RequestClient;
use super::shared_state::SharedState;
use super::signs_of_life::SignsOfLife;
use crate::launch::IdleChange;
use crate::status::VmStatus;

/// What the owner is told by others than QEMU.
#[derive(Debug)]
pub(crate) enum OwnerMessage {
    /// A client connected, and waits for a lease.
    RequestLease {
        lane: CountedLane,
        reply: oneshot::Sender<Result<ConnectionLease, Refusal>>,
    },
    /// The client of a lease has something to say to a sleeping guest.
    RequestWake {
        lane: CountedLane,
        /// It is no more than a sign of life.
        is_sign: bool,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// A lease ended.
    LeaseDropped,
    /// A command keeps the guest awake from now on.
    KeepAwakeBegun,
    /// Such a command ended.
    KeepAwakeEnded,
    /// A command asks for something.
    Request {
        request: VmRequest,
        limit: Option<Duration>,
        reply: oneshot::Sender<Result<(), SupervisorFailure>>,
        client: RequestClient,
    },
    /// The guest is to sleep by other settings from now on.
    Configure {
        idle: IdleChange,
        client: RequestClient,
        reply: oneshot::Sender<()>,
    },
    Status {
        reply: oneshot::Sender<VmStatus>,
    },
    /// A client needs the workspace in the guest.
    MountWorkspace {
        reply: oneshot::Sender<Result<(), String>>,
    },
}

/// The way to the owner; a cloneable handle.
#[derive(Debug, Clone)]
pub(crate) struct OwnerHandle {
    pub(crate) shared: SharedState,
    sender: mpsc::UnboundedSender<OwnerMessage>,
}

impl OwnerHandle {
    /// A way, and its end.
    pub(crate) fn new() -> (OwnerHandle, mpsc::UnboundedReceiver<OwnerMessage>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let shared = SharedState::new();
        (OwnerHandle { shared, sender }, receiver)
    }

    /// Tells the owner. Where that has ended, there is nothing left to tell.
    pub(crate) fn tell(&self, message: OwnerMessage) {
        let _ = self.sender.send(message);
    }

    /// Returns when the guest runs, or will not.
    pub(crate) async fn lease(&self, lane: CountedLane) -> Result<ConnectionLease, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.tell(OwnerMessage::RequestLease { lane, reply });
        answer.await.unwrap_or(Err(Refusal::Gone))
    }

    /// Sees to it that the guest has its workspace. Why it has not, if so.
    pub(crate) async fn mount_workspace(&self) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.tell(OwnerMessage::MountWorkspace { reply });
        let gone = || Err("the VM has ended".to_owned());
        answer.await.unwrap_or_else(|_| gone())
    }
}

/// A command that keeps the guest awake, until this is dropped.
#[derive(Debug)]
pub(crate) struct KeepAwakeGuard(OwnerHandle);

impl KeepAwakeGuard {
    pub(crate) fn new(handle: &OwnerHandle) -> Self {
        handle.tell(OwnerMessage::KeepAwakeBegun);
        KeepAwakeGuard(handle.clone())
    }
}

impl Drop for KeepAwakeGuard {
    fn drop(&mut self) {
        self.0.tell(OwnerMessage::KeepAwakeEnded);
    }
}

/// A counted connection. Dropping it is the only way to un-count it, so none is forgotten.
#[derive(Debug)]
pub(crate) struct ConnectionLease {
    lane: CountedLane,
    handle: OwnerHandle,
    /// How often the guest had been woken when this began.
    wakes: u64,
    /// Whether the client waits for an answer.
    waits: AtomicBool,
    /// What is no more than a sign of life of ssh.
    signs: Option<Mutex<SignsOfLife>>,
    /// Whether the guest works for what is asked of docker.
    is_work: AtomicBool,
}

impl ConnectionLease {
    /// For the owner alone, which counts it.
    pub(crate) fn new(lane: CountedLane, handle: OwnerHandle) -> Self {
        let lease = ConnectionLease {
            lane,
            wakes: handle.shared.wakes(),
            handle,
            waits: AtomicBool::new(false),
            signs: (lane == CountedLane::Ssh).then(|| Mutex::new(SignsOfLife::new(Instant::now()))),
            is_work: AtomicBool::new(false),
        };
        if lane == CountedLane::Ssh {
            lease.handle.shared.count_ssh(true);
        }
        lease.set_waiting(true);
        lease
    }

    /// Returns when the guest runs. Wakes it where it sleeps. A connection that was open while it
    /// slept waits until its clock is right as well, though not for long: what is said on it may
    /// be a command that asks for the time.
    /// `is_sign`: what is to be said is no more than a sign of life.
    pub(crate) async fn wait_until_awake(&self, is_sign: bool) -> Result<(), Refusal> {
        let shared = &self.handle.shared;
        loop {
            if !shared.is_awake() {
                let (reply, answer) = oneshot::channel();
                let lane = self.lane;
                self.handle.tell(OwnerMessage::RequestWake {
                    lane,
                    is_sign,
                    reply,
                });
                answer.await.unwrap_or(Err(Refusal::Gone))?;
            }
            if !shared.is_clock_wrong(self.wakes) {
                return Ok(());
            }
            // It must not fall asleep over this.
            self.client_spoke(is_sign);
            shared.wait_for_clock().await;
            if shared.is_awake() {
                return Ok(());
            }
        }
    }

    /// Whether the guest works for a request of docker's that is open.
    pub(crate) fn set_work(&self, is_work: bool) {
        if self.is_work.swap(is_work, SeqCst) != is_work {
            self.handle.shared.count_docker_work(is_work);
        }
    }

    /// Whether bytes that the client sent are no more than a sign of life.
    pub(crate) fn is_sign(&self, bytes: &[u8]) -> bool {
        self.watch_signs(|signs| signs.client_says(Instant::now(), bytes.len()))
    }

    fn watch_signs(&self, watch: impl FnOnce(&mut SignsOfLife) -> bool) -> bool {
        let Some(signs) = &self.signs else {
            return false;
        };
        watch(&mut signs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes went to the guest.
    pub(crate) fn client_spoke(&self, is_sign: bool) {
        self.set_waiting(true);
        self.handle.shared.note_traffic(is_sign);
    }

    /// Bytes came from the guest.
    pub(crate) fn guest_spoke(&self, bytes: &[u8]) {
        self.set_waiting(false);
        self.handle.shared.greeted();
        let is_sign = self.watch_signs(|signs| signs.guest_says(Instant::now(), bytes.len()));
        self.handle.shared.note_traffic(is_sign);
    }

    fn set_waiting(&self, waits: bool) {
        // Counted once, however often either side speaks.
        if self.waits.swap(waits, SeqCst) != waits {
            self.handle.shared.count_unanswered(waits);
        }
    }
}

impl Drop for ConnectionLease {
    fn drop(&mut self) {
        self.set_waiting(false);
        self.set_work(false);
        if self.lane == CountedLane::Ssh {
            self.handle.shared.count_ssh(false);
        }
        self.handle.tell(OwnerMessage::LeaseDropped);
    }
}
