//! Files that a server is given to keep.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use avocado_fs::{Durability, PendingFile, WriteOptions};
use hyper::StatusCode;
use hyper::body::{Body as _, Bytes, Incoming};
use ring::digest::{Context, SHA256};
use tokio::sync::Semaphore;

use crate::UploadOptions;

/// How long a client may send nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many files are taken at once: each has its place on the disk before it is whole.
const AT_ONCE: usize = 16;

/// How many digits the name of a file has.
const DIGITS: usize = 64;

/// The two directories of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What came of actions, by keys that the server knows nothing of.
    Action,
    /// By the SHA-256 of the file.
    Content,
}

/// A file that may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UploadName {
    kind: Kind,
    digits: String,
}

impl UploadName {
    /// No other path can be written to.
    fn of(path: &Path) -> Option<Self> {
        let text = path.to_str()?;
        let (kind, digits) = match text.split_once('/')? {
            ("ac", digits) => (Kind::Action, digits),
            ("cas", digits) => (Kind::Content, digits),
            _ => return None,
        };
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_name = digits.len() == DIGITS && digits.bytes().all(is_digit);
        is_name.then(|| UploadName {
            kind,
            digits: digits.to_owned(),
        })
    }
}

/// What keeps files.
pub(crate) struct Uploads {
    root: PathBuf,
    options: UploadOptions,
    places: Semaphore,
}

impl Uploads {
    pub(crate) fn new(root: PathBuf, options: UploadOptions) -> Self {
        Uploads {
            root,
            options,
            places: Semaphore::new(AT_ONCE),
        }
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.options.token.as_deref()
    }

    /// Notes that a file was asked for: what is used stays.
    pub(crate) fn used(&self, path: &Path) {
        if self.options.max_size.is_none() || UploadName::of(path).is_none() {
            return;
        }
        if let Ok(file) = File::open(self.root.join(path)) {
            // On a file system that cannot be written to nothing leaves either.
            let _ = file.set_modified(SystemTime::now());
        }
    }

    /// Takes the body of a request as the file at `path`, of which `length` bytes were announced.
    pub(crate) async fn take(
        self: Arc<Self>,
        path: &Path,
        length: Option<u64>,
        body: Incoming,
    ) -> StatusCode {
        let Some(name) = UploadName::of(path) else {
            return StatusCode::METHOD_NOT_ALLOWED;
        };
        let Some(length) = length else {
            return StatusCode::LENGTH_REQUIRED;
        };
        if length > self.options.max_file {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        let Ok(_place) = self.places.acquire().await else {
            return StatusCode::SERVICE_UNAVAILABLE;
        };
        match self.clone().keep(name, length, body).await {
            Ok(status) => status,
            Err(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    StatusCode::INSUFFICIENT_STORAGE
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    StatusCode::FORBIDDEN
                }
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    async fn keep(
        self: Arc<Self>,
        name: UploadName,
        length: u64,
        mut body: Incoming,
    ) -> io::Result<StatusCode> {
        let place = self.root.join(match name.kind {
            Kind::Action => "ac",
            Kind::Content => "cas",
        });
        let path = place.join(&name.digits);
        let created = blocking(move || {
            fs::create_dir_all(&place)?;
            OPTIONS.create(&path).map_err(|error| error.source)
        });
        let mut upload = Upload {
            file: created.await?,
            hasher: Context::new(&SHA256),
            length: 0,
        };
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
            let bytes = match tokio::time::timeout(PATIENCE, frame).await {
                Err(_) => return Ok(StatusCode::REQUEST_TIMEOUT),
                Ok(None) => break,
                Ok(Some(Err(_))) => return Ok(StatusCode::BAD_REQUEST),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => bytes,
                    Err(_) => continue,
                },
            };
            // No more than was announced comes: the length ends the body.
            upload = blocking(move || upload.add(&bytes)).await?;
        }
        if upload.length != length {
            return Ok(StatusCode::BAD_REQUEST);
        }
        blocking(move || self.finish(upload, &name)).await
    }

    fn finish(&self, upload: Upload, name: &UploadName) -> io::Result<StatusCode> {
        let digest = upload.hasher.finish();
        let digits: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        if name.kind == Kind::Content && digits != name.digits {
            return Ok(StatusCode::UNPROCESSABLE_ENTITY);
        }
        upload.file.commit().map_err(|error| error.source)?;
        if let Some(max_size) = self.options.max_size {
            let directories = ["ac", "cas"].map(|name| self.root.join(name));
            // What cannot be removed now is removed after the next one.
            let _ = avocado_fs::remove_oldest(&directories, max_size);
        }
        Ok(StatusCode::CREATED)
    }
}

/// Readers see by the digest what a power cut spoiled.
const OPTIONS: WriteOptions = WriteOptions::new().durability(Durability::None);

/// A file on its way. Dropped before it is whole, it is removed.
struct Upload {
    file: PendingFile,
    hasher: Context,
    length: u64,
}

impl Upload {
    fn add(mut self, bytes: &Bytes) -> io::Result<Self> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(self)
    }
}

/// Does what may wait for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_of_a_cache_have_names() {
        let digits = "0123456789abcdef".repeat(4);
        for (path, kind) in [
            (format!("ac/{digits}"), Some(Kind::Action)),
            (format!("cas/{digits}"), Some(Kind::Content)),
            (format!("cas/{}", &digits[1..]), None),
            (format!("cas/{digits}0"), None),
            (format!("cas/{}", digits.to_uppercase()), None),
            (format!("x/{digits}"), None),
            (format!("a/ac/{digits}"), None),
            (format!("ac/x/{digits}"), None),
            (digits.clone(), None),
            ("ac".to_owned(), None),
            (format!("ac/../{}", &digits[3..]), None),
        ] {
            let name = UploadName::of(Path::new(&path));
            assert_eq!(name.map(|name| name.kind), kind, "{path}");
        }
    }
}
