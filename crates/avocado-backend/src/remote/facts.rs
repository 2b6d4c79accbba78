//! What the other machine says of itself.

use std::net::IpAddr;

use crate::{BackendError, Processor};

/// What is known of a machine before anything is started there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RemoteFacts {
    system: String,
    processor: String,
    /// The two ends of the connection as that machine sees them: this machine's and its own.
    pub(super) connection: Option<(IpAddr, IpAddr)>,
    /// Where our program is, or is to be.
    pub(super) program: String,
    pub(super) has_program: bool,
    /// Whether root is what it takes, and how its user becomes that.
    pub(super) root: Option<RootAccess>,
}

/// How a user is root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RootAccess {
    IsRoot,
    Sudo,
}

impl RemoteFacts {
    /// From what the script prints: `<name> <value>`, a line for each.
    pub(super) fn read(text: &str) -> Self {
        let mut facts = RemoteFacts::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match name {
                "system" => value.clone_into(&mut facts.system),
                "processor" => value.clone_into(&mut facts.processor),
                "connection" => facts.connection = ends(value),
                "program" => value.clone_into(&mut facts.program),
                "has-program" => facts.has_program = true,
                "becomes-root" if value == "root" => facts.root = Some(RootAccess::IsRoot),
                "becomes-root" => facts.root = Some(RootAccess::Sudo),
                _ => {}
            }
        }
        facts
    }

    /// Whether a job can run there.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) fn check(&self, host: &str) -> Result<RootAccess, BackendError> {
        let wanted = Processor::HOST.to_string();
        if self.system != "Linux" || self.processor != wanted {
            return Err(BackendError::RemoteSystem {
                host: host.to_owned(),
                found: format!("{} on {}", self.system, self.processor),
                wanted: format!("Linux on {wanted}"),
            });
        }
        self.root.ok_or_else(|| BackendError::RemoteNotRoot {
            host: host.to_owned(),
        })
    }
}

/// SSH_CONNECTION: address and port of the client, address and port of the server.
fn ends(value: &str) -> Option<(IpAddr, IpAddr)> {
    let [client, _, server, _] = value.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let address = |text: &str| {
        // A link-local one has its zone behind it, which is the other machine's.
        let plain = text.split_once('%').map_or(text, |(plain, _)| plain);
        plain.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
    };
    Some((address(client)?, address(server)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Welcome to dev\nsystem Linux\nprocessor PROCESSOR\n\
                        connection 10.0.0.1 50000 10.0.0.2 22\nprogram /home/me/a b/avocado\n";

    fn facts(more: &str) -> RemoteFacts {
        let own = Processor::HOST.to_string();
        RemoteFacts::read(&(TEXT.replace("PROCESSOR", &own) + more))
    }

    #[test]
    fn a_machine_is_read_line_by_line() {
        let facts = facts("has-program yes\nbecomes-root sudo\n");
        let ends = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        assert_eq!(facts.connection, Some((ends[0], ends[1])));
        assert_eq!(facts.program, "/home/me/a b/avocado");
        assert!(facts.has_program);
        assert_eq!(facts.check("dev").unwrap(), RootAccess::Sudo);
    }

    #[test]
    fn what_cannot_be_used_is_told_first() {
        let error = facts("").check("dev").unwrap_err();
        assert!(matches!(error, BackendError::RemoteNotRoot { .. }));
        for (name, value) in [("system", "Darwin"), ("processor", "riscv64")] {
            let error = facts(&format!("becomes-root root\n{name} {value}\n"));
            let error = error.check("dev").unwrap_err();
            assert!(matches!(error, BackendError::RemoteSystem { .. }));
            assert!(error.to_string().contains(value), "{error}");
        }
        assert!(RemoteFacts::read("").check("dev").is_err());
    }

    #[test]
    fn addresses_are_read_in_each_form() {
        let of = |text: &str| ends(text).map(|(client, server)| format!("{client} {server}"));
        let v6 = of("fe80::1%eth0 5 fe80::2%eth0 22");
        assert_eq!(v6.as_deref(), Some("fe80::1 fe80::2"));
        let mapped = of("::ffff:10.0.0.1 5 ::ffff:10.0.0.2 22");
        assert_eq!(mapped.as_deref(), Some("10.0.0.1 10.0.0.2"));
        for text in ["", "UNKNOWN 65535 UNKNOWN 65535", "10.0.0.1 5 10.0.0.2"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
