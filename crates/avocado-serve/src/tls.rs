//! The server's side of TLS.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

use crate::ServeError;

/// The identity that a server shows, as PEM.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The server's certificate, followed by its intermediate ones.
    pub cert_pem: Vec<u8>,
    /// The certificate's private key (PKCS#8, PKCS#1 or SEC1).
    pub key_pem: Vec<u8>,
}

impl TlsIdentity {
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, ServeError> {
        let certificates = CertificateDer::pem_slice_iter(&self.cert_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| ServeError::Pem {
                what: "certificate",
                source,
            })?;
        let key =
            PrivateKeyDer::from_pem_slice(&self.key_pem).map_err(|source| ServeError::Pem {
                what: "key",
                source,
            })?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(ServeError::Tls)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(ServeError::Tls)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
