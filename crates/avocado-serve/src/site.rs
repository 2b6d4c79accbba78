//! From a request to its answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_RANGES, ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
    WWW_AUTHENTICATE,
};
use hyper::http::HeaderValue;
use hyper::{Method, Response, StatusCode};

use crate::UploadOptions;
use crate::body::AnswerBody;
use crate::content::{self, FileContent, UrlPath};
use crate::range::{self, RequestedRange};
use crate::request::{RequestOutcome, RequestReporter, ServedRequest};
use crate::upload::Uploads;

/// The longest method and range in a report, in bytes.
const LONGEST_WORD: usize = 128;

/// The directory, who may read it, and who is told: what all connections of a server share.
pub struct Site {
    root: PathBuf,
    token: Option<String>,
    uploads: Option<Arc<Uploads>>,
    reporter: Arc<RequestReporter>,
}

/// What an answer will be, before it is one.
struct AnswerDraft {
    status: StatusCode,
    headers: HeaderMap,
    content: AnswerContent,
}

enum AnswerContent {
    Text(String),
    File(FileContent, std::ops::Range<u64>),
}

impl AnswerDraft {
    fn text(status: StatusCode, text: impl Into<String>) -> Self {
        AnswerDraft {
            status,
            headers: HeaderMap::new(),
            content: AnswerContent::Text(text.into()),
        }
    }

    fn plain(status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or("error");
        AnswerDraft::text(status, format!("{} {reason}\n", status.as_u16()))
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
    pub(crate) fn new(
        root: PathBuf,
        token: Option<String>,
        uploads: Option<UploadOptions>,
        reporter: RequestReporter,
    ) -> Self {
        Site {
            uploads: uploads.map(|options| Arc::new(Uploads::new(root.clone(), options))),
            root,
            token,
            reporter: Arc::new(reporter),
        }
    }

    /// Answers one request of `client`.
    pub async fn answer(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        client: SocketAddr,
    ) -> Response<AnswerBody> {
        let path = UrlPath::new(request.uri().path());
        let uploads = self
            .uploads
            .clone()
            .filter(|_| request.method() == Method::PUT);
        let Some(uploads) = uploads else {
            let draft = self.draft(request.method(), &path, request.headers()).await;
            return self.respond(&request, path.text, client, draft);
        };
        let (parts, body) = request.into_parts();
        let token = uploads.token().or(self.token.as_deref());
        let draft = if is_admitted(token, &parts.headers) {
            let length = text_of(&parts.headers, CONTENT_LENGTH).and_then(|n| n.parse().ok());
            let file = path.file.unwrap_or_default();
            AnswerDraft::plain(uploads.take(&file, length, body).await)
        } else {
            unauthorised()
        };
        let request = hyper::Request::from_parts(parts, ());
        self.respond(&request, path.text, client, draft)
    }

    /// Answers one request of `client` with `status` and its reason, whatever is there.
    pub fn refuse(
        self: Arc<Self>,
        request: &hyper::Request<Incoming>,
        client: SocketAddr,
        status: StatusCode,
    ) -> Response<AnswerBody> {
        let path = UrlPath::new(request.uri().path());
        self.respond(request, path.text, client, AnswerDraft::plain(status))
    }

    /// Whether a request with these headers carries the token, where one is asked for.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        is_admitted(self.token.as_deref(), headers)
    }

    fn respond<B>(
        self: Arc<Self>,
        request: &hyper::Request<B>,
        path: String,
        client: SocketAddr,
        draft: AnswerDraft,
    ) -> Response<AnswerBody> {
        let head = request.method() == Method::HEAD;
        let (length, kind) = match &draft.content {
            AnswerContent::Text(text) => (text.len() as u64, "text/plain; charset=utf-8"),
            AnswerContent::File(content, range) => (range.end - range.start, content.kind),
        };
        let bodiless = head || draft.status == StatusCode::NOT_MODIFIED;
        let request = ServedRequest {
            number: self.reporter.next_number(),
            client,
            method: content::beginning(request.method().as_str(), LONGEST_WORD),
            path,
            range: text_of(request.headers(), RANGE)
                .map(|range| content::beginning(range, LONGEST_WORD)),
            status: draft.status.as_u16(),
            sent: 0,
            total: if bodiless { 0 } else { length },
            outcome: RequestOutcome::Sending,
        };
        let reporter = self.reporter.clone();
        reporter.tell(&request);
        let body = match draft.content {
            _ if bodiless => AnswerBody::whole(Bytes::new(), request, reporter),
            AnswerContent::Text(text) => AnswerBody::whole(text.into(), request, reporter),
            AnswerContent::File(content, range) => {
                AnswerBody::file(content.file, range, request, reporter)
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

    async fn draft(&self, method: &Method, path: &UrlPath, headers: &HeaderMap) -> AnswerDraft {
        if !self.admits(headers) {
            return unauthorised();
        }
        if method != Method::GET && method != Method::HEAD {
            return AnswerDraft::plain(StatusCode::METHOD_NOT_ALLOWED).with(ALLOW, "GET, HEAD");
        }
        let Some(file) = path.file.clone() else {
            return AnswerDraft::plain(StatusCode::NOT_FOUND);
        };
        let root = self.root.clone();
        let uploads = self.uploads.clone();
        // Looking a file up may wait for a disk.
        let opened = tokio::task::spawn_blocking(move || {
            if let Some(uploads) = uploads {
                uploads.used(&file);
            }
            content::open(&root, &file)
        })
        .await;
        match opened {
            Ok(Ok(Some(content))) => deliver(content, method, headers),
            Ok(Ok(None)) => AnswerDraft::plain(StatusCode::NOT_FOUND),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                AnswerDraft::plain(StatusCode::FORBIDDEN)
            }
            Ok(Err(_)) | Err(_) => AnswerDraft::plain(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// Whether a request with these headers carries the token, where one is asked for.
fn is_admitted(token: Option<&str>, headers: &HeaderMap) -> bool {
    let Some(token) = token else {
        return true;
    };
    let Some(given) = headers.get(AUTHORIZATION) else {
        return false;
    };
    let after = |scheme: &[u8]| {
        let (start, rest) = given.as_bytes().split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    // Programs that know users alone have it as the password of any.
    let of_user = || {
        let pair = BASE64_STANDARD.decode(after(b"Basic ")?).ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        pair.get(colon + 1..).map(<[u8]>::to_vec)
    };
    let is_token = |given: &[u8]| same(given, token.as_bytes());
    after(b"Bearer ").is_some_and(is_token) || of_user().is_some_and(|given| is_token(&given))
}

fn unauthorised() -> AnswerDraft {
    AnswerDraft::plain(StatusCode::UNAUTHORIZED).with(WWW_AUTHENTICATE, "Bearer realm=\"avocado\"")
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
fn deliver(content: FileContent, method: &Method, headers: &HeaderMap) -> AnswerDraft {
    let length = content.length;
    let etag = content.etag.clone();
    let modified = httpdate::fmt_http_date(content.modified);
    let (status, range) = if unchanged(&content, headers) {
        (StatusCode::NOT_MODIFIED, None)
    } else {
        let header = text_of(headers, RANGE)
            .filter(|_| method == Method::GET && range_applies(&content, headers));
        match range::requested(header, length) {
            RequestedRange::WholeFile => (StatusCode::OK, Some(0..length)),
            RequestedRange::Bytes(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
            RequestedRange::BeyondEnd => (StatusCode::RANGE_NOT_SATISFIABLE, None),
        }
    };
    let draft = match (status, &range) {
        (StatusCode::NOT_MODIFIED, _) => AnswerDraft::text(status, ""),
        (StatusCode::PARTIAL_CONTENT, Some(range)) => AnswerDraft::text(status, "").with(
            CONTENT_RANGE,
            &format!("bytes {}-{}/{length}", range.start, range.end - 1),
        ),
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
            AnswerDraft::plain(status).with(CONTENT_RANGE, &format!("bytes */{length}"))
        }
        _ => AnswerDraft::text(status, ""),
    };
    let draft = draft
        .with(ACCEPT_RANGES, "bytes")
        .with(ETAG, &etag)
        .with(LAST_MODIFIED, &modified);
    match range {
        Some(range) => AnswerDraft {
            content: AnswerContent::File(content, range),
            ..draft
        },
        None => draft,
    }
}

/// Whether the client has this very file already.
fn unchanged(content: &FileContent, headers: &HeaderMap) -> bool {
    if let Some(tags) = text_of(headers, IF_NONE_MATCH) {
        return tags
            .split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == content.etag);
    }
    date_of(headers, IF_MODIFIED_SINCE).is_some_and(|since| content.modified <= since)
}

/// Whether `If-Range` lets the `Range` header count: the client's part is of this very file.
fn range_applies(content: &FileContent, headers: &HeaderMap) -> bool {
    match text_of(headers, IF_RANGE) {
        None => true,
        Some(tag) if tag.starts_with('"') || tag.starts_with("W/") => tag == content.etag,
        Some(_) => date_of(headers, IF_RANGE) == Some(content.modified),
    }
}

fn date_of(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(text_of(headers, name)?).ok()
}
