//! What listeners and proxies share with the owner of the VM: whether the guest runs, when bytes
//! last moved, and leases.
//!
//! A byte that reaches a guest in the instant of pausing must wake it again. So a proxy first
//! forwards, then notes the time, then looks at the gate; the owner first closes the gate, then
//! looks at the time. One of the two sees the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};

use super::policy::{Lane, Refusal, Request};
use super::wire::Failure;
use crate::status::Status;

/// What the owner is told by others than QEMU.
#[derive(Debug)]
pub(crate) enum Message {
    /// A client connected.
    Open {
        lane: Lane,
        reply: oneshot::Sender<Result<Lease, Refusal>>,
    },
    /// The client of a lease has something to say to a sleeping guest.
    Want {
        lane: Lane,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// A lease ended.
    Closed,
    /// Somebody asks for something.
    Ask {
        request: Request,
        limit: Option<Duration>,
        reply: oneshot::Sender<Result<(), Failure>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
}

/// The facts behind the gate.
#[derive(Debug)]
struct Shared {
    start: Instant,
    awake: AtomicBool,
    /// Microseconds after `start`.
    traffic: AtomicU64,
    /// Counted connections whose client spoke last, or that heard nothing yet.
    unanswered: AtomicU64,
    /// Open connections that are not counted.
    infra: AtomicU64,
    /// QEMU's forward to the guest's ssh; 0 while there is none.
    port: AtomicU16,
    /// Held by whoever connects to it.
    turn: Mutex<()>,
}

/// What proxies see; a cloneable handle.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Shared>);

impl Gate {
    pub(crate) fn new() -> Self {
        Gate(Arc::new(Shared {
            start: Instant::now(),
            awake: AtomicBool::new(false),
            traffic: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            infra: AtomicU64::new(0),
            port: AtomicU16::new(0),
            turn: Mutex::new(()),
        }))
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.0.awake.load(SeqCst)
    }

    pub(crate) fn set_awake(&self, awake: bool) {
        self.0.awake.store(awake, SeqCst);
    }

    /// Bytes moved on a counted connection.
    fn touch(&self) {
        let since = self.0.start.elapsed().as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.0.traffic.fetch_max(since, SeqCst);
    }

    /// When that was last so.
    pub(crate) fn traffic(&self) -> Instant {
        self.0.start + Duration::from_micros(self.0.traffic.load(SeqCst))
    }

    /// Whether a client waits for an answer of the guest.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.unanswered.load(SeqCst) > 0
    }

    pub(crate) fn port(&self) -> Option<u16> {
        Some(self.0.port.load(SeqCst)).filter(|port| *port != 0)
    }

    pub(crate) fn set_port(&self, port: Option<u16>) {
        self.0.port.store(port.unwrap_or(0), SeqCst);
    }

    /// Returns when nobody else is connecting to the forward.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.0.turn.lock().await
    }

    pub(crate) fn infra(&self) -> u64 {
        self.0.infra.load(SeqCst)
    }

    /// Notes a connection that is not counted, until the value is dropped.
    pub(crate) fn visit(&self) -> Visit {
        self.0.infra.fetch_add(1, SeqCst);
        Visit(self.clone())
    }
}

/// An open connection of the infrastructure lane.
#[derive(Debug)]
pub(crate) struct Visit(Gate);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.0.infra.fetch_sub(1, SeqCst);
    }
}

/// The way to the owner; a cloneable handle.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    pub(crate) gate: Gate,
    sender: mpsc::UnboundedSender<Message>,
}

impl Hub {
    /// A way, and its end.
    pub(crate) fn new() -> (Hub, mpsc::UnboundedReceiver<Message>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let gate = Gate::new();
        (Hub { gate, sender }, receiver)
    }

    /// Tells the owner. Without one nobody needs to hear it.
    pub(crate) fn tell(&self, message: Message) {
        let _ = self.sender.send(message);
    }

    /// Returns when the guest runs, or will not.
    pub(crate) async fn lease(&self, lane: Lane) -> Result<Lease, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.tell(Message::Open { lane, reply });
        answer.await.unwrap_or(Err(Refusal::Gone))
    }
}

/// A counted connection. Dropping it is the only way to un-count it, so none is forgotten.
#[derive(Debug)]
pub(crate) struct Lease {
    lane: Lane,
    hub: Hub,
    /// Whether the client waits for an answer.
    waits: AtomicBool,
}

impl Lease {
    /// For the owner alone, which counts it.
    pub(crate) fn new(lane: Lane, hub: Hub) -> Self {
        let lease = Lease {
            lane,
            hub,
            waits: AtomicBool::new(false),
        };
        lease.wait(true);
        lease
    }

    /// Returns when the guest runs. Wakes it where it sleeps.
    pub(crate) async fn awake(&self) -> Result<(), Refusal> {
        if self.hub.gate.is_awake() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        let lane = self.lane;
        self.hub.tell(Message::Want { lane, reply });
        answer.await.unwrap_or(Err(Refusal::Gone))
    }

    /// Bytes went to the guest.
    pub(crate) fn said(&self) {
        self.wait(true);
        self.hub.gate.touch();
    }

    /// Bytes came from the guest.
    pub(crate) fn heard(&self) {
        self.wait(false);
        self.hub.gate.touch();
    }

    fn wait(&self, waits: bool) {
        let unanswered = &self.hub.gate.0.unanswered;
        match (self.waits.swap(waits, SeqCst), waits) {
            (false, true) => drop(unanswered.fetch_add(1, SeqCst)),
            (true, false) => drop(unanswered.fetch_sub(1, SeqCst)),
            _ => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.wait(false);
        self.hub.tell(Message::Closed);
    }
}
