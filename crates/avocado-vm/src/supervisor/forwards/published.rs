//! What the containers publish, as docker's `/containers/json` lists it and `/containers/ID/json`
//! tells it of one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::MOST_FORWARDS;
use crate::supervisor::docker_tunnel::GuestPort;

/// A port that a container publishes in the guest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PublishedPort {
    /// Where the guest reaches it.
    pub(super) to: GuestPort,
    pub(super) container: String,
}

/// What is published by all of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PublishedPorts {
    pub(super) tcp: Vec<PublishedPort>,
    /// So many more are not in `tcp`.
    pub(super) left_out: usize,
    /// What is not forwarded, which is no problem.
    pub(super) notices: BTreeSet<String>,
    pub(super) problems: BTreeSet<String>,
}

/// What one container publishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ContainerPorts {
    /// With the address at which the guest reaches them: the first by the order of [`Reach`].
    tcp: BTreeMap<u16, Reach>,
    left_out: usize,
    /// How many of other kinds.
    others: BTreeMap<&'static str, usize>,
    /// It is in the network of another container, whose ports these are.
    borrowed: bool,
}

/// An address of the guest. One that is published at all of them has one of IPv4 and one of IPv6: the
/// first counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reach {
    is_ipv6: bool,
    host: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedContainer {
    pub(super) id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    ports: Option<Vec<ListedPort>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ListedPort {
    #[serde(rename = "IP", default)]
    address: String,
    #[serde(rename = "PublicPort", default)]
    public: u16,
    #[serde(rename = "Type", default)]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedContainer {
    network_settings: NetworkSettings,
    #[serde(default)]
    host_config: HostConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    /// By port and kind in the container, as in `80/tcp`. Null: it is only exposed.
    #[serde(default)]
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    #[serde(default)]
    host_ip: String,
    #[serde(default)]
    host_port: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: String,
}

impl ListedContainer {
    pub(super) fn parse_all(json: &[u8]) -> Result<Vec<ListedContainer>, serde_json::Error> {
        serde_json::from_slice(json)
    }

    pub(super) fn name(&self) -> String {
        match self.names.iter().flatten().next() {
            Some(name) => name.trim_start_matches('/').to_owned(),
            None => self.id.chars().take(12).collect(),
        }
    }

    pub(super) fn ports(&self) -> &[ListedPort] {
        self.ports.as_deref().unwrap_or_default()
    }

    /// What is listed of it. Podman lists only the first of neighbouring ports.
    pub(super) fn publishes(&self) -> ContainerPorts {
        let all = self.ports().iter();
        ContainerPorts::gather(all.map(|port| (port.kind.as_str(), &*port.address, port.public)))
    }
}

impl ContainerPorts {
    /// What one container tells of itself.
    pub(super) fn parse(json: &[u8]) -> Result<ContainerPorts, serde_json::Error> {
        let inspected: InspectedContainer = serde_json::from_slice(json)?;
        let ports = inspected.network_settings.ports.unwrap_or_default();
        let all = ports.iter().flat_map(|(inside, bindings)| {
            let kind = inside.split_once('/').map_or("", |(_, kind)| kind);
            bindings.iter().flatten().map(move |binding| {
                let public = binding.host_port.parse().unwrap_or(0);
                (kind, binding.host_ip.as_str(), public)
            })
        });
        let mut gathered = ContainerPorts::gather(all);
        gathered.borrowed = inspected.host_config.network_mode.starts_with("container:");
        Ok(gathered)
    }

    /// Of kinds, addresses and ports of the guest.
    fn gather<'a>(all: impl Iterator<Item = (&'a str, &'a str, u16)>) -> ContainerPorts {
        let mut gathered = ContainerPorts::default();
        let mut others = BTreeSet::new();
        for (kind, address, public) in all {
            // What is only exposed has no port of the guest.
            if public == 0 {
                continue;
            }
            let kind = match kind {
                "tcp" => {
                    let reach = reach(address);
                    let known = gathered.tcp.entry(public).or_insert_with(|| reach.clone());
                    if reach < *known {
                        *known = reach;
                    }
                    continue;
                }
                "udp" => "UDP",
                "sctp" => "SCTP",
                _ => "other",
            };
            others.insert((kind, public));
        }
        for (kind, _) in others {
            *gathered.others.entry(kind).or_default() += 1;
        }
        gathered.left_out = gathered.tcp.len().saturating_sub(MOST_FORWARDS);
        if let Some(first) = gathered.tcp.keys().nth(MOST_FORWARDS).copied() {
            gathered.tcp.split_off(&first);
        }
        gathered
    }
}

impl PublishedPorts {
    /// Of all containers, with their names.
    pub(super) fn of_all(all: impl IntoIterator<Item = (String, ContainerPorts)>) -> Self {
        let mut published = PublishedPorts::default();
        let mut tcp = Vec::new();
        for (name, ports) in all {
            published.left_out += ports.left_out;
            let others = ports.others.into_iter().filter(|_| !ports.borrowed);
            for (kind, count) in others {
                let text = match count {
                    1 => format!("1 {kind} port of container {name} is not forwarded"),
                    _ => format!("{count} {kind} ports of container {name} are not forwarded"),
                };
                published.notices.insert(text + ": only TCP is");
            }
            for (port, reach) in ports.tcp {
                tcp.push((port, reach, ports.borrowed, name.clone()));
            }
        }
        // Of several containers at the same port the first by this order has it.
        tcp.sort();
        let tcp = tcp.into_iter();
        let tcp = tcp.map(|(port, reach, _, container)| PublishedPort {
            to: GuestPort::new(reach.host, port),
            container,
        });
        published.tcp = tcp.collect();
        published
    }
}

/// At which address the guest itself reaches what is published at this one.
fn reach(address: &str) -> Reach {
    let (is_ipv6, host) = match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(all)) if all.is_unspecified() => (true, "::1".to_owned()),
        Ok(IpAddr::V4(all)) if all.is_unspecified() => (false, "127.0.0.1".to_owned()),
        Ok(one) => (one.is_ipv6(), one.to_string()),
        // Some engines say nothing where it is all of them.
        Err(_) => (false, "127.0.0.1".to_owned()),
    };
    Reach { is_ipv6, host }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn all(list: &str) -> Result<PublishedPorts, serde_json::Error> {
        let listed = ListedContainer::parse_all(list.as_bytes())?;
        let all = listed.iter().map(|one| (one.name(), one.publishes()));
        Ok(PublishedPorts::of_all(all))
    }

    fn shown(published: &PublishedPorts) -> Vec<String> {
        let all = published.tcp.iter();
        all.map(|port| format!("{} {}", port.to, port.container))
            .collect()
    }

    #[test]
    fn what_docker_lists_is_read() {
        let list = json!([
            { "Id": "0123456789abcdef", "Names": ["/web"], "Ports": [
                { "IP": "::", "PrivatePort": 80, "PublicPort": 8088, "Type": "tcp" },
                { "IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8088, "Type": "tcp" },
                { "PrivatePort": 443, "Type": "tcp" },
                { "IP": "0.0.0.0", "PrivatePort": 53, "PublicPort": 5353, "Type": "udp" },
                { "IP": "::", "PrivatePort": 53, "PublicPort": 5353, "Type": "udp" },
            ]},
            { "Id": "fedcba9876543210", "Ports": [
                { "IP": "10.0.2.15", "PrivatePort": 1, "PublicPort": 81, "Type": "tcp" },
                { "IP": "", "PrivatePort": 2, "PublicPort": 82, "Type": "tcp" },
                { "IP": "::", "PrivatePort": 3, "PublicPort": 83, "Type": "tcp" },
                { "PrivatePort": 1, "PublicPort": 1, "Type": "sctp" },
                { "PrivatePort": 2, "PublicPort": 2, "Type": "sctp" },
            ]},
            { "Id": "1", "Names": null, "Ports": null },
        ]);
        let read = all(&list.to_string()).unwrap();
        let expected = [
            "10.0.2.15:81 fedcba987654",
            "127.0.0.1:82 fedcba987654",
            "[::1]:83 fedcba987654",
            "127.0.0.1:8088 web",
        ];
        assert_eq!(shown(&read), expected);
        let notices = [
            "1 UDP port of container web is not forwarded: only TCP is",
            "2 SCTP ports of container fedcba987654 are not forwarded: only TCP is",
        ];
        assert_eq!(read.notices, BTreeSet::from(notices.map(str::to_owned)));
        for bad in [
            "",
            "{}",
            "[1]",
            "[{}]",
            r#"[{"Id":"1","Ports":[{"PublicPort":70000}]}]"#,
        ] {
            assert!(all(bad).is_err(), "{bad}");
        }
    }

    /// As podman 5.4 answers of one with `-p 9000:9000 -p 9001:9001` and one in the same network.
    #[test]
    fn what_a_container_tells_of_itself_is_read() {
        let told = |mode: &str| {
            json!({
                "HostConfig": { "NetworkMode": mode },
                "NetworkSettings": { "Ports": {
                    "53/udp": [{ "HostIp": "0.0.0.0", "HostPort": "5300" }],
                    "9000/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "9000" }],
                    "9001/tcp": [
                        { "HostIp": "::", "HostPort": "9001" },
                        { "HostIp": "", "HostPort": "9001" },
                    ],
                    "443/tcp": null,
                    "80/tcp": [{ "HostIp": "", "HostPort": "" }, {}],
                } },
            })
        };
        let read = |told: &serde_json::Value| ContainerPorts::parse(told.to_string().as_bytes());
        let owner = read(&told("bridge")).unwrap();
        let beside = read(&told("container:0123")).unwrap();
        let all = [("a".to_owned(), beside), ("b".to_owned(), owner)];
        let published = PublishedPorts::of_all(all);
        let expected = [
            "127.0.0.1:9000 b",
            "127.0.0.1:9000 a",
            "127.0.0.1:9001 b",
            "127.0.0.1:9001 a",
        ];
        assert_eq!(shown(&published), expected);
        assert_eq!(published.notices.len(), 1, "{:?}", published.notices);
        let nothing = json!({ "NetworkSettings": { "Ports": null } });
        assert_eq!(read(&nothing).unwrap(), ContainerPorts::default());
        for bad in ["", "[]", "{}", r#"{"NetworkSettings":{"Ports":[]}}"#] {
            assert!(ContainerPorts::parse(bad.as_bytes()).is_err(), "{bad}");
        }

        let range: BTreeMap<String, serde_json::Value> = (1..=600)
            .map(|port| {
                (
                    format!("{port}/tcp"),
                    json!([{ "HostPort": port.to_string() }]),
                )
            })
            .collect();
        let many = json!({ "NetworkSettings": { "Ports": range } });
        let many = read(&many).unwrap();
        assert_eq!((many.tcp.len(), many.left_out), (MOST_FORWARDS, 100));
    }
}
