//! The server: the one that we ship, with faults on the way of its answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use avocado_serve::{AcceptedConnection, FileServer, ServeError, ServeOptions, Site, StopSignal};
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, HeaderName, RANGE};
use hyper::{Request, Response, StatusCode};

use crate::faults::{FaultPlan, Faults};
use crate::faulty_body::FaultyBody;
use crate::flushes::{CountedStream, Flushes};
use crate::request_log::{LoggedOutcome, LoggedRequest, RequestLog};

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub struct TestServer {
    server: FileServer,
    faults: Faults,
    log: RequestLog,
}

impl TestServer {
    /// Starts serving, without faults. When it returns, connections are accepted.
    ///
    /// # Errors
    /// Those of [`FileServer::start`].
    pub fn start(options: ServeOptions) -> Result<Self, ServeError> {
        let faults = Faults::default();
        let log = RequestLog::default();
        let server = FileServer::start_with(options, {
            let (faults, log) = (faults.clone(), log.clone());
            move |connection| speak(connection, faults.clone(), log.clone())
        })?;
        Ok(TestServer {
            server,
            faults,
            log,
        })
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL of the directory, without a final slash.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The handle to what goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The newest requests (at most 10 000), oldest first.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.log.requests()
    }

    /// Waits until the requests are as `until` wants them, at most for `limit`; says whether they
    /// are.
    pub fn wait(&self, limit: Duration, until: impl FnMut(&[LoggedRequest]) -> bool) -> bool {
        self.log.wait(limit, until)
    }

    /// Stops, as [`FileServer::stop`]. Dropping the server does the same.
    pub fn stop(self) {
        drop(self);
    }
}

async fn speak(connection: AcceptedConnection, faults: Faults, log: RequestLog) {
    let flushes = Flushes::default();
    let exchange = Exchange {
        site: connection.site().clone(),
        client: connection.client(),
        stop: connection.stop_signal().clone(),
        flushes: flushes.clone(),
        faults,
        log,
    };
    connection
        .speak(
            |stream| CountedStream::new(stream, flushes),
            move |request| exchange.clone().answer(request),
        )
        .await;
}

/// What every answer on one connection is made with.
/// The longest method and header that is remembered.
const LONGEST_WORD: usize = 128;

#[derive(Clone)]
struct Exchange {
    site: Arc<Site>,
    client: SocketAddr,
    stop: StopSignal,
    flushes: Flushes,
    faults: Faults,
    log: RequestLog,
}

impl Exchange {
    async fn answer(self, mut request: Request<Incoming>) -> Response<FaultyBody> {
        let path = avocado_serve::decoded_path(request.uri().path());
        let headers = request.headers();
        let mut logged = LoggedRequest {
            number: 0,
            client: self.client,
            method: request
                .method()
                .as_str()
                .chars()
                .take(LONGEST_WORD)
                .collect(),
            path,
            range: text_of(&request, RANGE),
            authorization: headers.contains_key(AUTHORIZATION),
            status: 0,
            sent: 0,
            total: 0,
            outcome: LoggedOutcome::Sending,
        };
        // A request without the token is refused before anything else can happen to it.
        let plan = if self.site.admits(headers) {
            self.faults.plan(&logged.path)
        } else {
            FaultPlan::default()
        };
        if plan.ignore_range {
            request.headers_mut().remove(RANGE);
        }
        let response = match plan.status {
            Some(status) => {
                let status =
                    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                self.site.refuse(&request, self.client, status)
            }
            None => self.site.answer(request, self.client).await,
        };
        logged.status = response.status().as_u16();
        logged.total = response.body().size_hint().exact().unwrap_or_default();
        // Only files are spoilt, not what is said about them.
        let delivered = matches!(
            response.status(),
            StatusCode::OK | StatusCode::PARTIAL_CONTENT
        );
        let plan = if delivered {
            plan
        } else {
            FaultPlan::default()
        };
        let total = logged.total;
        let number = self.log.add(logged);
        response.map(|body| {
            FaultyBody::new(
                body,
                total,
                plan,
                self.log.entry(number),
                self.flushes,
                self.stop,
            )
        })
    }
}

fn text_of(request: &Request<Incoming>, name: HeaderName) -> Option<String> {
    let value = request.headers().get(name)?.to_str().ok()?;
    Some(value.chars().take(LONGEST_WORD).collect())
}
