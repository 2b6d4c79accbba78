//! The ways to servers: directly, or through a proxy, and then as the tools beside us do it. A proxy
//! is asked for an http URL itself, and for a connection (`CONNECT`) to the server of an https URL:
//! many allow `CONNECT` to port 443 alone.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ureq::config::{Config, ConfigBuilder};
use ureq::http::HeaderName;
use ureq::http::Uri;
use ureq::http::header::{HOST, PROXY_AUTHORIZATION};
use ureq::typestate::{AgentScope, WithBody, WithoutBody};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector,
    TcpConnector, Transport,
};
use ureq::{Agent, Error, Proxy, RequestBuilder};

use crate::address_range::AddressRange;
use crate::deadline::DeadlineConnector;
use crate::secrets::without_secrets;

/// How servers are reached.
pub(crate) struct Routes {
    direct: Agent,
    proxy: Option<ProxyRoutes>,
}

struct ProxyRoutes {
    proxy: Proxy,
    /// The addresses that are reached without it.
    direct: Vec<AddressRange>,
    /// Its URL, without user and password.
    url: String,
    /// What it is told of the user.
    authorization: Option<String>,
    /// Has it connect to the server.
    tunnel: Agent,
    /// Has it fetch the URL.
    forward: Agent,
}

impl Routes {
    /// `config` makes the settings that all ways have in common.
    pub(crate) fn new(
        proxy: Option<Proxy>,
        direct_addresses: Vec<AddressRange>,
        config: impl Fn() -> ConfigBuilder<AgentScope>,
    ) -> Self {
        let direct = agent(config().proxy(None).build());
        let proxy = proxy.map(|proxy| ProxyRoutes {
            url: url_of(&proxy),
            authorization: authorization(&proxy),
            tunnel: agent(config().proxy(Some(proxy.clone())).build()),
            forward: agent(config().proxy(None).build()),
            direct: direct_addresses,
            proxy,
        });
        Routes { direct, proxy }
    }

    pub(crate) fn agents(&self) -> Vec<Agent> {
        let proxied = self.proxy.iter();
        let proxied = proxied.flat_map(|proxy| [proxy.tunnel.clone(), proxy.forward.clone()]);
        std::iter::once(self.direct.clone())
            .chain(proxied)
            .collect()
    }

    /// A request for `url`.
    pub(crate) fn get(&self, url: &str) -> RequestBuilder<WithoutBody> {
        let route = self.route(url);
        route.prepare(route.agent.get(&*route.url))
    }

    /// A request for what the server says of `url`.
    pub(crate) fn head(&self, url: &str) -> RequestBuilder<WithoutBody> {
        let route = self.route(url);
        route.prepare(route.agent.head(&*route.url))
    }

    /// A request to keep something at `url`.
    pub(crate) fn put(&self, url: &str) -> RequestBuilder<WithBody> {
        let route = self.route(url);
        route.prepare(route.agent.put(&*route.url))
    }

    fn route<'r>(&'r self, url: &'r str) -> Route<'r> {
        let direct = |agent| Route {
            agent,
            url: Cow::Borrowed(url),
            headers: Vec::new(),
        };
        let Some((proxy, uri)) = self.proxied(url) else {
            return direct(&self.direct);
        };
        if uri.scheme_str() != Some("http") {
            return direct(&proxy.tunnel);
        }
        let (_, host) = uri.authority().map_or(("", ""), |authority| {
            let authority = authority.as_str();
            authority.rsplit_once('@').unwrap_or(("", authority))
        });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authorization = proxy.authorization.iter();
        let authorization = authorization.map(|value| (PROXY_AUTHORIZATION, value.clone()));
        Route {
            agent: &proxy.forward,
            // The connection makes the path an absolute URL.
            url: Cow::Owned(format!("{}/http://{host}{path}", proxy.url)),
            headers: std::iter::once((HOST, host.to_owned()))
                .chain(authorization)
                .collect(),
        }
    }

    /// The URL of the proxy that a request for `url` goes through.
    pub(crate) fn proxy_for(&self, url: &str) -> Option<&str> {
        Some(&self.proxied(url)?.0.url)
    }

    fn proxied(&self, url: &str) -> Option<(&ProxyRoutes, Uri)> {
        let proxy = self.proxy.as_ref()?;
        let uri: Uri = url.parse().ok()?;
        let host = uri.host().unwrap_or_default();
        let direct = proxy.direct.iter().any(|range| range.contains(host));
        (!direct && !proxy.proxy.is_no_proxy(&uri)).then_some((proxy, uri))
    }
}

/// The way of one request.
struct Route<'r> {
    agent: &'r Agent,
    url: Cow<'r, str>,
    headers: Vec<(HeaderName, String)>,
}

impl Route<'_> {
    fn prepare<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        let headers = self.headers.iter();
        headers.fold(request, |request, (name, value)| {
            request.header(name, value)
        })
    }
}

fn agent(config: Config) -> Agent {
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(DeadlineConnector)
            .chain(RustlsConnector::default())
            .chain(AbsoluteFormConnector);
    Agent::with_parts(config, connector, DefaultResolver::default())
}

fn url_of(proxy: &Proxy) -> String {
    let url = without_secrets(&proxy.uri().to_string());
    url.trim_end_matches('/').to_owned()
}

fn authorization(proxy: &Proxy) -> Option<String> {
    let (user, password) = (proxy.username(), proxy.password());
    user.or(password)?;
    let both = format!("{}:{}", user.unwrap_or(""), password.unwrap_or(""));
    Some(format!("Basic {}", BASE64_STANDARD.encode(both)))
}

/// What a request that a proxy is to make for us begins with, before it is one.
const RELATIVE: [&[u8]; 3] = [b"GET /http://", b"HEAD /http://", b"PUT /http://"];

/// The end of its first line.
const VERSION: &[u8] = b" HTTP/1.1\r\n";

/// Where its slash is; `None` where these bytes are no such request.
fn slash(output: &[u8]) -> Option<usize> {
    let method = RELATIVE.iter().find(|begin| output.starts_with(begin))?;
    let line = output.iter().position(|byte| *byte == b'\n')?;
    let is_request = output[..=line].ends_with(VERSION);
    is_request.then(|| method.iter().position(|byte| *byte == b'/'))?
}

/// Makes connections that send `GET http://…` where the path is `/http://…`: the client of HTTP
/// below us knows no other form than paths.
#[derive(Debug)]
struct AbsoluteFormConnector;

impl<In: Transport> Connector<In> for AbsoluteFormConnector {
    type Out = AbsoluteForm<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(AbsoluteForm))
    }
}

#[derive(Debug)]
struct AbsoluteForm<T>(T);

impl<T: Transport> Transport for AbsoluteForm<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = self.0.buffers().output();
        // A body that begins so would lose a byte, which the digest of what is kept does not forgive.
        let Some(slash) = slash(output).filter(|_| amount <= output.len()) else {
            return self.0.transmit_output(amount, timeout);
        };
        output.copy_within(slash + 1..amount, slash);
        self.0.transmit_output(amount - 1, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
