use std::time::Duration;

/// Bounds on what a repository and a network can make the client do. Lengths are in bytes.
///
/// | field | default | beyond it |
/// |---|---|---|
/// | `root` | 1 MiB | the root is refused |
/// | `timestamp` | 64 KiB | the timestamp is refused |
/// | `snapshot` | 4 MiB, or less if announced | the snapshot is refused |
/// | `targets` | 10 MiB, or less if announced | the targets metadata is refused |
/// | `without_digest` | 2 MiB | a snapshot or targets metadata that is announced without a digest is refused |
/// | signatures of one file | 256 KiB | the file is refused |
/// | a target | its length in the metadata | it is refused, and what came of it is deleted |
/// | `root_rotations` | 256 | the next refresh goes on from there |
/// | `delegations` | 32 | the search for the target fails |
/// | `connect` | 15 s for the name, then 15 s for the connection with TLS | the attempt fails |
/// | `read` | 30 s to the end of the answer's headers, then 30 s of silence | the attempt fails |
/// | `min_rate` over `rate_window` | 1 KiB/s over 60 s of waiting for the server | the attempt fails |
/// | redirects | 5 | the request fails |
/// | `attempts` | 5 in a row without 256 KiB of progress | the request fails |
/// | a `Retry-After` | 60 s | 60 s are waited |
/// | [`patience`](ClientLimits::patience) | 5 min without 256 KiB of progress | the request fails |
///
/// So a server that sends a byte now and then, of a file or of what is around it (headers, the
/// framing of chunks, the records of TLS), holds a request up for five minutes, and one that is just
/// fast enough for as long as the announced length takes at `min_rate`.
#[derive(Debug, Clone)]
pub struct ClientLimits {
    /// The longest root.
    pub root: u64,
    /// The longest timestamp.
    pub timestamp: u64,
    /// The longest snapshot, where the timestamp does not say less.
    pub snapshot: u64,
    /// The longest targets metadata, where the snapshot does not say less.
    pub targets: u64,
    /// The longest snapshot or targets metadata that no digest was announced of. It is read before
    /// anything says that it is the publisher's, so this bounds the memory that any server can take.
    pub without_digest: u64,
    /// The most new roots taken in one refresh.
    pub root_rotations: u32,
    /// The most delegated roles visited in search of one target.
    pub delegations: usize,
    /// How often a request is made in a row without any success.
    pub attempts: u32,
    /// The pause after a first failure; it doubles with each further one, up to 30 seconds.
    pub pause: Duration,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long a connection may stay silent.
    pub read: Duration,
    /// The fewest bytes per second that a body has to bring, on average over [`rate_window`];
    /// 0 is no minimum.
    ///
    /// [`rate_window`]: ClientLimits::rate_window
    pub min_rate: u64,
    /// How much waiting for a body makes up one measurement of its rate. Time that this side
    /// takes, to write for example, does not count.
    pub rate_window: Duration,
}

impl ClientLimits {
    /// How long one file may make no progress, all attempts and pauses together: `attempts` times
    /// `rate_window`, or times what one attempt needs at least where that is longer.
    pub fn patience(&self) -> Duration {
        let attempt = self.connect.saturating_mul(2).saturating_add(self.read);
        let attempt = attempt.max(self.rate_window);
        // Long enough for everything, and no overflow of a clock.
        let most = Duration::from_secs(86_400);
        attempt.saturating_mul(self.attempts).min(most)
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        const KIB: u64 = 1024;
        const MIB: u64 = 1024 * KIB;
        ClientLimits {
            root: MIB,
            timestamp: 64 * KIB,
            snapshot: 4 * MIB,
            targets: 10 * MIB,
            without_digest: 2 * MIB,
            root_rotations: 256,
            delegations: 32,
            attempts: 5,
            pause: Duration::from_millis(500),
            connect: Duration::from_secs(15),
            read: Duration::from_secs(30),
            min_rate: KIB,
            rate_window: Duration::from_secs(60),
        }
    }
}
