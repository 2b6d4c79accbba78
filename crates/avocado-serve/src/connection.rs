//! One accepted connection, and the HTTP that is spoken on it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::site::Site;
use crate::stop_signal::StopSignal;

/// The longest head of a request, in bytes; a longer one is refused. So much memory may each
/// connection take that never asks for anything.
const LONGEST_HEAD: usize = 16 * 1024;

/// Both directions of a connection, with or without TLS.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// What a connection is read from and written to.
pub type ConnectionStream = Box<dyn Duplex>;

/// A connection that was accepted, and what its client may ask for.
pub struct AcceptedConnection {
    pub(crate) stream: ConnectionStream,
    pub(crate) client: SocketAddr,
    pub(crate) site: Arc<Site>,
    pub(crate) stop: StopSignal,
}

impl AcceptedConnection {
    /// Who connected.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// What answers the client's requests.
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// Tells when the server stops.
    pub fn stop_signal(&self) -> &StopSignal {
        &self.stop
    }

    /// Answers one request after the other until client or server end the connection. `around`
    /// may put something around the stream.
    pub async fn speak<S, A, F, B>(self, around: impl FnOnce(ConnectionStream) -> S, answer: A)
    where
        S: Duplex + 'static,
        A: Fn(Request<Incoming>) -> F,
        F: Future<Output = Response<B>>,
        B: Body<Data = Bytes, Error = io::Error> + 'static,
    {
        let mut stop = self.stop;
        let service = service_fn(|request| {
            let response = answer(request);
            async { Ok::<_, Infallible>(response.await) }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .max_buf_size(LONGEST_HEAD)
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(around(self.stream)), service)
        );
        // A connection that fails is the client's business; what became of its request is told by
        // the end of the answer's body.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = stop.wait() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
}
