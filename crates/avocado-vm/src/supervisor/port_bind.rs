//! Listening on a port that nobody else has.
//!
//! macOS lets a program listen at 127.0.0.1 on a port that another has at every address, where both
//! allow that an address is used again, as everybody does. The port would be taken from that program
//! without a word. On Linux the system says that the port is taken.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::net::TcpListener;

/// How long another program may take to let a client in, on this machine.
const CONNECT_LIMIT: Duration = Duration::from_millis(300);

/// Listens at an address.
///
/// # Errors
/// It is in use, also by a program that has the port at every address; or the system refuses.
pub(super) fn listen_alone(address: SocketAddr) -> io::Result<TcpListener> {
    if !cfg!(target_os = "linux") && is_served_by_another(address) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Whether another program has the port at this address, perhaps because it has it at all of them.
fn is_served_by_another(address: SocketAddr) -> bool {
    let port = address.port();
    if port == 0 || address.ip().is_unspecified() {
        return false;
    }
    let everywhere = [
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::from(Ipv6Addr::UNSPECIFIED),
    ];
    let in_use = |ip| is_in_use(SocketAddr::new(ip, port));
    if !everywhere.into_iter().any(in_use) {
        return false;
    }
    // Also a connection that is still open, or has just ended, is in the way of that. What counts is
    // whether somebody lets clients in.
    match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
        // A client may get this very port for itself, and meets itself then.
        Ok(client) => client.local_addr().ok() != client.peer_addr().ok(),
        Err(error) => error.kind() == io::ErrorKind::TimedOut,
    }
}

/// Whether an address cannot be had by one who shares it with nobody.
fn is_in_use(address: SocketAddr) -> bool {
    let bind = || {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &address)
    };
    bind() == Err(rustix::io::Errno::ADDRINUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_another_programs_where_it_listens_and_not_where_a_connection_is_left() {
        let at = |ip: [u8; 4], port| SocketAddr::from((ip, port));
        let loopback = [127, 0, 0, 1];
        for ip in [[0, 0, 0, 0], loopback] {
            let other = listen_alone(at(ip, 0)).unwrap();
            let port = other.local_addr().unwrap().port();
            assert!(is_served_by_another(at(loopback, port)));
            let taken = listen_alone(at(loopback, port)).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);

            let address = at(loopback, port);
            let (client, served) =
                tokio::join!(tokio::net::TcpStream::connect(address), other.accept());
            drop(other);
            assert!(is_in_use(at([0, 0, 0, 0], port)));
            assert!(!is_served_by_another(address));
            drop(listen_alone(address).unwrap());
            drop((client.unwrap(), served.unwrap()));
        }
    }
}
