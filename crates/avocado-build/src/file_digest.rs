use std::fs;
use std::path::Path;

use avocado_manifest::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{At as _, BuildError};

/// The content of a file that a step made, as it is reported and published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileDigest {
    pub(crate) sha256: Digest,
    /// In bytes.
    pub(crate) size: u64,
}

impl FileDigest {
    /// That of the file as it is now.
    pub(crate) fn of(path: &Path) -> Result<Self, BuildError> {
        let file = fs::File::open(path).at("open", path)?;
        let (sha256, size) = Digest::of_reader(file).at("read", path)?;
        Ok(FileDigest { sha256, size })
    }

    /// Makes sure that the file is still what it was when it was made: what goes to devices
    /// carries the digest from then.
    pub(crate) fn check(&self, path: &Path) -> Result<(), BuildError> {
        if FileDigest::of(path)? == *self {
            return Ok(());
        }
        Err(BuildError::Changed {
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.raw");
        fs::write(&path, "12345").unwrap();
        let made = FileDigest::of(&path).unwrap();
        assert_eq!((made.sha256, made.size), (Digest::of(b"12345"), 5));
        made.check(&path).unwrap();
        fs::write(&path, "12346").unwrap();
        let error = made.check(&path).unwrap_err();
        assert!(matches!(error, BuildError::Changed { path: p } if p == path));
    }
}
