use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _};
use std::time::{Duration, Instant};

use avocado_http::{HttpClient, RepositoryUrl, Transport as _, TransportError, within_deadline};

use super::bucket::Bucket;
use super::{CacheStore, CacheStoreError, CopyFailure, blob_name, copy_blob, entry_name};
use crate::{ActionKey, BlobId, LONGEST_ENTRY};

/// The slowest that a server may give or take a file, in bytes per second, beside the time that it may
/// say nothing.
const SLOWEST: u64 = 256 << 10;

/// A server that keeps what it is given: `GET`, `HEAD` and `PUT` of `<url>/ac/<key>` and
/// `<url>/cas/<SHA-256>`. One that is slower than 256 KiB in a second is given up.
#[derive(Debug)]
pub struct HttpStore {
    place: HttpPlace,
    client: HttpClient,
    /// How long an answer may take beside what is in it.
    patience: Duration,
}

impl HttpStore {
    /// The store below `url`, asked by `client`. Each answer may take `patience`, and longer only by the
    /// time that its bytes need: who sends one now and then would keep whoever waits for ever.
    pub fn new(url: RepositoryUrl, client: HttpClient, patience: Duration) -> Self {
        HttpStore {
            place: HttpPlace::Server(url),
            client,
            patience,
        }
    }

    /// The same in a bucket of S3, whose server does not tell these requests from others.
    pub fn in_bucket(bucket: Bucket, client: HttpClient, patience: Duration) -> Self {
        HttpStore {
            place: HttpPlace::Bucket(bucket),
            client,
            patience,
        }
    }

    /// Asks for something, or gives it, that has up to `size` bytes.
    fn in_time<T>(&self, size: u64, work: impl FnOnce() -> T) -> T {
        let time = self.patience + Duration::from_secs(size / SLOWEST);
        match Instant::now().checked_add(time) {
            Some(end) => within_deadline(end, work),
            None => work(),
        }
    }

    fn failed(url: String) -> impl FnOnce(TransportError) -> CacheStoreError {
        |source| CacheStoreError::Server { url, source }
    }

    fn has(&self, name: &str) -> Result<bool, CacheStoreError> {
        let request = self.place.request("HEAD", name);
        let has = self.in_time(0, || self.client.has(&request));
        has.map_err(HttpStore::failed(self.place.shown(name)))
    }
}

impl CacheStore for HttpStore {
    fn entry(&self, action: ActionKey) -> Result<Option<Vec<u8>>, CacheStoreError> {
        let name = entry_name(action);
        let (request, url) = (self.place.request("GET", &name), self.place.shown(&name));
        let answer = match self.in_time(0, || self.client.get(&request, None)) {
            Err(TransportError::Missing(_)) => return Ok(None),
            answer => answer.map_err(HttpStore::failed(url.clone()))?,
        };
        let mut entry = Vec::new();
        let size = answer.length.unwrap_or(LONGEST_ENTRY).min(LONGEST_ENTRY);
        let mut body = answer.body.take(LONGEST_ENTRY + 1);
        match self.in_time(size, || body.read_to_end(&mut entry)) {
            Ok(_) => Ok(Some(entry)),
            Err(source) => Err(HttpStore::failed(url)(broken(source))),
        }
    }

    fn put_entry(&self, action: ActionKey, entry: &[u8]) -> Result<(), CacheStoreError> {
        let name = entry_name(action);
        let request = self.place.request("PUT", &name);
        let length = entry.len() as u64;
        let put = || self.client.put(&request, length, Cursor::new(entry));
        let put = self.in_time(length, put);
        put.map_err(HttpStore::failed(self.place.shown(&name)))
    }

    fn blob(&self, blob: BlobId, file: &mut File) -> Result<bool, CacheStoreError> {
        let name = blob_name(blob);
        let (request, url) = (self.place.request("GET", &name), self.place.shown(&name));
        let mut answer = match self.in_time(0, || self.client.get(&request, None)) {
            Err(TransportError::Missing(_)) => return Ok(false),
            answer => answer.map_err(HttpStore::failed(url.clone()))?,
        };
        let wrong = |why| CacheStoreError::WrongFile {
            name: name.clone(),
            why,
        };
        if answer.length.is_some_and(|length| length > blob.size) {
            return Err(wrong("it is longer than its entry says"));
        }
        let copied = self.in_time(blob.size, || copy_blob(blob, &mut answer.body, file));
        match copied {
            Ok(()) => Ok(true),
            // Where the connection went on, the server said that this is all.
            Err(CopyFailure::Wrong(why)) => Err(wrong(why)),
            Err(CopyFailure::Write(source)) => Err(CacheStoreError::Copy { name, source }),
            Err(CopyFailure::Read(source)) => Err(HttpStore::failed(url)(broken(source))),
        }
    }

    fn has_blob(&self, blob: BlobId) -> Result<bool, CacheStoreError> {
        self.has(&blob_name(blob))
    }

    fn put_blob(&self, blob: BlobId, file: &mut File) -> Result<(), CacheStoreError> {
        let name = blob_name(blob);
        if let Err(source) = file.rewind() {
            return Err(CacheStoreError::Copy { name, source });
        }
        let request = self.place.request("PUT", &name);
        let put = || self.client.put(&request, blob.size, file.take(blob.size));
        let put = self.in_time(blob.size, put);
        put.map_err(HttpStore::failed(self.place.shown(&name)))
    }
}

/// Where the files are.
#[derive(Debug)]
enum HttpPlace {
    Server(RepositoryUrl),
    Bucket(Bucket),
}

impl HttpPlace {
    /// The URL of a file for people.
    fn shown(&self, name: &str) -> String {
        match self {
            HttpPlace::Server(url) => url.join(name),
            HttpPlace::Bucket(bucket) => bucket.url().join(name),
        }
    }

    /// The URL of one request for a file.
    fn request(&self, method: &str, name: &str) -> String {
        match self {
            HttpPlace::Server(url) => url.join(name),
            HttpPlace::Bucket(bucket) => bucket.signed(method, name),
        }
    }
}

fn broken(source: std::io::Error) -> TransportError {
    TransportError::Connection(Box::new(source))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::thread;

    use avocado_http::NetworkSettings;
    use avocado_manifest::Digest;
    use serde_json::json;

    use super::*;

    /// How long the stores of these tests wait; their servers send a byte ten times as often.
    const PATIENCE: Duration = Duration::from_millis(300);

    /// A store on a server that begins each answer with `beginning`, and then sends a byte now and then
    /// as long as it is connected to.
    fn dripping(beginning: &'static str) -> HttpStore {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request);
                    let mut sent = stream.write_all(beginning.as_bytes());
                    while sent.is_ok() {
                        thread::sleep(PATIENCE / 10);
                        sent = stream.write_all(b"x");
                    }
                });
            }
        });
        let url: RepositoryUrl = url.parse().unwrap();
        let bases = std::slice::from_ref(&url);
        let network = NetworkSettings::default();
        let client = HttpClient::over(&network, bases, None, PATIENCE, PATIENCE).unwrap();
        HttpStore::new(url, client, PATIENCE)
    }

    /// What a store answers that has this blob, and an entry.
    fn asked(store: &HttpStore, blob: BlobId) -> [Option<CacheStoreError>; 4] {
        let action = ActionKey::of(&json!("a")).unwrap();
        let [mut to, mut from] = [(); 2].map(|()| tempfile::tempfile().unwrap());
        from.set_len(blob.size).unwrap();
        [
            store.entry(action).err(),
            store.blob(blob, &mut to).err(),
            store.has_blob(blob).err(),
            store.put_blob(blob, &mut from).err(),
        ]
    }

    #[test]
    fn a_server_that_drips_is_given_up() {
        let blob = BlobId {
            sha256: Digest::of(b"a"),
            size: SLOWEST - 1,
        };
        for (beginning, of_these) in [
            ("", 4),
            ("HTTP/1.1 200 OK\r\nContent-Length: 262143\r\nX: ", 4),
            // Nothing of a body is needed for the other two.
            ("HTTP/1.1 200 OK\r\nContent-Length: 262143\r\n\r\n", 2),
        ] {
            let errors = asked(&dripping(beginning), blob);
            for error in &errors[..of_these] {
                let is_temporary = matches!(
                    error,
                    Some(CacheStoreError::Server { source, .. }) if source.is_temporary()
                );
                assert!(is_temporary, "{beginning:?}: {errors:?}");
            }
        }
    }
}
