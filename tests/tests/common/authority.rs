//! Authorities of certificates, each for one test.

use std::net::Ipv4Addr;

use avocado_serve::TlsIdentity;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A CA as PEM, and what it signed for a server here.
pub(crate) fn authority() -> (String, TlsIdentity) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new([Ipv4Addr::LOCALHOST.to_string()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    let identity = TlsIdentity {
        cert_pem: server.pem().into_bytes(),
        key_pem: key.serialize_pem().into_bytes(),
    };
    (ca_pem, identity)
}
