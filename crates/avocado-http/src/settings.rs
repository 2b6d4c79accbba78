use std::fmt;
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::address_range::AddressRange;

/// The way to servers. The default is a direct one, and servers that the public CAs vouch for.
#[derive(Clone, Default)]
pub struct NetworkSettings {
    /// Certificates of CAs, in PEM: any number of them. Where given, the server of an https URL
    /// (and a proxy that is reached by https) must have a certificate from one of these, and the
    /// public CAs count for nothing.
    pub ca: Option<Vec<u8>>,
    /// The proxy to go through.
    pub proxy: Option<ProxySettings>,
    /// Whether any certificate will do, from whomever. Only where what is fetched is nothing that
    /// one goes by, or is verified by other means.
    pub any_certificate: bool,
}

/// An HTTP proxy. It is asked for http URLs, and to `CONNECT` for https URLs.
#[derive(Clone)]
pub struct ProxySettings {
    /// `http://[user:password@]host[:port]` or `https://…`; user and password percent-encoded.
    pub url: String,
    /// The hosts that are reached directly: `domain` for it and everything below it, `.domain` or
    /// `*.domain` for what is below it alone, an address, `address/bits` for those that begin
    /// alike, or `*` for everything.
    pub direct: Vec<String>,
}

/// Credentials may be in there.
impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySettings")
            .field("direct", &self.direct)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NetworkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkSettings")
            .field("ca", &self.ca.as_ref().map(Vec::len))
            .field("proxy", &self.proxy)
            .field("any_certificate", &self.any_certificate)
            .finish()
    }
}

/// Why [`NetworkSettings`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkSettingsError {
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

impl NetworkSettings {
    pub(crate) fn tls(&self) -> Result<TlsConfig, NetworkSettingsError> {
        let roots = match &self.ca {
            Some(pem) => RootCerts::Specific(Arc::new(certificates(pem)?)),
            None => RootCerts::WebPki,
        };
        Ok(TlsConfig::builder()
            .root_certs(roots)
            .disable_verification(self.any_certificate)
            .build())
    }

    pub(crate) fn proxy(&self) -> Result<Option<ureq::Proxy>, NetworkSettingsError> {
        let Some(ProxySettings { url, direct }) = &self.proxy else {
            return Ok(None);
        };
        let bad = |_| NetworkSettingsError::Proxy;
        let given = ureq::Proxy::new(url).map_err(bad)?;
        if !matches!(url.split_once("://"), Some(("http" | "https", _))) {
            return Err(NetworkSettingsError::Proxy);
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
            if AddressRange::parse(host).is_some() {
                continue;
            }
            builder = builder.no_proxy(host);
            if !host.starts_with(['.', '*']) {
                builder = builder.no_proxy(&format!(".{host}"));
            }
        }
        builder.build().map(Some).map_err(bad)
    }

    /// The addresses that are reached without the proxy, which knows only names.
    pub(crate) fn direct_addresses(&self) -> Vec<AddressRange> {
        let direct = self.proxy.iter().flat_map(|proxy| &proxy.direct);
        direct
            .filter_map(|host| AddressRange::parse(host))
            .collect()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, NetworkSettingsError> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        // Whatever else is in the file is not for us.
        if let PemItem::Certificate(certificate) =
            item.map_err(|e| NetworkSettingsError::Ca(Box::new(e)))?
        {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(NetworkSettingsError::NoCa);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxied(url: &str) -> NetworkSettings {
        let proxy = ProxySettings {
            url: url.to_owned(),
            direct: vec!["local.example".to_owned(), ".internal".to_owned()],
        };
        NetworkSettings {
            proxy: Some(proxy),
            ..NetworkSettings::default()
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
            ("http://LOCAL.example/x", true),
            ("http://a.local.example/x", true),
            ("http://notlocal.example/x", false),
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
                matches!(proxied(url).proxy(), Err(NetworkSettingsError::Proxy)),
                "{url}"
            );
        }
        let with = |pem: &str| NetworkSettings {
            ca: Some(pem.into()),
            ..NetworkSettings::default()
        };
        assert!(matches!(with("").tls(), Err(NetworkSettingsError::NoCa)));
        assert!(matches!(
            with("no pem").tls(),
            Err(NetworkSettingsError::NoCa)
        ));
        let torn = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(matches!(with(torn).tls(), Err(NetworkSettingsError::Ca(_))));
    }
}
