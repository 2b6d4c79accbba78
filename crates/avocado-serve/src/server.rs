//! The server: a thread that listens, and its end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::connection::{AcceptedConnection, ConnectionStream};
use crate::request::RequestReporter;
use crate::site::Site;
use crate::stop_signal::StopSignal;
use crate::{ServeError, ServeOptions, TlsIdentity, content};

/// How long a stopping server lets answers finish that are on their way.
const GRACE: Duration = Duration::from_secs(5);
/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait before listening again when the system has no more connections to give.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// A running server. It stops when it is dropped.
pub struct FileServer {
    address: SocketAddr,
    scheme: &'static str,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for FileServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileServer")
            .field("url", &self.url())
            .finish()
    }
}

impl FileServer {
    /// Starts serving. When it returns, connections are accepted.
    ///
    /// # Errors
    /// The directory is not there, the address cannot be had, or the TLS identity is unusable.
    pub fn start(options: ServeOptions) -> Result<Self, ServeError> {
        FileServer::start_with(options, |connection| {
            let (site, client) = (connection.site().clone(), connection.client());
            connection.speak(
                |stream| stream,
                move |request| site.clone().answer(request, client),
            )
        })
    }

    /// As [`FileServer::start`], with every connection left to `speak`, which calls
    /// [`AcceptedConnection::speak`] with what it puts around stream and answers.
    ///
    /// # Errors
    /// As [`FileServer::start`].
    pub fn start_with<S, F>(options: ServeOptions, speak: S) -> Result<Self, ServeError>
    where
        S: Fn(AcceptedConnection) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let root = content::check_root(&options.root).map_err(|source| ServeError::Root {
            path: options.root.clone(),
            source,
        })?;
        let tls = options
            .tls
            .as_ref()
            .map(TlsIdentity::acceptor)
            .transpose()?;
        let cannot_listen = |source| ServeError::Listen {
            address: options.address,
            source,
        };
        let listener = std::net::TcpListener::bind(options.address).map_err(cannot_listen)?;
        listener.set_nonblocking(true).map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ServeError::Thread)?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener).map_err(cannot_listen)?
        };
        let (stop, stopped) = watch::channel(false);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listening = Listening {
            listener,
            tls,
            site: Arc::new(Site::new(
                root,
                options.token,
                options.uploads,
                RequestReporter::new(options.on_request),
            )),
            stop: StopSignal(stopped),
            speak: Arc::new(speak),
        };
        let thread = std::thread::Builder::new()
            .name("avocado-serve".into())
            // Dropping the runtime at the end of the thread waits for its file reads.
            .spawn(move || runtime.block_on(listening.run()))
            .map_err(ServeError::Thread)?;
        Ok(FileServer {
            address,
            scheme,
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

    /// Stops: no new connections, five seconds for what is on its way, then the end. Dropping the
    /// server does the same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Its panic was reported by the thread itself; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

/// What the server's thread works with.
struct Listening<S> {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    site: Arc<Site>,
    stop: StopSignal,
    speak: Arc<S>,
}

impl<S, F> Listening<S>
where
    S: Fn(AcceptedConnection) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    async fn run(self) {
        let mut connections = JoinSet::new();
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.wait() => break,
                Some(_) = connections.join_next() => continue,
            };
            let Ok((stream, client)) = accepted else {
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            };
            let accepted = accept(stream, self.tls.clone(), self.stop.clone());
            let (site, stop, speak) = (self.site.clone(), self.stop.clone(), self.speak.clone());
            connections.spawn(async move {
                if let Some(stream) = accepted.await {
                    speak(AcceptedConnection {
                        stream,
                        client,
                        site,
                        stop,
                    })
                    .await;
                }
            });
        }
        drop(self.listener);
        let all = async { while connections.join_next().await.is_some() {} };
        // What is still there after the grace ends with the set.
        let _ = tokio::time::timeout(GRACE, all).await;
    }
}

/// The stream of a connection; none when its TLS handshake failed or the server stopped.
async fn accept(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    mut stop: StopSignal,
) -> Option<ConnectionStream> {
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return Some(Box::new(stream));
    };
    let handshake = tokio::time::timeout(HANDSHAKE, tls.accept(stream));
    tokio::select! {
        done = handshake => Some(Box::new(done.ok()?.ok()?)),
        () = stop.wait() => None,
    }
}
