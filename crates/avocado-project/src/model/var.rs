use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::place::Placed;

/// The var partition of a runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VarPartition {
    /// `compression`, for example `zstd`: of what the image holds from the start.
    pub compression: Option<VarCompression>,
    /// `subvolumes`.
    pub subvolumes: Vec<Subvolume>,
}

/// A subvolume of the var partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subvolume {
    /// Where it is, relative to /var.
    pub path: Placed<PathBuf>,
    /// False: it is not made.
    pub enabled: bool,
    /// False: it is read-only.
    pub writable: bool,
    /// `compression`, where it has its own.
    pub compression: Option<Placed<VarCompression>>,
    /// `nodatacow`.
    pub nodatacow: bool,
    /// `quota`.
    pub quota: Option<Placed<Quota>>,
}

/// How btrfs compresses, as it is written: `zstd`, `zstd:9`, `lzo`, `none`, …
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VarCompression(String);

impl VarCompression {
    /// The algorithms that btrfs has, with their highest level.
    const ALGORITHMS: [(&str, u8); 3] = [("zlib", 9), ("lzo", 0), ("zstd", 15)];

    /// Whether nothing is compressed.
    pub fn is_none(&self) -> bool {
        self.0 == "none"
    }

    /// Whether it says how hard to try, as `zstd:9` does.
    pub fn has_level(&self) -> bool {
        self.0.contains(':')
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VarCompression {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "it is `none`, `lzo`, `zlib` or `zstd`; the last two may have a level \
                             behind a colon, up to `zlib:9` and `zstd:15`";
        if text == "none" {
            return Ok(VarCompression(text.to_owned()));
        }
        let (algorithm, level) = match text.split_once(':') {
            Some((algorithm, level)) => (algorithm, Some(level)),
            None => (text, None),
        };
        let known = Self::ALGORITHMS.iter();
        let highest = known.copied().find(|(name, _)| *name == algorithm);
        let (_, highest) = highest.ok_or(WRONG)?;
        let is_level = |text: &str| {
            let is_plain = text.bytes().all(|c| c.is_ascii_digit()) && !text.starts_with('0');
            is_plain && text.parse::<u8>().is_ok_and(|level| level <= highest)
        };
        if level.is_some_and(|level| !is_level(level)) {
            return Err(WRONG);
        }
        Ok(VarCompression(text.to_owned()))
    }
}

impl TryFrom<String> for VarCompression {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<VarCompression> for String {
    fn from(compression: VarCompression) -> String {
        compression.0
    }
}

/// The most that a subvolume may take, in bytes. `Display` is what can be written for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Quota(u64);

impl Quota {
    /// The units that may be written behind a number, from the largest.
    const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Quota {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "it is a number of bytes, or one with K, M, G or T behind it, as `512M` or `2G`";
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let mut unit = unit.chars();
        let shift = match unit.next() {
            None => 0,
            Some(letter) => {
                let letter = letter.to_ascii_uppercase();
                let mut units = Self::UNITS.iter();
                units.find(|(name, _)| *name == letter).ok_or(WRONG)?.1
            }
        };
        if !["", "B", "iB"].contains(&unit.as_str()) {
            return Err(WRONG);
        }
        let number: u64 = number.parse().map_err(|_| WRONG)?;
        let bytes = number.checked_mul(1 << shift).ok_or(WRONG)?;
        if bytes == 0 {
            return Err("nothing could be put there; `enabled: false` makes no subvolume of it");
        }
        Ok(Quota(bytes))
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut units = Self::UNITS.iter();
        match units.find(|(_, shift)| self.0.trailing_zeros() >= *shift) {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl TryFrom<String> for Quota {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Quota> for String {
    fn from(quota: Quota) -> String {
        quota.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_btrfs_can_do_is_a_compression() {
        for good in ["none", "lzo", "zlib", "zlib:9", "zstd", "zstd:1", "zstd:15"] {
            let parsed: VarCompression = good.parse().unwrap();
            assert_eq!((parsed.as_str(), parsed.is_none()), (good, good == "none"));
            assert_eq!(
                parsed.has_level(),
                good.ends_with(|c: char| c.is_ascii_digit())
            );
        }
        for bad in [
            "",
            "no",
            "gzip",
            "Zstd",
            "zstd:",
            "zstd:0",
            "zstd:16",
            "zstd:-1",
            "zstd:+3",
            "zstd:3:3",
            "zstd:03",
            "zlib:10",
            "lzo:1",
            "none:1",
            " zstd",
            "zstd:3 ",
            "zstd,nodev",
        ] {
            assert!(bad.parse::<VarCompression>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_quota_is_a_number_of_bytes() {
        for (text, bytes, written) in [
            ("1", 1, "1"),
            ("1500", 1500, "1500"),
            ("2048", 2048, "2K"),
            ("512M", 512 << 20, "512M"),
            ("2g", 2 << 30, "2G"),
            ("1536MiB", 1536 << 20, "1536M"),
            ("10GB", 10 << 30, "10G"),
            ("3T", 3 << 40, "3T"),
            ("18446744073709551615", u64::MAX, "18446744073709551615"),
        ] {
            let quota: Quota = text.parse().unwrap();
            assert_eq!(
                (quota.bytes(), quota.to_string().as_str()),
                (bytes, written)
            );
            assert_eq!(written.parse(), Ok(quota));
        }
        for bad in [
            "",
            "0",
            "0G",
            "M",
            "-1",
            "+1",
            "1.5G",
            "1 G",
            "2X",
            "2GG",
            "ⅷM",
            "1iB",
            "1K\u{b5}",
            "18446744073709551616",
            "18446744073709551615K",
        ] {
            assert!(bad.parse::<Quota>().is_err(), "{bad}");
        }
    }
}
