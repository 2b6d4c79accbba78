//! Following what docker in the guest publishes.
//!
//! Its events only say that something has changed: the list of containers, read anew, says what.
//! The events are asked for before the list, so that nothing is missed in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Forwards;
use super::docker_get::{DockerAnswer, check_status};
use super::published::{PublishedPort, PublishedPorts};

/// How long to wait until docker is asked again that did not answer, at first and at most. A guest
/// that has none costs no more than this.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long docker may take to tell what runs: the guest may be slow, and fall asleep meanwhile.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to begin with its events. Then the list is read without them.
const EVENTS_LIMIT: Duration = Duration::from_secs(10);

const CONTAINERS: &str = "/containers/json";
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
        forwards.set_published(known, BTreeSet::new()).await;
    }
    let mut awake = forwards.shared.awake_news();
    let mut wait = RETRY.0;
    let mut told = String::new();
    loop {
        if awake.wait_for(|awake| *awake).await.is_err() {
            return;
        }
        let mut heard = false;
        let why = match follow(&forwards, &mut heard).await {
            Ok(()) => "its events have ended".to_owned(),
            Err(why) => why,
        };
        if heard {
            wait = RETRY.0;
            told.clear();
        }
        // The end of a guest that sleeps or starts anew is no news.
        if forwards.shared.is_awake() && told != why {
            let text = format!("docker in the guest does not tell what is published: {why}");
            forwards.log.line(&text);
            told = why;
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Follows for as long as docker tells its events. `heard`: it has told what runs.
async fn follow(forwards: &Forwards, heard: &mut bool) -> Result<(), String> {
    let mut events = ask(forwards, EVENTS).await?;
    let mut awake = forwards.shared.awake_news();
    let first = timeout(EVENTS_LIMIT, events.next()).await;
    let mut begun = false;
    if let Ok(bytes) = first {
        begun = true;
        check_status(&bytes.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    }
    loop {
        if awake.wait_for(|awake| *awake).await.is_err() {
            return Ok(());
        }
        read_list(forwards).await?;
        *heard = true;
        // Until something has changed. What a guest tells that fell asleep over it is heard when it wakes.
        let bytes = events.next().await.map_err(|error| error.to_string())?;
        if bytes.is_empty() {
            return Ok(());
        }
        if !begun {
            check_status(&bytes).map_err(|error| error.to_string())?;
            begun = true;
        }
    }
}

async fn read_list(forwards: &Forwards) -> Result<(), String> {
    let list = async {
        ask(forwards, CONTAINERS)
            .await?
            .body()
            .await
            .map_err(|e| e.to_string())
    };
    let list = timeout(LIST_LIMIT, list).await;
    let list = list.map_err(|_| format!("no list within {} s", LIST_LIMIT.as_secs()))??;
    let published = PublishedPorts::parse(&list);
    let published = published.map_err(|error| format!("its list is not understood: {error}"))?;
    forwards
        .set_published(published.tcp, published.notices)
        .await;
    Ok(())
}

async fn ask(forwards: &Forwards, path: &str) -> Result<DockerAnswer, String> {
    let shared = &forwards.shared;
    let connected = forwards.tunnel.connect(shared).await;
    let stream = connected.map_err(|failure| failure.message)?;
    let asked = DockerAnswer::ask(stream, path, shared).await;
    asked.map_err(|error| error.to_string())
}
