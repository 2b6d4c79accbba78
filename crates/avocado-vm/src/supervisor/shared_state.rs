//! What listeners and proxies share with the owner of the VM: whether the guest runs, when bytes
//! last moved, and where the guest's ssh is.
//!
//! A byte that reaches a guest in the instant of pausing must wake it again. So a proxy first
//! forwards, then notes the time, then looks whether the guest is awake; the owner first says that
//! it is not, then looks at the time. One of the two sees the other, because every access is
//! sequentially consistent.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard as StdMutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, watch};

use super::forwards::ForwardBoard;
use super::lane_load::LaneLoads;

/// The values behind the handle.
#[derive(Debug)]
struct Values {
    start: Instant,
    awake: AtomicBool,
    /// The same, for those who wait for a change.
    awake_news: watch::Sender<bool>,
    /// Microseconds after `start`.
    traffic: AtomicU64,
    /// The same, of bytes that were no more than a sign of life.
    sign: AtomicU64,
    /// Counted connections whose client spoke last, or that heard nothing yet.
    unanswered: AtomicU64,
    /// Counted connections to the guest's ssh.
    ssh: AtomicU64,
    /// Counted connections with a request of docker's that is work.
    docker_work: AtomicU64,
    /// Open connections that are not counted.
    infra: AtomicU64,
    /// Bytes that went through those, in either direction.
    infra_bytes: AtomicU64,
    /// From which ports here those go to the guest's ssh.
    infra_ports: StdMutex<HashSet<u16>>,
    /// QEMU's forward to the guest's ssh; 0 while there is none.
    port: AtomicU16,
    /// The guest's clock.
    clock: watch::Sender<ClockState>,
    /// Held by the one task that connects to the forward.
    dial_lock: Mutex<()>,
    loads: LaneLoads,
    /// The directory of this machine that the guest is to have.
    workspace: StdMutex<Option<PathBuf>>,
    /// It was unmounted for a save, and is not mounted again yet.
    workspace_missing: AtomicBool,
    /// Held by the one task that mounts it.
    mount_lock: Mutex<()>,
    /// The guest was waited for, and its agent did not answer.
    agent_missing: AtomicBool,
    forwards: ForwardBoard,
}

/// The guest's clock, which stands still while the guest is paused.
#[derive(Debug, Clone, Copy)]
struct ClockState {
    /// How often the guest was woken.
    wakes: u64,
    /// It is wrong since the last wake. Nothing waits for it longer than this.
    wrong_until: Option<tokio::time::Instant>,
    /// Whether the guest could be told the time when that was last tried.
    can_be_set: bool,
    /// It was woken for somebody who hears its ssh greet before anything can depend on the time.
    greeting_awaited: bool,
}

/// What listeners and proxies see of the VM without asking its owner; a cloneable handle.
#[derive(Debug, Clone)]
pub(crate) struct SharedState(Arc<Values>);

impl SharedState {
    pub(crate) fn new() -> Self {
        SharedState(Arc::new(Values {
            start: Instant::now(),
            awake: AtomicBool::new(false),
            awake_news: watch::Sender::new(false),
            traffic: AtomicU64::new(0),
            sign: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            ssh: AtomicU64::new(0),
            docker_work: AtomicU64::new(0),
            infra: AtomicU64::new(0),
            infra_bytes: AtomicU64::new(0),
            infra_ports: StdMutex::default(),
            port: AtomicU16::new(0),
            clock: watch::Sender::new(ClockState {
                wakes: 0,
                wrong_until: None,
                can_be_set: true,
                greeting_awaited: false,
            }),
            dial_lock: Mutex::new(()),
            loads: LaneLoads::default(),
            workspace: StdMutex::default(),
            workspace_missing: AtomicBool::new(false),
            mount_lock: Mutex::new(()),
            agent_missing: AtomicBool::new(false),
            forwards: ForwardBoard::default(),
        }))
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.0.awake.load(SeqCst)
    }

    pub(crate) fn set_awake(&self, awake: bool) {
        self.0.awake.store(awake, SeqCst);
        self.0.awake_news.send_if_modified(|known| {
            let is_news = *known != awake;
            *known = awake;
            is_news
        });
    }

    /// Whether the guest runs, for those who wait for a change of that.
    pub(crate) fn awake_news(&self) -> watch::Receiver<bool> {
        self.0.awake_news.subscribe()
    }

    /// Bytes moved on a counted connection; `is_sign`: they were no more than a sign of life.
    pub(super) fn note_traffic(&self, is_sign: bool) {
        let since = self.0.start.elapsed().as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let moved = if is_sign {
            &self.0.sign
        } else {
            &self.0.traffic
        };
        moved.fetch_max(since, SeqCst);
    }

    /// When a sign of life last moved, if one did.
    pub(crate) fn last_sign(&self) -> Option<Instant> {
        let sign = Some(self.0.sign.load(SeqCst)).filter(|sign| *sign > 0)?;
        Some(self.0.start + Duration::from_micros(sign))
    }

    /// When bytes last moved on a counted connection.
    pub(crate) fn last_traffic(&self) -> Instant {
        self.0.start + Duration::from_micros(self.0.traffic.load(SeqCst))
    }

    /// A client begins (`true`) or ceases to wait for an answer of the guest.
    pub(super) fn count_unanswered(&self, waits: bool) {
        count(&self.0.unanswered, waits);
    }

    /// Whether a client waits for an answer of the guest.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.unanswered.load(SeqCst) > 0
    }

    /// A counted connection to the guest's ssh begins (`true`) or ends.
    pub(super) fn count_ssh(&self, begins: bool) {
        count(&self.0.ssh, begins);
    }

    /// Counted connections to the guest's ssh.
    pub(crate) fn ssh_connections(&self) -> u64 {
        self.0.ssh.load(SeqCst)
    }

    /// The guest begins (`true`) or ceases to work for the requests of a docker connection.
    pub(super) fn count_docker_work(&self, begins: bool) {
        count(&self.0.docker_work, begins);
    }

    /// Whether the guest works for a request of docker's that is open.
    pub(crate) fn has_docker_work(&self) -> bool {
        self.0.docker_work.load(SeqCst) > 0
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

    /// The directory of this machine that the guest is to have.
    pub(crate) fn workspace(&self) -> Option<PathBuf> {
        let workspace = self.0.workspace.lock();
        workspace.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_workspace(&self, path: Option<PathBuf>) {
        let workspace = self.0.workspace.lock();
        *workspace.unwrap_or_else(PoisonError::into_inner) = path;
    }

    /// Whether that is known not to be mounted.
    pub(crate) fn is_workspace_missing(&self) -> bool {
        self.0.workspace_missing.load(SeqCst)
    }

    pub(crate) fn set_workspace_missing(&self, missing: bool) {
        self.0.workspace_missing.store(missing, SeqCst);
    }

    /// Returns when no other task is mounting it.
    pub(super) async fn lock_mounting(&self) -> MutexGuard<'_, ()> {
        self.0.mount_lock.lock().await
    }

    /// Whether the guest is known to have no agent.
    pub(crate) fn is_agent_missing(&self) -> bool {
        self.0.agent_missing.load(SeqCst)
    }

    pub(crate) fn set_agent_missing(&self, missing: bool) {
        self.0.agent_missing.store(missing, SeqCst);
    }

    /// How full each lane is.
    pub(crate) fn loads(&self) -> &LaneLoads {
        &self.0.loads
    }

    /// What is forwarded.
    pub(crate) fn forwards(&self) -> &ForwardBoard {
        &self.0.forwards
    }

    /// The guest was woken: its clock is wrong until it is set, or for `limit` as far as clients are
    /// made to wait for it. They do not wait for one that could not be set the last time.
    pub(crate) fn clock_stood_still(&self, limit: Duration) {
        self.0.clock.send_modify(|clock| {
            clock.wakes += 1;
            let until = tokio::time::Instant::now() + limit;
            clock.wrong_until = clock.can_be_set.then_some(until);
            clock.greeting_awaited = false;
        });
    }

    /// The guest's ssh greets first, and its clock is set then: either takes its processor.
    pub(crate) fn await_greeting(&self) {
        let await_it = |clock: &mut ClockState| clock.greeting_awaited = true;
        self.0.clock.send_modify(await_it);
    }

    /// The guest spoke, or somebody waits for its clock.
    pub(super) fn greeted(&self) {
        if self.0.clock.borrow().greeting_awaited {
            let end = |clock: &mut ClockState| clock.greeting_awaited = false;
            self.0.clock.send_modify(end);
        }
    }

    /// Returns when no greeting is awaited, or after `limit`.
    pub(crate) async fn wait_for_greeting(&self, limit: Duration) {
        let mut clock = self.0.clock.subscribe();
        let greeted = clock.wait_for(|clock| !clock.greeting_awaited);
        let _ = tokio::time::timeout(limit, greeted).await;
    }

    /// The guest was told the time, or could not be told.
    pub(crate) fn clock_set(&self, done: bool) {
        self.0.clock.send_modify(|clock| {
            clock.can_be_set = done;
            clock.wrong_until = None;
        });
    }

    /// How often the guest was woken.
    pub(super) fn wakes(&self) -> u64 {
        self.0.clock.borrow().wakes
    }

    /// Whether the guest was woken since it had been `wakes` times, and its clock is still wrong.
    pub(super) fn is_clock_wrong(&self, wakes: u64) -> bool {
        let clock = self.0.clock.borrow();
        let now = tokio::time::Instant::now();
        clock.wakes != wakes && clock.wrong_until.is_some_and(|until| now < until)
    }

    /// Returns when the guest's clock is right, or was waited for long enough.
    pub(super) async fn wait_for_clock(&self) {
        self.greeted();
        let mut clock = self.0.clock.subscribe();
        let until = clock.borrow_and_update().wrong_until;
        if let Some(until) = until {
            let right = clock.wait_for(|clock| clock.wrong_until.is_none());
            let _ = tokio::time::timeout_at(until, right).await;
        }
    }

    pub(crate) fn infra_connections(&self) -> u64 {
        self.0.infra.load(SeqCst)
    }

    /// Counts a connection that is not counted, until the value is dropped.
    pub(crate) fn count_infra(&self) -> InfraConnection {
        self.0.infra.fetch_add(1, SeqCst);
        InfraConnection {
            shared: self.clone(),
            port: None,
        }
    }

    /// Bytes went through a connection of the supervisor's own, which is not counted.
    pub(super) fn note_own_traffic(&self, bytes: usize) {
        self.0.infra_bytes.fetch_add(bytes as u64, SeqCst);
    }

    /// Bytes that went through connections that are not counted, so far.
    pub(crate) fn infra_bytes(&self) -> u64 {
        self.0.infra_bytes.load(SeqCst)
    }

    /// From which ports here connections go to the guest's ssh that are not counted. The guest
    /// sees them as its clients' ports.
    pub(crate) fn infra_ports(&self) -> HashSet<u16> {
        self.lock_infra_ports().clone()
    }

    fn lock_infra_ports(&self) -> StdMutexGuard<'_, HashSet<u16>> {
        let ports = self.0.infra_ports.lock();
        ports.unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(value: &AtomicU64, more: bool) {
    if more {
        value.fetch_add(1, SeqCst);
    } else {
        value.fetch_sub(1, SeqCst);
    }
}

/// An open connection of the infrastructure lane.
#[derive(Debug)]
pub(crate) struct InfraConnection {
    shared: SharedState,
    port: Option<u16>,
}

impl InfraConnection {
    /// It goes to the guest's ssh from this port.
    pub(super) fn comes_from(&mut self, port: u16) {
        self.shared.lock_infra_ports().insert(port);
        self.port = Some(port);
    }

    /// Bytes went to the guest, or came from it.
    pub(super) fn carried(&self, bytes: &[u8]) {
        let values = &self.shared.0;
        values.infra_bytes.fetch_add(bytes.len() as u64, SeqCst);
    }
}

impl Drop for InfraConnection {
    fn drop(&mut self) {
        if let Some(port) = self.port {
            self.shared.lock_infra_ports().remove(&port);
        }
        self.shared.0.infra.fetch_sub(1, SeqCst);
    }
}
