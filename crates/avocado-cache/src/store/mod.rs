//! Where entries and outputs are kept.

mod bucket;
mod directory;
mod http;

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};

use avocado_fs::PathError;
use avocado_http::TransportError;
use avocado_manifest::DigestHasher;

use crate::{ActionKey, BlobId};

pub use bucket::{Bucket, BucketCredentials, BucketError};
pub use directory::DirectoryStore;
pub use http::HttpStore;

/// What keeps entries by their actions, and outputs by their digests.
pub trait CacheStore: Send + Sync {
    /// The entry of an action; `None` where there is none. Of one that is longer than an entry can be,
    /// one byte more than that.
    ///
    /// # Errors
    /// [`CacheStoreError::WrongFile`] where the store has something else by that name; else when it
    /// cannot be asked.
    fn entry(&self, action: ActionKey) -> Result<Option<Vec<u8>>, CacheStoreError>;

    /// Keeps the entry of an action, in the place of another one.
    ///
    /// # Errors
    /// When the store does not take it.
    fn put_entry(&self, action: ActionKey, entry: &[u8]) -> Result<(), CacheStoreError>;

    /// Writes a blob to `file`, which is empty. False where there is none.
    ///
    /// # Errors
    /// [`CacheStoreError::WrongFile`] where the store has other bytes by that name; else when the store
    /// cannot be asked or the file not be written.
    fn blob(&self, blob: BlobId, file: &mut File) -> Result<bool, CacheStoreError>;

    /// Whether the store has a blob. That is a use of it: it stays longer than what was used before.
    ///
    /// # Errors
    /// When the store cannot be asked.
    fn has_blob(&self, blob: BlobId) -> Result<bool, CacheStoreError>;

    /// Keeps a blob, which is what `file` holds from its beginning.
    ///
    /// # Errors
    /// When the store does not take it.
    fn put_blob(&self, blob: BlobId, file: &mut File) -> Result<(), CacheStoreError>;
}

/// What went wrong with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheStoreError {
    /// A server did not answer, or not as one that keeps a cache.
    #[error("cannot use {url}")]
    Server {
        /// What was asked for.
        url: String,
        /// Why not.
        #[source]
        source: TransportError,
    },
    /// A file of a directory.
    #[error(transparent)]
    File(#[from] PathError),
    /// What the store has is not what its name says.
    #[error("{name} is not what its name says: {why}")]
    WrongFile {
        /// The name in the store.
        name: String,
        /// In what it differs.
        why: &'static str,
    },
    /// The local file that a blob goes to cannot be written, or the one that it comes from not be read.
    #[error("cannot copy {name}")]
    Copy {
        /// The name in the store.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl CacheStoreError {
    /// Whether it is about one file alone: others may be good.
    pub fn is_of_one_file(&self) -> bool {
        matches!(self, CacheStoreError::WrongFile { .. })
    }
}

fn entry_name(action: ActionKey) -> String {
    format!("ac/{action}")
}

fn blob_name(blob: BlobId) -> String {
    format!("cas/{}", blob.sha256)
}

/// Why a copy of a blob failed.
enum CopyFailure {
    /// Reading from the store.
    Read(io::Error),
    /// The local file.
    Write(io::Error),
    /// It is not the blob.
    Wrong(&'static str),
}

/// How much is copied at once.
const BUFFER: usize = 256 << 10;

/// Copies a blob and sees that it is one. Nothing beyond its size is read.
fn copy_blob(blob: BlobId, body: &mut dyn Read, file: &mut File) -> Result<(), CopyFailure> {
    let mut hasher = DigestHasher::default();
    let mut buffer = vec![0; BUFFER];
    let mut length = 0;
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(CopyFailure::Read(e)),
        };
        length += read as u64;
        if length > blob.size {
            return Err(CopyFailure::Wrong("it is longer than its entry says"));
        }
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read])
            .map_err(CopyFailure::Write)?;
    }
    if length < blob.size {
        return Err(CopyFailure::Wrong("it is shorter than its entry says"));
    }
    if hasher.finish() != blob.sha256 {
        return Err(CopyFailure::Wrong("its digest is another one"));
    }
    file.rewind().map_err(CopyFailure::Write)
}
