//! Ways to a repository: TLS with a private CA, redirects, proxies, servers that take their time.

use std::net::Ipv4Addr;
use std::time::Duration;

use avocado_events::Silent;
use avocado_serve::{Fault, Rule, Server, Tls};
use avocado_tuf::http::{Http, Network, Proxy};
use avocado_tuf::transport::{Resume, Transport, TransportError};
use avocado_tuf::{Client, Digests, Error, Remote, TargetInfo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::support::{Device, Forge};
use crate::wire::{Wire, drip, tunnel};

/// A CA in PEM, and a server's identity for 127.0.0.1 that it vouches for.
fn identity() -> (Vec<u8>, Tls) {
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
    let tls = Tls {
        cert_pem: certificate.pem().into_bytes(),
        key_pem: key.serialize_pem().into_bytes(),
    };
    (ca_pem.into_bytes(), tls)
}

/// A repository behind a server, and a device.
struct Site {
    _forge: Forge,
    server: Server,
    device: Device,
}

impl Site {
    fn new(options: impl FnOnce(&mut avocado_serve::Options)) -> Self {
        let mut forge = Forge::new();
        forge.publish_all();
        let mut opts = avocado_serve::Options::new(forge.dir.path());
        options(&mut opts);
        Site {
            server: Server::start(opts).unwrap(),
            device: forge.device(),
            _forge: forge,
        }
    }

    /// Fetches the manifest below `url` over `network`.
    fn fetch(&self, url: &str, network: &Network, token: Option<&str>) -> Result<(), Error> {
        let remote = Remote {
            metadata_url: format!("{url}/metadata"),
            targets_url: format!("{url}/targets"),
            auth_token: token.map(str::to_owned),
        };
        let device = &self.device;
        let mut client = Client::open_over(network, device.trusted(), remote, device.options())?;
        let info = client.target("manifest.json")?.unwrap();
        client.download(&info, &device.partial(), &Silent)
    }

    fn trusts_nothing_new(&self) -> bool {
        !self.device.stored().contains_key("timestamp.json") && !self.device.partial().exists()
    }
}

fn with_ca(ca: &[u8]) -> Network {
    Network {
        ca: Some(ca.to_vec()),
        proxy: None,
    }
}

fn through(proxy: &Wire, direct: &[&str]) -> Network {
    Network {
        ca: None,
        proxy: Some(Proxy {
            url: proxy.url().replace("http://", "http://me:s%3Acret@"),
            direct: direct.iter().map(|host| (*host).to_owned()).collect(),
        }),
    }
}

#[test]
fn a_private_ca_is_the_only_one_that_counts() {
    let (ca, tls) = identity();
    let (other, _) = identity();
    let site = Site::new(|options| options.tls = Some(tls));
    let url = site.server.url();
    assert!(url.starts_with("https://"));

    for network in [Network::default(), with_ca(&other)] {
        let error = site.fetch(&url, &network, Some("secret")).unwrap_err();
        let why = matches!(
            &error,
            Error::Fetch {
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
        .add(Rule::new(Fault::Cut(5), "*.manifest.json").first(1));
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
        assert!(matches!(error, Err(Error::Network(_))), "{pem}");
        assert!(!site.device.trusted().directory.exists(), "{pem}");
    }
    assert_eq!(site.server.requests(), []);
}

#[test]
fn redirects_keep_the_token_within_the_origin() {
    // To another port of the same host: the bytes are taken, the token stays behind.
    let site = Site::new(|_| {});
    let front = Wire::redirecting(site.server.url());
    site.fetch(&front.url(), &Network::default(), Some("secret"))
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
                let http = Http::new(&[&up], Some("secret".into()), SECOND, SECOND);
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
    site.fetch(&front.url(), &Network::default(), Some("secret"))
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
    let http = Http::new(&[&base, &last.url()], Some("secret".into()), SECOND, SECOND);
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
    let http = Http::new(&[], None, SECOND, SECOND);
    let resume = Resume {
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
        let http = Http::new(&[], None, SECOND, SECOND);
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
        let proxy = Wire::start(tunnel);
        let network = Network {
            ca: secure.then(|| ca.clone()),
            ..through(&proxy, &[])
        };
        site.fetch(&site.server.url(), &network, None).unwrap();
        let address = site.server.url().split_once("://").unwrap().1.to_owned();
        let requests = proxy.requests();
        assert!(!requests.is_empty());
        for request in &requests {
            assert!(
                request.starts_with(&format!("CONNECT {address} ")),
                "{request}"
            );
            let request = request.to_ascii_lowercase();
            assert!(request.contains("proxy-authorization: basic "), "{request}");
        }
        assert!(site.server.requests().iter().all(|r| !r.authorization));

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
        assert!(
            matches!(error, Err(Error::Fetch { .. })),
            "{answer}: {error:?}"
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
        .fetch(&server.url(), &Network::default(), None)
        .unwrap_err();
    let slow = |e: &Error| {
        matches!(
            e,
            Error::Fetch {
                source: TransportError::Slow(_),
                ..
            }
        )
    };
    assert!(slow(&error), "{error:?}");
    assert_eq!(server.requests().len(), 2);
    assert!(site.trusts_nothing_new());

    // A target: what came of it stays, to go on with.
    let remote = Remote {
        metadata_url: server.url(),
        targets_url: server.url(),
        auth_token: None,
    };
    let client = Client::open(site.device.trusted(), remote, site.device.options()).unwrap();
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
        .fetch(&server.url(), &Network::default(), None)
        .unwrap_err();
    assert!(matches!(error, Error::Fetch { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn secrets_are_not_shown() {
    let remote = Remote {
        metadata_url: "http://a/".into(),
        targets_url: "http://b/".into(),
        auth_token: Some("secret".into()),
    };
    let http = Http::new(&["http://a/"], Some("secret".into()), SECOND, SECOND);
    for shown in [format!("{remote:?}"), format!("{http:?}")] {
        assert!(!shown.contains("secret"), "{shown}");
    }
}
