//! Faults beneath TLS.

use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use avocado_serve::{ServeOptions, TlsIdentity};
use avocado_test_server::{Fault, FaultRule, TestServer};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

#[test]
fn a_cut_counts_plain_bytes() {
    let names = vec![Ipv4Addr::LOCALHOST.to_string()];
    let identity = rcgen::generate_simple_self_signed(names).unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), vec![b'x'; 100_000]).unwrap();
    let server = TestServer::start(ServeOptions {
        tls: Some(TlsIdentity {
            cert_pem: identity.cert.pem().into_bytes(),
            key_pem: identity.signing_key.serialize_pem().into_bytes(),
        }),
        ..ServeOptions::new(root.path())
    })
    .unwrap();
    server.faults().add(FaultRule::new(Fault::Cut(70_000), "*"));
    let roots = vec![Certificate::from_pem(identity.cert.pem().as_bytes()).unwrap()];
    let agent: Agent = Agent::config_builder()
        .tls_config(
            TlsConfig::builder()
                .root_certs(RootCerts::Specific(Arc::new(roots)))
                .build(),
        )
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into();
    let response = agent.get(format!("{}/file", server.url())).call().unwrap();
    let mut body = Vec::new();
    let end = response.into_body().into_reader().read_to_end(&mut body);
    assert!(end.is_err());
    assert_eq!(body.len(), 70_000);
}
