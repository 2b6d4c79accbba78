//! `avocado vm forward`.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::str::FromStr;

use avocado_events::{Event, Sink};
use avocado_vm::control::{self, WantedForward};
use clap::Args;

use super::{machine, state_dir};
use crate::failure::{Failure, Result};
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct ForwardArgs {
    /// Port of this host, and after a colon that of the guest where it is another one, such as 8080:80;
    /// before them an address of this host for this port alone, such as 127.0.0.2:8080:80
    #[arg(value_name = "[HOST:]PORT[:GUEST_PORT]", required = true)]
    pub(crate) ports: Vec<ForwardSpec>,

    /// Address of this host to listen on, instead of the loopback addresses. Any but a loopback
    /// address lets other machines reach the guest's ports
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<IpAddr>,
}

/// A port to forward, as it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForwardSpec {
    address: SpecAddress,
    port: u16,
    guest_port: u16,
}

/// Where one port is to be listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpecAddress {
    /// Nothing is said of it: where `--address` says.
    Unstated,
    /// `localhost`, whatever `--address` says.
    Loopback,
    At(IpAddr),
}

impl ForwardSpec {
    /// `default` is the address of `--address`.
    fn wanted(&self, default: Option<IpAddr>) -> WantedForward {
        WantedForward {
            address: match self.address {
                SpecAddress::Unstated => default,
                SpecAddress::Loopback => None,
                SpecAddress::At(address) => Some(address),
            },
            port: self.port,
            guest_port: self.guest_port,
        }
    }
}

impl FromStr for ForwardSpec {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (address, ports) = split_address(text)?;
        let (port, guest_port) = match ports.split_once(':') {
            Some((port, guest_port)) => (parse_port(port)?, parse_port(guest_port)?),
            None => (parse_port(ports)?, parse_port(ports)?),
        };
        Ok(ForwardSpec {
            address,
            port,
            guest_port,
        })
    }
}

/// What is before the ports: an address, if it is one.
fn split_address(text: &str) -> std::result::Result<(SpecAddress, &str), String> {
    let (host, ports) = match text.strip_prefix('[') {
        Some(rest) => rest
            .split_once("]:")
            .ok_or("after an address in brackets comes a colon and a port")?,
        None => match text.split_once(':') {
            Some((host, ports)) if host.parse::<u16>().is_err() => (host, ports),
            _ => return Ok((SpecAddress::Unstated, text)),
        },
    };
    if host == "localhost" {
        return Ok((SpecAddress::Loopback, ports));
    }
    let address = host.parse();
    let address =
        address.map_err(|_| format!("{host:?} is no port and no address of this host"))?;
    Ok((SpecAddress::At(address), ports))
}

fn parse_port(text: &str) -> std::result::Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{text:?} is no port: those are 1 to 65535")),
    }
}

pub(super) fn run(session: &Session, args: &ForwardArgs) -> Result<ExitCode> {
    let dir = state_dir(session)?;
    machine::supervised(&dir)?;
    let wanted: Vec<WantedForward> = args
        .ports
        .iter()
        .map(|spec| spec.wanted(args.address))
        .collect();
    for open in wanted.iter().filter_map(|one| one.address.filter(is_open)) {
        session.output.emit(Event::warning(format!(
            "{open} is not a loopback address: other machines may reach the guest's ports there"
        )));
    }
    let forwarded = control::forward(&dir, wanted);
    let (forwards, held) = forwarded.map_err(|error| machine::refused(&error))?;
    for forward in forwards {
        let at = forward.addresses.join(" and ");
        let port = forward.guest_port;
        session.output.emit(Event::info(format!(
            "port {port} of the guest is at {at} until this command ends"
        )));
    }
    held.lasts(None).map_err(|error| machine::refused(&error))?;
    let lost = "the VM's supervisor has ended: nothing is forwarded any more";
    Err(Failure::new(lost).hint("`avocado vm status` says what became of it"))
}

/// Whether other machines may reach this address.
fn is_open(address: &IpAddr) -> bool {
    let v4 = match address {
        IpAddr::V6(address) => address.to_ipv4_mapped(),
        IpAddr::V4(address) => Some(*address),
    };
    !address.is_loopback() && !v4.is_some_and(|v4: Ipv4Addr| v4.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_given_with_and_without_an_address() {
        let spec = |address, port, guest_port| ForwardSpec {
            address,
            port,
            guest_port,
        };
        let at = |text: &str| SpecAddress::At(text.parse().unwrap());
        for (text, expected) in [
            ("8080", spec(SpecAddress::Unstated, 8080, 8080)),
            ("8080:80", spec(SpecAddress::Unstated, 8080, 80)),
            ("127.0.0.2:8080", spec(at("127.0.0.2"), 8080, 8080)),
            ("0.0.0.0:8080:80", spec(at("0.0.0.0"), 8080, 80)),
            ("localhost:8080:80", spec(SpecAddress::Loopback, 8080, 80)),
            ("localhost:8080", spec(SpecAddress::Loopback, 8080, 8080)),
            ("[::1]:8080", spec(at("::1"), 8080, 8080)),
            ("[::]:8080:80", spec(at("::"), 8080, 80)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "65536",
            "http",
            ":80",
            "80:",
            "80:0",
            "80:81:82",
            "host:80",
            "::1:80",
            "[::1]80",
            "[::1]",
            "127.0.0.1",
            "127.0.0.1:",
            "80 ",
        ] {
            assert!(text.parse::<ForwardSpec>().is_err(), "{text}");
        }
    }

    /// Or others reach what was meant for this machine alone.
    #[test]
    fn the_address_of_the_command_counts_for_ports_without_one_alone() {
        let (all, other): (IpAddr, IpAddr) =
            ("0.0.0.0".parse().unwrap(), "127.0.0.2".parse().unwrap());
        for (text, without, with) in [
            ("8080:80", None, Some(all)),
            ("localhost:5432", None, None),
            ("127.0.0.2:5432", Some(other), Some(other)),
        ] {
            let spec: ForwardSpec = text.parse().unwrap();
            assert_eq!(spec.wanted(None).address, without, "{text}");
            assert_eq!(spec.wanted(Some(all)).address, with, "{text}");
        }
    }

    #[test]
    fn what_others_reach_is_known() {
        let open = |text: &str| is_open(&text.parse().unwrap());
        for address in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
            assert!(!open(address), "{address}");
        }
        for address in ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"] {
            assert!(open(address), "{address}");
        }
    }
}
