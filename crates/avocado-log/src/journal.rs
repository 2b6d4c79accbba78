//! The journal's native protocol: one datagram for each entry, with its fields.

use std::io;
use std::os::unix::net::UnixDatagram;

/// Where journald takes entries.
const SOCKET: &str = "/run/systemd/journal/socket";

/// A way to the journal.
#[derive(Debug)]
pub struct JournalSocket {
    socket: UnixDatagram,
    /// The name of the program, for `journalctl -t`.
    identifier: String,
}

/// Whether standard error leads to the journal, so that fields can be sent there instead:
/// `journal_stream` is the variable `JOURNAL_STREAM`, by which systemd says so.
pub fn is_journal(journal_stream: Option<&str>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let stderr = std::fs::metadata("/proc/self/fd/2").ok();
    let stderr = stderr.map(|found| format!("{}:{}", found.dev(), found.ino()));
    stderr.is_some() && stderr.as_deref() == journal_stream
}

impl JournalSocket {
    /// Connects to the journal of this system.
    ///
    /// # Errors
    /// When nothing listens there.
    pub fn connect(identifier: &str) -> io::Result<Self> {
        Self::connect_to(SOCKET.as_ref(), identifier)
    }

    pub(crate) fn connect_to(path: &std::path::Path, identifier: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(JournalSocket {
            socket,
            identifier: identifier.to_owned(),
        })
    }

    /// Sends an entry. `priority` is that of syslog; names of fields are in any case.
    ///
    /// # Errors
    /// When the journal does not take it: it may be restarting, or the entry may be too long.
    pub(crate) fn send<'a>(
        &self,
        priority: u8,
        message: &str,
        fields: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<()> {
        let mut entry = Vec::with_capacity(256);
        put(&mut entry, "PRIORITY", &priority.to_string());
        put(&mut entry, "SYSLOG_IDENTIFIER", &self.identifier);
        put(&mut entry, "MESSAGE", message);
        for (name, value) in fields {
            put(&mut entry, &field_name(name), value);
        }
        self.socket.send(&entry).map(drop)
    }
}

/// A field: `NAME=value`, or with its length where the value has several lines.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// The journal takes upper-case letters, digits and underscores; a prefix keeps ours apart.
fn field_name(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    format!("AVOCADO_{}", name.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_fields() {
        // A pair in place of the journal's socket.
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let journal = JournalSocket {
            socket: ours,
            identifier: "avocadoctl".into(),
        };
        let fields = [("method", "Activate"), ("why.not", "a\nb")];
        journal.send(6, "done", fields.into_iter()).unwrap();
        let mut entry = [0; 512];
        let length = theirs.recv(&mut entry).unwrap();
        let expected = b"PRIORITY=6\nSYSLOG_IDENTIFIER=avocadoctl\nMESSAGE=done\n\
            AVOCADO_METHOD=Activate\nAVOCADO_WHY_NOT\n\x03\0\0\0\0\0\0\0a\nb\n";
        assert_eq!(&entry[..length], expected);
        assert!(!is_journal(None) && !is_journal(Some("0:0")));
    }
}
