//! Listening on the host for one forward.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::supervisor::lanes::set_tcp_options;
use crate::supervisor::listeners::ClientListener;
use crate::supervisor::port_bind::listen_alone;
use crate::supervisor::port_user;
use crate::supervisor::protocol::SupervisorFailure;

/// A port of this host, at one address or at two.
#[derive(Debug)]
pub(super) struct ForwardListener {
    sockets: Vec<TcpListener>,
    /// What is wrong, although it listens.
    problem: Option<String>,
    /// Tells that it is closed, when it is dropped.
    _closed: Option<oneshot::Sender<()>>,
}

/// Listens on the loopback addresses; on that of IPv6 where there is one.
///
/// # Errors
/// Why it does not, in words that follow "is not forwarded: ".
pub(super) fn listen_on_loopback(port: u16) -> Result<ForwardListener, String> {
    let mut listener = listen_on(IpAddr::V4(Ipv4Addr::LOCALHOST), port)?;
    let port = match listener.sockets.first().map(TcpListener::local_addr) {
        Some(Ok(address)) => address.port(),
        _ => port,
    };
    match listen_alone(SocketAddr::from((Ipv6Addr::LOCALHOST, port))) {
        Ok(socket) => listener.sockets.push(socket),
        // Most hosts without IPv6 say the first.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {}
        Err(error) => {
            let why = describe(&error, IpAddr::V6(Ipv6Addr::LOCALHOST), port);
            listener.problem = Some(format!("is forwarded at 127.0.0.1 alone: {why}"));
        }
    }
    Ok(listener)
}

/// Whether a port can be had at the loopback address of IPv6.
pub(super) fn is_free_on_ipv6(port: u16) -> bool {
    listen_alone(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).is_ok()
}

/// Listens on one address.
///
/// # Errors
/// Why it does not, in words that follow "is not forwarded: ".
pub(super) fn listen_on(address: IpAddr, port: u16) -> Result<ForwardListener, String> {
    let bound = listen_alone(SocketAddr::from((address, port)));
    let socket = bound.map_err(|error| describe(&error, address, port))?;
    Ok(ForwardListener {
        sockets: vec![socket],
        problem: None,
        _closed: None,
    })
}

fn describe(error: &io::Error, address: IpAddr, port: u16) -> String {
    let address = SocketAddr::from((address, port));
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "{address} on the host is taken{}",
                port_user::describe_user(port)
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("the host does not let you listen on {address}; take a port from 1024 on")
        }
        _ => format!("cannot listen on {address}: {error}"),
    }
}

impl ForwardListener {
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        let addresses = self
            .sockets
            .iter()
            .filter_map(|socket| socket.local_addr().ok());
        addresses.map(|address| address.to_string()).collect()
    }

    /// With what fails when the listener is closed.
    pub(super) fn tell_end(mut self) -> (Self, oneshot::Receiver<()>) {
        let (closed, end) = oneshot::channel();
        self._closed = Some(closed);
        (self, end)
    }
}

impl ClientListener for ForwardListener {
    type Client = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let accepted = poll_fn(|context| {
            let mut polls = self
                .sockets
                .iter()
                .map(|socket| socket.poll_accept(context));
            polls.find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        let (client, _) = accepted.await?;
        set_tcp_options(&client);
        Ok(client)
    }

    /// Without a word: what the client speaks is not known.
    async fn refuse(_client: TcpStream, _why: SupervisorFailure) {}
}
