//! Servers that say what no honest one says.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Answers each connection in a thread of its own: its request, up to the empty line, and what to
/// write to.
pub(crate) type Answer = dyn Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync;

/// Listens until it is dropped, and remembers what was asked for.
pub(crate) struct Wire {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    pub(crate) fn start(
        answer: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let answer: Arc<Answer> = Arc::new(answer);
        let thread = {
            let (requests, stop) = (Arc::clone(&requests), Arc::clone(&stop));
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (answer, requests) = (Arc::clone(&answer), Arc::clone(&requests));
                    // It ends when its client goes away.
                    thread::spawn(move || serve(stream, &requests, &*answer));
                }
            })
        };
        Wire {
            address,
            requests,
            stop,
            thread: Some(thread),
        }
    }

    /// Answers every request with the same bytes.
    pub(crate) fn saying(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Wire::start(move |_, stream| stream.write_all(answer.as_bytes()))
    }

    /// Answers every request with a redirect to `location` followed by the path asked for.
    pub(crate) fn redirecting(location: impl Into<String>) -> Self {
        let location = location.into();
        Wire::start(move |request, stream| {
            let path = request.split(' ').nth(1).unwrap_or_default();
            let to = format!("{location}{path}");
            write!(stream, "HTTP/1.1 302 Found\r\nlocation: {to}\r\n")?;
            write!(stream, "content-length: 0\r\nconnection: close\r\n\r\n")
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, each up to its empty line.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, requests: &Mutex<Vec<String>>, answer: &Answer) {
    let Ok(clone) = stream.try_clone() else {
        return;
    };
    let mut reader = BufReader::new(clone.take(64 * 1024));
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        match reader.read_line(&mut request) {
            Ok(n) if n > 0 => {}
            _ => return,
        }
    }
    requests.lock().unwrap().push(request.clone());
    // The client may be gone by now: that is its right.
    let _ = answer(&request, &mut stream);
}

/// Tunnels to the host that a `CONNECT` names.
pub(crate) fn tunnel(request: &str, stream: &mut TcpStream) -> io::Result<()> {
    let mut words = request.split(' ');
    let (Some("CONNECT"), Some(host)) = (words.next(), words.next()) else {
        return stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n");
    };
    let mut up = TcpStream::connect(host)?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from, mut to) = (stream.try_clone()?, up.try_clone()?);
    thread::spawn(move || io::copy(&mut from, &mut to));
    io::copy(&mut up, stream)?;
    Ok(())
}

/// A proxy as most are set up: it connects to port 443 alone, fetches http URLs, and keeps to itself
/// what was said to it.
pub(crate) fn forward(request: &str, stream: &mut TcpStream) -> io::Result<()> {
    let mut words = request.split(' ');
    let target = match (words.next(), words.next()) {
        (Some("CONNECT"), Some(host)) if host.ends_with(":443") => return tunnel(request, stream),
        (Some("GET"), Some(url)) => url.strip_prefix("http://"),
        _ => None,
    };
    let Some((host, path)) = target.and_then(|target| target.split_once('/')) else {
        return stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    };
    let (_, headers) = request.split_once("\r\n").unwrap_or_default();
    let headers = headers.lines().filter(|line| !line.is_empty());
    let headers = headers.filter(|line| !line.to_ascii_lowercase().starts_with("proxy-"));
    let headers: String = headers.map(|line| format!("{line}\r\n")).collect();
    let mut up = TcpStream::connect(host)?;
    write!(
        up,
        "GET /{path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n"
    )?;
    io::copy(&mut up, stream)?;
    Ok(())
}

/// Passes on what the server at `address` says: the first bytes at once, and then one every now and
/// then.
pub(crate) fn dripping_relay(address: String, at_once: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let pass = move |mut down: TcpStream| -> io::Result<()> {
        let mut up = TcpStream::connect(&address)?;
        let (mut from, mut to) = (down.try_clone()?, up.try_clone()?);
        thread::spawn(move || io::copy(&mut from, &mut to));
        let mut byte = [0];
        for at in 0.. {
            up.read_exact(&mut byte)?;
            if at >= at_once {
                thread::sleep(std::time::Duration::from_millis(20));
            }
            down.write_all(&byte)?;
        }
        Ok(())
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pass = pass.clone();
            // It ends when its client goes away.
            thread::spawn(move || pass(stream));
        }
    });
    here
}

/// Sends `start`, and then a byte every now and then for as long as somebody listens.
pub(crate) fn drip(stream: &mut TcpStream, start: &str) -> io::Result<()> {
    drip_of(stream, start, " ")
}

/// As [`drip`], with something else than a byte.
pub(crate) fn drip_of(stream: &mut TcpStream, start: &str, drop: &str) -> io::Result<()> {
    stream.write_all(start.as_bytes())?;
    loop {
        stream.write_all(drop.as_bytes())?;
        thread::sleep(std::time::Duration::from_millis(5));
    }
}
