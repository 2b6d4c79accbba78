use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::parsed_text::parsed;

/// A SHA-256 digest. Its text form is 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Digest([u8; 32]);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 digest (64 hexadecimal digits)")]
pub struct ParseDigestError(String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = DigestHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest and the length in bytes of everything that `reader` still holds.
    pub fn of_reader(reader: impl io::Read) -> io::Result<(Self, u64)> {
        Digest::of_reader_by(&mut vec![0; Digest::BUFFER_LENGTH], reader)
    }

    /// How long a buffer is good for a large file.
    pub const BUFFER_LENGTH: usize = 128 * 1024;

    /// The same with a buffer that many readers can have in turn.
    pub fn of_reader_by(buffer: &mut [u8], mut reader: impl io::Read) -> io::Result<(Self, u64)> {
        let mut hasher = DigestHasher::default();
        let mut length = 0;
        loop {
            match reader.read(buffer) {
                Ok(0) => return Ok((hasher.finish(), length)),
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    length += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // At once: trees have many of them.
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xf)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let error = || ParseDigestError(text.to_owned());
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(error());
        }
        let nibble = |d: u8| (d as char).to_digit(16).map(|n| n as u8).ok_or_else(error);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Digest(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, ParseDigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// Hashes bytes as they pass.
#[derive(Clone)]
pub struct DigestHasher(ring::digest::Context);

impl Default for DigestHasher {
    fn default() -> Self {
        DigestHasher(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl fmt::Debug for DigestHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestHasher")
    }
}

impl DigestHasher {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything taken.
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_and_back() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        assert_eq!(
            EMPTY.to_uppercase().parse::<Digest>().unwrap(),
            Digest::of(b"")
        );
    }

    #[test]
    fn what_is_no_digest() {
        for bad in [
            "",
            "e3",
            &EMPTY[1..],
            &EMPTY.replace('e', "g"),
            &"é".repeat(32),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reader_is_hashed_and_counted() {
        let (digest, length) = Digest::of_reader(&b"abc"[..]).unwrap();
        assert_eq!((digest, length), (Digest::of(b"abc"), 3));
    }
}
