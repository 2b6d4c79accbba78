//! Following a docker that is played.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::super::follow::{clients_answered, follow_docker};
use super::*;

/// Docker in the guest, at the end of a played tunnel.
struct FakeDocker {
    told: Arc<Told>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    list: watch::Sender<Value>,
    /// Answers about single containers.
    single: Mutex<BTreeMap<String, String>>,
    /// How often the list was read, and the events were asked for.
    lists: AtomicUsize,
    events: AtomicUsize,
    /// Which containers it was asked for.
    asked: Mutex<Vec<String>>,
}

impl FakeDocker {
    fn at(path: &Path) -> FakeDocker {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let told = Arc::<Told>::default();
        told.list.send_replace(json!([]));
        let ours = told.clone();
        let task = tokio::spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                clients.spawn(answer(stream, ours.clone()));
            }
        });
        FakeDocker { told, task }
    }

    /// One container that publishes this port.
    fn publish(&self, name: &str, port: u16) {
        self.tell(name, &container(&[("80/tcp", "0.0.0.0", port)]));
        self.list(&[(name, json!([listed("0.0.0.0", port, "tcp")]))]);
    }

    /// What a container tells of itself.
    fn tell(&self, name: &str, text: &str) {
        let mut single = self.told.single.lock().unwrap();
        single.insert(name.to_owned(), text.to_owned());
    }

    /// Containers with the ports that are listed of them.
    fn list(&self, containers: &[(&str, Value)]) {
        let containers = containers.iter().map(
            |(name, ports)| json!({ "Id": name, "Names": [format!("/{name}")], "Ports": ports }),
        );
        self.told.list.send_replace(containers.collect());
    }

    fn asked(&self) -> Vec<String> {
        self.told.asked.lock().unwrap().clone()
    }

    fn count(&self) -> (usize, usize) {
        (self.told.lists.load(SeqCst), self.told.events.load(SeqCst))
    }
}

fn listed(address: &str, port: u16, kind: &str) -> Value {
    json!({ "IP": address, "PrivatePort": 80, "PublicPort": port, "Type": kind })
}

fn container(ports: &[(&str, &str, u16)]) -> String {
    let mut all = serde_json::Map::new();
    for (inside, address, port) in ports {
        let bindings = all.entry(*inside).or_insert(json!([]));
        let binding = json!({ "HostIp": address, "HostPort": port.to_string() });
        bindings.as_array_mut().unwrap().push(binding);
    }
    json!({ "NetworkSettings": { "Ports": all } }).to_string()
}

async fn answer(mut stream: UnixStream, told: Arc<Told>) {
    let mut list = told.list.subscribe();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    let is_events = path.starts_with("/events?filters=%7B%22type%22");
    let body = if path == "/containers/json" {
        told.lists.fetch_add(1, SeqCst);
        Some(list.borrow().to_string())
    } else if is_events {
        told.events.fetch_add(1, SeqCst);
        Some(String::new())
    } else {
        let id = path.strip_prefix("/containers/").unwrap();
        let id = id.strip_suffix("/json").unwrap();
        told.asked.lock().unwrap().push(id.to_owned());
        told.single.lock().unwrap().get(id).cloned()
    };
    let answer = match body {
        Some(body) => format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}"),
        None => "HTTP/1.0 404 Not Found\r\n\r\n{}".to_owned(),
    };
    if stream.write_all(answer.as_bytes()).await.is_err() || !is_events {
        return;
    }
    while list.changed().await.is_ok() {
        if stream.write_all(b"{\"status\":\"start\"}\n").await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn docker_is_followed_while_the_guest_runs_and_never_wakes_it() {
    let played = Played::new();
    let shared = &played.handle.shared;
    let docker = FakeDocker::at(&played.tunnel.docker_socket());
    let (first, second) = (free_port().await, free_port().await);
    docker.publish("first", first);
    let follower = tokio::spawn(follow_docker(played.forwards.clone(), Vec::new()));
    // A guest that sleeps is not asked.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(docker.count().1, 0);
    shared.set_awake(true);
    until("the first", || !played.addresses("first").is_empty()).await;
    docker.publish("second", second);
    until("the second", || !played.addresses("second").is_empty()).await;
    assert!(played.addresses("first").is_empty());

    // While it sleeps everything stays; what its events still brought is looked at when it wakes.
    shared.set_awake(false);
    let read = docker.count().0;
    docker.publish("third", first);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!played.addresses("second").is_empty());
    assert_eq!(docker.count().0, read);
    shared.set_awake(true);
    until("the third", || !played.addresses("third").is_empty()).await;
    assert_eq!(docker.count().1, 1);

    // With a new tunnel the list is read anew, although no event says so.
    docker.task.abort();
    let _ = docker.task.await;
    let again = FakeDocker::at(&played.tunnel.docker_socket());
    again.publish("fourth", second);
    until("the fourth", || !played.addresses("fourth").is_empty()).await;
    assert!(played.addresses("third").is_empty());

    // Never counted, never activity; but known, so that it is taken off what the guest's network did.
    assert_eq!(
        (shared.infra_connections(), shared.is_awaited()),
        (0, false)
    );
    assert!(shared.infra_bytes() > 0);
    follower.abort();
}

#[tokio::test]
async fn a_guest_without_docker_is_told_once() {
    let played = Played::new();
    played.handle.shared.set_awake(true);
    let path = played.tunnel.docker_socket();
    std::fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let follower = tokio::spawn(follow_docker(played.forwards.clone(), Vec::new()));
    for _ in 0..2 {
        // As sshd closes what leads nowhere.
        drop(listener.accept().await.unwrap());
    }
    until("the log", || played.log().contains("does not tell")).await;
    assert_eq!(played.log().matches("does not tell").count(), 1);
    follower.abort();
}

#[tokio::test]
async fn ports_that_the_list_joins_are_asked_for_once() {
    let played = Played::new();
    let docker = FakeDocker::at(&played.tunnel.docker_socket());
    let all = [
        free_port().await,
        free_port().await,
        free_port().await,
        free_port().await,
    ];
    let inside = all.map(|port| format!("{port}/tcp"));
    let bindings = inside.iter().zip(all);
    let bindings = bindings.map(|(inside, port)| (inside.as_str(), "0.0.0.0", port));
    let bindings: Vec<_> = bindings.collect();
    docker.tell("two", &container(&bindings[..2]));
    docker.tell("other", &container(&bindings[2..3]));
    let first = |port| json!([listed("", port, "tcp")]);
    let (two, other) = (("two", first(all[0])), ("other", first(all[2])));
    let idle = ("idle", json!([]));
    // One that has ended meanwhile is told by an event.
    let gone = ("gone", first(all[3]));
    docker.list(&[two.clone(), idle, gone]);
    played.handle.shared.set_awake(true);
    let follower = tokio::spawn(follow_docker(played.forwards.clone(), Vec::new()));
    let ports = |name: &str| {
        let all = played.handle.shared.forwards().forwards().into_iter();
        let of = all.filter(|f| f.container.as_deref() == Some(name));
        of.map(|f| f.guest_port).collect::<BTreeSet<_>>()
    };
    until("both", || ports("two") == BTreeSet::from([all[0], all[1]])).await;
    assert_eq!(
        (ports("gone"), played.problem()),
        (BTreeSet::new(), String::new())
    );
    docker.list(&[two.clone(), other.clone()]);
    until("the other", || !ports("other").is_empty()).await;
    assert_eq!(docker.asked(), ["two", "gone", "other"]);

    // Again where the list says something else of it; where it does not tell, the list counts.
    docker.tell("other", "no JSON");
    docker.list(&[two, ("other", first(all[3]))]);
    until("the change", || ports("other") == BTreeSet::from([all[3]])).await;
    assert_eq!(docker.asked(), ["two", "gone", "other", "other"]);
    assert!(
        played.problem().contains("ports of container other"),
        "{}",
        played.problem()
    );
    assert_eq!(ports("two").len(), 2);
    follower.abort();
}

#[tokio::test]
async fn why_it_is_not_known_what_is_published_is_told() {
    let played = Played::new();
    played.handle.shared.set_awake(true);
    let docker = FakeDocker::at(&played.tunnel.docker_socket());
    let follower = tokio::spawn(follow_docker(played.forwards.clone(), Vec::new()));
    for (list, why) in [
        (json!("long".repeat(4 << 20)), "longer than 8 MiB"),
        (json!({}), "not understood"),
    ] {
        docker.told.list.send_replace(list);
        until(why, || played.problem().contains(why)).await;
        docker.publish("web", free_port().await);
        until("the end of it", || played.problem().is_empty()).await;
        assert!(!played.addresses("web").is_empty());
    }
    follower.abort();
}

#[tokio::test]
async fn the_end_of_the_events_is_no_news() {
    let played = Played::new();
    played.handle.shared.set_awake(true);
    for name in ["first", "second"] {
        let docker = FakeDocker::at(&played.tunnel.docker_socket());
        docker.publish(name, free_port().await);
        let follower = tokio::spawn(follow_docker(played.forwards.clone(), Vec::new()));
        until(name, || !played.addresses(name).is_empty()).await;
        docker.task.abort();
        let _ = docker.task.await;
        let again = FakeDocker::at(&played.tunnel.docker_socket());
        until("the events", || again.count().1 > 0).await;
        follower.abort();
    }
    assert!(!played.log().contains("does not tell"), "{}", played.log());
}

#[tokio::test]
async fn a_client_that_waits_for_the_guest_goes_first() {
    let played = Played::new();
    let shared = &played.handle.shared;
    clients_answered(shared).await;
    shared.count_unanswered(true);
    let mut answered = Box::pin(clients_answered(shared));
    for _ in 0..100 {
        let waited = tokio::time::timeout(std::time::Duration::ZERO, &mut answered);
        assert!(waited.await.is_err());
    }
    shared.count_unanswered(false);
    answered.await;
}
