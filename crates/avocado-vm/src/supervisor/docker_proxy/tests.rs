use std::path::Path;

use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::dir::{StateDir, StateFile};
use crate::supervisor::owner_handle::{ConnectionLease, OwnerMessage};
use crate::supervisor::policy::CountedLane;

/// A connection, and what is at both of its ends.
struct Connection {
    client: DuplexStream,
    guest: DuplexStream,
    handle: OwnerHandle,
    proxy: JoinHandle<()>,
    _owner: JoinHandle<()>,
}

/// Plays the owner: the guest is awake, and gets its workspace where `mounts` says so.
fn connect(place: &Path, mounts: Result<(), String>) -> Connection {
    connect_as(place, mounts, true, LONG)
}

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(86_400);

/// The same; `counted`: on the lane that wakes the guest.
fn connect_as(
    place: &Path,
    mounts: Result<(), String>,
    counted: bool,
    leave_wait: Duration,
) -> Connection {
    let (handle, mut inbox) = OwnerHandle::new();
    handle.shared.set_awake(true);
    handle.shared.set_workspace(Some(place.to_owned()));
    let owner = tokio::spawn(async move {
        while let Some(message) = inbox.recv().await {
            if let OwnerMessage::MountWorkspace { reply } = message {
                let _ = reply.send(mounts.clone());
            }
        }
    });
    let lease = counted.then(|| ConnectionLease::new(CountedLane::Docker, handle.clone()));
    let visit = handle.shared.count_infra();
    let (client, outer) = duplex(1 << 16);
    let (mut inner, guest) = duplex(1 << 16);
    let log = StateDir::new(place).file(StateFile::SupervisorLog);
    let desk = DockerDesk {
        handle: handle.clone(),
        sockets: Arc::new([]),
        log: SupervisorLog::open(&log),
        leave_wait,
    };
    let proxy = tokio::spawn(async move {
        let counted = lease.as_ref().map(ProxyKind::Counted);
        let kind = counted.unwrap_or(ProxyKind::Infra(&visit));
        run(outer, &mut inner, kind, &desk).await;
    });
    Connection {
        client,
        guest,
        handle,
        proxy,
        _owner: owner,
    }
}

impl Connection {
    async fn client_says(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    async fn guest_says(&mut self, text: &str) {
        self.guest.write_all(text.as_bytes()).await.unwrap();
    }

    async fn guest_hears(&mut self, text: &str) {
        hears(&mut self.guest, text).await;
    }

    async fn client_hears(&mut self, text: &str) {
        hears(&mut self.client, text).await;
    }

    /// One answer, with its body.
    async fn client_hears_refusal(&mut self, status: &str, why: &str) {
        let mut said = String::new();
        while !said.ends_with('}') {
            said.push(char::from(self.client.read_u8().await.unwrap()));
        }
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

async fn hears(end: &mut DuplexStream, text: &str) {
    let mut heard = vec![0; text.len()];
    end.read_exact(&mut heard).await.unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), text);
}

fn create(source: &Path, header: &str) -> String {
    let body = format!(
        r#"{{"HostConfig":{{"Binds":["{}:/m"]}}}}"#,
        source.display()
    );
    format!(
        "POST /v1.41/containers/create HTTP/1.1\r\n{header}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const PING: &str = "GET /_ping HTTP/1.1\r\n\r\n";
const PONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
const MADE: &str = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";

fn place() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().canonicalize().unwrap();
    (place, path)
}

#[tokio::test]
async fn a_directory_of_the_workspace_is_that_of_the_guest_and_others_are_refused() {
    let (_place, path) = place();
    let mut connection = connect(&path, Ok(()));
    connection.client_says(PING).await;
    connection.guest_hears(PING).await;
    connection.guest_says(PONG).await;
    connection.client_hears(PONG).await;

    connection.client_says(&create(&path.join("a"), "")).await;
    let there = create(Path::new("/run/workspace/a"), "");
    connection.guest_hears(&there).await;
    assert!(connection.handle.shared.has_docker_work());
    connection.guest_says(MADE).await;
    connection.client_hears(MADE).await;
    assert!(!connection.handle.shared.has_docker_work());
    assert!(!connection.handle.shared.is_awaited());

    connection
        .client_says(&create(Path::new("/home/other"), ""))
        .await;
    connection
        .client_hears_refusal("400", "cannot see /home/other")
        .await;
    assert!(!connection.handle.shared.is_awaited(), "nobody waits");
    // The connection goes on, and the guest heard nothing of it.
    connection.client_says(PING).await;
    connection.guest_hears(PING).await;
    let log = std::fs::read_to_string(path.join("supervisor.log")).unwrap();
    assert!(
        log.contains("refused: the VM cannot see /home/other"),
        "{log}"
    );
}

#[tokio::test]
async fn a_refusal_comes_after_the_answers_to_what_was_asked_before() {
    let (_place, path) = place();
    let mut connection = connect(&path, Ok(()));
    let refused = create(Path::new("/home/other"), "");
    let all = format!("{PING}{refused}{PING}{}", create(&path, ""));
    connection.client_says(&all).await;
    connection.guest_hears(PING).await;
    let (start, end) = PONG.split_at(PONG.len() - 1);
    connection.guest_says(start).await;
    connection.client_hears(start).await;
    connection.guest_says(end).await;
    connection.client_hears(end).await;
    connection
        .client_hears_refusal("400", "cannot see /home/other")
        .await;
    connection.guest_hears(PING).await;
    connection.guest_says(PONG).await;
    connection.client_hears(PONG).await;
    connection
        .guest_hears(&create(Path::new("/run/workspace"), ""))
        .await;
}

#[tokio::test]
async fn what_belongs_to_another_protocol_passes_as_it_is() {
    let (_place, path) = place();
    let mut connection = connect(&path, Ok(()));
    let attach =
        "POST /containers/c/attach HTTP/1.1\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n";
    // Before the answer tells that it is another protocol, and a part of it after.
    let raw = create(Path::new("/home/other"), "");
    let (start, end) = raw.split_at(20);
    connection.client_says(&format!("{attach}{start}")).await;
    connection.guest_hears(attach).await;
    connection.guest_says("HTTP/1.1 101 UPGRADED\r\n\r\n").await;
    connection
        .client_hears("HTTP/1.1 101 UPGRADED\r\n\r\n")
        .await;
    connection.guest_hears(start).await;
    connection.client_says(&format!("{end}{raw}")).await;
    connection.guest_hears(&format!("{end}{raw}")).await;
    connection.guest_says(&raw).await;
    connection.client_hears(&raw).await;
    // Each direction ends by itself.
    connection.client.shutdown().await.unwrap();
    assert_eq!(connection.guest.read(&mut [0]).await.unwrap(), 0);
    connection.guest_says("bye").await;
    connection.client_hears("bye").await;
    drop(connection.guest);
    assert_eq!(connection.client.read(&mut [0]).await.unwrap(), 0);
    connection.proxy.await.unwrap();

    // The same, whole before its answer.
    let mut connection = connect(&path, Ok(()));
    connection.client_says(&format!("{attach}{raw}")).await;
    connection.guest_hears(attach).await;
    connection.guest_says("HTTP/1.1 101 UPGRADED\r\n\r\n").await;
    connection.guest_hears(&raw).await;
}

#[tokio::test]
async fn the_body_is_asked_for_and_the_end_of_old_connections_comes() {
    let (_place, path) = place();
    let mut connection = connect(&path, Ok(()));
    let request = create(&path, "Expect: 100-continue\r\n");
    let (head, body) = request.split_at(request.find('{').unwrap());
    connection.client_says(head).await;
    connection
        .client_hears("HTTP/1.1 100 Continue\r\n\r\n")
        .await;
    connection.client_says(body).await;
    let there = create(Path::new("/run/workspace"), "");
    connection.guest_hears(&there).await;

    for last in [
        create(Path::new("/home/other"), "Connection: close\r\n"),
        create(Path::new("/home/other"), "").replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        let mut connection = connect(&path, Ok(()));
        connection.client_says(&format!("{last}{PING}")).await;
        let mut said = String::new();
        connection.client.read_to_string(&mut said).await.unwrap();
        assert!(said.contains("cannot see /home/other"), "{said}");
        drop(connection.client);
        connection.proxy.await.unwrap();
        let mut heard = String::new();
        connection.guest.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "");
    }

    // Not understood: nothing of it arrives.
    let mut connection = connect(&path, Ok(()));
    let request = "POST /volumes/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    connection.client_says(request).await;
    connection
        .client_hears_refusal("400", "not understood")
        .await;
    drop(connection.client);
    connection.proxy.await.unwrap();
}

#[tokio::test]
async fn a_guest_without_its_workspace_gets_no_container_with_it() {
    let (_place, path) = place();
    let mut connection = connect(&path, Err("mount failed".to_owned()));
    connection.client_says(&create(&path, "")).await;
    connection.client_hears_refusal("503", "mount failed").await;
    // One that does not need it is made.
    let other = create(Path::new("/dev"), "");
    connection.client_says(&other).await;
    connection.guest_hears(&other).await;
}

#[tokio::test]
async fn a_guest_that_is_gone_ends_what_waits_for_its_answer() {
    let (_place, path) = place();
    let mut connection = connect(&path, Ok(()));
    let all = format!("{PING}{}", create(&path, ""));
    connection.client_says(&all).await;
    connection.guest_hears(PING).await;
    drop(connection.guest);
    let mut said = String::new();
    connection.client.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "");
    connection.proxy.await.unwrap();
}

#[tokio::test]
async fn a_client_that_wakes_nothing_is_told_that_a_guest_sleeps_which_it_needs_the_workspace_of() {
    let (_place, path) = place();
    let unmounted = Err("mount failed".to_owned());
    let mut connection = connect_as(&path, unmounted, false, LONG);
    connection.handle.shared.set_awake(false);
    connection.client_says(&create(&path, "")).await;
    connection.client_hears_refusal("503", "hibernated").await;
    connection.handle.shared.set_awake(true);
    connection.client_says(&create(&path, "")).await;
    connection.client_hears_refusal("503", "mount failed").await;
}

#[tokio::test]
async fn a_client_that_leaves_over_an_answer_is_noticed() {
    let (_place, path) = place();
    let mut connection = connect_as(&path, Ok(()), true, Duration::from_millis(1));
    let create = create(&path, "");
    connection.client_says(&format!("{PING}{create}")).await;
    connection.guest_hears(PING).await;
    drop(connection.client);
    // The guest hears the end, and not what nobody waits for.
    let mut heard = String::new();
    connection.guest.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "");
    drop(connection.guest);
    connection.proxy.await.unwrap();

    // One that says no more and listens gets all that it asked for.
    let mut connection = connect(&path, Ok(()));
    connection
        .client_says(&format!("{PING}{create}{PING}"))
        .await;
    connection.guest_hears(PING).await;
    connection.client.shutdown().await.unwrap();
    connection.guest_says(PONG).await;
    connection.client_hears(PONG).await;
    let there = super::tests::create(Path::new("/run/workspace"), "");
    connection.guest_hears(&format!("{there}{PING}")).await;
    assert_eq!(connection.guest.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_head_that_is_too_long_and_http_2_end_the_connection() {
    let (_place, path) = place();
    for (text, status) in [
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "505"),
        (format!("POST /{}", "x".repeat(2 << 20)), "431"),
    ] {
        let mut connection = connect(&path, Ok(()));
        let (mut said, mut from) = tokio::io::split(connection.client);
        let saying = tokio::spawn(async move {
            let _ = from.write_all(text.as_bytes()).await;
            let _ = from.write_all(create(Path::new("/x"), "").as_bytes()).await;
        });
        let mut answer = String::new();
        said.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("Connection: close"), "{answer}");
        saying.await.unwrap();
        drop(said);
        connection.proxy.await.unwrap();
        let mut heard = String::new();
        connection.guest.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "");
    }
}
