//! The listeners: what clients connect to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::error::Error;
use super::gate::Hub;
use super::log::Log;
use super::policy::Lane;
use super::proxy;
use super::tunnel::Tunnel;
use super::wire::Failure;
use crate::dir::{File, StateDir};
use crate::launch::Launch;

/// Connections of one listener at the same time; more wait to be accepted.
const MOST: usize = 200;
/// How long to wait after an `accept` that failed, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long the forward or the tunnel may take to accept: both are on this host.
const DIAL: Duration = Duration::from_secs(5);
/// QEMU accepts within some milliseconds, which nothing tells. The guest's first word does.
const ACCEPTED: Duration = Duration::from_millis(30);

/// What is listened on, before anybody is served.
#[derive(Debug)]
pub(crate) struct Listeners {
    ssh: TcpListener,
    infra: Option<TcpListener>,
    docker: UnixListener,
    docker_stream: Option<UnixListener>,
    pub(crate) control: UnixListener,
    /// The port for users.
    pub(crate) ssh_port: u16,
    pub(crate) infra_port: Option<u16>,
}

impl Listeners {
    /// Takes every port and socket. The caller holds the lock of the directory, so sockets that
    /// are there are left over.
    pub(crate) async fn bind(dir: &StateDir, launch: &Launch) -> Result<Self, Error> {
        let ssh = tcp(launch.ssh_port.unwrap_or(0)).await?;
        let infra = match launch.infra_port {
            Some(port) => Some(tcp(port).await?),
            None => None,
        };
        let local = |listener: &TcpListener| listener.local_addr().map(|a| a.port());
        let port = |listener| {
            local(listener).map_err(|source| Error::System {
                what: "find out the port that was chosen",
                source,
            })
        };
        let stream = dir.file(File::DockerStream);
        Ok(Listeners {
            ssh_port: port(&ssh)?,
            infra_port: infra.as_ref().map(port).transpose()?,
            ssh,
            infra,
            docker: unix(&dir.file(File::Docker))?,
            docker_stream: match launch.docker_stream {
                true => Some(unix(&stream)?),
                false => None,
            },
            control: unix(&dir.file(File::Supervisor))?,
        })
    }

    /// Serves everything but the control socket, which it returns. Whatever runs ends with the
    /// set.
    pub(crate) fn serve(
        self,
        hub: &Hub,
        tunnel: &Arc<Tunnel>,
        log: &Log,
        tasks: &mut JoinSet<()>,
    ) -> UnixListener {
        let lane = |hub: &Hub| (hub.clone(), tunnel.clone(), log.clone());
        let (hub1, _, log1) = lane(hub);
        tasks.spawn(accept(TcpAccept(self.ssh), log.clone(), move |client| {
            ssh(client, hub1.clone(), log1.clone())
        }));
        if let Some(listener) = self.infra {
            let (hub, ..) = lane(hub);
            tasks.spawn(accept(TcpAccept(listener), log.clone(), move |client| {
                infra(client, hub.clone())
            }));
        }
        let (hub2, tunnel2, log2) = lane(hub);
        tasks.spawn(accept(self.docker, log.clone(), move |client| {
            docker(client, hub2.clone(), tunnel2.clone(), log2.clone())
        }));
        if let Some(listener) = self.docker_stream {
            let (hub, tunnel, _) = lane(hub);
            tasks.spawn(accept(listener, log.clone(), move |client| {
                docker_stream(client, hub.clone(), tunnel.clone())
            }));
        }
        self.control
    }
}

async fn tcp(port: u16) -> Result<TcpListener, Error> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            let by = super::taken::by_whom(port);
            Error::PortTaken { port, by, source }
        } else {
            let what = address.to_string();
            Error::Listen { what, source }
        }
    })
}

/// A socket for this user only: the directory lets nobody else in, and the mask of the process
/// closes the socket itself.
fn unix(path: &Path) -> Result<UnixListener, Error> {
    let bind = || {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, mode)?;
        Ok(listener)
    };
    bind().map_err(|source| Error::Listen {
        what: path.display().to_string(),
        source,
    })
}

/// Something that clients connect to.
pub(crate) trait Accept: Send + 'static {
    type Client: Send + 'static;
    fn next(&self) -> impl Future<Output = io::Result<Self::Client>> + Send;
}

struct TcpAccept(TcpListener);

impl Accept for TcpAccept {
    type Client = TcpStream;
    async fn next(&self) -> io::Result<TcpStream> {
        let (client, _) = self.0.accept().await?;
        prepare(&client);
        Ok(client)
    }
}

impl Accept for UnixListener {
    type Client = UnixStream;
    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// Sends what is small at once, and notices when the other side is gone.
///
/// There is no `TCP_USER_TIMEOUT`: it would also cut a client that is there and only does not
/// read for long, such as a shell that was suspended.
fn prepare(client: &TcpStream) {
    let _ = client.set_nodelay(true);
    let fd = client.as_fd();
    let _ = sockopt::set_socket_keepalive(fd, true);
    let _ = sockopt::set_tcp_keepidle(fd, Duration::from_secs(60));
    let _ = sockopt::set_tcp_keepintvl(fd, Duration::from_secs(15));
    let _ = sockopt::set_tcp_keepcnt(fd, 4);
}

/// Serves every client in a task of its own, for ever.
pub(crate) async fn accept<A: Accept, F>(
    listener: A,
    log: Log,
    serve: impl Fn(A::Client) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MOST));
    let mut clients = JoinSet::new();
    let mut wait = BACK_OFF.0;
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let next = tokio::select! {
            next = listener.next() => next,
            // Reaped as they end, so that the set does not grow.
            Some(_) = clients.join_next() => continue,
        };
        match next {
            Ok(client) => {
                wait = BACK_OFF.0;
                let served = serve(client);
                clients.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) => {
                log.line(&format!("a client could not be accepted: {error}"));
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(BACK_OFF.1);
            }
        }
    }
}

/// Counted, wakes the guest.
async fn ssh(mut client: TcpStream, hub: Hub, log: Log) {
    let lease = match hub.lease(Lane::Ssh).await {
        Ok(lease) => lease,
        Err(why) => return refuse_tcp(&mut client, &why.failure()).await,
    };
    match dial(&hub).await {
        Ok(mut guest) => {
            proxy::run(client, &mut guest, Some(&lease)).await;
            drop(lease);
            leave(guest);
        }
        Err(error) => log.line(&format!("ssh: no connection to the guest: {error}")),
    }
}

/// Not counted, never wakes.
async fn infra(mut client: TcpStream, hub: Hub) {
    if !hub.gate.is_awake() {
        return refuse_tcp(&mut client, &asleep()).await;
    }
    let visit = hub.gate.visit();
    if let Ok(mut guest) = dial(&hub).await {
        proxy::run(client, &mut guest, None).await;
        drop(visit);
        leave(guest);
    }
}

/// Counted, wakes the guest, starts the tunnel.
async fn docker(mut client: UnixStream, hub: Hub, tunnel: Arc<Tunnel>, log: Log) {
    let lease = match hub.lease(Lane::Docker).await {
        Ok(lease) => lease,
        Err(why) => return refuse_http(&mut client, &why.failure()).await,
    };
    match tunnel.connect(&hub.gate).await {
        Ok(mut guest) => proxy::run(client, &mut guest, Some(&lease)).await,
        Err(failure) => {
            log.line(&format!("docker: {}", failure.message));
            refuse_http(&mut client, &failure).await;
        }
    }
}

/// Not counted, never wakes.
async fn docker_stream(mut client: UnixStream, hub: Hub, tunnel: Arc<Tunnel>) {
    if !hub.gate.is_awake() {
        return refuse_http(&mut client, &asleep()).await;
    }
    let _visit = hub.gate.visit();
    match tunnel.connect(&hub.gate).await {
        Ok(mut guest) => proxy::run(client, &mut guest, None).await,
        Err(failure) => refuse_http(&mut client, &failure).await,
    }
}

/// Takes leave of the guest. Where that sleeps, it takes until somebody else wakes it: no place at
/// the listener may be held for so long.
fn leave(guest: TcpStream) {
    tokio::spawn(proxy::leave(guest));
}

/// A connection to QEMU's forward. Only for a guest that runs: QEMU accepts for one that sleeps
/// as well, and nothing follows.
///
/// One at a time, because QEMU lets no more than two wait. For one more than that the kernel says
/// that it is connected and forgets it; a client that waits for the first word then waits for ever.
async fn dial(hub: &Hub) -> io::Result<TcpStream> {
    let _turn = hub.gate.turn().await;
    let Some(port) = hub.gate.port() else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let guest = tokio::time::timeout(DIAL, TcpStream::connect(address)).await??;
    // With signs of life, which the kernels exchange, one that was forgotten all the same ends.
    prepare(&guest);
    let _ = tokio::time::timeout(ACCEPTED, guest.readable()).await;
    Ok(guest)
}

fn asleep() -> Failure {
    Failure::new(
        "the VM is hibernated; the next connection to its ssh port or docker.sock wakes it",
        None,
    )
}

async fn refuse_tcp(client: &mut (impl AsyncRead + AsyncWrite + Unpin), why: &Failure) {
    let text = format!("avocado: {}\r\n", why.message);
    say(client, text.as_bytes()).await;
}

async fn refuse_http(client: &mut (impl AsyncRead + AsyncWrite + Unpin), why: &Failure) {
    let body = serde_json::json!({ "message": why.message }).to_string();
    let text = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    say(client, text.as_bytes()).await;
}

/// The last words to a client. What it sent meanwhile is taken from the socket first: closing one
/// with unread bytes resets the connection, and the words would be lost.
async fn say(client: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &[u8]) {
    let talk = async {
        client.write_all(text).await?;
        client.shutdown().await?;
        tokio::io::copy(client, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), talk).await;
}
