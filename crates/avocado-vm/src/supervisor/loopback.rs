//! A port of this machine alone: at 127.0.0.1, and at ::1 where there is IPv6.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::task::Poll;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};

use super::lanes::{refuse_tcp, set_tcp_options};
use super::listeners::ClientListener;
use super::port_bind::listen_alone;
use super::port_user;
use super::protocol::SupervisorFailure;

/// A port that is listened on.
#[derive(Debug)]
pub(super) struct LoopbackListener {
    /// At 127.0.0.1, and perhaps at ::1.
    sockets: Vec<TcpListener>,
}

impl LoopbackListener {
    /// Listens at ::1 as well, on the port of a socket that listens at 127.0.0.1. Where that cannot be,
    /// although there is IPv6, the text says why, and 127.0.0.1 alone has to do.
    pub(super) fn beside(socket: TcpListener, port: u16) -> (Self, Option<String>) {
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let (other, why) = match listen_alone(address) {
            Ok(other) => (Some(other), None),
            Err(error) if lacks_ipv6(&error) => (None, None),
            Err(error) => {
                let why = if error.kind() == io::ErrorKind::AddrInUse {
                    format!("{address} is taken{}", port_user::describe_user(port))
                } else {
                    format!("{address} cannot be listened on: {error}")
                };
                (
                    None,
                    Some(format!("port {port} is at 127.0.0.1 alone: {why}")),
                )
            }
        };
        let sockets = std::iter::once(socket).chain(other).collect();
        (LoopbackListener { sockets }, why)
    }
}

/// Whether this is how a machine answers that has no IPv6.
fn lacks_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

impl ClientListener for LoopbackListener {
    type Client = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let accepted = poll_fn(|context| {
            let sockets = self.sockets.iter();
            let mut polls = sockets.map(|socket| socket.poll_accept(context));
            polls.find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        let (client, _) = accepted.await?;
        set_tcp_options(&client);
        Ok(client)
    }

    async fn refuse(mut client: TcpStream, why: SupervisorFailure) {
        refuse_tcp(&mut client, &why).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_had_at_both_addresses_or_at_the_first() {
        let name = "a_port_is_had_at_both_addresses_or_at_the_first";
        let taken = match TcpListener::bind("[::1]:0").await {
            Ok(taken) => taken,
            Err(error) if lacks_ipv6(&error) => {
                avocado_test_support::skip(name, "there is no IPv6 here");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        // Free at both, but for one that another program has there meanwhile.
        let (listener, port) = loop {
            let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = socket.local_addr().unwrap().port();
            if let (listener, None) = LoopbackListener::beside(socket, port) {
                break (listener, port);
            }
        };
        for address in ["127.0.0.1", "::1"] {
            let client = TcpStream::connect((address, port)).await.unwrap();
            let served = listener.next().await.unwrap();
            assert_eq!(served.peer_addr().unwrap(), client.local_addr().unwrap());
        }

        let port = taken.local_addr().unwrap().port();
        let Ok(socket) = TcpListener::bind(("127.0.0.1", port)).await else {
            // Another program has it there.
            return;
        };
        let (listener, why) = LoopbackListener::beside(socket, port);
        let start = format!("port {port} is at 127.0.0.1 alone: [::1]:{port} is taken");
        let why = why.unwrap();
        assert!(why.starts_with(&start), "{why}");
        let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let served = listener.next().await.unwrap();
        assert_eq!(served.peer_addr().unwrap(), client.local_addr().unwrap());
    }
}
