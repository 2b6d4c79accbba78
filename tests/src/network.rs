//! A network for one device: a namespace, and a cable from the host to it.
//!
//! The host has 10.231.N.1 and the device 10.231.N.2, so they reach each other and nothing else.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::HarnessError;
use crate::tools::ToolCall;

const NAMESPACES: &str = "/run/netns";

/// The network of one device. It ends with the [`HostClaim`](crate::claim::HostClaim) that it belongs to.
#[derive(Debug, Clone)]
pub struct Network {
    name: String,
    number: u8,
}

impl Network {
    /// Makes the namespace `name` and the cable `name`, whose host end is named so as well. The
    /// caller holds the lock of the claims, so that no other claim takes the same addresses.
    pub(crate) fn create(name: &str) -> Result<Self, HarnessError> {
        let used = ip(&["-4", "-o", "address", "show"])?;
        let free = |number: &u8| !used.contains(&format!(" 10.231.{number}.1/"));
        let number = (0..=u8::MAX).find(free).ok_or(HarnessError::NoNetwork)?;
        let network = Network {
            name: name.to_owned(),
            number,
        };
        ip(&["netns", "add", name])?;
        ip(&[
            "link", "add", name, "type", "veth", "peer", "name", "host0", "netns", name,
        ])?;
        let address = |ip: Ipv4Addr| format!("{ip}/30");
        let (host, device) = (address(network.host()), address(network.device()));
        ip(&["address", "add", &host, "dev", name])?;
        ip(&["link", "set", name, "up"])?;
        let inside = |arguments: &[&str]| ip(&[&["-n", name], arguments].concat());
        inside(&["address", "add", &device, "dev", "host0"])?;
        inside(&["link", "set", "lo", "up"])?;
        inside(&["link", "set", "host0", "up"])?;
        let gateway = network.host().to_string();
        inside(&["route", "add", "default", "via", &gateway])?;
        Ok(network)
    }

    /// The host's address, as the device sees it. A server for the device listens there.
    pub fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.number, 1)
    }

    /// The device's address.
    pub fn device(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.number, 2)
    }

    /// The file of the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }
}

/// Removes the network `name`, if there is one.
pub(crate) fn remove(name: &str) {
    // The cable first: with its namespace it would vanish only some time later.
    if Path::new("/sys/class/net").join(name).exists() {
        let _ = ToolCall::new("ip")
            .args(["link", "delete", name])
            .last()
            .run();
    }
    if Path::new(NAMESPACES).join(name).exists() {
        let _ = ToolCall::new("ip")
            .args(["netns", "delete", name])
            .last()
            .run();
    }
}

/// Takes away the mount that `ip netns add` made for its namespaces when there are none left.
pub(crate) fn tidy() {
    let empty = std::fs::read_dir(NAMESPACES).is_ok_and(|mut entries| entries.next().is_none());
    if empty {
        // It was never mounted when this fails, which is as good.
        let _ = rustix::mount::unmount(NAMESPACES, rustix::mount::UnmountFlags::empty());
    }
}

fn ip(arguments: &[&str]) -> Result<String, HarnessError> {
    Ok(ToolCall::new("ip").args(arguments).ok()?.stdout)
}
