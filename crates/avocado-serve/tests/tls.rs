//! TLS with a private CA.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use avocado_serve::{FileServer, ServeError, ServeOptions, ServedRequest, TlsIdentity};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// A CA as PEM and a server identity for 127.0.0.1 that it signed.
fn identity() -> (String, TlsIdentity) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names = [Ipv4Addr::LOCALHOST.to_string()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let tls = TlsIdentity {
        cert_pem: certificate.pem().into_bytes(),
        key_pem: key.serialize_pem().into_bytes(),
    };
    (ca_pem, tls)
}

fn agent(ca_pem: &str) -> Agent {
    let roots = vec![Certificate::from_pem(ca_pem.as_bytes()).unwrap()];
    Agent::config_builder()
        .tls_config(
            TlsConfig::builder()
                .root_certs(RootCerts::Specific(Arc::new(roots)))
                .build(),
        )
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into()
}

fn start(tls: TlsIdentity) -> (TempDir, Result<FileServer, ServeError>) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), vec![b'x'; 100_000]).unwrap();
    let server = FileServer::start(ServeOptions {
        tls: Some(tls),
        ..ServeOptions::new(root.path())
    });
    (root, server)
}

#[test]
fn only_who_trusts_the_ca_gets_an_answer() {
    let (ca, tls) = identity();
    let (root, _) = start(tls.clone());
    let answered = Arc::new(AtomicU64::new(0));
    let server = FileServer::start(ServeOptions {
        tls: Some(tls),
        on_request: Some({
            let answered = answered.clone();
            Arc::new(move |request: &ServedRequest| {
                answered.fetch_max(request.number + 1, Ordering::SeqCst);
            })
        }),
        ..ServeOptions::new(root.path())
    })
    .unwrap();
    let url = format!("{}/file", server.url());
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let body = agent(&ca).get(&url).call().unwrap().into_body();
    assert_eq!(
        body.into_with_config().read_to_vec().unwrap().len(),
        100_000
    );

    let (other_ca, _) = identity();
    assert!(agent(&other_ca).get(&url).call().is_err());
    assert!(agent(&ca).get(url.replace("https", "http")).call().is_err());
    assert_eq!(answered.load(Ordering::SeqCst), 1);
}

#[test]
fn a_bad_identity_is_refused() {
    let (_, good) = identity();
    let (_, other) = identity();
    let key = good.key_pem.clone();
    let (_root, mixed) = start(TlsIdentity {
        key_pem: other.key_pem,
        ..good.clone()
    });
    assert!(matches!(mixed, Err(ServeError::Tls(_))));
    let (_root, empty) = start(TlsIdentity {
        key_pem: b"nothing".to_vec(),
        ..good
    });
    assert!(matches!(empty, Err(ServeError::Pem { what: "key", .. })));
    let (_root, none) = start(TlsIdentity {
        cert_pem: b"nothing".to_vec(),
        key_pem: key,
    });
    assert!(none.is_err());
}
