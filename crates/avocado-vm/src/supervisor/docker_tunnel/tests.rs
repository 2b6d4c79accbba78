use std::path::Path;

use tokio::net::{UnixListener, UnixSocket};

use super::super::owner_handle::OwnerHandle;
use super::*;

/// A tunnel whose `ssh` is played by the test.
struct Played {
    _place: tempfile::TempDir,
    tunnel: Arc<DockerTunnel>,
    /// Closed by an attempt to replace the tunnel.
    kill: oneshot::Receiver<()>,
    end: watch::Sender<bool>,
    /// There is no ssh port: an attempt to make a tunnel fails.
    shared: SharedState,
}

const NO_PORT: &str = "the VM has no ssh port";

impl Played {
    fn new() -> Played {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        let log = SupervisorLog::open(&dir.file(StateFile::SupervisorLog));
        let tunnel = DockerTunnel::new(&dir, &log, Box::new(|_| ()));
        let (sender, kill) = oneshot::channel();
        let (end, ended) = watch::channel(false);
        let process = TunnelProcess {
            _kill: sender,
            ended,
            ports: Arc::new(Mutex::new(TunnelPorts::new(&dir))),
        };
        *tunnel.process.lock().unwrap() = Some(process);
        let (handle, _inbox) = OwnerHandle::new();
        Played {
            _place: place,
            tunnel,
            kill,
            end,
            shared: handle.shared,
        }
    }

    fn assert_kept(&mut self) {
        let asked = self.kill.try_recv();
        assert_eq!(asked, Err(oneshot::error::TryRecvError::Empty));
        assert!(self.tunnel.process.lock().unwrap().is_some());
    }
}

/// A listener that accepts nothing, and as many clients as may wait for it.
async fn full(path: &Path) -> (UnixListener, Vec<UnixStream>) {
    let socket = UnixSocket::new_stream().unwrap();
    socket.bind(path).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    loop {
        match UnixStream::connect(path).await {
            Ok(client) => waiting.push(client),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                return (listener, waiting);
            }
        }
    }
}

/// Whether it waits: it is polled once.
async fn waits<T: std::fmt::Debug>(future: &mut (impl Future<Output = T> + Unpin)) {
    tokio::select! {
        biased;
        done = future => panic!("did not wait: {done:?}"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn a_full_queue_is_waited_for_and_the_tunnel_is_kept() {
    let mut played = Played::new();
    let (listener, waiting) = full(&played.tunnel.socket()).await;
    {
        // One that gives up takes nothing with it.
        let mut gives_up = Box::pin(played.tunnel.connect(&played.shared));
        waits(&mut gives_up).await;
    }
    let mut connecting = Box::pin(played.tunnel.connect(&played.shared));
    waits(&mut connecting).await;
    let mut accepted = Vec::new();
    for _ in &waiting {
        accepted.push(listener.accept().await.unwrap());
    }
    connecting.await.unwrap();
    played.assert_kept();
    // Those that it carries were not touched.
    let nothing = accepted.iter().map(|(peer, _)| peer.try_read(&mut [0]));
    for read in nothing {
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn a_wait_for_a_full_queue_ends_with_ssh() {
    let played = Played::new();
    let (_listener, _waiting) = full(&played.tunnel.socket()).await;
    let mut connecting = Box::pin(played.tunnel.connect(&played.shared));
    waits(&mut connecting).await;
    played.end.send(true).unwrap();
    assert_eq!(connecting.await.unwrap_err().message, NO_PORT);
}

#[tokio::test]
async fn a_tunnel_where_nothing_listens_is_dead() {
    let played = Played::new();
    let connect = async || played.tunnel.connect(&played.shared).await.unwrap_err();
    // No socket, and one that was left.
    assert_eq!(connect().await.message, NO_PORT);
    drop(UnixListener::bind(played.tunnel.socket()).unwrap());
    assert!(played.tunnel.socket().exists());
    assert_eq!(connect().await.message, NO_PORT);
}

#[tokio::test]
async fn the_wait_for_a_full_queue_has_a_limit_and_the_tunnel_is_kept() {
    let mut played = Played::new();
    let (_listener, _waiting) = full(&played.tunnel.socket()).await;
    let limit = Duration::from_millis(50);
    let failure = played.tunnel.connect_through(limit).await.unwrap_err();
    assert!(failure.message.contains("ssh accepted none"), "{failure:?}");
    assert!(failure.hint.is_some());
    played.assert_kept();
}

#[tokio::test]
async fn a_tunnel_that_takes_no_orders_is_replaced() {
    let Played {
        _place,
        tunnel,
        kill,
        end,
        shared,
    } = Played::new();
    let _docker = UnixListener::bind(tunnel.socket()).unwrap();
    // Left by another: nobody listens there.
    let control = tunnel.dir.file(StateFile::TunnelControl);
    drop(UnixListener::bind(&control).unwrap());
    let killed = tokio::spawn(async move {
        let asked = kill.await;
        let _ = end.send(true);
        asked
    });
    let to = GuestPort::new("127.0.0.1", 80);
    let failure = tunnel.connect_to(&to, &shared).await.unwrap_err();
    // The next one would have been made.
    assert_eq!(failure.message, NO_PORT);
    assert!(killed.await.unwrap().is_err());
}

#[tokio::test]
async fn an_orphan_is_waited_for_and_removes_nothing_on_its_way_out() {
    let place = tempfile::tempdir().unwrap();
    let control = place.path().join("ctl");
    std::fs::write(&control, "").unwrap();
    let script = "trap 'rm -f \"$0\"; exit' TERM; echo up; read -r line";
    let mut orphan = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(&control)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(orphan.stdout.as_mut().unwrap(), &mut up).unwrap();
    let identity = ProcessIdentity::of(orphan.id()).unwrap();
    orphan_ended(&identity).await;
    assert!(!identity.is_alive());
    assert!(control.exists());
    orphan.wait().unwrap();
}
