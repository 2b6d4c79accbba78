//! The newest trusted time: a clock for devices whose own begins anew with each start.

use jiff::{SignedDuration, Timestamp};

use super::{TufClient, TufError};
use crate::metadata::TimestampMetadata;

/// By how much the time has to have moved on to be written down again: refreshing often should
/// not wear the disk.
const GRAIN: SignedDuration = SignedDuration::from_hours(1);

/// The time that was written down, and what names the keys that it was learnt from.
pub(super) fn parse(bytes: &[u8]) -> Option<(Timestamp, &str)> {
    let (time, witness) = std::str::from_utf8(bytes)
        .ok()?
        .trim_end()
        .split_once(' ')?;
    Some((time.parse().ok()?, witness))
}

impl TufClient {
    /// The later of the time that the caller gave and the newest trusted time.
    pub(super) fn judging_time(&self) -> Result<Timestamp, TufError> {
        let given = self.options.start_time;
        Ok(self.recorded()?.map_or(given, |time| time.max(given)))
    }

    /// Remembers that it is at least as late as the time by which everything was found fresh, and
    /// as the time at which the publisher says that the timestamp was made.
    pub(super) fn remember(&self, timestamp: &TimestampMetadata) -> Result<(), TufError> {
        let issued = timestamp.issued().filter(|time| *time <= timestamp.expires);
        let newest = issued.map_or(self.now, |time| time.max(self.now));
        match self.recorded()? {
            Some(recorded) if newest.duration_since(recorded) < GRAIN => Ok(()),
            _ => self.write_time(newest),
        }
    }

    pub(super) fn write_time(&self, time: Timestamp) -> Result<(), TufError> {
        self.store
            .write_clock(&format!("{time} {}\n", self.witness()))
    }

    /// The time to judge by, where the publisher takes back what it had said of it: the newest
    /// trusted time is the one at which the trusted timestamp was said to be signed, and one that is
    /// newer says an earlier time. So the publisher's clock was ahead then. Nobody without its keys
    /// can say so, because versions never go back.
    pub(super) fn corrected(
        &self,
        trusted: &TimestampMetadata,
        offered: &TimestampMetadata,
    ) -> Result<Option<Timestamp>, TufError> {
        let given = self.options.start_time;
        let recorded = self.recorded()?.filter(|recorded| *recorded > given);
        let takes_back = || {
            let (was, is) = (trusted.issued()?, offered.issued()?);
            let newer = offered.version > trusted.version;
            (newer && is < was && recorded == Some(was)).then_some(is.max(given))
        };
        Ok(takes_back())
    }

    /// The newest trusted time, if there is one that was learnt under the present keys.
    fn recorded(&self) -> Result<Option<Timestamp>, TufError> {
        let bytes = self.store.clock()?.unwrap_or_default();
        Ok(parse(&bytes).and_then(|(time, witness)| (witness == self.witness()).then_some(time)))
    }

    /// Names the keys that a time was learnt from. As with versions, keys that are replaced take
    /// with them what they said: a stolen key cannot put a device into the future for good.
    fn witness(&self) -> String {
        let role = &self.root.roles.timestamp;
        self.root.authority(role).fingerprint().to_string()
    }
}
