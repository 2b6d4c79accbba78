use std::error::Error;
use std::fmt;

use crate::keys::{PublicKey, SigningKey};

/// Signs metadata: a key file ([`SigningKey`]), or a token or a server that keeps its key to
/// itself.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The key that verifies what is signed here.
    fn public(&self) -> &PublicKey;

    /// The signature over `message`, in the form that TUF metadata carries in hexadecimal digits:
    /// the 64 bytes of Ed25519, the DER form of ECDSA, the bytes of RSASSA-PSS with SHA-256. What
    /// does not verify is never published.
    ///
    /// # Errors
    /// When it cannot sign now.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;
}

impl Signer for SigningKey {
    fn public(&self) -> &PublicKey {
        SigningKey::public(self)
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(SigningKey::sign(self, message))
    }
}

/// Who signs for each role. A publication is signed by all but that of the root, which signs only
/// when there is no root yet or when it would expire soon.
#[derive(Debug, Clone, Copy)]
pub struct RoleSigners<'a> {
    /// For the root.
    pub root: &'a dyn Signer,
    /// For the timestamp.
    pub timestamp: &'a dyn Signer,
    /// For the snapshot.
    pub snapshot: &'a dyn Signer,
    /// For the top-level targets, which only delegate.
    pub targets: &'a dyn Signer,
    /// For the role that the published files belong to.
    pub delegated: &'a dyn Signer,
}

impl<'a> RoleSigners<'a> {
    /// One for all of them.
    pub fn one(signer: &'a dyn Signer) -> Self {
        RoleSigners {
            root: signer,
            timestamp: signer,
            snapshot: signer,
            targets: signer,
            delegated: signer,
        }
    }
}

impl<'a, S: Signer> From<&'a S> for RoleSigners<'a> {
    fn from(signer: &'a S) -> Self {
        RoleSigners::one(signer)
    }
}
