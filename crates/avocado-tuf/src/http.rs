//! The transport of devices: HTTP and HTTPS.

use std::time::Duration;

use ureq::Agent;
use ureq::config::RedirectAuthHeaders;
use ureq::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE,
};
use ureq::http::{HeaderMap, HeaderName};

use crate::transport::{Response, Resume, Transport, TransportError};

const REDIRECTS: u32 = 5;

/// Fetches over HTTP and HTTPS. Connections are kept and reused.
#[derive(Debug)]
pub struct Http {
    agent: Agent,
    /// The bearer token, and the URL prefixes that may see it.
    token: Option<(String, Vec<String>)>,
}

impl Http {
    /// A client that gives up on connecting after `connect` and on a silent connection after
    /// `read`. `token` goes with requests below one of `bases` and with no other; a redirect
    /// never takes it along.
    ///
    /// Nothing is read from the environment; in particular no proxy is used.
    pub fn new(bases: &[&str], token: Option<String>, connect: Duration, read: Duration) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(REDIRECTS)
            .redirect_auth_headers(RedirectAuthHeaders::Never)
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
        }
    }
}

impl Transport for Http {
    fn get(&self, url: &str, resume: Option<&Resume>) -> Result<Response, TransportError> {
        let mut request = self.agent.get(url);
        if let Some((token, bases)) = &self.token
            && bases.iter().any(|base| url.starts_with(base.as_str()))
        {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(Resume { offset, validator }) = resume {
            request = request.header(RANGE, format!("bytes={offset}-"));
            if let Some(validator) = validator {
                request = request.header(IF_RANGE, validator);
            }
        }
        let response = request.call().map_err(failure)?;
        let headers = response.headers();
        let offset = match (response.status().as_u16(), resume) {
            (200, _) => 0,
            (206, Some(resume)) if starts_at(headers, resume.offset) => resume.offset,
            (206, _) | (416, _) => return Err(TransportError::Range),
            (status @ (403 | 404), _) => return Err(TransportError::Missing(status)),
            (status, _) => return Err(TransportError::Status(status)),
        };
        Ok(Response {
            offset,
            length: text(headers, CONTENT_LENGTH).and_then(|n| n.parse().ok()),
            validator: validator(headers),
            body: Box::new(response.into_body().into_reader()),
        })
    }
}

/// `url` with exactly one slash at its end.
pub(crate) fn directory(url: &str) -> String {
    format!("{}/", url.trim_end_matches('/'))
}

fn failure(error: ureq::Error) -> TransportError {
    match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::BodyStalled
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
