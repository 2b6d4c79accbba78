use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

use avocado_manifest::{Digest, DigestHasher};
use ring::digest::{Context, SHA512};
use serde::{Deserialize, Deserializer};

/// The digests that metadata states for some bytes. Bytes match if every digest of a known
/// algorithm matches, and there is at least one.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Digests {
    /// SHA-256.
    pub sha256: Option<Digest>,
    /// SHA-512, 64 bytes.
    pub sha512: Option<[u8; 64]>,
}

impl Digests {
    /// The digest that comes first in the name of a target file, where the repository has
    /// consistent snapshots.
    pub(crate) fn file_prefix(&self) -> Option<String> {
        match (self.sha256, self.sha512) {
            (Some(digest), _) => Some(digest.to_string()),
            (None, Some(digest)) => Some(hex(&digest)),
            (None, None) => None,
        }
    }

    /// Whether `bytes` are the ones described.
    pub(crate) fn match_bytes(&self, bytes: &[u8]) -> bool {
        let mut running = self.start();
        running.update(bytes);
        running.matches(self)
    }

    /// Reads everything and says whether it is what was described, and how much it was.
    pub(crate) fn match_reader(&self, mut reader: impl Read) -> io::Result<(bool, u64)> {
        let mut running = self.start();
        let length = running.update_from(&mut reader)?;
        Ok((running.matches(self), length))
    }

    /// A computation of the digests that are stated, and of no other.
    pub(crate) fn start(&self) -> RunningDigests {
        RunningDigests {
            sha256: self.sha256.map(|_| DigestHasher::default()),
            sha512: self.sha512.map(|_| Context::new(&SHA512)),
        }
    }
}

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digests")
            .field("sha256", &self.sha256)
            .field("sha512", &self.sha512.as_ref().map(|d| hex(d)))
            .finish()
    }
}

impl<'de> Deserialize<'de> for Digests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        if map.is_empty() {
            return Err(D::Error::custom("no hashes are given"));
        }
        // An algorithm that is unknown here is no reason to refuse the whole metadata; what only
        // it describes can just not be verified.
        let sha256 = map
            .get("sha256")
            .map(|text| text.parse().map_err(D::Error::custom))
            .transpose()?;
        let sha512 = map
            .get("sha512")
            .map(|text| {
                let bytes = unhex(text).and_then(|b| b.try_into().ok());
                bytes.ok_or_else(|| D::Error::custom("the sha512 is not 128 hexadecimal digits"))
            })
            .transpose()?;
        Ok(Digests { sha256, sha512 })
    }
}

/// Digests under way.
pub(crate) struct RunningDigests {
    sha256: Option<DigestHasher>,
    sha512: Option<Context>,
}

impl RunningDigests {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.sha256 {
            hasher.update(bytes);
        }
        if let Some(context) = &mut self.sha512 {
            context.update(bytes);
        }
    }

    /// Takes everything that `reader` holds and returns how much that was.
    pub(crate) fn update_from(&mut self, reader: &mut impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; 128 * 1024];
        let mut length = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(length),
                Ok(n) => {
                    self.update(&buffer[..n]);
                    length += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    pub(crate) fn matches(self, expected: &Digests) -> bool {
        let sha256 = self.sha256.map(DigestHasher::finish);
        let sha512 = self.sha512.map(Context::finish);
        (sha256.is_some() || sha512.is_some())
            && sha256 == expected.sha256
            && sha512.as_ref().map(AsRef::as_ref) == expected.sha512.as_ref().map(|d| d.as_slice())
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The bytes behind hexadecimal digits of either case.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| (digit as char).to_digit(16).map(|n| n as u8);
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Digests, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn every_known_digest_must_match_and_one_must_be_known() {
        let abc256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let abc512 = hex(ring::digest::digest(&SHA512, b"abc").as_ref());
        let wrong = "00".repeat(64);
        let cases = [
            (format!(r#"{{"sha256":"{abc256}"}}"#), true),
            (format!(r#"{{"sha512":"{abc512}"}}"#), true),
            (
                format!(r#"{{"sha256":"{abc256}","sha512":"{abc512}","md5":"x"}}"#),
                true,
            ),
            (
                format!(r#"{{"sha256":"{abc256}","sha512":"{wrong}"}}"#),
                false,
            ),
            (
                r#"{"md5":"900150983cd24fb0d6963f7d28e17f72"}"#.into(),
                false,
            ),
        ];
        for (json, expected) in cases {
            let digests = parse(&json).unwrap();
            assert_eq!(digests.match_bytes(b"abc"), expected, "{json}");
            assert_eq!(digests.match_reader(&b"abc"[..]).unwrap(), (expected, 3));
            assert!(!digests.match_bytes(b"abd"), "{json}");
        }
    }

    #[test]
    fn malformed_digests_are_refused() {
        for json in [
            "{}",
            r#"{"sha256":""}"#,
            r#"{"sha256":5}"#,
            r#"{"sha512":"00"}"#,
        ] {
            assert!(parse(json).is_err(), "{json}");
        }
    }

    #[test]
    fn hexadecimal() {
        assert_eq!(hex(&[0, 0xab]), "00ab");
        assert_eq!(unhex("00Ab"), Some(vec![0, 0xab]));
        for bad in ["0", "0g", "é", "+1"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
