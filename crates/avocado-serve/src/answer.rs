//! From a request to its answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_RANGES, ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
    WWW_AUTHENTICATE,
};
use hyper::http::HeaderValue;
use hyper::{Method, Response, StatusCode};

use crate::body::{Answer, Reader};
use crate::content::{self, Content, UrlPath};
use crate::faults::{Faults, Plan};
use crate::log::{Log, Outcome, Request};
use crate::range::{self, Wanted};
use crate::server::Stopped;
use crate::wire::Flushes;

/// What all connections of a server share.
pub(crate) struct Site {
    pub(crate) root: PathBuf,
    pub(crate) token: Option<String>,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    pub(crate) stopped: Stopped,
}

/// What an answer will be, before it is one.
struct Draft {
    status: StatusCode,
    headers: HeaderMap,
    content: Payload,
    plan: Plan,
}

enum Payload {
    Text(String),
    File(Content, std::ops::Range<u64>),
}

impl Draft {
    fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Draft {
            status,
            headers: HeaderMap::new(),
            content: Payload::Text(text.into()),
            plan: Plan::default(),
        }
    }

    fn plain(status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or("error");
        Draft::text(status, format!("{} {reason}\n", status.as_u16()))
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        // Every value here is made of ASCII that we wrote; another one would just be left out.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

impl Site {
    /// Answers one request of `client`.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        client: SocketAddr,
        flushes: Flushes,
    ) -> Response<Answer> {
        let path = UrlPath::new(request.uri().path());
        let headers = request.headers();
        let head = request.method() == Method::HEAD;
        let draft = self.draft(request.method(), &path, headers).await;
        let (length, kind) = match &draft.content {
            Payload::Text(text) => (text.len() as u64, "text/plain; charset=utf-8"),
            Payload::File(content, range) => (range.end - range.start, content.kind),
        };
        let bodiless = head || draft.status == StatusCode::NOT_MODIFIED;
        let number = self.log.add(Request {
            number: 0,
            client,
            method: request.method().to_string(),
            path: path.text,
            range: text_of(headers, RANGE).map(str::to_owned),
            authorization: headers.contains_key(AUTHORIZATION),
            status: draft.status.as_u16(),
            sent: 0,
            total: if bodiless { 0 } else { length },
            outcome: Outcome::Sending,
        });
        let log = self.log.clone();
        let body = match draft.content {
            _ if bodiless => Answer::whole(Bytes::new(), number, log),
            Payload::Text(text) => Answer::whole(text.into(), number, log),
            Payload::File(content, range) => {
                let reader = Reader {
                    total: length,
                    plan: draft.plan,
                    number,
                    log,
                    stopped: self.stopped.clone(),
                };
                Answer::file(reader, content.file, range.start, flushes)
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = draft.status;
        *response.headers_mut() = draft.headers;
        if draft.status != StatusCode::NOT_MODIFIED {
            let headers = response.headers_mut();
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        response
    }

    async fn draft(&self, method: &Method, path: &UrlPath, headers: &HeaderMap) -> Draft {
        if !self.admits(headers) {
            return Draft::plain(StatusCode::UNAUTHORIZED)
                .with(WWW_AUTHENTICATE, "Bearer realm=\"avocado\"");
        }
        let plan = self.faults.plan(&path.text);
        if let Some(status) = plan.status {
            return Draft::plain(
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            );
        }
        if method != Method::GET && method != Method::HEAD {
            return Draft::plain(StatusCode::METHOD_NOT_ALLOWED).with(ALLOW, "GET, HEAD");
        }
        let Some(file) = path.file.clone() else {
            return Draft::plain(StatusCode::NOT_FOUND);
        };
        let root = self.root.clone();
        // Looking a file up may wait for a disk.
        let opened = tokio::task::spawn_blocking(move || content::open(&root, &file)).await;
        match opened {
            Ok(Ok(Some(content))) => deliver(content, method, headers, plan),
            Ok(Ok(None)) => Draft::plain(StatusCode::NOT_FOUND),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Draft::plain(StatusCode::FORBIDDEN)
            }
            Ok(Err(_)) | Err(_) => Draft::plain(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        headers
            .get(AUTHORIZATION)
            .and_then(|value| value.as_bytes().split_at_checked(b"Bearer ".len()))
            .is_some_and(|(scheme, given)| {
                scheme.eq_ignore_ascii_case(b"Bearer ") && same(given, token.as_bytes())
            })
    }
}

/// Whether two secrets are equal, in a time that tells nothing but their lengths.
fn same(given: &[u8], expected: &[u8]) -> bool {
    let difference = given
        .iter()
        .zip(expected)
        .fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    given.len() == expected.len() && difference == 0
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The answer for a file that is there.
fn deliver(content: Content, method: &Method, headers: &HeaderMap, plan: Plan) -> Draft {
    let length = content.length;
    let etag = content.etag.clone();
    let modified = httpdate::fmt_http_date(content.modified);
    let (status, range) = if unchanged(&content, headers) {
        (StatusCode::NOT_MODIFIED, None)
    } else {
        let header = text_of(headers, RANGE).filter(|_| {
            method == Method::GET && !plan.ignore_range && range_applies(&content, headers)
        });
        match range::wanted(header, length) {
            Wanted::All => (StatusCode::OK, Some(0..length)),
            Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
            Wanted::Nothing => (StatusCode::RANGE_NOT_SATISFIABLE, None),
        }
    };
    let draft = match (status, &range) {
        (StatusCode::NOT_MODIFIED, _) => Draft::text(status, ""),
        (StatusCode::PARTIAL_CONTENT, Some(range)) => Draft::text(status, "").with(
            CONTENT_RANGE,
            &format!("bytes {}-{}/{length}", range.start, range.end - 1),
        ),
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
            Draft::plain(status).with(CONTENT_RANGE, &format!("bytes */{length}"))
        }
        _ => Draft::text(status, ""),
    };
    let draft = draft
        .with(ACCEPT_RANGES, "bytes")
        .with(ETAG, &etag)
        .with(LAST_MODIFIED, &modified);
    match range {
        Some(range) => Draft {
            content: Payload::File(content, range),
            plan,
            ..draft
        },
        None => draft,
    }
}

/// Whether the client has this very file already.
fn unchanged(content: &Content, headers: &HeaderMap) -> bool {
    if let Some(tags) = text_of(headers, IF_NONE_MATCH) {
        return tags
            .split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == content.etag);
    }
    date_of(headers, IF_MODIFIED_SINCE).is_some_and(|since| content.modified <= since)
}

/// Whether `If-Range` lets the `Range` header count: the client's part is of this very file.
fn range_applies(content: &Content, headers: &HeaderMap) -> bool {
    match text_of(headers, IF_RANGE) {
        None => true,
        Some(tag) if tag.starts_with('"') || tag.starts_with("W/") => tag == content.etag,
        Some(_) => date_of(headers, IF_RANGE) == Some(content.modified),
    }
}

fn date_of(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(text_of(headers, name)?).ok()
}
