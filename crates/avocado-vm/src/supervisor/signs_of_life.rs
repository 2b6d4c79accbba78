//! Signs of life: what ssh sends on a connection that has nothing to say (`ServerAliveInterval`),
//! and its answer. All is encrypted, so they are known by their size and by the silence before.
//!
//! A single key that was pressed after a silence looks the same. That harms nobody: it wakes the
//! guest and is answered like everything else, and what it starts is work or says something.

use std::time::{Duration, Instant};

/// Longer than a sign of life or its answer, under every cipher of OpenSSH.
const LONGEST: usize = 100;
/// The silence before a sign. Who types is faster.
const SILENCE: Duration = Duration::from_secs(5);
/// How long its answer may take: the guest runs.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Watches one connection.
#[derive(Debug)]
pub(crate) struct SignsOfLife {
    last: Instant,
    /// A sign was sent, and its answer is still to come.
    unanswered: bool,
}

impl SignsOfLife {
    pub(crate) fn new(now: Instant) -> Self {
        SignsOfLife {
            last: now,
            unanswered: false,
        }
    }

    /// Whether so many bytes of the client are a sign of life.
    pub(crate) fn client_says(&mut self, now: Instant, count: usize) -> bool {
        self.unanswered = is_short(count) && now.duration_since(self.last) >= SILENCE;
        self.last = now;
        self.unanswered
    }

    /// Whether so many bytes of the guest are the answer to one.
    pub(crate) fn guest_says(&mut self, now: Instant, count: usize) -> bool {
        let in_time = now.duration_since(self.last) <= ANSWER_LIMIT;
        self.last = now;
        std::mem::take(&mut self.unanswered) && is_short(count) && in_time
    }
}

/// None at all is the end of the connection, which is news.
fn is_short(count: usize) -> bool {
    (1..=LONGEST).contains(&count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_are_short_and_alone() {
        let start = Instant::now();
        // Who speaks, when, how much, and whether that is a sign.
        for conversation in [
            // Two signs with their answers.
            &[
                ('c', 30, 52, true),
                ('g', 30, 28, true),
                ('c', 60, 52, true),
                ('g', 61, 28, true),
            ][..],
            // A command, its output, and what comes later.
            &[
                ('c', 30, 300, false),
                ('g', 30, 28, false),
                ('g', 60, 28, false),
            ][..],
            // Keys: the second one is no sign, and neither is what it brings.
            &[
                ('c', 30, 36, true),
                ('g', 30, 36, true),
                ('c', 31, 36, false),
                ('g', 31, 36, false),
            ][..],
            // A key that starts something.
            &[('c', 30, 36, true), ('g', 30, 2000, false)][..],
            &[('c', 30, 36, true), ('g', 40, 36, false)][..],
            // The end.
            &[('c', 30, 0, false), ('g', 60, 0, false)][..],
            &[('c', 1, 36, false)][..],
        ] {
            let mut signs = SignsOfLife::new(start);
            for (who, secs, count, expected) in conversation {
                let now = start + Duration::from_secs(*secs);
                let found = match who {
                    'c' => signs.client_says(now, *count),
                    _ => signs.guest_says(now, *count),
                };
                assert_eq!(found, *expected, "{who} at {secs} in {conversation:?}");
            }
        }
    }
}
