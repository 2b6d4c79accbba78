//! The way to the guest's docker socket: an `ssh` that forwards a socket here to it. `ports` is the
//! way to its ports, through the same `ssh`.
//!
//! It is started when a client needs it, kept while the guest sleeps, and replaced when it is
//! dead. It is always waited for, so none is left as a zombie.

mod ports;

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use avocado_qemu::{ProcessIdentity, connect_when_room, nobody_listens};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::log::{SupervisorLog, last_lines};
use super::protocol::SupervisorFailure;
use super::shared_state::SharedState;
use crate::access;
use crate::dir::{StateDir, StateFile};
pub(crate) use ports::GuestPort;
use ports::TunnelPorts;

/// How long a tunnel may take: the guest may be slow, and just awake.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a client waits for room in the queue of the tunnel's socket. ssh accepts also while the
/// guest is slow, so it is full for moments.
const QUEUE_LIMIT: Duration = Duration::from_secs(30);
/// How long an `ssh` that was killed may take to be gone, before the next is started all the same.
const END_LIMIT: Duration = Duration::from_secs(5);
/// The socket appears when the tunnel is up; nothing announces it.
const SOCKET_POLL: Duration = Duration::from_millis(20);

/// Where the tunnel's process is written down, so that the next supervisor can end it should this
/// one be killed.
pub(crate) type ProcessObserver = Box<dyn Fn(Option<ProcessIdentity>) + Send + Sync>;

pub(crate) struct DockerTunnel {
    dir: StateDir,
    log: SupervisorLog,
    on_process: ProcessObserver,
    /// Held while a tunnel is made, so that there is one.
    start_lock: Mutex<()>,
    process: StdMutex<Option<TunnelProcess>>,
}

/// A running `ssh`. It is killed when this is dropped.
struct TunnelProcess {
    _kill: oneshot::Sender<()>,
    ended: watch::Receiver<bool>,
    /// What it forwards besides the docker socket.
    ports: Arc<Mutex<TunnelPorts>>,
}

impl DockerTunnel {
    pub(crate) fn new(
        dir: &StateDir,
        log: &SupervisorLog,
        on_process: ProcessObserver,
    ) -> Arc<DockerTunnel> {
        Arc::new(DockerTunnel {
            dir: dir.clone(),
            log: log.clone(),
            on_process,
            start_lock: Mutex::new(()),
            process: StdMutex::new(None),
        })
    }

    fn socket(&self) -> PathBuf {
        self.dir.file(StateFile::DockerInternal)
    }

    /// A connection to the guest's docker socket, through a tunnel that lives.
    pub(crate) async fn connect(
        &self,
        shared: &SharedState,
    ) -> Result<UnixStream, SupervisorFailure> {
        if let Some(stream) = self.connect_through(QUEUE_LIMIT).await? {
            return Ok(stream);
        }
        let _starting = self.start_lock.lock().await;
        // Another client may have made one meanwhile.
        if let Some(stream) = self.connect_through(QUEUE_LIMIT).await? {
            return Ok(stream);
        }
        let Some(port) = shared.forward_port() else {
            return Err(SupervisorFailure::new("the VM has no ssh port", None));
        };
        self.end_for_next().await;
        let mut ended = self.start(port)?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(stream) = self.connect_through(QUEUE_LIMIT).await? {
                self.log
                    .line("the tunnel to the guest's docker socket is up");
                return Ok(stream);
            }
            let end = ended.wait_for(|ended| *ended);
            let next = (Instant::now() + SOCKET_POLL).min(deadline);
            if let Ok(_ended) = timeout_at(next, end).await {
                let said = last_lines(&self.error_log(), 3);
                let text = format!("no tunnel to the guest's docker socket: {said}");
                return Err(SupervisorFailure::new(text, None));
            }
            if Instant::now() >= deadline {
                self.close();
                let text = "no tunnel to the guest's docker socket: ssh took too long";
                return Err(SupervisorFailure::new(text, None));
            }
        }
    }

    /// A connection through the tunnel that is there; none where it is dead: ssh has ended, or
    /// nobody listens.
    ///
    /// All else is a failure of this one connection: to replace the tunnel would end those that it
    /// carries.
    async fn connect_through(
        &self,
        limit: Duration,
    ) -> Result<Option<UnixStream>, SupervisorFailure> {
        let ended = {
            let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            process.as_ref().map(|process| process.ended.clone())
        };
        let Some(mut ended) = ended else {
            return Ok(None);
        };
        let socket = self.socket();
        let connected = tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => return Ok(None),
            connected = timeout(limit, connect_when_room(&socket)) => connected,
        };
        let why = match connected {
            Ok(Ok(stream)) => return Ok(Some(stream)),
            Ok(Err(error)) if nobody_listens(&error) => return Ok(None),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("ssh accepted none for {} s", limit.as_secs()),
        };
        let text = format!("no connection to {}: {why}", socket.display());
        let hint = "close docker connections that are not needed, or restart the VM";
        Err(SupervisorFailure::new(text, Some(hint)))
    }

    fn error_log(&self) -> PathBuf {
        self.dir.file(StateFile::TunnelLog)
    }

    fn start(&self, port: u16) -> Result<watch::Receiver<bool>, SupervisorFailure> {
        self.remove_sockets();
        let failed = |error: std::io::Error| {
            let hint = "install an OpenSSH client";
            SupervisorFailure::new(format!("cannot start ssh: {error}"), Some(hint))
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let errors = options.open(self.error_log()).map_err(failed)?;
        let mut child = Command::new("ssh")
            // Signs of life would be missed while the guest sleeps, and end it.
            .args(["-o", "ServerAliveInterval=0"])
            .args(access::tunnel_arguments(&self.dir, port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        (self.on_process)(child.id().and_then(ProcessIdentity::of));
        let (kill, killed) = oneshot::channel();
        let (end, ended) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = child.wait() => {}
                _ = killed => {
                    // Returns when it is reaped.
                    let _ = child.kill().await;
                }
            }
            let _ = end.send(true);
        });
        let started = TunnelProcess {
            _kill: kill,
            ended: ended.clone(),
            ports: Arc::new(Mutex::new(TunnelPorts::new(&self.dir))),
        };
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        Ok(ended)
    }

    /// Ends the tunnel, if there is one.
    pub(crate) fn close(&self) -> Option<watch::Receiver<bool>> {
        let process = self
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let ended = process.map(|process| process.ended);
        if ended.is_some() {
            (self.on_process)(None);
            self.remove_sockets();
        }
        ended
    }

    /// ssh leaves its sockets where it is killed, and does not start where one is in its way.
    fn remove_sockets(&self) {
        let _ = std::fs::remove_file(self.socket());
        let _ = self.dir.remove(StateFile::TunnelControl);
        let _ = std::fs::remove_dir_all(self.dir.file(StateFile::TunnelPorts));
    }

    /// Ends the tunnel and waits for that: an `ssh` that ends removes sockets by their names, which
    /// may be those of the next one by then.
    async fn end_for_next(&self) {
        if let Some(mut ended) = self.close() {
            let _ = timeout(END_LIMIT, ended.wait_for(|ended| *ended)).await;
        }
    }

    /// Ends the tunnel, and waits until it is reaped.
    pub(crate) async fn end(&self) {
        if let Some(mut ended) = self.close() {
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }
}

/// Kills the tunnel that a killed supervisor left: were it asked to end, it would remove sockets on its
/// way out that may be those of the next one.
pub(crate) fn end_orphan(identity: &ProcessIdentity) {
    if identity.is_alive()
        && let Ok(pid) = i32::try_from(identity.pid)
        && let Some(pid) = rustix::process::Pid::from_raw(pid)
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// The same, and returns when it is gone, or after a while.
pub(crate) async fn orphan_ended(identity: &ProcessIdentity) {
    end_orphan(identity);
    let deadline = Instant::now() + END_LIMIT;
    // It is no child of ours: nothing announces its end.
    while identity.is_alive() && Instant::now() < deadline {
        tokio::time::sleep(SOCKET_POLL).await;
    }
}

#[cfg(test)]
mod played;
#[cfg(test)]
pub(crate) use played::PlayedTunnel;
#[cfg(test)]
mod tests;
