//! The lanes: what happens to a client of each listener, from its connection to its end.
//!
//! Three lanes are counted and wake the guest: ssh, docker and forward. The other two, infra and
//! docker-stream, serve programs that look every few seconds, and never do.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::docker_proxy::{self, DockerDesk};
use super::docker_tunnel::{DockerTunnel, GuestPort};
use super::http_message;
use super::lane_load::LaneLoads;
use super::log::SupervisorLog;
use super::owner_handle::OwnerHandle;
use super::policy::CountedLane;
use super::protocol::SupervisorFailure;
use super::proxy::{self, ProxyKind};
use crate::dir::{StateDir, StateFile};

/// How long the forward or the tunnel may take to accept: both are on this host.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// QEMU accepts within some milliseconds, which nothing tells. The guest's first word does.
const ACCEPT_GRACE: Duration = Duration::from_millis(30);
/// How long a client of docker waits for a workspace that may not come. One that names it waits on.
const MOUNT_WAIT: Duration = Duration::from_secs(1);

/// What every lane needs; a cloneable handle.
#[derive(Clone)]
pub(crate) struct Lanes {
    handle: OwnerHandle,
    tunnel: Arc<DockerTunnel>,
    /// Where clients of docker connect.
    docker_sockets: Arc<[PathBuf]>,
    log: SupervisorLog,
}

impl Lanes {
    pub(crate) fn new(
        dir: &StateDir,
        handle: OwnerHandle,
        tunnel: Arc<DockerTunnel>,
        log: SupervisorLog,
    ) -> Self {
        let sockets = [StateFile::Docker, StateFile::DockerStream];
        Lanes {
            handle,
            tunnel,
            docker_sockets: sockets.map(|name| dir.file(name)).into(),
            log,
        }
    }

    pub(super) fn log(&self) -> &SupervisorLog {
        &self.log
    }

    pub(super) fn loads(&self) -> &LaneLoads {
        self.handle.shared.loads()
    }

    /// Counted, wakes the guest.
    pub(super) async fn ssh(self, mut client: TcpStream) {
        let lease = match self.handle.lease(CountedLane::Ssh).await {
            Ok(lease) => lease,
            Err(why) => return refuse_tcp(&mut client, &why.into()).await,
        };
        match dial(&self.handle).await {
            Ok(mut guest) => {
                proxy::run(client, &mut guest, ProxyKind::Counted(&lease)).await;
                drop(lease);
                close_in_background(guest);
            }
            Err(error) => self
                .log
                .line(&format!("ssh: no connection to the guest: {error}")),
        }
    }

    /// Not counted, never wakes.
    pub(super) async fn infra(self, mut client: TcpStream) {
        if !self.handle.shared.is_awake() {
            return refuse_tcp(&mut client, &asleep_failure()).await;
        }
        let mut visit = self.handle.shared.count_infra();
        if let Ok(mut guest) = dial(&self.handle).await {
            if let Ok(address) = guest.local_addr() {
                visit.comes_from(address.port());
            }
            proxy::run(client, &mut guest, ProxyKind::Infra(&visit)).await;
            drop(visit);
            close_in_background(guest);
        }
    }

    /// Counted, wakes the guest, starts the tunnel.
    pub(super) async fn docker(self, mut client: UnixStream) {
        let lease = match self.handle.lease(CountedLane::Docker).await {
            Ok(lease) => lease,
            Err(why) => return refuse_http(&mut client, &why.into()).await,
        };
        match self.tunnel.connect(&self.handle.shared).await {
            Ok(mut guest) => {
                let shared = &self.handle.shared;
                if shared.is_workspace_missing() && !shared.is_agent_missing() {
                    // Containers that are started again have it, or else an empty directory.
                    let mount = self.handle.mount_workspace();
                    let _ = tokio::time::timeout(MOUNT_WAIT, mount).await;
                }
                let kind = ProxyKind::Counted(&lease);
                docker_proxy::run(client, &mut guest, kind, &self.docker_desk()).await;
            }
            Err(failure) => {
                self.log.line(&format!("docker: {}", failure.message));
                refuse_http(&mut client, &failure).await;
            }
        }
    }

    /// Counted, wakes the guest, starts the tunnel. A client that cannot be served is let go without
    /// a word: what it speaks is not known.
    pub(super) async fn forward(self, client: TcpStream, to: GuestPort) {
        let lease = match self.handle.lease(CountedLane::Forward).await {
            Ok(lease) => lease,
            Err(why) => {
                let why = SupervisorFailure::from(why).message;
                let text = format!("forward: no connection to {to} in the guest: {why}");
                return self.log.line(&text);
            }
        };
        match self.tunnel.connect_to(&to, &self.handle.shared).await {
            Ok(mut guest) => {
                proxy::run(client, &mut guest, ProxyKind::Counted(&lease)).await;
            }
            Err(failure) => self.log.line(&format!("forward: {}", failure.message)),
        }
    }

    fn docker_desk(&self) -> DockerDesk {
        DockerDesk {
            handle: self.handle.clone(),
            sockets: self.docker_sockets.clone(),
            log: self.log.clone(),
            leave_wait: docker_proxy::LEAVE_WAIT,
        }
    }

    /// Not counted, never wakes.
    pub(super) async fn docker_stream(self, mut client: UnixStream) {
        if !self.handle.shared.is_awake() {
            return refuse_http(&mut client, &asleep_failure()).await;
        }
        let visit = self.handle.shared.count_infra();
        match self.tunnel.connect(&self.handle.shared).await {
            Ok(mut guest) => {
                let kind = ProxyKind::Infra(&visit);
                docker_proxy::run(client, &mut guest, kind, &self.docker_desk()).await;
            }
            Err(failure) => refuse_http(&mut client, &failure).await,
        }
    }
}

/// Closes a connection to the guest. Where that sleeps, it takes until another client wakes it: no
/// place at the listener may be held for so long.
fn close_in_background(guest: TcpStream) {
    tokio::spawn(proxy::close_forward(guest));
}

/// A connection to QEMU's forward. Only for a guest that runs: QEMU accepts for one that sleeps
/// as well, and nothing follows.
///
/// One at a time, because QEMU lets no more than two wait. For one more than that the kernel says
/// that it is connected and forgets it; a client that waits for the first word then waits for ever.
async fn dial(handle: &OwnerHandle) -> io::Result<TcpStream> {
    let _dialing = handle.shared.lock_dialing().await;
    let Some(port) = handle.shared.forward_port() else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let guest = tokio::time::timeout(DIAL_LIMIT, TcpStream::connect(address)).await??;
    // With signs of life, which the kernels exchange, one that was forgotten all the same ends.
    set_tcp_options(&guest);
    let _ = tokio::time::timeout(ACCEPT_GRACE, guest.readable()).await;
    Ok(guest)
}

pub(super) fn asleep_failure() -> SupervisorFailure {
    SupervisorFailure::new(
        "the VM is hibernated; the next connection to its ssh port or docker.sock wakes it",
        None,
    )
}

pub(super) async fn refuse_tcp(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    why: &SupervisorFailure,
) {
    let text = format!("avocado: {}\r\n", why.message);
    send_last_words(client, text.as_bytes()).await;
}

pub(super) async fn refuse_http(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    why: &SupervisorFailure,
) {
    let answer = http_message::error_answer("503 Service Unavailable", &why.message, true);
    send_last_words(client, &answer).await;
}

/// The last words to a client. What it sent meanwhile is taken from the socket first: closing one
/// with unread bytes resets the connection, and the words would be lost.
async fn send_last_words(client: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &[u8]) {
    let exchange = async {
        client.write_all(text).await?;
        client.shutdown().await?;
        tokio::io::copy(client, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), exchange).await;
}

/// Sends what is small at once, and notices when the other side is gone.
///
/// There is no `TCP_USER_TIMEOUT`: it would also cut a client that is there and only does not
/// read for long, such as a shell that was suspended.
pub(super) fn set_tcp_options(client: &TcpStream) {
    let _ = client.set_nodelay(true);
    let fd = client.as_fd();
    let _ = sockopt::set_socket_keepalive(fd, true);
    let _ = sockopt::set_tcp_keepidle(fd, Duration::from_secs(60));
    let _ = sockopt::set_tcp_keepintvl(fd, Duration::from_secs(15));
    let _ = sockopt::set_tcp_keepcnt(fd, 4);
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;

    use super::super::docker_tunnel::PlayedTunnel;
    use super::super::owner_handle::{ConnectionLease, OwnerMessage};
    use super::*;

    /// Plays the owner of a guest that lost its workspace and does not get it back. Says how often it was
    /// asked for it.
    async fn ask_docker(agent_missing: bool) -> usize {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path());
        let log = SupervisorLog::open(&dir.file(StateFile::SupervisorLog));
        let played = PlayedTunnel::new(&dir, &log);
        std::fs::remove_file(played.docker_socket()).unwrap();
        let docker = UnixListener::bind(played.docker_socket()).unwrap();
        let (handle, mut inbox) = OwnerHandle::new();
        handle.shared.set_awake(true);
        handle.shared.set_workspace_missing(true);
        handle.shared.set_agent_missing(agent_missing);
        let lanes = Lanes::new(&dir, handle.clone(), played.tunnel.clone(), log);
        let owner = tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some(message) = inbox.recv().await {
                match message {
                    OwnerMessage::RequestLease { lane, reply } => {
                        let lease = ConnectionLease::new(lane, handle.clone());
                        let _ = reply.send(Ok(lease));
                    }
                    OwnerMessage::MountWorkspace { reply } => unanswered.push(reply),
                    OwnerMessage::LeaseDropped => break,
                    _ => {}
                }
            }
            unanswered.len()
        });
        let (mut client, outer) = UnixStream::pair().unwrap();
        let lane = tokio::spawn(lanes.docker(outer));
        client.write_all(b"GET /_ping").await.unwrap();
        let (mut guest, _) = docker.accept().await.unwrap();
        let mut heard = [0; 10];
        guest.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"GET /_ping");
        drop((client, guest));
        lane.await.unwrap();
        owner.await.unwrap()
    }

    #[tokio::test]
    async fn a_guest_that_does_not_get_its_workspace_back_serves_docker_all_the_same() {
        assert_eq!(ask_docker(false).await, 1);
        assert_eq!(ask_docker(true).await, 0);
    }
}
