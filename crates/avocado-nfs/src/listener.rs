//! Which process listens at a port, by proc(5): `/proc/net/tcp` has the number of each socket, and the
//! descriptors of a process name theirs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use avocado_fs::{AtPath as _, PathError};

/// TCP_LISTEN of the kernel's `tcp_states.h`.
const LISTENING: &str = "0A";

/// Whether the process has a socket that listens at this port.
///
/// # Errors
/// The kernel does not say what the process has.
pub(crate) fn owns_listener(process: u32, port: u16) -> Result<bool, PathError> {
    let mut listeners = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"].map(Path::new) {
        match fs::read_to_string(table) {
            // A kernel without IPv6 has no table of it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            text => listeners.extend(sockets_at(&text.at("read", table)?, port)),
        }
    }
    if listeners.is_empty() {
        return Ok(false);
    }
    let directory = PathBuf::from(format!("/proc/{process}/fd"));
    let descriptors = match fs::read_dir(&directory) {
        // It has ended, which its parent will tell.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found.at("read", &directory)?,
    };
    // One that was closed meanwhile is none.
    let own = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut own = own.filter_map(|link| {
        let number = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        number.parse::<u64>().ok()
    });
    Ok(own.any(|socket| listeners.contains(&socket)))
}

/// The numbers of the sockets that listen at a port, from a table of the kernel's.
fn sockets_at(table: &str, port: u16) -> impl Iterator<Item = u64> {
    table.lines().filter_map(move |line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = words.get(1)?.split_once(':')?;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && *words.get(3)? == LISTENING;
        is_it.then(|| words.get(9)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use super::*;

    #[test]
    fn a_listener_is_of_the_process_that_has_it() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let address = listener.local_addr().unwrap();
            let mut other = Command::new("sleep").arg("60").spawn().unwrap();
            assert!(owns_listener(std::process::id(), address.port()).unwrap());
            assert!(!owns_listener(other.id(), address.port()).unwrap());
            // A connection to it is no listener.
            let connection = TcpStream::connect(address).unwrap();
            drop(listener);
            let port = connection.local_addr().unwrap().port();
            assert!(!owns_listener(std::process::id(), port).unwrap());
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }
}
