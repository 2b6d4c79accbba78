//! The transport of devices: HTTP and HTTPS.

mod network;
mod redirect;
mod stop;
mod url;

use std::fmt;
use std::io;
use std::time::Duration;

use avocado_events::Cancel;
pub use network::{Network, NetworkError, Proxy};
use redirect::{RedirectError, follow, same_origin};
use stop::Stop;
use ureq::config::ConfigBuilder;
use ureq::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
};
use ureq::http::{self, HeaderMap, HeaderName};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body};
pub use url::{BadUrl, check_url};

use crate::transport::{Response, Resume, Transport, TransportError};

const REDIRECTS: usize = 5;

/// Fetches over HTTP and HTTPS. Connections are kept and reused.
pub struct Http {
    agent: Agent,
    /// The bearer token, and the URL prefixes that may see it.
    token: Option<(String, Vec<String>)>,
    stop: Option<Stop>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl Http {
    /// A client that reaches servers directly and trusts the public CAs; the rest is as with
    /// [`Http::over`].
    pub fn new(bases: &[&str], token: Option<String>, connect: Duration, read: Duration) -> Self {
        let config = Agent::config_builder();
        Http::with(config.proxy(None), bases, token, connect, read)
    }

    /// A client that reaches servers as `network` says, and gives up on connecting after `connect`
    /// and on a silent connection after `read`. `token` goes with requests below one of `bases`
    /// and with no other; a redirect takes it along within the same origin (scheme, host and port)
    /// and nowhere else. Up to 5 redirects are followed, and none from https to http.
    ///
    /// Nothing is read from the environment.
    pub fn over(
        network: &Network,
        bases: &[&str],
        token: Option<String>,
        connect: Duration,
        read: Duration,
    ) -> Result<Self, NetworkError> {
        let config = Agent::config_builder()
            .proxy(network.proxy()?)
            .tls_config(network.tls()?);
        Ok(Http::with(config, bases, token, connect, read))
    }

    fn with(
        config: ConfigBuilder<AgentScope>,
        bases: &[&str],
        token: Option<String>,
        connect: Duration,
        read: Duration,
    ) -> Self {
        let agent = config
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
            .build()
            .new_agent();
        let bases = bases.iter().map(|base| directory(base)).collect();
        Http {
            agent,
            token: token.map(|token| (token, bases)),
            stop: None,
        }
    }

    /// Gives up, within a second, on what it is doing when `cancel` asks for it: a request that
    /// waits for an answer, a body that does not come, a pause between two attempts. (Only looking
    /// up a name and making a connection take up to `connect` each.) Afterwards every request
    /// fails with [`TransportError::Cancelled`].
    #[must_use]
    pub fn stopped_by(self, cancel: &Cancel) -> Self {
        let stop = Some(Stop::new(cancel, &self.agent));
        Http { stop, ..self }
    }

    fn check(&self) -> Result<(), TransportError> {
        self.stop.as_ref().map_or(Ok(()), Stop::check)
    }

    /// The token, if a request for `url` may carry it.
    fn token_for(&self, url: &str) -> Option<&str> {
        let (token, bases) = self.token.as_ref()?;
        let known = bases.iter().any(|base| url.starts_with(base.as_str()));
        known.then_some(token)
    }

    fn request(
        &self,
        url: &str,
        token: Option<&str>,
        resume: Option<&Resume>,
    ) -> Result<http::Response<Body>, TransportError> {
        let mut request = self.agent.get(url);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(Resume { offset, validator }) = resume {
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
        resume: Option<&Resume>,
    ) -> Result<http::Response<Body>, TransportError> {
        let mut token = self.token_for(url);
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS {
            let response = self.request(&at, token, resume)?;
            let location = response.headers().get(LOCATION);
            let Some(location) = location.filter(|_| is_redirect(&response)) else {
                return Ok(response);
            };
            let location = location.to_str().unwrap_or_default();
            let next = follow(&at, location).map_err(not_followed)?;
            // Once given up, the token does not come back.
            token = token.filter(|_| same_origin(&at, &next));
            at = next;
        }
        Err(not_followed(RedirectError::TooMany(REDIRECTS)))
    }
}

impl Transport for Http {
    fn get(&self, url: &str, resume: Option<&Resume>) -> Result<Response, TransportError> {
        self.check()?;
        let response = match self.answer(url, resume) {
            Ok(response) => response,
            // What ended because it was asked to has no other reason.
            Err(error) => return Err(self.check().err().unwrap_or(error)),
        };
        let headers = response.headers();
        let offset = match (response.status().as_u16(), resume) {
            (200, _) => 0,
            (206, Some(resume)) if starts_at(headers, resume.offset) => resume.offset,
            (206, _) | (416, _) => return Err(TransportError::Range),
            (status @ (403 | 404), _) => return Err(TransportError::Missing(status)),
            (status, _) => return Err(TransportError::Status(status)),
        };
        let (length, validator) = (text(headers, CONTENT_LENGTH), validator(headers));
        let length = length.and_then(|n| n.parse().ok());
        let body = response.into_body().into_reader();
        Ok(Response {
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

/// `url` with exactly one slash at its end.
pub(crate) fn directory(url: &str) -> String {
    format!("{}/", url.trim_end_matches('/'))
}

fn failure(error: ureq::Error) -> TransportError {
    match error {
        // What TLS says of a certificate that it does not accept.
        ureq::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => {
            TransportError::Request(Box::new(e))
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
