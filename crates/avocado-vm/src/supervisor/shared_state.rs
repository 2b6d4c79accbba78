//! What listeners and proxies share with the owner of the VM: whether the guest runs, when bytes
//! last moved, and where the guest's ssh is.
//!
//! A byte that reaches a guest in the instant of pausing must wake it again. So a proxy first
//! forwards, then notes the time, then looks whether the guest is awake; the owner first says that
//! it is not, then looks at the time. One of the two sees the other, because every access is
//! sequentially consistent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};

use super::lane_load::LaneLoads;

/// The values behind the handle.
#[derive(Debug)]
struct Values {
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
    /// Held by the one task that connects to the forward.
    dial_lock: Mutex<()>,
    loads: LaneLoads,
}

/// What listeners and proxies see of the VM without asking its owner; a cloneable handle.
#[derive(Debug, Clone)]
pub(crate) struct SharedState(Arc<Values>);

impl SharedState {
    pub(crate) fn new() -> Self {
        SharedState(Arc::new(Values {
            start: Instant::now(),
            awake: AtomicBool::new(false),
            traffic: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            infra: AtomicU64::new(0),
            port: AtomicU16::new(0),
            dial_lock: Mutex::new(()),
            loads: LaneLoads::default(),
        }))
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.0.awake.load(SeqCst)
    }

    pub(crate) fn set_awake(&self, awake: bool) {
        self.0.awake.store(awake, SeqCst);
    }

    /// Bytes moved on a counted connection.
    pub(super) fn note_traffic(&self) {
        let since = self.0.start.elapsed().as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.0.traffic.fetch_max(since, SeqCst);
    }

    /// When bytes last moved on a counted connection.
    pub(crate) fn last_traffic(&self) -> Instant {
        self.0.start + Duration::from_micros(self.0.traffic.load(SeqCst))
    }

    /// A client begins (`true`) or ceases to wait for an answer of the guest.
    pub(super) fn count_unanswered(&self, waits: bool) {
        let unanswered = &self.0.unanswered;
        if waits {
            unanswered.fetch_add(1, SeqCst);
        } else {
            unanswered.fetch_sub(1, SeqCst);
        }
    }

    /// Whether a client waits for an answer of the guest.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.unanswered.load(SeqCst) > 0
    }

    /// QEMU's forward to the guest's ssh, while there is one.
    pub(crate) fn forward_port(&self) -> Option<u16> {
        Some(self.0.port.load(SeqCst)).filter(|port| *port != 0)
    }

    pub(crate) fn set_forward_port(&self, port: Option<u16>) {
        self.0.port.store(port.unwrap_or(0), SeqCst);
    }

    /// Returns when no other task is connecting to the forward.
    pub(crate) async fn lock_dialing(&self) -> MutexGuard<'_, ()> {
        self.0.dial_lock.lock().await
    }

    /// How full each lane is.
    pub(crate) fn loads(&self) -> &LaneLoads {
        &self.0.loads
    }

    pub(crate) fn infra_connections(&self) -> u64 {
        self.0.infra.load(SeqCst)
    }

    /// Counts a connection that is not counted, until the value is dropped.
    pub(crate) fn count_infra(&self) -> InfraConnection {
        self.0.infra.fetch_add(1, SeqCst);
        InfraConnection(self.clone())
    }
}

/// An open connection of the infrastructure lane.
#[derive(Debug)]
pub(crate) struct InfraConnection(SharedState);

impl Drop for InfraConnection {
    fn drop(&mut self) {
        self.0.0.infra.fetch_sub(1, SeqCst);
    }
}
