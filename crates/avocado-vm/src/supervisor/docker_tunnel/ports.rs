//! Ports of the guest, reached through the tunnel: a running `ssh` is told to forward one more socket
//! here, or to do so no longer. That takes some milliseconds, once for each port, and no connection of
//! its own to the guest.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use avocado_qemu::{connect_when_room, nobody_listens};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::{DockerTunnel, QUEUE_LIMIT, SOCKET_POLL};
use crate::access;
use crate::dir::{StateDir, StateFile};
use crate::supervisor::protocol::SupervisorFailure;
use crate::supervisor::shared_state::SharedState;

/// How long ssh may take to take an order. It asks nobody for that.
const ORDER_LIMIT: Duration = Duration::from_secs(10);
/// How long the socket of its orders may take to appear: it does so just after that of docker.
const CONTROL_LIMIT: Duration = Duration::from_secs(5);

/// A port as the guest itself reaches it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct GuestPort {
    /// A name or an address, in the guest.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl GuestPort {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        GuestPort { host, port }
    }
}

impl fmt::Display for GuestPort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

/// What one `ssh` forwards besides the docker socket.
#[derive(Debug)]
pub(super) struct TunnelPorts {
    dir: StateDir,
    sockets: BTreeMap<GuestPort, PathBuf>,
    /// For the name of the next socket.
    count: u32,
    /// It has been found to take no orders.
    is_deaf: bool,
}

/// Why there is no socket for a port.
#[derive(Debug)]
enum NoSocket {
    /// Nobody takes orders, although ssh lives: its socket for them was removed, say.
    Deaf,
    Refused(String),
}

impl TunnelPorts {
    pub(super) fn new(dir: &StateDir) -> Self {
        TunnelPorts {
            dir: dir.clone(),
            sockets: BTreeMap::new(),
            count: 0,
            is_deaf: false,
        }
    }

    /// The socket that leads to a port. ssh is told to make it, if that is new.
    async fn socket(&mut self, to: &GuestPort) -> Result<PathBuf, NoSocket> {
        if let Some(socket) = self.sockets.get(to) {
            return Ok(socket.clone());
        }
        self.is_deaf = self.is_deaf || !self.control_appears().await;
        if self.is_deaf {
            return Err(NoSocket::Deaf);
        }
        let place = self.dir.file(StateFile::TunnelPorts);
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.mode(0o700).recursive(true).create(&place);
        made.map_err(|error| {
            NoSocket::Refused(format!("cannot make {}: {error}", place.display()))
        })?;
        let socket = place.join(self.count.to_string());
        self.count = self.count.wrapping_add(1);
        if let Err(why) = self.order(to, &socket, false).await {
            self.is_deaf = self.is_control_dead().await;
            return Err(if self.is_deaf {
                NoSocket::Deaf
            } else {
                NoSocket::Refused(why)
            });
        }
        self.sockets.insert(to.clone(), socket.clone());
        Ok(socket)
    }

    async fn control_appears(&self) -> bool {
        let control = self.dir.file(StateFile::TunnelControl);
        let deadline = Instant::now() + CONTROL_LIMIT;
        while !control.exists() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(SOCKET_POLL).await;
        }
        true
    }

    async fn is_control_dead(&self) -> bool {
        let control = self.dir.file(StateFile::TunnelControl);
        let connected = timeout(ORDER_LIMIT, connect_when_room(&control)).await;
        matches!(connected, Ok(Err(error)) if nobody_listens(&error))
    }

    /// ssh makes no more connections to a port; those that there are go on.
    async fn forget(&mut self, to: &GuestPort) {
        if let Some(socket) = self.sockets.remove(to) {
            // Where that fails ssh is dead, and its sockets with it.
            let _ = self.order(to, &socket, true).await;
            let _ = std::fs::remove_file(socket);
        }
    }

    /// Lets a socket lead to a port that no ssh was told of.
    #[cfg(test)]
    pub(super) fn play(&mut self, to: &GuestPort, socket: &std::path::Path) {
        self.sockets.insert(to.clone(), socket.to_owned());
    }

    async fn order(
        &self,
        to: &GuestPort,
        socket: &std::path::Path,
        cancel: bool,
    ) -> Result<(), String> {
        let order = Command::new("ssh")
            .args(access::tunnel_port_arguments(
                &self.dir,
                socket,
                &to.to_string(),
                cancel,
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        let output = match timeout(ORDER_LIMIT, order).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("cannot start ssh: {error}")),
            Err(_) => return Err("ssh took too long".to_owned()),
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("ssh: {}", said.trim()))
    }
}

impl DockerTunnel {
    /// A connection to a port of the guest, through a tunnel that lives.
    pub(crate) async fn connect_to(
        &self,
        to: &GuestPort,
        shared: &SharedState,
    ) -> Result<UnixStream, SupervisorFailure> {
        let mut why = String::new();
        // Once more: the tunnel may just have ended.
        for again in [false, true] {
            if again {
                // Which finds that out, and makes another.
                drop(self.connect(shared).await?);
            }
            let ports = self.ports(shared).await?;
            let socket = ports.lock().await.socket(to).await;
            let socket = match socket {
                Ok(socket) => socket,
                Err(NoSocket::Deaf) => {
                    "ssh takes no orders".clone_into(&mut why);
                    self.replace_deaf(&ports).await;
                    continue;
                }
                Err(NoSocket::Refused(error)) => {
                    why = error;
                    continue;
                }
            };
            match timeout(QUEUE_LIMIT, connect_when_room(&socket)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => {
                    why = error.to_string();
                    if !nobody_listens(&error) {
                        break;
                    }
                    ports.lock().await.forget(to).await;
                }
                Err(_) => {
                    why = format!("ssh accepted none for {} s", QUEUE_LIMIT.as_secs());
                    break;
                }
            }
        }
        let text = format!("no connection to {to} in the guest: {why}");
        Err(SupervisorFailure::new(text, None))
    }

    /// Ends an `ssh` that takes no orders, so that another is made.
    async fn replace_deaf(&self, ports: &Arc<Mutex<TunnelPorts>>) {
        let _starting = self.start_lock.lock().await;
        let is_same = |process: &super::TunnelProcess| Arc::ptr_eq(&process.ports, ports);
        // Another client may have done so.
        if self.lock_process().as_ref().is_some_and(is_same) {
            self.log
                .line("the tunnel to the guest takes no orders any more: another is made");
            self.end_for_next().await;
        }
    }

    /// Ports that are not needed any more. Connections to them go on.
    pub(crate) async fn forget(&self, to: &GuestPort) {
        let ports = self.lock_process().as_ref().map(|p| p.ports.clone());
        if let Some(ports) = ports {
            ports.lock().await.forget(to).await;
        }
    }

    /// What the tunnel that lives forwards. It is made where there is none.
    async fn ports(
        &self,
        shared: &SharedState,
    ) -> Result<Arc<Mutex<TunnelPorts>>, SupervisorFailure> {
        let alive = || {
            let process = self.lock_process();
            let process = process.as_ref().filter(|process| !*process.ended.borrow());
            process.map(|process| process.ports.clone())
        };
        let is_up = self.socket().exists();
        if let Some(ports) = alive().filter(|_| is_up) {
            return Ok(ports);
        }
        drop(self.connect(shared).await?);
        let ended = || SupervisorFailure::new("the tunnel to the guest has just ended", None);
        alive().ok_or_else(ended)
    }

    fn lock_process(&self) -> std::sync::MutexGuard<'_, Option<super::TunnelProcess>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
