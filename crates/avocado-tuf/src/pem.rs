//! Public keys in PEM, as TUF metadata carries ECDSA and RSA keys: just enough of DER to find the
//! key inside a SubjectPublicKeyInfo.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const BIT_STRING: u8 = 0x03;

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P_256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// A key found in a SubjectPublicKeyInfo.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Spki {
    /// A P-256 point, uncompressed.
    P256(Vec<u8>),
    /// A DER `RSAPublicKey`.
    Rsa(Vec<u8>),
}

/// The key in the first PEM block of `text`; none where it is something else or malformed.
pub(crate) fn parse(text: &str) -> Option<Spki> {
    let (_, rest) = text.split_once(BEGIN)?;
    let (body, _) = rest.split_once(END)?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).ok()?;

    let (info, rest) = take(&der, SEQUENCE)?;
    let (algorithm, key) = take(info, SEQUENCE)?;
    let (key, after) = take(key, BIT_STRING)?;
    if !rest.is_empty() || !after.is_empty() {
        return None;
    }
    // The first byte counts unused bits; keys have none.
    let (0, key) = key.split_first()? else {
        return None;
    };
    let (id, parameters) = take(algorithm, OBJECT_ID)?;
    match id {
        RSA_ENCRYPTION => Some(Spki::Rsa(key.to_vec())),
        EC_PUBLIC_KEY => {
            let (curve, _) = take(parameters, OBJECT_ID)?;
            (curve == P_256).then(|| Spki::P256(key.to_vec()))
        }
        _ => None,
    }
}

/// Splits one element with this tag off: its contents and what follows it.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b));
            (length, rest)
        }
        _ => return None,
    };
    (found == tag).then_some(())?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EC: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\nq9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==\n-----END PUBLIC KEY-----\n";

    #[test]
    fn a_p256_key() {
        let Some(Spki::P256(point)) = parse(EC) else {
            panic!("no key")
        };
        assert_eq!((point.len(), point[0]), (65, 4));
    }

    #[test]
    fn what_is_no_key() {
        let cases = [
            "",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----!-----END PUBLIC KEY-----",
            &EC.replace("PUBLIC", "PRIVATE"),
            &EC.replace("MFkw", "MFow"),
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(der in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&format!("{BEGIN}{}{END}", STANDARD.encode(der)));
        }
    }
}
