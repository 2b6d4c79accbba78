//! A service for many clients.
//!
//! One thread owns every connection and waits for all of them at once, so an idle client costs a
//! few hundred bytes. A call runs on a thread of its own, of which there are at most
//! [`ServerOptions::max_running`]; further calls wait. No thread ever waits for a client to read: what
//! the socket does not take is kept, up to [`ServerOptions::max_pending_output`] per connection, and a
//! connection whose last reply has not left yet is not asked for its next call.

mod call;
mod connection;
mod interface_table;
mod listener;
mod peer;
mod reactor;
mod reply_error;
mod reply_writer;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

pub use call::MethodCall;
pub use listener::{ListenError, Listener};
pub use peer::PeerCredentials;
pub use reply_error::ReplyError;

use crate::idl::{IdlError, Interface};

/// The definition of `org.varlink.service`, which every server implements.
pub const SERVICE_IDL: &str = include_str!("../../varlink/org.varlink.service.varlink");

/// What a server serves.
pub trait VarlinkService: Send + Sync + 'static {
    /// The interfaces, without `org.varlink.service`.
    fn interfaces(&self) -> &[Interface];

    /// Runs one call. The method exists and its parameters fit their declaration. A call that is
    /// dropped without an answer closes its connection.
    fn call(&self, call: MethodCall);

    /// The lane of a method: calls in the same one run one after another, over all connections.
    /// Those that wait for their turn occupy no thread. `None`: calls of this method never wait
    /// for others.
    fn lane(&self, _interface: &str, _method: &str) -> Option<&'static str> {
        None
    }
}

/// What `org.varlink.service.GetInfo` tells.
#[derive(Debug, Clone)]
pub struct ServiceInfo {
    /// Who makes the service.
    pub vendor: String,
    /// The program.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Where to read more.
    pub url: String,
}

/// The bounds of a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The longest call, in bytes. A longer one closes its connection.
    pub max_message: usize,
    /// Connections beyond this number are closed at once. The last 64th of them is for root, so
    /// that others do not lock out who could help.
    pub max_connections: usize,
    /// The same for each user but root.
    pub max_connections_per_user: usize,
    /// The most that may wait in this process for all connections of one user together: unread
    /// replies and unfinished calls, in bytes. A connection that goes beyond is closed.
    pub max_buffered_per_user: usize,
    /// Calls that run at the same time.
    pub max_running: usize,
    /// Bytes of unread replies per connection after which [`MethodCall::reply_continues`] refuses more.
    pub max_pending_output: usize,
    /// Without any connection for this long, [`VarlinkServer::run`] returns. `None`: never.
    pub exit_on_idle: Option<Duration>,
    /// How long running calls may take after a request to stop.
    pub stop_grace: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            max_message: 64 * 1024,
            max_connections: 4096,
            max_connections_per_user: 1024,
            max_buffered_per_user: 8 << 20,
            max_running: 16,
            max_pending_output: 256 * 1024,
            exit_on_idle: None,
            stop_grace: Duration::from_secs(10),
        }
    }
}

/// Why [`VarlinkServer::run`] came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEnd {
    /// No client was connected for [`ServerOptions::exit_on_idle`].
    Idle,
    /// It was asked to.
    Stopped,
    /// There is no listener, and the last connection was closed.
    NoClients,
}

/// The server cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A definition of the service's own interfaces is wrong.
    #[error("an interface definition is not valid")]
    Idl(#[from] IdlError),
    /// The kernel refused something that a server cannot do without.
    #[error("cannot {what}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

/// A server that is being prepared.
pub struct VarlinkServer {
    reactor: reactor::Reactor,
}

impl VarlinkServer {
    /// A server without a listener.
    ///
    /// # Errors
    /// When the kernel gives no event queue.
    pub fn new(
        service: Arc<dyn VarlinkService>,
        info: ServiceInfo,
        options: ServerOptions,
    ) -> Result<Self, ServerError> {
        let reactor = reactor::Reactor::new(service, info, options)?;
        Ok(VarlinkServer { reactor })
    }

    /// Serves the clients that connect to `listener`.
    ///
    /// # Errors
    /// When the kernel does not take the socket.
    pub fn listen(&mut self, listener: Listener) -> Result<(), ServerError> {
        self.reactor.listen(listener)
    }

    /// Serves the client at the other end of a connected socket.
    ///
    /// # Errors
    /// When the kernel does not take the socket.
    pub fn adopt(&mut self, connection: OwnedFd) -> Result<(), ServerError> {
        self.reactor.adopt(connection)
    }

    /// Stops as soon as `stop` becomes readable: no further calls, and those that run get
    /// [`ServerOptions::stop_grace`]. Readable once more: without grace.
    ///
    /// # Errors
    /// When the kernel does not take the descriptor.
    pub fn stop_on(&mut self, stop: OwnedFd) -> Result<(), ServerError> {
        self.reactor.stop_on(stop)
    }

    /// Serves.
    ///
    /// # Errors
    /// When the kernel's event queue fails.
    pub fn run(self) -> Result<ServerEnd, ServerError> {
        self.reactor.run()
    }
}

fn system(what: &'static str) -> impl Fn(rustix::io::Errno) -> ServerError {
    move |errno| ServerError::System {
        what,
        source: errno.into(),
    }
}

fn set_nonblocking(fd: impl AsFd) -> rustix::io::Result<()> {
    rustix::io::ioctl_fionbio(fd, true)
}
