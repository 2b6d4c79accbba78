//! What the containers publish, as docker's `/containers/json` tells it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::supervisor::docker_tunnel::GuestPort;

/// A port that a container publishes in the guest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PublishedPort {
    /// Where the guest reaches it.
    pub(super) to: GuestPort,
    pub(super) container: String,
}

/// What is published: TCP, and a notice for each port of another kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PublishedPorts {
    pub(super) tcp: Vec<PublishedPort>,
    pub(super) notices: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedContainer {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    ports: Option<Vec<ListedPort>>,
}

#[derive(Deserialize)]
struct ListedPort {
    #[serde(rename = "IP", default)]
    address: String,
    #[serde(rename = "PublicPort", default)]
    public: u16,
    #[serde(rename = "Type", default)]
    kind: String,
}

impl PublishedPorts {
    /// Of the containers that run.
    pub(super) fn parse(json: &[u8]) -> Result<PublishedPorts, serde_json::Error> {
        let listed: Vec<ListedContainer> = serde_json::from_slice(json)?;
        let mut published = PublishedPorts::default();
        for container in listed {
            let names = container.names.unwrap_or_default();
            let name = match names.first() {
                Some(name) => name.trim_start_matches('/').to_owned(),
                None => container.id.chars().take(12).collect(),
            };
            for port in container.ports.unwrap_or_default() {
                // What is only exposed has no port of the guest.
                if port.public == 0 {
                } else if port.kind == "tcp" {
                    published.tcp.push(PublishedPort {
                        to: GuestPort::new(reach(&port.address), port.public),
                        container: name.clone(),
                    });
                } else {
                    let (kind, public) = (port.kind.to_uppercase(), port.public);
                    published.notices.insert(format!(
                        "{kind} port {public} of container {name} is not forwarded: only TCP is"
                    ));
                }
            }
        }
        // One that is published at every address is listed for IPv4 and for IPv6, in any order: IPv4
        // comes first. Of several containers at the same port the first by this order has it.
        published.tcp.sort_by_key(|port| {
            let to = &port.to;
            (
                to.port,
                to.host.contains(':'),
                to.host.clone(),
                port.container.clone(),
            )
        });
        Ok(published)
    }
}

/// At which address the guest itself reaches what is published at this one.
fn reach(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(all)) if all.is_unspecified() => "::1".to_owned(),
        Ok(IpAddr::V4(all)) if all.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(one) => one.to_string(),
        // Some engines say nothing where it is all of them.
        Err(_) => "127.0.0.1".to_owned(),
    }
}
