use std::path::Path;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;

use super::super::docker_tunnel::PlayedTunnel;
use super::super::owner_handle::{ConnectionLease, OwnerHandle, OwnerMessage};
use super::super::protocol::WantedForward;
use super::*;
use crate::dir::{StateDir, StateFile};

/// A supervisor without a guest: the tunnel's ends and the owner are played.
struct Played {
    place: tempfile::TempDir,
    tunnel: PlayedTunnel,
    forwards: Arc<Forwards>,
    handle: OwnerHandle,
}

impl Played {
    fn new() -> Played {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        let log = SupervisorLog::open(&dir.file(StateFile::SupervisorLog));
        let tunnel = PlayedTunnel::new(&dir, &log);
        let (handle, inbox) = OwnerHandle::new();
        tokio::spawn(own(handle.clone(), inbox));
        let lanes = Lanes::new(&dir, handle.clone(), tunnel.tunnel.clone(), log.clone());
        let shared = handle.shared.clone();
        let keep: PublishedObserver = Box::new(|_| ());
        let forwards = Forwards::new(&lanes, tunnel.tunnel.clone(), shared, log, keep);
        Played {
            place,
            tunnel,
            forwards,
            handle,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("supervisor.log")).unwrap()
    }

    fn addresses(&self, container: &str) -> Vec<String> {
        let all = self.handle.shared.forwards().forwards().into_iter();
        let of = all.filter(|f| f.container.as_deref() == Some(container));
        of.flat_map(|forward| forward.addresses).collect()
    }

    fn problem(&self) -> String {
        self.handle.shared.forwards().problem().unwrap_or_default()
    }
}

impl Forwards {
    /// For tests that forward nothing.
    pub(crate) fn unserved(handle: &OwnerHandle) -> Arc<Forwards> {
        let dir = StateDir::new("/nonexistent");
        let log = SupervisorLog::open(&dir.file(StateFile::SupervisorLog));
        let tunnel = DockerTunnel::new(&dir, &log, Box::new(|_| ()));
        let lanes = Lanes::new(&dir, handle.clone(), tunnel.clone(), log.clone());
        Forwards::new(&lanes, tunnel, handle.shared.clone(), log, Box::new(|_| ()))
    }
}

/// Plays the owner: every client is let in.
async fn own(handle: OwnerHandle, mut inbox: mpsc::UnboundedReceiver<OwnerMessage>) {
    while let Some(message) = inbox.recv().await {
        match message {
            OwnerMessage::RequestLease { lane, reply } => {
                handle.shared.set_awake(true);
                let _ = reply.send(Ok(ConnectionLease::new(lane, handle.clone())));
            }
            OwnerMessage::RequestWake { reply, .. } => {
                handle.shared.set_awake(true);
                let _ = reply.send(Ok(()));
            }
            _ => {}
        }
    }
}

fn of(tcp: Vec<PublishedPort>, notices: &BTreeSet<String>) -> PublishedPorts {
    PublishedPorts {
        tcp,
        notices: notices.clone(),
        ..PublishedPorts::default()
    }
}

fn published(port: u16, container: &str) -> PublishedPort {
    PublishedPort {
        to: GuestPort::new("127.0.0.1", port),
        container: container.to_owned(),
    }
}

/// A port that is taken here as long as the listener lives.
async fn taken() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn free_port() -> u16 {
    taken().await.1
}

/// Waits until this is so. What is waited for comes from other tasks.
async fn until(what: &str, is: impl Fn() -> bool) {
    let limit = std::time::Duration::from_secs(60);
    let look = async {
        while !is() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let seen = tokio::time::timeout(limit, look).await;
    assert!(seen.is_ok(), "{what} never came");
}

/// Repeats at a socket what it hears there.
fn repeat_at(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
}

#[tokio::test]
async fn bytes_and_half_close_pass_and_connections_outlive_their_forward() {
    let played = Played::new();
    let port = free_port().await;
    let end = played.place.path().join("end");
    repeat_at(&end);
    let to = GuestPort::new("127.0.0.1", port);
    played.tunnel.lead_to(&to, &end).await;
    let none = BTreeSet::new();
    let web = vec![published(port, "web")];
    played.forwards.set_published(of(web, &none)).await;
    let addresses = played.addresses("web");
    assert_eq!(addresses[0], format!("127.0.0.1:{port}"));
    let mut open = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut heard = [0; 5];
    open.write_all(b"hello").await.unwrap();
    open.read_exact(&mut heard).await.unwrap();
    for address in &addresses {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"all").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"all");
    }
    played.forwards.set_published(of(Vec::new(), &none)).await;
    assert!(played.addresses("web").is_empty());
    for address in &addresses {
        assert!(TcpStream::connect(address).await.is_err(), "{address}");
    }
    open.write_all(b"still").await.unwrap();
    open.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_tried_again() {
    let played = Played::new();
    let ((other, number), free) = (taken().await, free_port().await);
    let all = || vec![published(number, "late"), published(free, "web")];
    let notices = BTreeSet::from(["UDP port 53 of container dns is not forwarded".to_owned()]);
    for _ in 0..2 {
        played.forwards.set_published(of(all(), &notices)).await;
    }
    let problem = played.problem();
    let start = format!("port {number} of container late is not forwarded: 127.0.0.1:{number}");
    assert!(problem.starts_with(&start), "{problem}");
    assert!(problem.contains("is taken"), "{problem}");
    assert!(!played.addresses("web").is_empty());
    let log = played.log();
    assert_eq!(log.matches(&start).count(), 1, "{log}");
    assert_eq!(log.matches("UDP port 53").count(), 1, "{log}");
    drop(other);
    played.forwards.set_published(of(all(), &notices)).await;
    assert_eq!(played.problem(), "");
    assert!(!played.addresses("late").is_empty());
    // Another container has it from one list to the next.
    let next = vec![published(number, "next")];
    played.forwards.set_published(of(next, &notices)).await;
    assert!(played.addresses("late").is_empty() && played.addresses("web").is_empty());
    assert!(!played.addresses("next").is_empty());
}

#[tokio::test]
async fn what_a_command_asks_for_is_forwarded_whole_and_goes_with_it() {
    let played = Played::new();
    let ((other, number), free) = (taken().await, free_port().await);
    let wanted = |port| WantedForward {
        address: None,
        port,
        guest_port: 80,
    };
    let open = |ports| Forwards::open_for_command(&played.forwards, ports, Some(7));
    let refused = open(vec![wanted(free), wanted(number)]).await;
    let failure = refused.err().unwrap();
    let start = format!("port 80 of the guest is not forwarded: 127.0.0.1:{number}");
    assert!(failure.message.starts_with(&start), "{failure:?}");
    assert!(failure.hint.is_some());
    assert!(TcpStream::connect(("127.0.0.1", free)).await.is_err());
    drop(other);
    let (guard, told) = open(vec![wanted(free), wanted(number)]).await.unwrap();
    let told: Vec<VmForward> = serde_json::from_value(told).unwrap();
    let board = || played.handle.shared.forwards().forwards();
    assert_eq!(told, board());
    assert_eq!(told[0].addresses[0], format!("127.0.0.1:{free}"));
    assert_eq!((told[0].guest_port, told[0].command), (80, Some(7)));
    assert_eq!(told[0].container, None);

    // A container does not get what a command has; with the command it is free for the next.
    let web = || vec![published(free, "web")];
    let none = BTreeSet::new();
    played.forwards.set_published(of(web(), &none)).await;
    assert!(
        played.problem().contains("is taken"),
        "{}",
        played.problem()
    );
    drop(guard);
    until("its end", || board().is_empty()).await;
    played.forwards.set_published(of(web(), &none)).await;
    assert!(!played.addresses("web").is_empty());

    // At one address, and not more than there is room for.
    let one = WantedForward {
        address: Some("127.0.0.3".parse().unwrap()),
        ..wanted(free)
    };
    let (_guard, told) = open(vec![one]).await.unwrap();
    assert_eq!(told[0]["addresses"], json!([format!("127.0.0.3:{free}")]));
    let many = vec![wanted(1); MOST_FORWARDS];
    let refused = open(many).await.err().unwrap();
    assert!(refused.message.contains("500"), "{refused:?}");
}

#[tokio::test]
async fn one_port_of_two_containers_and_too_many_ports_are_told() {
    let played = Played::new();
    let port = free_port().await;
    let at = |host: &str, container: &str| PublishedPort {
        to: GuestPort::new(host, port),
        container: container.to_owned(),
    };
    // Those at the same address are in the same network.
    let all = vec![
        at("10.0.2.15", "one"),
        at("10.0.2.15", "beside"),
        at("127.0.0.1", "two"),
    ];
    played
        .forwards
        .set_published(of(all, &BTreeSet::new()))
        .await;
    let problem = played.problem();
    assert!(
        problem.contains("container two is not forwarded"),
        "{problem}"
    );
    assert!(problem.contains("container one has it"), "{problem}");
    assert_eq!(problem.matches("is not forwarded").count(), 1);

    let (most, too_many) = choose((1..=600).map(|port| published(port, "all")).collect(), 7);
    assert_eq!((most.len(), too_many.len()), (MOST_FORWARDS, 1));
    assert!(
        too_many.first().unwrap().starts_with("107 ports"),
        "{too_many:?}"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_at_one_of_two_addresses_is_forwarded_at_the_other() {
    let played = Played::new();
    let Ok(other) = TcpListener::bind("[::1]:0").await else {
        return avocado_test_support::skip("forwards", "there is no IPv6 here");
    };
    let port = other.local_addr().unwrap().port();
    let web = || vec![published(port, "web")];
    for _ in 0..2 {
        played
            .forwards
            .set_published(of(web(), &BTreeSet::new()))
            .await;
        assert_eq!(played.addresses("web"), [format!("127.0.0.1:{port}")]);
        let told = format!("port {port} of container web is forwarded at 127.0.0.1 alone");
        assert!(played.problem().starts_with(&told), "{}", played.problem());
    }
    drop(other);
    played
        .forwards
        .set_published(of(web(), &BTreeSet::new()))
        .await;
    assert_eq!(played.addresses("web").len(), 2);
    assert_eq!(played.problem(), "");
}

mod following;
