use std::fmt;
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The way to servers. The default is a direct one, and servers that the public CAs vouch for.
#[derive(Clone, Default)]
pub struct Network {
    /// Certificates of CAs, in PEM: any number of them. Where given, the server of an https URL
    /// (and a proxy that is reached by https) must have a certificate from one of these, and the
    /// public CAs count for nothing.
    pub ca: Option<Vec<u8>>,
    /// The proxy to go through.
    pub proxy: Option<Proxy>,
}

/// An HTTP proxy, asked to `CONNECT` for http and https URLs alike.
#[derive(Clone)]
pub struct Proxy {
    /// `http://[user:password@]host[:port]` or `https://…`; user and password percent-encoded.
    pub url: String,
    /// The hosts that are reached directly: `host`, `.domain` or `*.domain` for everything below a
    /// domain, or `*` for everything.
    pub direct: Vec<String>,
}

/// Credentials may be in there.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("direct", &self.direct)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("ca", &self.ca.as_ref().map(Vec::len))
            .field("proxy", &self.proxy)
            .finish()
    }
}

/// Why [`Network`] settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The CA certificates are not PEM.
    #[error("the CA certificates cannot be read")]
    Ca(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There are none in them.
    #[error("there is no CA certificate in the PEM given")]
    NoCa,
    /// The URL of the proxy is not one. (It is not shown: it may hold a password.)
    #[error("the URL of the proxy is not `http://HOST:PORT` or `https://HOST:PORT`")]
    Proxy,
}

impl Network {
    pub(super) fn tls(&self) -> Result<TlsConfig, NetworkError> {
        let roots = match &self.ca {
            Some(pem) => RootCerts::Specific(Arc::new(certificates(pem)?)),
            None => RootCerts::WebPki,
        };
        Ok(TlsConfig::builder().root_certs(roots).build())
    }

    pub(super) fn proxy(&self) -> Result<Option<ureq::Proxy>, NetworkError> {
        let Some(Proxy { url, direct }) = &self.proxy else {
            return Ok(None);
        };
        let bad = |_| NetworkError::Proxy;
        let given = ureq::Proxy::new(url).map_err(bad)?;
        if !matches!(url.split_once("://"), Some(("http" | "https", _))) {
            return Err(NetworkError::Proxy);
        }
        let mut builder = ureq::Proxy::builder(given.protocol())
            .host(given.host())
            .port(given.port());
        if let Some(user) = given.username() {
            builder = builder.username(user);
        }
        if let Some(password) = given.password() {
            builder = builder.password(password);
        }
        for host in direct {
            builder = builder.no_proxy(host);
        }
        builder.build().map(Some).map_err(bad)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, NetworkError> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        // Whatever else is in the file is not for us.
        if let PemItem::Certificate(certificate) =
            item.map_err(|e| NetworkError::Ca(Box::new(e)))?
        {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(NetworkError::NoCa);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxied(url: &str) -> Network {
        let proxy = Proxy {
            url: url.to_owned(),
            direct: vec!["local.example".to_owned(), ".internal".to_owned()],
        };
        Network {
            proxy: Some(proxy),
            ca: None,
        }
    }

    #[test]
    fn a_proxy_keeps_its_parts() {
        let network = proxied("http://me:p%40ss@proxy.example:3128");
        let proxy = network.proxy().unwrap().unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("proxy.example", 3128));
        assert_eq!(
            (proxy.username(), proxy.password()),
            (Some("me"), Some("p@ss"))
        );
        for (url, direct) in [
            ("http://local.example/x", true),
            ("http://a.internal/x", true),
            ("http://internal/x", false),
            ("http://other.example/x", false),
        ] {
            assert_eq!(proxy.is_no_proxy(&url.parse().unwrap()), direct, "{url}");
        }
        let shown = format!("{network:?}");
        assert!(!shown.contains("p%40ss") && !shown.contains("p@ss"));
    }

    #[test]
    fn what_is_no_proxy_and_no_ca() {
        for url in [
            "",
            "proxy",
            "socks5://proxy:1",
            "ftp://proxy",
            "http://",
            "http://a b",
        ] {
            assert!(
                matches!(proxied(url).proxy(), Err(NetworkError::Proxy)),
                "{url}"
            );
        }
        let with = |pem: &str| Network {
            ca: Some(pem.into()),
            proxy: None,
        };
        assert!(matches!(with("").tls(), Err(NetworkError::NoCa)));
        assert!(matches!(with("no pem").tls(), Err(NetworkError::NoCa)));
        let torn = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(matches!(with(torn).tls(), Err(NetworkError::Ca(_))));
    }
}
