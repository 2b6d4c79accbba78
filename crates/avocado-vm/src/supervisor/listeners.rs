//! The listeners: what clients connect to. Each hands its clients to its lane.

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::error::SupervisorError;
use super::lane_load::{CONNECTION_LIMIT, Lane};
use super::lanes::{Lanes, refuse_http};
use super::loopback::LoopbackListener;
use super::port_bind::listen_alone;
use super::port_user;
use super::protocol::SupervisorFailure;
use crate::dir::{StateDir, StateFile};
use crate::launch::VmLaunch;

/// Clients of one lane that are being told at the same time that it is full. Those above that are
/// let go without a word.
const REFUSAL_LIMIT: usize = 50;
/// How long to wait after an `accept` that failed, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What is listened on, before any client is served.
#[derive(Debug)]
pub(crate) struct LaneListeners {
    ssh: LoopbackListener,
    infra: Option<LoopbackListener>,
    docker: UnixListener,
    docker_stream: Option<UnixListener>,
    pub(crate) control: UnixListener,
    /// The port for users.
    pub(crate) ssh_port: u16,
    pub(crate) infra_port: Option<u16>,
    /// Why the port for users is not that of the last start.
    pub(crate) last_port_taken: Option<SupervisorError>,
    /// Why a port is not to be had at ::1 too, where there is IPv6: for the log.
    pub(crate) notes: Vec<String>,
}

impl LaneListeners {
    /// Takes every port and socket. The caller holds the lock of the directory, so sockets that
    /// are there are left over.
    pub(crate) async fn bind(dir: &StateDir, launch: &VmLaunch) -> Result<Self, SupervisorError> {
        let (ssh, last_port_taken) = listen_ssh(launch)?;
        let infra = match launch.infra_port {
            Some(port) => Some(listen_tcp(port)?),
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
        let ssh_port = port(&ssh)?;
        let infra_port = infra.as_ref().map(port).transpose()?;
        let (ssh, note) = LoopbackListener::beside(ssh, ssh_port);
        let mut notes = Vec::from_iter(note);
        let infra = match infra.zip(infra_port) {
            Some((socket, port)) => {
                let (infra, note) = LoopbackListener::beside(socket, port);
                notes.extend(note);
                Some(infra)
            }
            None => None,
        };
        Ok(LaneListeners {
            ssh_port,
            last_port_taken,
            notes,
            infra_port,
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
        let ours = lanes.clone();
        tasks.spawn(accept(
            self.ssh,
            LaneDoor::new(Lane::Ssh, lanes),
            move |client| ours.clone().ssh(client),
            pending(),
        ));
        if let Some(listener) = self.infra {
            let ours = lanes.clone();
            tasks.spawn(accept(
                listener,
                LaneDoor::new(Lane::Infra, lanes),
                move |client| ours.clone().infra(client),
                pending(),
            ));
        }
        let ours = lanes.clone();
        let door = LaneDoor::new(Lane::Docker, lanes);
        tasks.spawn(accept(
            self.docker,
            door,
            move |client| ours.clone().docker(client),
            pending(),
        ));
        if let Some(listener) = self.docker_stream {
            let ours = lanes.clone();
            let door = LaneDoor::new(Lane::DockerStream, lanes);
            tasks.spawn(accept(
                listener,
                door,
                move |client| ours.clone().docker_stream(client),
                pending(),
            ));
        }
        self.control
    }
}

/// The port that was asked for; without one that of the last start, or any where that is taken.
fn listen_ssh(
    launch: &VmLaunch,
) -> Result<(TcpListener, Option<SupervisorError>), SupervisorError> {
    let taken = match (launch.ssh_port, launch.last_ssh_port) {
        (Some(port), _) => return Ok((listen_tcp(port)?, None)),
        (None, Some(last)) => match listen_tcp(last) {
            Ok(listener) => return Ok((listener, None)),
            Err(taken) => Some(taken),
        },
        (None, None) => None,
    };
    Ok((listen_anywhere(&launch.ports_of_others)?, taken))
}

/// Ports that are held at the same time while a free one is looked for.
const PORT_TRIES: usize = 100;

/// Any free port but those that other VMs want again. Where the system gives no other, one of them.
fn listen_anywhere(others: &[u16]) -> Result<TcpListener, SupervisorError> {
    let mut held = Vec::new();
    loop {
        let listener = listen_tcp(0)?;
        let port = listener.local_addr().map(|address| address.port());
        if port.is_ok_and(|port| !others.contains(&port)) || held.len() >= PORT_TRIES {
            return Ok(listener);
        }
        // Held, so that the system gives another one.
        held.push(listener);
    }
}

fn listen_tcp(port: u16) -> Result<TcpListener, SupervisorError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    listen_alone(address).map_err(|source| {
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
pub(super) trait ClientListener: Send + 'static {
    type Client: Send + 'static;
    fn next(&self) -> impl Future<Output = io::Result<Self::Client>> + Send;
    /// Tells a client why it is sent away.
    fn refuse(client: Self::Client, why: SupervisorFailure) -> impl Future<Output = ()> + Send;
}

impl ClientListener for UnixListener {
    type Client = UnixStream;
    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
    async fn refuse(mut client: UnixStream, why: SupervisorFailure) {
        refuse_http(&mut client, &why).await;
    }
}

/// The places of a lane; a cloneable handle, for a lane with several listeners.
#[derive(Clone)]
pub(super) struct LaneDoor {
    lane: Lane,
    lanes: Lanes,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl LaneDoor {
    pub(super) fn new(lane: Lane, lanes: &Lanes) -> Self {
        LaneDoor {
            lane,
            lanes: lanes.clone(),
            places: Arc::new(Semaphore::new(CONNECTION_LIMIT)),
            refusals: Arc::new(Semaphore::new(REFUSAL_LIMIT)),
        }
    }

    /// A place for one more client, if there is one.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Notes that a client is sent away. The log hears of the first one alone.
    fn note_refusal(&self) {
        if self.lanes.loads().count_refusal(self.lane) {
            self.lanes.log().line(&self.lane.refusal());
        }
    }

    /// Notes that there is room again, if there was none.
    fn note_room(&self) {
        if self.places.available_permits() > 0 {
            let refused = self.lanes.loads().has_room(self.lane);
            if refused > 0 {
                let name = self.lane.name();
                self.lanes.log().line(&format!(
                    "the {name} lane has room again; {refused} clients were sent away"
                ));
            }
        }
    }
}

/// Serves every client in a task of its own until `end`; those that are there then come to their own
/// end. One that finds the lane full is told so and sent away at once: a client that waits for a
/// place would wait in silence, maybe for ever.
pub(super) async fn accept<A: ClientListener, F>(
    listener: A,
    door: LaneDoor,
    serve: impl Fn(A::Client) -> F + Send + 'static,
    end: impl Future<Output = ()>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut clients = JoinSet::new();
    let mut wait = BACK_OFF.0;
    tokio::pin!(end);
    loop {
        let next = tokio::select! {
            () = &mut end => break,
            // Reaped as they end, so that the set does not grow.
            Some(_) = clients.join_next() => {
                door.note_room();
                continue;
            }
            next = listener.next() => next,
        };
        match (next, door.place()) {
            (Ok(client), Some(place)) => {
                wait = BACK_OFF.0;
                let served = serve(client);
                clients.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            (Ok(client), None) => {
                door.note_refusal();
                if let Ok(turn) = door.refusals.clone().try_acquire_owned() {
                    let why = SupervisorFailure::new(door.lane.refusal(), None);
                    clients.spawn(async move {
                        A::refuse(client, why).await;
                        drop(turn);
                    });
                }
            }
            (Err(error), _) => {
                let lanes = &door.lanes;
                lanes
                    .log()
                    .line(&format!("a client could not be accepted: {error}"));
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(BACK_OFF.1);
            }
        }
    }
    drop(listener);
    while clients.join_next().await.is_some() {
        door.note_room();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::super::docker_tunnel::DockerTunnel;
    use super::super::log::SupervisorLog;
    use super::super::owner_handle::OwnerHandle;
    use super::*;

    fn lanes(place: &Path) -> Lanes {
        let dir = StateDir::new(place);
        let log = SupervisorLog::open(&dir.file(StateFile::SupervisorLog));
        let (handle, _inbox) = OwnerHandle::new();
        let tunnel = DockerTunnel::new(&dir, &log, Box::new(|_| ()));
        Lanes::new(&dir, handle, tunnel, log)
    }

    /// Clients of a lane that is served by an echo.
    async fn fill<C, A>(lane: Lane, listener: A, connect: impl AsyncFn() -> C)
    where
        C: AsyncReadExt + AsyncWriteExt + Unpin,
        A: ClientListener,
        A::Client: AsyncReadExt + AsyncWriteExt + Unpin,
    {
        let place = tempfile::tempdir().unwrap();
        let lanes = lanes(place.path());
        let echo = |mut client: A::Client| async move {
            let mut byte = [0];
            while client.read_exact(&mut byte).await.is_ok() {
                let _ = client.write_all(&byte).await;
            }
        };
        let door = LaneDoor::new(lane, &lanes);
        let served = tokio::spawn(accept(listener, door, echo, pending()));
        let talk = async |client: &mut C| {
            let mut byte = [0];
            client.write_all(b"x").await.unwrap();
            client.read_exact(&mut byte).await.unwrap();
            assert_eq!(&byte, b"x");
        };
        let mut clients = Vec::new();
        for _ in 0..CONNECTION_LIMIT {
            let mut client = connect().await;
            talk(&mut client).await;
            clients.push(client);
        }
        for _ in 0..2 {
            let mut said = String::new();
            connect().await.read_to_string(&mut said).await.unwrap();
            assert!(said.contains(&lane.refusal()), "{said}");
        }
        let problem = lanes.loads().problem().unwrap();
        assert!(problem.contains("(2 sent away)"), "{problem}");
        // Those that are in are served as before, and one that leaves makes room.
        talk(clients.first_mut().unwrap()).await;
        clients.pop();
        while lanes.loads().problem().is_some() {
            tokio::task::yield_now().await;
        }
        talk(&mut connect().await).await;
        let log = std::fs::read_to_string(place.path().join("supervisor.log")).unwrap();
        assert_eq!(log.matches(&lane.refusal()).count(), 1, "{log}");
        assert!(log.contains("has room again; 2 clients"), "{log}");
        served.abort();
    }

    #[tokio::test]
    async fn one_client_too_many_is_told_so_and_sent_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connect = async || TcpStream::connect(address).await.unwrap();
        let (listener, _) = LoopbackListener::beside(listener, address.port());
        fill(Lane::Ssh, listener, connect).await;

        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let connect = async || UnixStream::connect(&path).await.unwrap();
        fill(Lane::Docker, listener, connect).await;
    }

    #[tokio::test]
    async fn any_port_is_none_that_another_vm_wants_again() {
        // Half of all that the system may give.
        let free = listen_anywhere(&[]).unwrap();
        let wanted = free.local_addr().unwrap().port();
        drop(free);
        let others: Vec<u16> = (1..=u16::MAX)
            .filter(|port| port / 2 % 2 == wanted / 2 % 2)
            .collect();
        let found = listen_anywhere(&others).unwrap();
        assert!(!others.contains(&found.local_addr().unwrap().port()));
    }

    #[tokio::test]
    async fn the_port_of_the_last_start_is_taken_again_if_it_is_free() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let last = other.local_addr().unwrap().port();
        let mut launch = super::super::test_launch();
        launch.last_ssh_port = Some(last);
        let (instead, why) = listen_ssh(&launch).unwrap();
        assert_ne!(instead.local_addr().unwrap().port(), last);
        let why = why.unwrap().to_string();
        let start = format!("port {last} on 127.0.0.1 is taken");
        assert!(why.starts_with(&start), "{why}");
        drop(other);
        let (again, why) = listen_ssh(&launch).unwrap();
        assert_eq!(again.local_addr().unwrap().port(), last);
        assert!(why.is_none());
        launch.ssh_port = Some(last);
        let error = listen_ssh(&launch).unwrap_err();
        assert!(error.to_string().starts_with(&start), "{error}");
    }
}
