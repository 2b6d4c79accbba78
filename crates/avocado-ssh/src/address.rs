//! `[user@]host[:port]`, as people type it.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A machine with an ssh server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAddress {
    /// The user to log in as, where one was named.
    pub user: Option<String>,
    /// The machine.
    pub host: SshHost,
    /// The port of its ssh server, where one was named.
    pub port: Option<u16>,
}

/// A host name or an address. Nothing in it can be taken for an option, for part of a URL or for
/// shell syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHost(String);

/// A text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SshAddressError(&'static str);

impl SshHost {
    /// The host as it was written, without brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an IPv6 address.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.0.contains(':')
    }

    /// The host as it stands in a URL.
    #[must_use]
    pub fn in_url(&self) -> String {
        if self.is_ipv6() {
            format!("[{}]", self.0)
        } else {
            self.0.clone()
        }
    }
}

impl FromStr for SshHost {
    type Err = SshAddressError;

    /// Takes an IPv6 address with or without brackets.
    fn from_str(text: &str) -> Result<Self, SshAddressError> {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let host = inner.unwrap_or(text);
        if inner.is_some() || host.contains(':') {
            let (address, zone) = host.split_once('%').unwrap_or((host, "any"));
            if address.parse::<Ipv6Addr>().is_err() || !is_word(zone) {
                return Err(SshAddressError("this is not an IPv6 address"));
            }
        } else if host.is_empty() {
            return Err(SshAddressError("the host is missing"));
        } else if !is_word(host) {
            return Err(SshAddressError(
                "a host name has only letters, digits, dots, dashes and underscores",
            ));
        }
        Ok(SshHost(host.to_owned()))
    }
}

impl fmt::Display for SshHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SshAddress {
    type Err = SshAddressError;

    fn from_str(text: &str) -> Result<Self, SshAddressError> {
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) if is_word(user) => (Some(user.to_owned()), rest),
            Some(_) => return Err(SshAddressError("the user name before @ is not usable")),
            None => (None, text),
        };
        let colons = rest.matches(':').count();
        let (host, port) = match (rest.strip_prefix('['), colons) {
            (Some(_), _) => match rest.rsplit_once(']') {
                Some((host, "")) => (format!("{host}]"), None),
                Some((host, port)) => match port.strip_prefix(':') {
                    Some(port) => (format!("{host}]"), Some(port)),
                    None => return Err(SshAddressError("only a port can follow `]`")),
                },
                None => return Err(SshAddressError("the `]` is missing")),
            },
            (None, 1) => match rest.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (rest.to_owned(), None),
            },
            // A bare IPv6 address has no port.
            (None, _) => (rest.to_owned(), None),
        };
        let port = match port.map(str::parse) {
            None => None,
            Some(Ok(port @ 1..)) => Some(port),
            Some(_) => return Err(SshAddressError("the port is not a number from 1 to 65535")),
        };
        Ok(SshAddress {
            user,
            host: host.parse()?,
            port,
        })
    }
}

impl fmt::Display for SshAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host.in_url()),
            None => write!(f, "{}", self.host),
        }
    }
}

fn is_word(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_typed() {
        for (text, user, host, port, in_url) in [
            ("dev", None, "dev", None, "dev"),
            ("root@10.0.0.2", Some("root"), "10.0.0.2", None, "10.0.0.2"),
            (
                "me@dev.local:2222",
                Some("me"),
                "dev.local",
                Some(2222),
                "dev.local",
            ),
            ("::1", None, "::1", None, "[::1]"),
            ("[::1]", None, "::1", None, "[::1]"),
            (
                "root@[fe80::1%eth0]:22",
                Some("root"),
                "fe80::1%eth0",
                Some(22),
                "[fe80::1%eth0]",
            ),
        ] {
            let address: SshAddress = text.parse().unwrap();
            assert_eq!(address.user.as_deref(), user, "{text}");
            assert_eq!(address.host.as_str(), host, "{text}");
            assert_eq!(address.port, port, "{text}");
            assert_eq!(address.host.in_url(), in_url, "{text}");
        }
    }

    #[test]
    fn what_ssh_or_a_shell_could_misread_is_refused() {
        for text in [
            "",
            "@",
            "root@",
            "@host",
            "-oProxyCommand=x",
            "root@-oProxyCommand=x",
            "-l@host",
            "host:",
            "host:0",
            "host:65536",
            "host:ssh",
            "a b",
            "a;b",
            "$(x)",
            "a'b",
            "a/b",
            "[::1",
            "[::1]22",
            "[host]",
            "1:2:3",
            "fe80::1%eth0;x",
            "a@b@c",
            "ho\nst",
            "hôst",
        ] {
            assert!(text.parse::<SshAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["dev", "me@dev.local:2222", "[::1]:22", "::1"] {
            assert_eq!(text.parse::<SshAddress>().unwrap().to_string(), text);
        }
    }
}
