//! The listeners: what clients connect to. Each hands its clients to its lane.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::error::SupervisorError;
use super::lanes::{Lanes, set_tcp_options};
use super::log::SupervisorLog;
use super::port_user;
use crate::dir::{StateDir, StateFile};
use crate::launch::VmLaunch;

/// Connections of one listener at the same time; more wait to be accepted.
const CLIENT_LIMIT: usize = 200;
/// How long to wait after an `accept` that failed, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What is listened on, before any client is served.
#[derive(Debug)]
pub(crate) struct LaneListeners {
    ssh: TcpListener,
    infra: Option<TcpListener>,
    docker: UnixListener,
    docker_stream: Option<UnixListener>,
    pub(crate) control: UnixListener,
    /// The port for users.
    pub(crate) ssh_port: u16,
    pub(crate) infra_port: Option<u16>,
}

impl LaneListeners {
    /// Takes every port and socket. The caller holds the lock of the directory, so sockets that
    /// are there are left over.
    pub(crate) async fn bind(dir: &StateDir, launch: &VmLaunch) -> Result<Self, SupervisorError> {
        let ssh = listen_tcp(launch.ssh_port.unwrap_or(0)).await?;
        let infra = match launch.infra_port {
            Some(port) => Some(listen_tcp(port).await?),
            None => None,
        };
        let local = |listener: &TcpListener| listener.local_addr().map(|a| a.port());
        let port = |listener| {
            local(listener).map_err(|source| SupervisorError::System {
                what: "find out the port that was chosen",
                source,
            })
        };
        let stream = dir.file(StateFile::DockerStream);
        Ok(LaneListeners {
            ssh_port: port(&ssh)?,
            infra_port: infra.as_ref().map(port).transpose()?,
            ssh,
            infra,
            docker: listen_unix(&dir.file(StateFile::Docker))?,
            docker_stream: launch
                .docker_stream
                .then(|| listen_unix(&stream))
                .transpose()?,
            control: listen_unix(&dir.file(StateFile::Supervisor))?,
        })
    }

    /// Serves everything but the control socket, which it returns. Whatever runs ends with the
    /// set.
    pub(crate) fn serve(self, lanes: &Lanes, tasks: &mut JoinSet<()>) -> UnixListener {
        let log = lanes.log();
        let ours = lanes.clone();
        tasks.spawn(accept(
            TcpClientListener(self.ssh),
            log.clone(),
            move |client| ours.clone().ssh(client),
        ));
        if let Some(listener) = self.infra {
            let ours = lanes.clone();
            tasks.spawn(accept(
                TcpClientListener(listener),
                log.clone(),
                move |client| ours.clone().infra(client),
            ));
        }
        let ours = lanes.clone();
        tasks.spawn(accept(self.docker, log.clone(), move |client| {
            ours.clone().docker(client)
        }));
        if let Some(listener) = self.docker_stream {
            let ours = lanes.clone();
            tasks.spawn(accept(listener, log.clone(), move |client| {
                ours.clone().docker_stream(client)
            }));
        }
        self.control
    }
}

async fn listen_tcp(port: u16) -> Result<TcpListener, SupervisorError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            let by = port_user::describe_user(port);
            SupervisorError::PortTaken { port, by, source }
        } else {
            let what = address.to_string();
            SupervisorError::Listen { what, source }
        }
    })
}

/// A socket for this user only: the directory lets no other user in, and the mask of the process
/// closes the socket itself.
fn listen_unix(path: &Path) -> Result<UnixListener, SupervisorError> {
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
    bind().map_err(|source| SupervisorError::Listen {
        what: path.display().to_string(),
        source,
    })
}

/// Something that clients connect to.
pub(crate) trait ClientListener: Send + 'static {
    type Client: Send + 'static;
    fn next(&self) -> impl Future<Output = io::Result<Self::Client>> + Send;
}

struct TcpClientListener(TcpListener);

impl ClientListener for TcpClientListener {
    type Client = TcpStream;
    async fn next(&self) -> io::Result<TcpStream> {
        let (client, _) = self.0.accept().await?;
        set_tcp_options(&client);
        Ok(client)
    }
}

impl ClientListener for UnixListener {
    type Client = UnixStream;
    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// Serves every client in a task of its own, for ever.
pub(crate) async fn accept<A: ClientListener, F>(
    listener: A,
    log: SupervisorLog,
    serve: impl Fn(A::Client) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CLIENT_LIMIT));
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
