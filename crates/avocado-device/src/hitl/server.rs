use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where a server of extensions is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HitlServer {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The program number of NFS and the version that we speak, as RFC 8881 and RFC 5531 have them.
const NFS: u32 = 100_003;
const VERSION: u32 = 4;

impl HitlServer {
    /// The port that servers have if none is told.
    pub const PORT: u16 = 12049;

    /// A server, at its usual port unless another one is told.
    pub fn new(address: IpAddr, port: Option<u16>) -> Self {
        HitlServer {
            address,
            port: port.unwrap_or(Self::PORT),
        }
    }

    /// The address as the source of a mount has it.
    pub(super) fn host(&self) -> String {
        match self.address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        }
    }

    /// Asks the server to do nothing, and waits a second for that at most. A listener that is not
    /// an NFS server is none.
    pub(super) fn probe(&self) -> io::Result<()> {
        let address = SocketAddr::new(self.address, self.port);
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&null_call(1))?;
        let mut reply = [0; 28];
        stream.read_exact(&mut reply)?;
        if is_success(&reply, 1) {
            return Ok(());
        }
        Err(io::Error::other("it does not answer as an NFS 4 server"))
    }
}

impl fmt::Display for HitlServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// A call of procedure 0, without credentials, as one whole record (RFC 5531, sections 9 and 11).
fn null_call(id: u32) -> Vec<u8> {
    const CALL: u32 = 0;
    const RPC_VERSION: u32 = 2;
    let body = [id, CALL, RPC_VERSION, NFS, VERSION, 0, 0, 0, 0, 0];
    let mark = 1 << 31 | (body.len() as u32 * 4);
    let words = std::iter::once(mark).chain(body);
    words.flat_map(u32::to_be_bytes).collect()
}

/// Whether a record is the answer to [`null_call`]: accepted, and done.
fn is_success(record: &[u8; 28], id: u32) -> bool {
    const REPLY: u32 = 1;
    let (words, _) = record.as_chunks::<4>();
    let words: Vec<u32> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
    // The record's mark, then: id, kind, accepted, the verifier's kind and length, the outcome.
    matches!(words.as_slice(), [_, answered, REPLY, 0, _, 0, 0] if *answered == id)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A listener that answers one call with these bytes.
    fn answering(reply: Vec<u8>) -> HitlServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut call = [0; 44];
            stream.read_exact(&mut call).unwrap();
            assert_eq!(call.as_slice(), null_call(1));
            stream.write_all(&reply).unwrap();
        });
        HitlServer::new(address.ip(), Some(address.port()))
    }

    fn words(words: [u32; 7]) -> Vec<u8> {
        words.into_iter().flat_map(u32::to_be_bytes).collect()
    }

    #[test]
    fn only_a_server_that_accepts_is_there() {
        let mark = 1 << 31 | 24;
        assert!(answering(words([mark, 1, 1, 0, 0, 0, 0])).probe().is_ok());
        for wrong in [
            words([mark, 2, 1, 0, 0, 0, 0]),
            words([mark, 1, 1, 1, 0, 0, 0]),
            words([mark, 1, 1, 0, 0, 0, 1]),
            b"HTTP/1.1 400 Bad Request\r\n\r\n....".to_vec(),
            b"short".to_vec(),
        ] {
            assert!(answering(wrong.clone()).probe().is_err(), "{wrong:?}");
        }
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        assert!(
            HitlServer::new(address.ip(), Some(address.port()))
                .probe()
                .is_err()
        );
    }

    #[test]
    fn servers_are_written_as_urls_have_them() {
        let v6 = HitlServer::new("fe80::1".parse().unwrap(), None);
        assert_eq!(
            (v6.to_string(), v6.host()),
            ("[fe80::1]:12049".into(), "[fe80::1]".into())
        );
        let v4 = HitlServer::new("10.0.2.2".parse().unwrap(), Some(1));
        assert_eq!(
            (v4.to_string(), v4.host()),
            ("10.0.2.2:1".into(), "10.0.2.2".into())
        );
    }
}
