//! What is said about many measurements of the same thing.

use std::fmt;
use std::time::Duration;

/// Durations, sorted.
#[derive(Debug, Default)]
pub(crate) struct Sample(Vec<Duration>);

impl FromIterator<Duration> for Sample {
    fn from_iter<T: IntoIterator<Item = Duration>>(durations: T) -> Self {
        let mut sorted: Vec<_> = durations.into_iter().collect();
        sorted.sort_unstable();
        Sample(sorted)
    }
}

impl Sample {
    /// The smallest duration that `percent` of all do not exceed; none is 0.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// How many times as long as `peer` this takes, by their medians.
    pub(crate) fn ratio(&self, peer: &Sample) -> f64 {
        self.median().as_secs_f64() / peer.median().as_secs_f64()
    }
}

/// The median and, of whole runs, the spread.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, median, high] = [0, 50, 100].map(|p| self.percentile(p).as_secs_f64());
        write!(f, "{median:.3} s (from {low:.3} to {high:.3})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: impl IntoIterator<Item = u64>) -> Sample {
        millis.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_of_the_sample() {
        let hundred = sample((1..=100).rev());
        for (percent, millis) in [(0, 1), (1, 1), (50, 50), (99, 99), (100, 100)] {
            assert_eq!(hundred.percentile(percent), Duration::from_millis(millis));
        }
        assert_eq!(sample([3, 1, 2]).median(), Duration::from_millis(2));
        assert_eq!(sample([]).median(), Duration::ZERO);
        assert!((sample([3]).ratio(&sample([2])) - 1.5).abs() < 1e-9);
    }
}
