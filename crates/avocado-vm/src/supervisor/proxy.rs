//! Bytes between a client and the guest.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::owner_handle::ConnectionLease;
use super::shared_state::InfraConnection;

/// How much is moved at once.
pub(super) const BUFFER: usize = 64 << 10;
/// How long a client may be silent once the guest has closed its side.
const LINGER: Duration = Duration::from_secs(60);

/// How a direction ended.
pub(super) enum DirectionEnd {
    /// All bytes and their end were passed on.
    Done,
    /// The client's side broke, or the guest cannot be had.
    Broken,
    /// The guest takes no more bytes.
    Unheard,
}

/// What a connection is to the supervisor.
#[derive(Clone, Copy)]
pub(crate) enum ProxyKind<'a> {
    /// Counted: it wakes the guest.
    Counted(&'a ConnectionLease),
    /// Not counted: it never does.
    Infra(&'a InfraConnection),
}

impl ProxyKind<'_> {
    /// Whether the guest runs, now or after it was woken. One that is not counted does not ask.
    pub(super) async fn wait_until_awake(self, is_sign: bool) -> bool {
        match self {
            ProxyKind::Counted(lease) => lease.wait_until_awake(is_sign).await.is_ok(),
            ProxyKind::Infra(_) => true,
        }
    }

    fn client_speaks(self, bytes: &[u8]) {
        if let ProxyKind::Infra(visit) = self {
            visit.carried(bytes);
        }
    }

    /// Whether bytes of the client are no more than a sign of life.
    fn is_sign(self, bytes: &[u8]) -> bool {
        match self {
            ProxyKind::Counted(lease) => lease.is_sign(bytes),
            ProxyKind::Infra(_) => false,
        }
    }

    pub(super) fn client_spoke(self, is_sign: bool) {
        if let ProxyKind::Counted(lease) = self {
            lease.client_spoke(is_sign);
        }
    }

    pub(super) fn guest_spoke(self, bytes: &[u8]) {
        match self {
            ProxyKind::Counted(lease) => lease.guest_spoke(bytes),
            ProxyKind::Infra(visit) => visit.carried(bytes),
        }
    }
}

/// Moves bytes until both sides are done or one breaks. If it is counted, nothing is forwarded to a
/// guest that sleeps: it is woken first, also for the end of the client's bytes, to which it may
/// have an answer. A connection that breaks does not wake the guest.
pub(crate) async fn run<C, G>(client: C, guest: &mut G, kind: ProxyKind<'_>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    G: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_guest, mut to_guest) = tokio::io::split(guest);
    let up = client_to_guest(&mut from_client, &mut to_guest, kind);
    let down = guest_to_client(&mut from_guest, &mut to_client, kind);
    run_both(up, down).await;
}

/// Returns when both directions, from the client and to it, are done or one broke.
pub(super) async fn run_both(
    up: impl Future<Output = DirectionEnd>,
    down: impl Future<Output = DirectionEnd>,
) {
    tokio::pin!(up, down);
    // However it ends, the client's socket is closed, and the caller drops the lease and takes
    // leave of the guest.
    tokio::select! {
        end = &mut up => match end {
            DirectionEnd::Done => {
                down.await;
            }
            DirectionEnd::Unheard => {
                // What it said before it closed is still to be delivered.
                let _ = timeout(LINGER, down).await;
            }
            DirectionEnd::Broken => {}
        },
        end = &mut down => {
            if let DirectionEnd::Done = end {
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
pub(crate) async fn close_forward(mut guest: TcpStream) {
    let _ = guest.shutdown().await;
    let _ = tokio::io::copy(&mut guest, &mut tokio::io::sink()).await;
}

/// From the client to the guest.
async fn client_to_guest(
    client: &mut (impl AsyncRead + Unpin),
    guest: &mut (impl AsyncWrite + Unpin),
    kind: ProxyKind<'_>,
) -> DirectionEnd {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(count) = client.read(&mut buffer).await else {
            return DirectionEnd::Broken;
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        let is_sign = kind.is_sign(bytes);
        if !kind.wait_until_awake(is_sign).await {
            return DirectionEnd::Broken;
        }
        if let Err(end) = pass_on(bytes, guest, kind, is_sign).await {
            return end;
        }
        if count == 0 {
            return DirectionEnd::Done;
        }
    }
}

/// Gives bytes to a guest that is awake; none: the end of them.
pub(super) async fn pass_on(
    bytes: &[u8],
    guest: &mut (impl AsyncWrite + Unpin),
    kind: ProxyKind<'_>,
    is_sign: bool,
) -> Result<(), DirectionEnd> {
    kind.client_speaks(bytes);
    let passed = match bytes {
        [] => guest.shutdown().await,
        bytes => guest.write_all(bytes).await,
    };
    if passed.is_err() {
        return Err(DirectionEnd::Unheard);
    }
    // It may have fallen asleep on the way: see the module `shared_state`.
    kind.client_spoke(is_sign);
    if kind.wait_until_awake(is_sign).await {
        Ok(())
    } else {
        Err(DirectionEnd::Broken)
    }
}

/// From the guest to the client.
async fn guest_to_client(
    guest: &mut (impl AsyncRead + Unpin),
    client: &mut (impl AsyncWrite + Unpin),
    kind: ProxyKind<'_>,
) -> DirectionEnd {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(count) = guest.read(&mut buffer).await else {
            return DirectionEnd::Broken;
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        kind.guest_spoke(bytes);
        let passed = match bytes {
            [] => client.shutdown().await,
            bytes => client.write_all(bytes).await,
        };
        match (passed, count) {
            (Err(_), _) => return DirectionEnd::Broken,
            (Ok(()), 0) => return DirectionEnd::Done,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::supervisor::owner_handle::{OwnerHandle, OwnerMessage};
    use crate::supervisor::policy::{CountedLane, Refusal};

    /// Plays the owner: wakes on demand, and counts how often.
    fn owner() -> (OwnerHandle, tokio::task::JoinHandle<(u32, u32)>) {
        let (handle, mut inbox) = OwnerHandle::new();
        let (shared, mine) = (handle.shared.clone(), handle.clone());
        let owner = tokio::spawn(async move {
            let (mut wakes, mut closed) = (0, 0);
            while let Some(message) = inbox.recv().await {
                match message {
                    OwnerMessage::RequestLease { lane, reply } => {
                        shared.set_awake(true);
                        let _ = reply.send(Ok(ConnectionLease::new(lane, mine.clone())));
                    }
                    OwnerMessage::RequestWake { reply, .. } => {
                        wakes += 1;
                        shared.set_awake(true);
                        let _ = reply.send(Ok(()));
                    }
                    OwnerMessage::LeaseDropped => {
                        closed += 1;
                        break;
                    }
                    _ => {}
                }
            }
            (wakes, closed)
        });
        (handle, owner)
    }

    #[tokio::test]
    async fn bytes_and_the_end_of_bytes_wake_and_half_close_passes() {
        let (handle, owner) = owner();
        let lease = handle.lease(CountedLane::Ssh).await.unwrap();
        let (mut client, outer) = duplex(1 << 10);
        let (mut inner, mut guest) = duplex(1 << 10);
        let shared = handle.shared.clone();
        let proxy =
            tokio::spawn(async move { run(outer, &mut inner, ProxyKind::Counted(&lease)).await });

        shared.set_awake(false);
        client.write_all(b"hello").await.unwrap();
        let mut five = [0; 5];
        guest.read_exact(&mut five).await.unwrap();
        assert_eq!((&five, shared.is_awake()), (b"hello", true));

        shared.set_awake(false);
        client.shutdown().await.unwrap();
        assert_eq!(guest.read(&mut five).await.unwrap(), 0);
        assert!(shared.is_awake());
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
    async fn bytes_of_a_connection_that_was_open_wait_for_the_clock() {
        let (handle, _owner) = owner();
        let shared = handle.shared.clone();
        let open = handle.lease(CountedLane::Ssh).await.unwrap();
        let forever = Duration::from_secs(86_400);
        shared.clock_stood_still(forever);
        // One that begins after the wake waits for nothing.
        let new = ConnectionLease::new(CountedLane::Ssh, handle.clone());
        new.wait_until_awake(false).await.unwrap();
        {
            let held = open.wait_until_awake(false);
            tokio::pin!(held);
            for _ in 0..100 {
                let look = timeout(Duration::ZERO, &mut held).await;
                assert!(look.is_err(), "the clock is still wrong");
            }
            shared.clock_set(true);
            held.await.unwrap();
        }
        open.wait_until_awake(false).await.unwrap();
        // Not for ever; and not at all where it could not be set.
        shared.clock_stood_still(Duration::from_millis(1));
        open.wait_until_awake(false).await.unwrap();
        shared.clock_set(false);
        shared.clock_stood_still(forever);
        open.wait_until_awake(false).await.unwrap();
    }

    #[tokio::test]
    async fn the_clock_is_set_after_the_greeting_unless_somebody_waits_for_it() {
        let (handle, _owner) = owner();
        let shared = handle.shared.clone();
        let forever = Duration::from_secs(86_400);
        let waits = || async {
            let greeted = shared.wait_for_greeting(forever);
            tokio::pin!(greeted);
            for _ in 0..100 {
                if timeout(Duration::ZERO, &mut greeted).await.is_ok() {
                    return false;
                }
            }
            true
        };
        let open = handle.lease(CountedLane::Ssh).await.unwrap();
        shared.clock_stood_still(forever);
        assert!(!waits().await, "nobody is greeted");
        shared.await_greeting();
        assert!(waits().await);
        let new = ConnectionLease::new(CountedLane::Ssh, handle.clone());
        new.guest_spoke(b"SSH-2.0-x\r\n");
        assert!(!waits().await, "the guest has greeted");

        shared.clock_stood_still(forever);
        shared.await_greeting();
        let held = open.wait_until_awake(false);
        assert!(timeout(Duration::ZERO, held).await.is_err());
        assert!(!waits().await, "what is said waits for the clock");
        // A guest that does not greet gets its time too.
        shared.await_greeting();
        shared.wait_for_greeting(Duration::from_millis(1)).await;
    }

    #[tokio::test]
    async fn a_refusal_ends_the_connection() {
        let (handle, mut inbox) = OwnerHandle::new();
        let lease = ConnectionLease::new(CountedLane::Ssh, handle.clone());
        let (mut client, outer) = duplex(1 << 10);
        let (mut inner, mut guest) = duplex(1 << 10);
        let proxy =
            tokio::spawn(async move { run(outer, &mut inner, ProxyKind::Counted(&lease)).await });
        client.write_all(b"hello").await.unwrap();
        match inbox.recv().await {
            Some(OwnerMessage::RequestWake { reply, .. }) => {
                reply.send(Err(Refusal::NotWoken)).unwrap()
            }
            other => panic!("{other:?}"),
        }
        proxy.await.unwrap();
        let mut bytes = Vec::new();
        guest.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"", "nothing reached a guest that does not run");
        assert!(matches!(
            inbox.recv().await,
            Some(OwnerMessage::LeaseDropped)
        ));
    }
}
