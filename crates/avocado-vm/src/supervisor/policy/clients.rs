//! Clients of the counted lanes: their leases, and those that wait.

use std::time::{Duration, Instant};

use super::request::CountedLane;

/// How long a guest stays awake for a sign of life: time enough for the answer.
pub(in crate::supervisor::policy) const SIGN_GRACE: Duration = Duration::from_secs(2);

/// What the policy knows of the clients.
#[derive(Debug)]
pub(super) struct Clients {
    /// Leases that were granted and not dropped.
    leases: u64,
    /// Commands that keep the guest awake.
    keep_awakes: u64,
    /// Clients that wait for a lease.
    lease_requests: u64,
    /// The lane of the client that waits first: for a lease, or to be heard on an open connection.
    first_waiting: Option<CountedLane>,
    /// One that waits has more to say than that it lives.
    news_wait: bool,
    last_activity: Instant,
    /// The guest does not fall asleep before: it has a sign of life to answer.
    answering_until: Instant,
}

impl Clients {
    pub(super) fn new(now: Instant) -> Self {
        Clients {
            leases: 0,
            keep_awakes: 0,
            lease_requests: 0,
            first_waiting: None,
            news_wait: false,
            last_activity: now,
            answering_until: now,
        }
    }

    pub(super) fn leases(&self) -> u64 {
        self.leases
    }

    pub(super) fn keep_awakes(&self) -> u64 {
        self.keep_awakes
    }

    pub(super) fn begin_keep_awake(&mut self) {
        self.keep_awakes += 1;
    }

    /// The guest has the whole idle time from here.
    pub(super) fn end_keep_awake(&mut self, now: Instant) {
        self.keep_awakes = self.keep_awakes.saturating_sub(1);
        self.last_activity = now;
    }

    pub(super) fn first_waiting(&self) -> Option<CountedLane> {
        self.first_waiting
    }

    pub(super) fn last_activity(&self) -> Instant {
        self.last_activity
    }

    pub(super) fn note_activity(&mut self, at: Instant) {
        self.last_activity = at;
    }

    pub(super) fn request_lease(&mut self, now: Instant, lane: CountedLane) {
        self.lease_requests += 1;
        self.wait_to_be_heard(now, lane);
    }

    pub(super) fn wait_to_be_heard(&mut self, now: Instant, lane: CountedLane) {
        self.first_waiting.get_or_insert(lane);
        self.news_wait = true;
        self.last_activity = now;
    }

    /// A sign of life waits to be heard, which is no activity.
    pub(super) fn wait_with_sign(&mut self, lane: CountedLane) {
        self.first_waiting.get_or_insert(lane);
    }

    /// Whether clients wait, and none with more than a sign of life.
    pub(super) fn only_signs_wait(&self) -> bool {
        self.first_waiting.is_some() && !self.news_wait
    }

    /// A sign of life moved. Says whether that is news.
    pub(super) fn note_sign(&mut self, at: Instant) -> bool {
        let until = at + SIGN_GRACE;
        let is_news = until > self.answering_until;
        self.answering_until = self.answering_until.max(until);
        is_news
    }

    pub(super) fn answering_until(&self) -> Instant {
        self.answering_until
    }

    pub(super) fn drop_lease(&mut self, now: Instant) {
        self.leases = self.leases.saturating_sub(1);
        self.last_activity = now;
    }

    /// Those that wait get what they wait for. Says whether any did.
    pub(super) fn grant(&mut self) -> bool {
        let waited = self.first_waiting.take().is_some();
        self.news_wait = false;
        if waited {
            self.leases += std::mem::take(&mut self.lease_requests);
        }
        waited
    }

    /// Those that wait go away without. Says whether any did wait.
    pub(super) fn refuse(&mut self) -> bool {
        let waited = self.first_waiting.take().is_some();
        self.news_wait = false;
        if waited {
            self.lease_requests = 0;
        }
        waited
    }
}
