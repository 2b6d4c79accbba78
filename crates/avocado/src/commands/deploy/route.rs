//! How a device reaches this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use crate::environment::DeployPort;
use crate::failure::{Failure, Result};
use avocado_ssh::SshHost;

/// The host that a device is told to fetch from, and where to listen for it.
pub(super) struct DeviceRoute {
    pub(super) advertised: SshHost,
    /// The address of this machine that the device knows, where that is known here.
    listen: Option<SocketAddr>,
}

impl DeviceRoute {
    /// With the name that the user wants, or the local end of the route to the device.
    pub(super) fn to(device: &SshHost, wanted: Option<&str>) -> Result<Self> {
        if let Some(text) = wanted {
            let advertised: SshHost = text.parse().map_err(|e| {
                Failure::usage(format!(
                    "AVOCADO_DEPLOY_REPO_HOST is `{}`",
                    text.escape_debug()
                ))
                .because(&e)
            })?;
            // Behind a name may be any address, and one of a forwarder.
            let ip = advertised.as_str().parse::<IpAddr>().ok();
            return Ok(DeviceRoute {
                advertised,
                listen: ip.map(|ip| SocketAddr::new(ip, 0)),
            });
        }
        let local = local_address(device)?;
        // An address of this machine is a host by construction.
        let advertised = local.ip().to_string().parse();
        Ok(DeviceRoute {
            advertised: advertised.map_err(|e| Failure::from_error(&e))?,
            listen: Some(local),
        })
    }

    /// Where to listen: where only the device's network reaches, if that address is known.
    pub(super) fn socket(&self, port: DeployPort) -> SocketAddr {
        let mut socket = self.listen.unwrap_or_else(|| self.everywhere());
        socket.set_port(number(port));
        socket
    }

    /// Where to listen when the address is none of this machine: that of a forwarder before it.
    pub(super) fn socket_behind_forwarder(&self, port: DeployPort) -> SocketAddr {
        let mut socket = self.everywhere();
        socket.set_port(number(port));
        socket
    }

    fn everywhere(&self) -> SocketAddr {
        let ip: IpAddr = if self.advertised.is_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        SocketAddr::new(ip, 0)
    }

    /// What the device is told.
    pub(super) fn url(&self, port: u16) -> String {
        format!("http://{}:{port}", self.advertised.in_url())
    }
}

fn number(port: DeployPort) -> u16 {
    let (DeployPort::Default(port) | DeployPort::Fixed(port)) = port;
    port
}

/// The address that packets to the device would come from. Connecting a datagram socket asks the
/// kernel for the route and sends nothing.
fn local_address(device: &SshHost) -> Result<SocketAddr> {
    let unreachable = |error: &std::io::Error| {
        Failure::new(format!("cannot find a route to {device}"))
            .because(error)
            .hint("set AVOCADO_DEPLOY_REPO_HOST to the address at which the device reaches this machine")
    };
    // The port plays no part in a route.
    let addresses = (device.as_str(), 9).to_socket_addrs().map_err(|e| {
        Failure::new(format!("cannot find the address of {device}"))
            .because(&e)
            .hint(
                "check the name; where only ssh knows it, set AVOCADO_DEPLOY_REPO_HOST to the \
                 address at which the device reaches this machine",
            )
    })?;
    let mut last = std::io::Error::other("the name has no address");
    for address in addresses {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let local = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(address)?;
            socket.local_addr()
        });
        match local {
            Ok(local) => return Ok(local),
            Err(error) => last = error,
        }
    }
    Err(unreachable(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(device: &str, wanted: Option<&str>) -> Result<DeviceRoute> {
        DeviceRoute::to(&device.parse().unwrap(), wanted)
    }

    #[test]
    fn the_local_end_of_the_route_is_advertised() {
        let route = route("127.0.0.1", None).unwrap();
        assert_eq!(route.url(8585), "http://127.0.0.1:8585");
        assert_eq!(
            route.socket(DeployPort::Default(1)),
            "127.0.0.1:1".parse().unwrap()
        );
    }

    #[test]
    fn the_wanted_name_wins_and_is_checked() {
        assert_eq!(
            route("127.0.0.1", Some("build.lan")).unwrap().url(1),
            "http://build.lan:1"
        );
        let v6 = route("127.0.0.1", Some("fd00::1")).unwrap();
        assert_eq!(v6.url(1), "http://[fd00::1]:1");
        let (fixed, socket) = (DeployPort::Fixed(2), |text: &str| text.parse().unwrap());
        assert_eq!(v6.socket(fixed), socket("[fd00::1]:2"));
        assert_eq!(v6.socket_behind_forwarder(fixed), socket("[::]:2"));
        let named = route("127.0.0.1", Some("build.lan")).unwrap();
        assert_eq!(named.socket(fixed), socket("0.0.0.0:2"));
        for bad in ["a;reboot", "http://x", "a b", "-x"] {
            assert!(route("127.0.0.1", Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_route_is_an_error_with_a_way_out() {
        let failure = route("no-such-host.invalid", None).err().unwrap();
        assert!(failure.message.contains("the address of no-such-host"));
        let hint = failure.hint.unwrap();
        assert!(hint.contains("check the name") && hint.contains("AVOCADO_DEPLOY_REPO_HOST"));
    }
}
