//! Public keys in PEM, as TUF metadata carries ECDSA and RSA keys: the key inside a
//! SubjectPublicKeyInfo (RFC 5280, RFC 7468).

use pem_rfc7468::Decoder;
use spki::der::asn1::{AnyRef, BitStringRef, ObjectIdentifier};
use spki::der::pem::LineEnding;
use spki::der::{Decode, EncodePem};
use spki::{AlgorithmIdentifier, SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// A key found in a SubjectPublicKeyInfo.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PemKey {
    /// A P-256 point, uncompressed.
    P256(Vec<u8>),
    /// A DER `RSAPublicKey`.
    Rsa(Vec<u8>),
}

impl PemKey {
    /// The key in the first PEM block of `text`; none where it is something else or malformed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(BEGIN)?;
        let (body, _) = rest.split_once(END)?;
        // The RFC wants lines of 64 characters. Keys in metadata have been copied by many hands:
        // however they are wrapped and indented, it is the text without white space that counts.
        let body: String = body.split_ascii_whitespace().collect();
        let block = format!("{BEGIN}\n{body}\n{END}\n");
        let mut der = Vec::new();
        let mut decoder = Decoder::new_detect_wrap(block.as_bytes()).ok()?;
        decoder.decode_to_end(&mut der).ok()?;

        let info = SubjectPublicKeyInfoRef::from_der(&der).ok()?;
        // None where the last byte is not whole: keys are bytes.
        let key = info.subject_public_key.as_bytes()?.to_vec();
        match info.algorithm.oid {
            RSA_ENCRYPTION => Some(PemKey::Rsa(key)),
            EC_PUBLIC_KEY => {
                let curve = info.algorithm.parameters_oid().ok()?;
                (curve == P_256).then_some(PemKey::P256(key))
            }
            _ => None,
        }
    }

    /// The key as a PEM block; none where its bytes are no key's.
    pub(crate) fn to_pem(&self) -> Option<String> {
        let (oid, parameters, key) = match self {
            PemKey::P256(point) => (EC_PUBLIC_KEY, AnyRef::from(&P_256), point),
            PemKey::Rsa(key) => (RSA_ENCRYPTION, AnyRef::NULL, key),
        };
        let info = SubjectPublicKeyInfo {
            algorithm: AlgorithmIdentifier {
                oid,
                parameters: Some(parameters),
            },
            subject_public_key: BitStringRef::from_bytes(key).ok()?,
        };
        info.to_pem(LineEnding::LF).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    const EC: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\nq9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==\n-----END PUBLIC KEY-----\n";

    #[test]
    fn a_p256_key() {
        let Some(PemKey::P256(point)) = PemKey::parse(EC) else {
            panic!("no key")
        };
        assert_eq!((point.len(), point[0]), (65, 4));
        assert_eq!(PemKey::P256(point).to_pem().as_deref(), Some(EC));
    }

    #[test]
    fn however_it_is_wrapped_it_is_the_same_key() {
        let one_line = EC.replace('\n', "");
        let body = one_line.replace(BEGIN, "").replace(END, "");
        let narrow: Vec<_> = body.as_bytes().chunks(7).collect();
        let narrow = narrow.join(&b"\r\n  "[..]);
        let narrow = String::from_utf8(narrow).unwrap();
        for text in [
            one_line.clone(),
            format!("{BEGIN}\r\n{narrow}\r\n{END}"),
            format!("said before\n{EC}said after\n{BEGIN}\n!\n{END}"),
        ] {
            assert_eq!(PemKey::parse(&text), PemKey::parse(EC), "{text}");
        }
    }

    #[test]
    fn what_is_no_key() {
        let with = |der: &[u8]| format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(der));
        let body = EC.replace(BEGIN, "").replace(END, "").replace('\n', "");
        let der = STANDARD.decode(body).unwrap();
        let changed = |at: usize, byte: u8| {
            let mut der = der.clone();
            der[at] = byte;
            with(&der)
        };
        let cases = [
            "",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----!-----END PUBLIC KEY-----",
            &EC.replace("PUBLIC", "PRIVATE"),
            &EC.replace("MFkw", "MFow"),
            // Another algorithm, another curve, unused bits, and something behind it.
            &changed(12, 0x02),
            &changed(22, 0x08),
            &changed(25, 0x01),
            &with(&[der.as_slice(), &[0]].concat()),
            &with(&der[..der.len() - 1]),
        ];
        for text in cases {
            assert_eq!(PemKey::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(der in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = PemKey::parse(&format!("{BEGIN}{}{END}", STANDARD.encode(der)));
        }
    }
}
