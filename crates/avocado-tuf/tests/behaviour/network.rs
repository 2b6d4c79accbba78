//! Ways to a repository: TLS with a private CA, redirects, proxies, servers that take their time.

use std::net::Ipv4Addr;
use std::time::Duration;

use avocado_events::Silent;
use avocado_http::{
    CertificateProblem, HttpClient, NetworkSettings, ProxySettings, ServerCertificateError,
};
use avocado_http::{ResumeFrom, Transport, TransportError};
use avocado_serve::TlsIdentity;
use avocado_test_server::{Fault, FaultRule, TestServer};
use avocado_tuf::{Digests, RemoteRepository, TargetInfo, TufClient, TufError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::support::{Device, Forge};
use crate::wire::{Wire, drip, drip_of, dripping_relay, forward, tunnel};

/// A CA in PEM, and a server's identity for 127.0.0.1 that it vouches for.
fn identity() -> (Vec<u8>, TlsIdentity) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names = [Ipv4Addr::LOCALHOST.to_string()];
    let certificate = CertificateParams::new(names).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let tls = TlsIdentity {
        cert_pem: certificate.pem().into_bytes(),
        key_pem: key.serialize_pem().into_bytes(),
    };
    (ca_pem.into_bytes(), tls)
}

/// A certificate that is a CA's and a server's at once, in PEM, and that server's identity.
fn self_signed_ca() -> (Vec<u8>, TlsIdentity) {
    let key = KeyPair::generate().unwrap();
    let names = [Ipv4Addr::LOCALHOST.to_string()];
    let mut ca = CertificateParams::new(names).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&key).unwrap().pem().into_bytes();
    let tls = TlsIdentity {
        cert_pem: pem.clone(),
        key_pem: key.serialize_pem().into_bytes(),
    };
    (pem, tls)
}

/// A repository behind a server, and a device.
struct Site {
    _forge: Forge,
    server: TestServer,
    device: Device,
}

impl Site {
    fn new(options: impl FnOnce(&mut avocado_serve::ServeOptions)) -> Self {
        let mut forge = Forge::new();
        forge.publish_all();
        let mut opts = avocado_serve::ServeOptions::new(forge.dir.path());
        options(&mut opts);
        Site {
            server: TestServer::start(opts).unwrap(),
            device: forge.device(),
            _forge: forge,
        }
    }

    /// Fetches the manifest below `url` over `network`.
    fn fetch(
        &self,
        url: &str,
        network: &NetworkSettings,
        token: Option<&str>,
    ) -> Result<(), TufError> {
        let remote = RemoteRepository {
            metadata_url: format!("{url}/metadata").parse().unwrap(),
            targets_url: format!("{url}/targets").parse().unwrap(),
            auth_token: token.map(str::to_owned),
        };
        let device = &self.device;
        let mut client = TufClient::open_over(network, device.trusted(), remote, device.options())?;
        let info = client.target("manifest.json")?.unwrap();
        client.download(&info, &device.partial(), &Silent)
    }

    fn trusts_nothing_new(&self) -> bool {
        !self.device.stored().contains_key("timestamp.json") && !self.device.partial().exists()
    }
}

fn with_ca(ca: &[u8]) -> NetworkSettings {
    NetworkSettings {
        ca: Some(ca.to_vec()),
        ..NetworkSettings::default()
    }
}

fn through(proxy: &Wire, direct: &[&str]) -> NetworkSettings {
    NetworkSettings {
        ca: None,
        proxy: Some(ProxySettings {
            url: proxy.url().replace("http://", "http://me:s%3Acret@"),
            direct: direct.iter().map(|host| (*host).to_owned()).collect(),
        }),
        any_certificate: false,
    }
}

#[test]
fn a_private_ca_is_the_only_one_that_counts() {
    let (ca, tls) = identity();
    let (other, _) = identity();
    let site = Site::new(|options| options.tls = Some(tls));
    let url = site.server.url();
    assert!(url.starts_with("https://"));

    for network in [NetworkSettings::default(), with_ca(&other)] {
        let error = site.fetch(&url, &network, Some("secret")).unwrap_err();
        let why = matches!(
            &error,
            TufError::Fetch {
                source: TransportError::Request(_),
                ..
            }
        );
        assert!(why, "{error:?}");
        assert!(site.trusts_nothing_new());
    }
    // Not a single request came through, so no token did.
    assert_eq!(site.server.requests(), []);

    let both = [other.as_slice(), &ca].concat();
    site.server
        .faults()
        .add(FaultRule::new(Fault::Cut(5), "*.manifest.json").first(1));
    site.fetch(&url, &with_ca(&both), None).unwrap();
    let last = site.server.requests().pop().unwrap();
    assert_eq!(last.range.as_deref(), Some("bytes=5-"));
}

#[test]
fn a_ca_that_is_none_is_told_before_anything_is_done() {
    let site = Site::new(|_| {});
    for pem in [
        "",
        "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
    ] {
        let error = site.fetch(&site.server.url(), &with_ca(pem.as_bytes()), None);
        assert!(matches!(error, Err(TufError::Network(_))), "{pem}");
        assert!(!site.device.trusted().directory.exists(), "{pem}");
    }
    assert_eq!(site.server.requests(), []);
}

#[test]
fn redirects_keep_the_token_within_the_origin() {
    // To another port of the same host: the bytes are taken, the token stays behind.
    let site = Site::new(|_| {});
    let front = Wire::redirecting(site.server.url());
    site.fetch(&front.url(), &NetworkSettings::default(), Some("secret"))
        .unwrap();
    assert!(front.requests().iter().all(|r| r.contains("Bearer secret")));
    let requests = site.server.requests();
    assert!(!requests.is_empty() && requests.iter().all(|r| !r.authorization));

    // To another path of the same origin: the token goes along.
    let site = Site::new(|options| options.token = Some("secret".into()));
    let up = site.server.url();
    let front = Wire::start(move |request, stream| {
        use std::io::Write;
        let path = request.split(' ').nth(1).unwrap_or_default();
        match path.strip_prefix("/moved") {
            // What is there is what the server has, for who has the token.
            Some(path) if request.contains("Bearer secret") => {
                let http = HttpClient::new(
                    &[up.parse().unwrap()],
                    Some("secret".into()),
                    SECOND,
                    SECOND,
                );
                match http.get(&format!("{up}{path}"), None) {
                    Ok(mut response) => {
                        let mut body = Vec::new();
                        response.body.read_to_end(&mut body)?;
                        let length = body.len();
                        write!(
                            stream,
                            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
                        )?;
                        stream.write_all(&body)
                    }
                    Err(_) => write!(
                        stream,
                        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
                    ),
                }
            }
            Some(_) => write!(
                stream,
                "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
            ),
            None => {
                write!(
                    stream,
                    "HTTP/1.1 307 Temporary Redirect\r\nlocation: /moved{path}\r\n"
                )?;
                write!(stream, "content-length: 0\r\n\r\n")
            }
        }
    });
    site.fetch(&front.url(), &NetworkSettings::default(), Some("secret"))
        .unwrap();
}

const SECOND: Duration = Duration::from_secs(20);

#[test]
fn a_token_that_was_given_up_does_not_come_back() {
    // There and back again: the third request is to the first origin.
    let last = Wire::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let (back, away) = (last.url(), Wire::redirecting(last.url()));
    let away_url = away.url();
    let first = Wire::start(move |request, stream| {
        use std::io::Write;
        let to = if request.starts_with("GET /a ") {
            &away_url
        } else {
            &back
        };
        write!(stream, "HTTP/1.1 302 Found\r\nlocation: {to}/b\r\n")?;
        write!(stream, "content-length: 0\r\nconnection: close\r\n\r\n")
    });
    let base = first.url();
    let http = HttpClient::new(
        &[base.parse().unwrap(), last.url().parse().unwrap()],
        Some("secret".into()),
        SECOND,
        SECOND,
    );
    http.get(&format!("{base}/a"), None).unwrap();
    assert!(first.requests()[0].contains("Bearer secret"));
    assert!(!away.requests()[0].contains("secret"));
    // The token may be sent to it, but not because somebody else said so.
    assert!(!last.requests()[0].contains("secret"));
}

#[test]
fn a_redirect_asks_for_the_same_range() {
    let last = Wire::saying(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 7-8/9\r\ncontent-length: 2\r\n\r\nhi",
    );
    let front = Wire::redirecting(last.url());
    let http = HttpClient::new(&[], None, SECOND, SECOND);
    let resume = ResumeFrom {
        offset: 7,
        validator: Some("\"tag\"".into()),
    };
    let response = http
        .get(&format!("{}/x", front.url()), Some(&resume))
        .unwrap();
    assert_eq!((response.offset, response.length), (7, Some(2)));
    let request = last.requests().pop().unwrap().to_ascii_lowercase();
    assert!(request.contains("range: bytes=7-\r\n") && request.contains("if-range: \"tag\"\r\n"));
    // Ranges are of the file, and never of a compressed form of it.
    assert!(
        request.contains("accept-encoding: identity\r\n"),
        "{request}"
    );
}

#[test]
fn redirects_that_are_not_followed() {
    let endless = Wire::redirecting("");
    for (front, requests) in [
        (Wire::redirecting("file://"), 1),
        (Wire::redirecting("http://:1"), 1),
        (endless, 6),
    ] {
        let http = HttpClient::new(&[], None, SECOND, SECOND);
        let error = http.get(&format!("{}/x", front.url()), None).unwrap_err();
        assert!(matches!(error, TransportError::Request(_)), "{error:?}");
        assert!(!error.is_temporary());
        assert_eq!(front.requests().len(), requests);
    }
}

#[test]
fn a_proxy_is_gone_through_and_only_it_gets_its_password() {
    let (ca, tls) = identity();
    for tls in [None, Some(tls)] {
        let secure = tls.is_some();
        let site = Site::new(|options| options.tls = tls);
        // One for http refuses to connect to any port but 443, as Squid and tinyproxy do.
        let proxy = if secure {
            Wire::start(tunnel)
        } else {
            Wire::start(forward)
        };
        let network = NetworkSettings {
            ca: secure.then(|| ca.clone()),
            ..through(&proxy, &[])
        };
        site.fetch(&site.server.url(), &network, Some("secret"))
            .unwrap();
        let address = site.server.url().split_once("://").unwrap().1.to_owned();
        let requests = proxy.requests();
        assert!(!requests.is_empty());
        for request in &requests {
            let begins = if secure {
                format!("CONNECT {address} ")
            } else {
                format!("GET http://{address}/")
            };
            assert!(request.starts_with(&begins), "{request}");
            let request = request.to_ascii_lowercase();
            assert!(
                request.contains(&format!("\r\nhost: {address}\r\n")),
                "{request}"
            );
            // "me:s:cret"
            assert!(
                request.contains("proxy-authorization: basic bwu6czpjcmv0\r\n"),
                "{request}"
            );
            // What is encrypted is nothing to it.
            assert_eq!(request.contains("bearer secret"), !secure, "{request}");
        }
        assert!(site.server.requests().iter().all(|r| r.authorization));

        // Not where it is to be reached directly.
        let site = Site::new(|_| {});
        let before = proxy.requests().len();
        let url = site.server.url();
        site.fetch(&url, &through(&proxy, &["127.0.0.1"]), None)
            .unwrap();
        assert_eq!(proxy.requests().len(), before);
    }
}

#[test]
fn a_proxy_that_refuses_is_no_way_around_it() {
    for answer in [
        "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 ",
        "",
    ] {
        let site = Site::new(|_| {});
        let proxy = Wire::saying(answer);
        let error = site.fetch(&site.server.url(), &through(&proxy, &[]), None);
        let Err(TufError::Fetch { source, .. }) = error else {
            panic!("{answer}: {error:?}");
        };
        // It is named, and without its password.
        let told = source.to_string();
        assert!(
            told.contains(&proxy.url()) && !told.contains("cret"),
            "{told}"
        );
        assert_eq!(site.server.requests(), [], "{answer}");
        assert!(site.trusts_nothing_new(), "{answer}");
    }
}

/// A device that wants 10,000 bytes a second, measured ten times a second.
fn impatient() -> Site {
    let mut site = Site::new(|_| {});
    let limits = &mut site.device.limits;
    limits.min_rate = 10_000;
    limits.rate_window = Duration::from_millis(100);
    limits.attempts = 2;
    site
}

#[test]
fn a_server_that_drips_ends_in_an_error() {
    let site = impatient();
    let server =
        Wire::start(|_, stream| drip(stream, "HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n"));
    // Metadata.
    let error = site
        .fetch(&server.url(), &NetworkSettings::default(), None)
        .unwrap_err();
    let slow = |e: &TufError| {
        matches!(
            e,
            TufError::Fetch {
                source: TransportError::Slow(_),
                ..
            }
        )
    };
    assert!(slow(&error), "{error:?}");
    assert_eq!(server.requests().len(), 2);
    assert!(site.trusts_nothing_new());

    // A target: what came of it stays, to go on with.
    let remote = RemoteRepository {
        metadata_url: server.url().parse().unwrap(),
        targets_url: server.url().parse().unwrap(),
        auth_token: None,
    };
    let client = TufClient::open(site.device.trusted(), remote, site.device.options()).unwrap();
    let info = TargetInfo {
        name: "big.raw".into(),
        length: 60_000,
        digests: Digests {
            sha256: Some(avocado_manifest::Digest::of(b"")),
            sha512: None,
        },
    };
    let error = client
        .download(&info, &site.device.partial(), &Silent)
        .unwrap_err();
    assert!(slow(&error), "{error:?}");
    let there = std::fs::metadata(site.device.partial()).unwrap().len();
    assert!((1..1000).contains(&there), "{there}");
}

#[test]
fn headers_that_never_end_end_in_an_error() {
    let mut site = impatient();
    site.device.limits.read = Duration::from_millis(200);
    let server = Wire::start(|_, stream| drip(stream, "HTTP/1.1 200 OK\r\nx: "));
    let error = site
        .fetch(&server.url(), &NetworkSettings::default(), None)
        .unwrap_err();
    assert!(matches!(error, TufError::Fetch { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 2);
}

/// A device that waits for hardly anything, and still not for ever.
fn quick(tls: Option<TlsIdentity>) -> Site {
    let mut site = Site::new(|options| options.tls = tls);
    let limits = &mut site.device.limits;
    limits.connect = Duration::from_millis(300);
    limits.read = Duration::from_millis(300);
    limits.rate_window = Duration::from_millis(300);
    limits.attempts = 3;
    site
}

#[test]
fn whatever_drips_around_a_file_has_an_end() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (start, drop) in [
        // The extension of a chunk, its size, what comes after the last one.
        (format!("{CHUNKED}5;x="), "y"),
        (format!("{CHUNKED}5"), " "),
        (format!("{CHUNKED}1\r\n{{\r\n0\r\nx: "), "y"),
        // Headers, and answers before the answer.
        ("HTTP/1.1 200 OK\r\n".to_owned(), "x: y\r\n"),
        (String::new(), "HTTP/1.1 103 Early Hints\r\n\r\n"),
        (String::new(), "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let site = quick(None);
        let text = start.clone();
        let server = Wire::start(move |_, stream| drip_of(stream, &text, drop));
        let begun = std::time::Instant::now();
        let error = site.fetch(&server.url(), &NetworkSettings::default(), None);
        assert!(error.is_err(), "{start}");
        // What is promised is `patience`; the rest is for a machine that has much else to do.
        let patience = site.device.limits.patience();
        assert!(patience < Duration::from_secs(3), "{patience:?}");
        assert!(
            begun.elapsed() < patience * 5,
            "{start}{drop}: {:?}",
            begun.elapsed()
        );
        assert!(site.trusts_nothing_new());
    }
}

#[test]
fn tls_that_drips_has_an_end() {
    let (ca, tls) = identity();
    let site = quick(Some(tls));
    let address = site.server.url().split_once("://").unwrap().1.to_owned();
    // In the handshake, and in a record.
    for at_once in [0, 1500] {
        let relay = dripping_relay(address.clone(), at_once);
        let begun = std::time::Instant::now();
        let error = site.fetch(&format!("https://{relay}"), &with_ca(&ca), None);
        assert!(
            matches!(error, Err(TufError::Fetch { .. })),
            "{at_once}: {error:?}"
        );
        let patience = site.device.limits.patience();
        assert!(
            begun.elapsed() < patience * 5,
            "{at_once}: {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn a_certificate_that_is_not_accepted_says_why() {
    let problem = |url: &str, site: &Site, network: &NetworkSettings| {
        let error = site.fetch(url, network, None).unwrap_err();
        ServerCertificateError::find(&error).map(|found| found.problem)
    };
    let (ca, tls) = identity();
    let site = Site::new(|options| options.tls = Some(tls));
    let url = site.server.url();
    assert_eq!(
        problem(&url, &site, &NetworkSettings::default()),
        Some(CertificateProblem::UnknownCa)
    );
    // It is for 127.0.0.1 alone.
    let elsewhere = url.replace("127.0.0.1", "localhost");
    assert_eq!(
        problem(&elsewhere, &site, &with_ca(&ca)),
        Some(CertificateProblem::Name)
    );
    // One that was made with `openssl req -x509`: it is a CA's, and the server shows it.
    let (own, tls) = self_signed_ca();
    let site = Site::new(|options| options.tls = Some(tls));
    assert_eq!(
        problem(&site.server.url(), &site, &with_ca(&own)),
        Some(CertificateProblem::IsCa)
    );
}

#[test]
fn a_server_that_is_busy_is_left_alone_for_as_long_as_it_says() {
    let mut site = Site::new(|_| {});
    site.device.limits.attempts = 2;
    let server = Wire::saying(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
    );
    let begun = std::time::Instant::now();
    let error = site.fetch(&server.url(), &NetworkSettings::default(), None);
    let Err(TufError::Fetch { source, .. }) = error else {
        panic!("{error:?}");
    };
    assert!(
        matches!(source, TransportError::Busy { status: 503, .. }),
        "{source:?}"
    );
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.requests().len(), 2);
    // One that wants to be left alone for a year is waited for a minute, and never beyond what a
    // request may take.
    site.device.limits.connect = Duration::from_millis(10);
    site.device.limits.read = Duration::from_millis(10);
    site.device.limits.rate_window = Duration::from_millis(10);
    let server =
        Wire::saying("HTTP/1.1 429 Too Many\r\nretry-after: 31536000\r\ncontent-length: 0\r\n\r\n");
    site.fetch(&server.url(), &NetworkSettings::default(), None)
        .unwrap_err();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn secrets_are_not_shown() {
    let remote = RemoteRepository {
        metadata_url: "http://a/".parse().unwrap(),
        targets_url: "http://b/".parse().unwrap(),
        auth_token: Some("secret".into()),
    };
    let http = HttpClient::new(
        &["http://a/".parse().unwrap()],
        Some("secret".into()),
        SECOND,
        SECOND,
    );
    for shown in [format!("{remote:?}"), format!("{http:?}")] {
        assert!(!shown.contains("secret"), "{shown}");
    }
}
