//! Command lines for ssh, and what it means by its end.

use std::io;
use std::process::{Command, Stdio};

use crate::address::{SshAddress, SshHost};

/// The exit code by which ssh says that the failure is its own.
pub const CONNECTION_FAILED: i32 = 255;

/// ssh cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// It is not installed.
    #[error("there is no ssh on this machine")]
    Missing,
    /// It could not be started.
    #[error("cannot start ssh")]
    Start(#[source] io::Error),
    /// It does not take the address or what the user adds to the command line.
    #[error("ssh does not accept this: {said}")]
    Refused {
        /// What it said.
        said: String,
    },
    /// There is no connection.
    #[error("{}{said}", fault.of(address))]
    Connection {
        /// The other machine.
        address: SshAddress,
        /// Why, as far as it is known.
        fault: ConnectionFault,
        /// What ssh said, ready to be quoted.
        said: String,
    },
    /// The control connection cannot be made at that place.
    #[error("cannot keep a connection of ssh open")]
    Control(#[source] io::Error),
}

impl SshError {
    pub(crate) fn of_start(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => SshError::Missing,
            _ => SshError::Start(error),
        }
    }

    /// What can be done about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SshError::Missing => Some("install an OpenSSH client"),
            SshError::Connection { fault, .. } => Some(fault.hint()),
            _ => None,
        }
    }
}

/// Why ssh made no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionFault {
    /// The other machine does not let this user in.
    Denied,
    /// It has another key than before.
    OtherHostKey,
    /// Anything else.
    Unreachable,
}

impl ConnectionFault {
    /// For its own failures ssh has one exit code, so what it printed decides between three hints, and
    /// between nothing else. (OpenSSH prints English in every locale.)
    #[must_use]
    pub fn read(lines: &[String]) -> Self {
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        if has("Permission denied") {
            ConnectionFault::Denied
        } else if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            ConnectionFault::OtherHostKey
        } else {
            ConnectionFault::Unreachable
        }
    }

    /// What happened, in a sentence about that machine.
    #[must_use]
    pub fn of(self, address: &SshAddress) -> String {
        match self {
            ConnectionFault::Denied => format!("{address} does not let us in"),
            ConnectionFault::OtherHostKey => {
                format!("{address} has another host key than before")
            }
            ConnectionFault::Unreachable => format!("cannot reach {address} over ssh"),
        }
    }

    /// What can be done about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            ConnectionFault::Denied => {
                "check the user, the key that ssh offers, and that the other side accepts it"
            }
            ConnectionFault::OtherHostKey => {
                "where that machine was set up again, forget the old key with `ssh-keygen -R`"
            }
            ConnectionFault::Unreachable => {
                "check that the machine is on and that its ssh server runs"
            }
        }
    }
}

/// How a machine is reached.
#[derive(Debug, Clone)]
pub struct SshClient {
    address: SshAddress,
    /// What the user adds to the command line.
    extra: Vec<String>,
    /// The user there where the address names none; without one, the one of ssh's configuration.
    user: Option<&'static str>,
    configured: SshConfiguration,
}

/// What ssh would do with this address, as the user and the system have configured it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SshConfiguration {
    /// The host that it would connect to: the configuration may give the name another meaning.
    host: Option<SshHost>,
    /// Whether another machine or program is between.
    is_indirect: bool,
    /// The options that we add, where nothing else is configured.
    ours: Vec<&'static str>,
}

/// What we want where ssh has its defaults: its name for an option, the default, and the option.
const DEFAULTS: [(&str, &str, &str); 2] = [
    ("connecttimeout", "none", "ConnectTimeout=10"),
    (
        "stricthostkeychecking",
        "ask",
        "StrictHostKeyChecking=accept-new",
    ),
];

impl SshConfiguration {
    /// From what `ssh -G` prints: `<name> <value>`, a line for each.
    fn read(text: &str) -> Self {
        let value = |name: &str| {
            let pairs = text.lines().filter_map(|line| line.split_once(' '));
            let mut named = pairs.filter(|(n, _)| *n == name);
            named.next().map(|(_, value)| value)
        };
        let is_default = |(name, default, _): &(&str, &str, &str)| {
            value(name).is_none_or(|value| value == *default)
        };
        let mut ours: Vec<&str> = DEFAULTS
            .iter()
            .filter(|d| is_default(d))
            .map(|d| d.2)
            .collect();
        // What is sent comes on the standard input.
        if value("stdinnull") == Some("yes") {
            ours.push("StdinNull=no");
        }
        let is_set = |name| value(name).is_some_and(|value| value != "none");
        SshConfiguration {
            host: value("hostname").and_then(|name| name.parse().ok()),
            is_indirect: is_set("proxyjump") || is_set("proxycommand"),
            ours,
        }
    }
}

impl SshClient {
    /// The way to `address`, after a look at what the user has configured for it. `extra` is what the
    /// user adds to the command line, and `user` who is meant where the address names nobody.
    ///
    /// # Errors
    /// There is no ssh, or it does not take these words.
    pub fn new(
        address: SshAddress,
        extra: &[String],
        user: Option<&'static str>,
    ) -> Result<Self, SshError> {
        let mut client = SshClient {
            address,
            extra: extra.to_owned(),
            user,
            configured: SshConfiguration::default(),
        };
        let mut command = client.options();
        command.args(["-G", "--", client.address.host.as_str()]);
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(SshError::of_start)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(SshError::Refused { said });
        }
        client.configured = SshConfiguration::read(&String::from_utf8_lossy(&output.stdout));
        Ok(client)
    }

    /// As it was typed.
    #[must_use]
    pub fn address(&self) -> &SshAddress {
        &self.address
    }

    /// The host that ssh would connect to.
    #[must_use]
    pub fn host(&self) -> &SshHost {
        self.configured.host.as_ref().unwrap_or(&self.address.host)
    }

    /// Whether another machine or program is between, so that the host's address is not the one that
    /// this machine talks to.
    #[must_use]
    pub fn is_indirect(&self) -> bool {
        self.configured.is_indirect
    }

    /// ssh with all that comes before the host's name.
    #[must_use]
    pub fn options(&self) -> Command {
        let mut command = Command::new("ssh");
        // Of two values for one option ssh takes the first: the user's.
        command.args(&self.extra);
        for option in &self.configured.ours {
            command.args(["-o", option]);
        }
        command.args(["-T"]);
        if let Some(port) = self.address.port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = self.address.user.as_deref().or(self.user) {
            command.args(["-l", user]);
        }
        command
    }

    /// ssh that has `remote` run by the shell of the other machine.
    #[must_use]
    pub fn command(&self, remote: &str) -> Command {
        let mut command = self.options();
        command.args(["--", self.address.host.as_str(), remote]);
        command
    }
}

/// Quotes a word for a POSIX shell.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn client(address: &str, extra: &[&str], text: &str) -> SshClient {
        SshClient {
            address: address.parse().unwrap(),
            extra: extra.iter().map(|word| (*word).to_owned()).collect(),
            user: Some("root"),
            configured: SshConfiguration::read(text),
        }
    }

    #[test]
    fn the_cause_of_a_failure_is_named() {
        let address: SshAddress = "root@dev:2222".parse().unwrap();
        for (said, message) in [
            (
                "root@dev: Permission denied (publickey).",
                "root@dev:2222 does not let us in",
            ),
            (
                "ssh: connect to host dev port 2222: No route to host",
                "cannot reach root@dev:2222 over ssh",
            ),
            (
                "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
                "root@dev:2222 has another host key than before",
            ),
        ] {
            let fault = ConnectionFault::read(&[said.to_owned()]);
            assert_eq!(fault.of(&address), message);
        }
    }

    #[test]
    fn what_is_configured_comes_before_our_options() {
        let ours = |text: &str| SshConfiguration::read(text).ours;
        let (timeout, new_keys) = ("ConnectTimeout=10", "StrictHostKeyChecking=accept-new");
        let text = "user me\nhostname 10.0.0.2\nstricthostkeychecking ask\nconnecttimeout none\n";
        let read = SshConfiguration::read(text);
        assert_eq!(read.host, Some("10.0.0.2".parse().unwrap()));
        assert_eq!(read.ours, [timeout, new_keys]);
        // As the first versions print it.
        assert_eq!(ours(""), [timeout, new_keys]);
        for set in ["true", "false", "accept-new", "off"] {
            let text = format!("stricthostkeychecking {set}\nconnecttimeout none\n");
            assert_eq!(ours(&text), [timeout], "{set}");
        }
        assert_eq!(ours("connecttimeout 60\n"), [new_keys]);
        assert_eq!(ours("connecttimeout 60\nstdinnull no\n"), [new_keys]);
        let text = "connecttimeout 60\nstdinnull yes\n";
        assert_eq!(ours(text), [new_keys, "StdinNull=no"]);
    }

    #[test]
    fn a_machine_between_is_noticed() {
        for (text, is_indirect) in [
            ("hostname a\n", false),
            ("proxycommand none\nproxyjump none\n", false),
            ("proxyjump gate\n", true),
            ("proxycommand nc %h %p\n", true),
        ] {
            let read = SshConfiguration::read(text);
            assert_eq!(read.is_indirect, is_indirect, "{text}");
        }
    }

    #[test]
    fn what_the_user_adds_comes_first() {
        let extra = ["-o", "StrictHostKeyChecking=yes"];
        let command = client("dev:2222", &extra, "").command("id -u");
        let words: Vec<&str> = command.get_args().filter_map(|w| w.to_str()).collect();
        assert_eq!(
            words.join(" "),
            "-o StrictHostKeyChecking=yes -o ConnectTimeout=10 \
             -o StrictHostKeyChecking=accept-new -T -p 2222 -l root -- dev id -u"
        );
    }

    #[test]
    fn a_quoted_word_is_one_word() {
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
    }
}
