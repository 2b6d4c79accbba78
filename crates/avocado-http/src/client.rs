use std::fmt;
use std::io;
use std::time::Duration;

use avocado_events::Cancel;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ureq::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_RANGE, LAST_MODIFIED, LOCATION,
    RANGE, RETRY_AFTER,
};
use ureq::http::{self, HeaderMap, HeaderName};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, Proxy};

use crate::address_range::AddressRange;
use crate::certificate::ServerCertificateError;
use crate::deadline::PunctualBody;
use crate::redirect::{RedirectError, follow, same_origin};
use crate::repository_url::RepositoryUrl;
use crate::routes::Routes;
use crate::secrets::without_secrets;
use crate::settings::{NetworkSettings, NetworkSettingsError};
use crate::stop::StopWatch;
use crate::transport::{ResumeFrom, Transport, TransportError, TransportResponse};

const REDIRECTS: usize = 5;

/// Fetches over HTTP and HTTPS. Connections are kept and reused.
pub struct HttpClient {
    pub(crate) routes: Routes,
    /// How long a server may say nothing of a file.
    pub(crate) read: Duration,
    /// What says who asks, and the URLs below which it is sent along.
    authorization: Option<(String, Vec<RepositoryUrl>)>,
    stop: Option<StopWatch>,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A client that reaches servers directly and trusts the public CAs; the rest is as with
    /// [`HttpClient::over`].
    pub fn new(
        bases: &[RepositoryUrl],
        token: Option<String>,
        connect: Duration,
        read: Duration,
    ) -> Self {
        HttpClient::with(
            TlsConfig::default(),
            None,
            Vec::new(),
            bases,
            token,
            connect,
            read,
        )
    }

    /// A client that reaches servers as `network` says, and gives up on connecting after `connect`
    /// and on a connection that brings nothing of an answer after `read`, whatever else comes (see
    /// [`within_deadline`](crate::within_deadline) for a limit to all of it). `token` goes with requests below one of `bases`
    /// and with no other; a redirect takes it along within the same origin (scheme, host and port)
    /// and nowhere else. Up to 5 redirects are followed, and none from https to http.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn over(
        network: &NetworkSettings,
        bases: &[RepositoryUrl],
        token: Option<String>,
        connect: Duration,
        read: Duration,
    ) -> Result<Self, NetworkSettingsError> {
        let (tls, proxy) = (network.tls()?, network.proxy()?);
        let direct = network.direct_addresses();
        Ok(HttpClient::with(
            tls, proxy, direct, bases, token, connect, read,
        ))
    }

    fn with(
        tls: TlsConfig,
        proxy: Option<Proxy>,
        direct: Vec<AddressRange>,
        bases: &[RepositoryUrl],
        token: Option<String>,
        connect: Duration,
        read: Duration,
    ) -> Self {
        let config = || {
            Agent::config_builder()
                .tls_config(tls.clone())
                .http_status_as_error(false)
                // They are followed here, with the token in mind.
                .max_redirects(0)
                .user_agent(concat!("avocado/", env!("CARGO_PKG_VERSION")))
                // Lengths and ranges are about the file, never about a compressed form of it.
                .accept_encoding("identity")
                .timeout_resolve(Some(connect))
                .timeout_connect(Some(connect))
                .timeout_send_request(Some(read))
                .timeout_recv_response(Some(read))
                .timeout_per_read(Some(read))
        };
        let bases = bases.to_vec();
        HttpClient {
            routes: Routes::new(proxy, direct, config),
            read,
            authorization: token.map(|token| (format!("Bearer {token}"), bases)),
            stop: None,
        }
    }

    /// Says who asks with a user and a password instead of a token, where a token would be sent.
    #[must_use]
    pub fn as_user(self, bases: &[RepositoryUrl], username: &str, password: &str) -> Self {
        let pair = BASE64_STANDARD.encode(format!("{username}:{password}"));
        HttpClient {
            authorization: Some((format!("Basic {pair}"), bases.to_vec())),
            ..self
        }
    }

    /// Gives up, within a second, on what it is doing when `cancel` asks for it: a request that
    /// waits for an answer, a body that does not come, a pause between two attempts. (Only looking
    /// up a name and making a connection take up to `connect` each.) Afterwards every request
    /// fails with [`TransportError::Cancelled`].
    #[must_use]
    pub fn stopped_by(self, cancel: &Cancel) -> Self {
        let stop = Some(StopWatch::new(cancel, self.routes.agents()));
        HttpClient { stop, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), TransportError> {
        self.stop.as_ref().map_or(Ok(()), StopWatch::check)
    }

    /// Names the proxy that a request for `url` went through.
    pub(crate) fn proxied(&self, url: &str, error: TransportError) -> TransportError {
        match self.routes.proxy_for(url) {
            Some(proxy) => TransportError::Proxied {
                proxy: proxy.to_owned(),
                source: Box::new(error),
            },
            None => error,
        }
    }

    /// What says who asks, if a request for `url` may carry it.
    pub(crate) fn authorization_for(&self, url: &str) -> Option<&str> {
        let (authorization, bases) = self.authorization.as_ref()?;
        let known = bases.iter().any(|base| base.is_above(url));
        known.then_some(authorization)
    }

    fn request(
        &self,
        url: &str,
        authorization: Option<&str>,
        resume: Option<&ResumeFrom>,
    ) -> Result<http::Response<Body>, TransportError> {
        let mut request = self.routes.get(url);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(ResumeFrom { offset, validator }) = resume {
            request = request.header(RANGE, format!("bytes={offset}-"));
            if let Some(validator) = validator {
                request = request.header(IF_RANGE, validator);
            }
        }
        request.call().map_err(failure)
    }

    /// The first answer that is no redirect.
    fn answer(
        &self,
        url: &str,
        resume: Option<&ResumeFrom>,
    ) -> Result<http::Response<Body>, TransportError> {
        let mut authorization = self.authorization_for(url);
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS {
            let response = self.request(&at, authorization, resume)?;
            let location = response.headers().get(LOCATION);
            let Some(location) = location.filter(|_| is_redirect(&response)) else {
                return Ok(response);
            };
            let location = location.to_str().unwrap_or_default();
            let next = follow(&at, location).map_err(not_followed)?;
            // Once given up, it does not come back.
            authorization = authorization.filter(|_| same_origin(&at, &next));
            at = next;
        }
        Err(not_followed(RedirectError::TooMany(REDIRECTS)))
    }
}

impl Transport for HttpClient {
    fn get(
        &self,
        url: &str,
        resume: Option<&ResumeFrom>,
    ) -> Result<TransportResponse, TransportError> {
        self.check()?;
        let from = resume.map_or(0, |resume| resume.offset);
        let _span = tracing::info_span!("request", url = %without_secrets(url), from).entered();
        let response = match self.answer(url, resume) {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(%error, "no answer");
                // What ended because it was asked to has no other reason.
                return Err(self
                    .check()
                    .err()
                    .unwrap_or_else(|| self.proxied(url, error)));
            }
        };
        tracing::debug!(status = response.status().as_u16(), "answered");
        let headers = response.headers();
        let offset = match (response.status().as_u16(), resume) {
            (200, _) => 0,
            (206, Some(resume)) if starts_at(headers, resume.offset) => resume.offset,
            (206, _) | (416, _) => return Err(TransportError::Range),
            (404, _) => return Err(TransportError::Missing(404)),
            (status, _) => {
                let error = match (status, retry_after(headers)) {
                    (403, _) => TransportError::Forbidden(status),
                    (429 | 503, Some(after)) => TransportError::Busy { status, after },
                    _ => TransportError::Status(status),
                };
                return Err(self.proxied(url, error));
            }
        };
        let (length, validator) = (text(headers, CONTENT_LENGTH), validator(headers));
        let length = length.and_then(|n| n.parse().ok());
        let body = PunctualBody {
            body: response.into_body().into_reader(),
            within: self.read,
        };
        Ok(TransportResponse {
            offset,
            length,
            validator,
            body: match &self.stop {
                Some(stop) => stop.body(body),
                None => Box::new(body),
            },
        })
    }

    fn wait(&self, time: Duration) {
        match &self.stop {
            Some(stop) => stop.wait(time),
            None => std::thread::sleep(time),
        }
    }
}

fn is_redirect(response: &http::Response<Body>) -> bool {
    matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn not_followed(error: RedirectError) -> TransportError {
    TransportError::Request(Box::new(error))
}

pub(crate) fn failure(error: ureq::Error) -> TransportError {
    match error {
        // What TLS says of a certificate that it does not accept.
        ureq::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => {
            TransportError::Request(match ServerCertificateError::of(e) {
                Ok(certificate) => Box::new(certificate),
                Err(other) => Box::new(other),
            })
        }
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::BodyStalled
        | ureq::Error::ConnectProxyFailed(_)
        | ureq::Error::Protocol(_) => TransportError::Connection(Box::new(error)),
        _ => TransportError::Request(Box::new(error)),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// How long the server wants to be left alone: in seconds, or until a time of its own clock, which
/// its answer tells as well. (The clock of a device may be wrong.)
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let given = text(headers, RETRY_AFTER)?.trim();
    if let Ok(seconds) = given.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = httpdate::parse_http_date(text(headers, DATE)?.trim()).ok()?;
    let until = httpdate::parse_http_date(given).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

/// Whether a partial answer is the part that was asked for.
fn starts_at(headers: &HeaderMap, offset: u64) -> bool {
    text(headers, CONTENT_RANGE)
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.split_once('-'))
        .is_some_and(|(from, _)| from.parse() == Ok(offset))
}

/// What `If-Range` may name: a strong entity tag or, where there is none, the time of the last
/// change.
fn validator(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, ETAG).filter(|tag| tag.starts_with('"'));
    tag.or_else(|| text(headers, LAST_MODIFIED))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ProxySettings;

    #[test]
    fn a_strong_tag_before_a_date_and_never_a_weak_one() {
        type Given<'a> = &'a [(HeaderName, &'a str)];
        let cases: [(Given<'_>, Option<&str>); 4] = [
            (&[], None),
            (&[(ETAG, "\"a\""), (LAST_MODIFIED, "d")], Some("\"a\"")),
            (&[(ETAG, "W/\"a\""), (LAST_MODIFIED, "d")], Some("d")),
            (&[(ETAG, "W/\"a\"")], None),
        ];
        for (given, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.insert(name, value.parse().unwrap());
            }
            assert_eq!(validator(&headers).as_deref(), expected);
        }
    }

    #[test]
    fn a_wish_to_wait_is_in_seconds_or_by_the_clock_of_the_server() {
        const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (after, date, expected) in [
            ("7", None, Some(7)),
            (" 0 ", None, Some(0)),
            ("Sun, 06 Nov 1994 08:49:57 GMT", Some(NOW), Some(20)),
            // It has gone by.
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(NOW), Some(0)),
            ("Sun, 06 Nov 1994 08:49:57 GMT", None, None),
            ("Sun, 06 Nov 1994 08:49:57 GMT", Some("now"), None),
            ("soon", Some(NOW), None),
            ("-1", Some(NOW), None),
            ("99999999999999999999", Some(NOW), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, after.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(&headers), expected, "{after} {date:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    fn through_a_proxy(direct: &[&str]) -> (HttpClient, NetworkSettings) {
        let proxy = ProxySettings {
            url: "http://me:s3cret@proxy.example:3128".to_owned(),
            direct: direct.iter().map(|host| (*host).to_owned()).collect(),
        };
        let network = NetworkSettings {
            proxy: Some(proxy),
            ..NetworkSettings::default()
        };
        let bases = ["http://a/x".parse().unwrap()];
        let (second, token) = (Duration::from_secs(1), Some("s3cret".to_owned()));
        let client = HttpClient::over(&network, &bases, token, second, second).unwrap();
        (client, network)
    }

    #[test]
    fn what_is_shown_of_a_client_has_no_secret() {
        let (client, network) = through_a_proxy(&[]);
        let error = client.proxied("http://a/x/y", TransportError::Missing(404));
        let shown = format!("{client:?} {network:?} {error:?} {error}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("http://proxy.example:3128"), "{shown}");
    }

    #[test]
    fn names_and_addresses_are_reached_without_the_proxy() {
        let direct = ["local.example", "10.0.0.0/8", "192.0.2.1", "::1"];
        let (client, _) = through_a_proxy(&direct);
        for (host, without) in [
            ("local.example", true),
            ("a.local.example:8080", true),
            ("10.9.8.7", true),
            ("11.9.8.7", false),
            ("192.0.2.1:8080", true),
            ("192.0.2.2", false),
            ("[::1]:8080", true),
            ("[::2]", false),
            ("10.example", false),
            ("other.example", false),
        ] {
            for scheme in ["http", "https"] {
                let proxy = client.routes.proxy_for(&format!("{scheme}://{host}/x"));
                assert_eq!(proxy.is_none(), without, "{scheme} {host}");
            }
        }
    }

    #[test]
    fn a_part_is_taken_only_from_its_offset() {
        for (range, expected) in [
            ("bytes 5-9/10", true),
            ("bytes 5-9/*", true),
            ("bytes 4-9/10", false),
            ("bytes */10", false),
            ("5-9", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, range.parse().unwrap());
            assert_eq!(starts_at(&headers, 5), expected, "{range}");
        }
        assert!(!starts_at(&HeaderMap::new(), 0));
    }
}
