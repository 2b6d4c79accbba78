//! Following what docker in the guest publishes.
//!
//! Its events only say that something has changed: the list of containers, read anew, says what.
//! The events are asked for before the list, so that nothing is missed in between.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Forwards;
use super::containers::{KnownContainers, begin};
use super::docker_get::{DockerFailure, check_status};
use super::published::{PublishedPort, PublishedPorts};
use crate::supervisor::shared_state::SharedState;

/// How long to wait until docker is asked again that did not answer, at first and at most. A guest
/// that has none costs no more than this.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long the first clients of a guest that has just booted or woken have it to themselves, and so
/// much longer while one of them waits for an answer: a tunnel takes the guest's processor.
const CLIENTS_FIRST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));
/// How often it is looked whether they have their answer.
const CLIENTS_POLL: Duration = Duration::from_millis(100);
/// How long it may take to begin with its events. Then the list is read without them.
const EVENTS_LIMIT: Duration = Duration::from_secs(10);

/// Those after which other ports may be published; not the many of health checks. Engines differ in
/// their names. In the order of `filters={"type":["container","network"],"event":[…]}`.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%2C\
                      %22event%22%3A%5B%22start%22%2C%22die%22%2C%22died%22%2C%22stop%22%2C\
                      %22restart%22%2C%22rename%22%2C%22remove%22%2C%22destroy%22%2C\
                      %22connect%22%2C%22disconnect%22%5D%7D";

/// Keeps the forwards as docker in the guest publishes them, for ever. It asks only a guest that
/// runs, is never counted, and never wakes it; while the guest sleeps everything stays. `known` is
/// what was published under a supervisor that was killed.
pub(crate) async fn follow_docker(forwards: Arc<Forwards>, known: Vec<PublishedPort>) {
    if !known.is_empty() {
        let published = PublishedPorts {
            tcp: known,
            ..PublishedPorts::default()
        };
        forwards.set_published(published).await;
    }
    let mut containers = KnownContainers::default();
    let mut awake = forwards.shared.awake_news();
    let mut wait = RETRY.0;
    let mut told = String::new();
    loop {
        let just_runs = !*awake.borrow();
        if awake.wait_for(|awake| *awake).await.is_err() {
            return;
        }
        if just_runs {
            sleep(CLIENTS_FIRST.0).await;
        }
        let answered = clients_answered(&forwards.shared);
        let _ = timeout(CLIENTS_FIRST.1, answered).await;
        if !forwards.shared.is_awake() {
            continue;
        }
        let mut heard = false;
        let followed = follow(&forwards, &mut containers, &mut heard).await;
        if heard {
            wait = RETRY.0;
            told.clear();
        }
        // The end of the events is no news: docker, the tunnel or a guest that was given back begins
        // anew. Nor is what a guest fails to say that falls asleep over it.
        if let Err(failure) = followed
            && forwards.shared.is_awake()
        {
            let text = format!("docker in the guest does not tell what is published: {failure}");
            // A guest without docker has no problem.
            let is_problem = !matches!(failure, DockerFailure::Silent(_));
            let problem = is_problem.then(|| text.clone());
            forwards.set_not_followed(problem).await;
            if told != text {
                forwards.log.line(&text);
                told = text;
            }
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Returns when no client waits for an answer of the guest.
pub(super) async fn clients_answered(shared: &SharedState) {
    while shared.is_awaited() {
        sleep(CLIENTS_POLL).await;
    }
}

/// Follows for as long as docker tells its events. `heard`: it has told what runs.
async fn follow(
    forwards: &Forwards,
    known: &mut KnownContainers,
    heard: &mut bool,
) -> Result<(), DockerFailure> {
    let mut events = begin(forwards, EVENTS).await?;
    let mut awake = forwards.shared.awake_news();
    let first = timeout(EVENTS_LIMIT, events.next()).await;
    let mut begun = false;
    if let Ok(bytes) = first {
        begun = true;
        check_status(&bytes?)?;
    }
    loop {
        if awake.wait_for(|awake| *awake).await.is_err() {
            return Ok(());
        }
        let published = known.read(forwards).await?;
        forwards.set_published(published).await;
        *heard = true;
        // Until something has changed. What a guest tells that fell asleep over it is heard when it wakes.
        let Ok(bytes) = events.next().await else {
            return Ok(());
        };
        if bytes.is_empty() {
            return Ok(());
        }
        if !begun {
            check_status(&bytes)?;
            begun = true;
        }
    }
}
