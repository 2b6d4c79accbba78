//! The server: a thread that listens, and its end.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::answer::Site;
use crate::faults::Faults;
use crate::log::{Log, Request};
use crate::wire::{Flushes, Wire};
use crate::{Error, Options, content};

/// How long a stopping server lets answers finish that are on their way.
const GRACE: Duration = Duration::from_secs(5);
/// How long a client may take for its TLS greeting.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait before listening again when the system has no more connections to give.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// A running server. It stops when it is dropped.
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    faults: Faults,
    log: Log,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Tells when the server stops.
#[derive(Clone)]
pub(crate) struct Stopped(watch::Receiver<bool>);

impl Stopped {
    pub(crate) async fn wait(&mut self) {
        // It fails when the server is gone, which is the same.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.url()).finish()
    }
}

impl Server {
    /// Starts serving. When it returns, connections are accepted.
    ///
    /// # Errors
    /// The directory is not there, the address cannot be had, or the TLS identity is unusable.
    pub fn start(options: Options) -> Result<Self, Error> {
        let root = content::check_root(&options.root).map_err(|source| Error::Root {
            path: options.root.clone(),
            source,
        })?;
        let tls = options.tls.as_ref().map(crate::Tls::acceptor).transpose()?;
        let cannot_listen = |source| Error::Listen {
            address: options.address,
            source,
        };
        let listener = std::net::TcpListener::bind(options.address).map_err(cannot_listen)?;
        listener.set_nonblocking(true).map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener).map_err(cannot_listen)?
        };
        let log = Log::new(options.on_request);
        let (stop, stopped) = watch::channel(false);
        let stopped = Stopped(stopped);
        let site = Arc::new(Site {
            root,
            token: options.token,
            faults: options.faults.clone(),
            log: log.clone(),
            stopped: stopped.clone(),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let thread = std::thread::Builder::new()
            .name("avocado-serve".into())
            // Dropping the runtime at the end of the thread waits for its file reads.
            .spawn(move || runtime.block_on(listen(listener, tls, site, stopped)))
            .map_err(Error::Thread)?;
        Ok(Server {
            address,
            scheme,
            faults: options.faults,
            log,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the directory, without a final slash. A server that listens everywhere is named
    /// by its loopback address.
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let address = SocketAddr::new(ip, self.address.port());
        format!("{}://{address}", self.scheme)
    }

    /// The handle to what goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The newest requests (at most 10 000), oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.log.requests()
    }

    /// Waits until the requests are as `until` wants them, at most for `limit`; says whether they
    /// are.
    pub fn wait(&self, limit: Duration, until: impl FnMut(&[Request]) -> bool) -> bool {
        self.log.wait(limit, until)
    }

    /// Stops: no new connections, five seconds for what is on its way, then the end. Dropping the
    /// server does the same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Its panic was reported by the thread itself; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

async fn listen(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    site: Arc<Site>,
    mut stopped: Stopped,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped.wait() => break,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, client)) = accepted else {
            tokio::time::sleep(EXHAUSTED).await;
            continue;
        };
        connections.spawn(connect(
            stream,
            client,
            tls.clone(),
            site.clone(),
            stopped.clone(),
        ));
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // What is still there after the grace ends with the set.
    let _ = tokio::time::timeout(GRACE, all).await;
}

async fn connect(
    stream: TcpStream,
    client: SocketAddr,
    tls: Option<TlsAcceptor>,
    site: Arc<Site>,
    mut stopped: Stopped,
) {
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return talk(stream, client, site, stopped).await;
    };
    let greeting = tokio::time::timeout(HANDSHAKE, tls.accept(stream));
    let greeted = tokio::select! {
        greeted = greeting => greeted,
        () = stopped.wait() => return,
    };
    if let Ok(Ok(stream)) = greeted {
        talk(stream, client, site, stopped).await;
    }
}

async fn talk<S>(stream: S, client: SocketAddr, site: Arc<Site>, mut stopped: Stopped)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let flushes = Flushes::default();
    let io = TokioIo::new(Wire::new(stream, flushes.clone()));
    let service = service_fn(move |request| {
        let answer = site.clone().answer(request, client, flushes.clone());
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(io, service)
    );
    // A connection that fails is the client's business; the log has what became of its request.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopped.wait() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
