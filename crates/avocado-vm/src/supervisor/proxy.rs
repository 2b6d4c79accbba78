//! Bytes between a client and the guest.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::gate::Lease;

/// How much is moved at once.
const BUFFER: usize = 64 << 10;
/// How long a client may be silent once the guest has closed its side.
const LINGER: Duration = Duration::from_secs(60);

/// How a direction ended.
enum End {
    /// All bytes and their end were passed on.
    Done,
    /// The client's side broke, or the guest cannot be had.
    Broken,
    /// The guest takes no more bytes.
    Unheard,
}

/// Moves bytes until both sides are done or one breaks. With a lease nothing is forwarded to a
/// guest that sleeps: it is woken first, also for the end of the client's bytes, to which it may
/// have an answer. A connection that breaks wakes nobody.
pub(crate) async fn run<C, G>(client: C, guest: &mut G, lease: Option<&Lease>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    G: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_guest, mut to_guest) = tokio::io::split(guest);
    let up = up(&mut from_client, &mut to_guest, lease);
    let down = down(&mut from_guest, &mut to_client, lease);
    tokio::pin!(up, down);
    // However it ends, the client's socket is closed, and the caller drops the lease and takes
    // leave of the guest.
    tokio::select! {
        end = &mut up => match end {
            End::Done => {
                down.await;
            }
            End::Unheard => {
                // What it said before it closed is still to be delivered.
                let _ = timeout(LINGER, down).await;
            }
            End::Broken => {}
        },
        end = &mut down => {
            if let End::Done = end {
                let _ = timeout(LINGER, up).await;
            }
        }
    }
}

/// Closes a connection to QEMU's forward, and returns when the guest has closed its side as well.
///
/// Nothing less will do. Where the forward can pass on neither what came nor what is to go, and
/// the connection is then reset (by closing it with unread bytes, or before its last bytes went
/// through), QEMU aborts: `soread: Assertion buf_len != 0 failed`, in libslirp 4.7.
pub(crate) async fn leave(mut guest: TcpStream) {
    let _ = guest.shutdown().await;
    let _ = tokio::io::copy(&mut guest, &mut tokio::io::sink()).await;
}

/// From the client to the guest.
async fn up(
    client: &mut (impl AsyncRead + Unpin),
    guest: &mut (impl AsyncWrite + Unpin),
    lease: Option<&Lease>,
) -> End {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(count) = client.read(&mut buffer).await else {
            return End::Broken;
        };
        if !awake(lease).await {
            return End::Broken;
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        let passed = match bytes {
            [] => guest.shutdown().await,
            bytes => guest.write_all(bytes).await,
        };
        if passed.is_err() {
            return End::Unheard;
        }
        // It may have fallen asleep on the way: see the module of the gate.
        if let Some(lease) = lease {
            lease.said();
        }
        if !awake(lease).await {
            return End::Broken;
        }
        if count == 0 {
            return End::Done;
        }
    }
}

/// From the guest to the client.
async fn down(
    guest: &mut (impl AsyncRead + Unpin),
    client: &mut (impl AsyncWrite + Unpin),
    lease: Option<&Lease>,
) -> End {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(count) = guest.read(&mut buffer).await else {
            return End::Broken;
        };
        if let Some(lease) = lease {
            lease.heard();
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        let passed = match bytes {
            [] => client.shutdown().await,
            bytes => client.write_all(bytes).await,
        };
        match (passed, count) {
            (Err(_), _) => return End::Broken,
            (Ok(()), 0) => return End::Done,
            _ => {}
        }
    }
}

/// Whether the guest runs, now or after it was woken.
async fn awake(lease: Option<&Lease>) -> bool {
    match lease {
        Some(lease) => lease.awake().await.is_ok(),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::supervisor::gate::{Hub, Message};
    use crate::supervisor::policy::{Lane, Refusal};

    /// Plays the owner: wakes on demand, and counts how often.
    fn owner() -> (Hub, tokio::task::JoinHandle<(u32, u32)>) {
        let (hub, mut inbox) = Hub::new();
        let (gate, mine) = (hub.gate.clone(), hub.clone());
        let owner = tokio::spawn(async move {
            let (mut wakes, mut closed) = (0, 0);
            while let Some(message) = inbox.recv().await {
                match message {
                    Message::Open { lane, reply } => {
                        gate.set_awake(true);
                        let _ = reply.send(Ok(Lease::new(lane, mine.clone())));
                    }
                    Message::Want { reply, .. } => {
                        wakes += 1;
                        gate.set_awake(true);
                        let _ = reply.send(Ok(()));
                    }
                    Message::Closed => {
                        closed += 1;
                        break;
                    }
                    _ => {}
                }
            }
            (wakes, closed)
        });
        (hub, owner)
    }

    #[tokio::test]
    async fn bytes_and_the_end_of_bytes_wake_and_half_close_passes() {
        let (hub, owner) = owner();
        let lease = hub.lease(Lane::Ssh).await.unwrap();
        let (mut client, outer) = duplex(1 << 10);
        let (mut inner, mut guest) = duplex(1 << 10);
        let gate = hub.gate.clone();
        let proxy = tokio::spawn(async move { run(outer, &mut inner, Some(&lease)).await });

        gate.set_awake(false);
        client.write_all(b"hello").await.unwrap();
        let mut five = [0; 5];
        guest.read_exact(&mut five).await.unwrap();
        assert_eq!((&five, gate.is_awake()), (b"hello", true));

        gate.set_awake(false);
        client.shutdown().await.unwrap();
        assert_eq!(guest.read(&mut five).await.unwrap(), 0);
        assert!(gate.is_awake());
        // The other direction still works.
        guest.write_all(b"world").await.unwrap();
        client.read_exact(&mut five).await.unwrap();
        assert_eq!(&five, b"world");
        drop(guest);
        assert_eq!(client.read(&mut five).await.unwrap(), 0);
        proxy.await.unwrap();
        assert_eq!(owner.await.unwrap(), (2, 1));
    }

    #[tokio::test]
    async fn a_refusal_ends_the_connection() {
        let (hub, mut inbox) = Hub::new();
        let lease = Lease::new(Lane::Ssh, hub.clone());
        let (mut client, outer) = duplex(1 << 10);
        let (mut inner, mut guest) = duplex(1 << 10);
        let proxy = tokio::spawn(async move { run(outer, &mut inner, Some(&lease)).await });
        client.write_all(b"hello").await.unwrap();
        match inbox.recv().await {
            Some(Message::Want { reply, .. }) => reply.send(Err(Refusal::NotWoken)).unwrap(),
            other => panic!("{other:?}"),
        }
        proxy.await.unwrap();
        let mut bytes = Vec::new();
        guest.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"", "nothing reached a guest that does not run");
        assert!(matches!(inbox.recv().await, Some(Message::Closed)));
    }
}
