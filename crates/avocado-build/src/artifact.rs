use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_manifest::Digest;

use crate::file_digest::FileDigest;

/// A result that a user cares about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// `extension`, `rootfs`, `initramfs`, `kernel`, `var`, `manifest`, `repository`, `vm`, `disk`.
    pub kind: String,
    /// What it belongs to: an extension with its version, a runtime.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes; for a directory that of all its files.
    pub size: u64,
    /// The digest of the file; of a repository or a VM's image that of its manifest.
    pub sha256: Digest,
}

impl Artifact {
    pub(crate) fn new(kind: &str, name: String, path: PathBuf, file: FileDigest) -> Self {
        Artifact {
            kind: kind.to_owned(),
            name,
            path,
            size: file.size,
            sha256: file.sha256,
        }
    }
}

/// The bytes of all files below a directory, hard links counted once.
pub(crate) fn size_of_files(directory: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    walkdir::WalkDir::new(directory)
        .into_iter()
        .filter_map(Result::ok)
        .filter_map(|entry| entry.metadata().ok())
        .filter(|m| m.is_file() && seen.insert((m.dev(), m.ino())))
        .map(|m| m.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_hard_link_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("a")).unwrap();
        fs::write(at("a/five"), "12345").unwrap();
        fs::hard_link(at("a/five"), at("again")).unwrap();
        fs::write(at("two"), "12").unwrap();
        assert_eq!(size_of_files(directory.path()), 7);
        assert_eq!(size_of_files(&at("not there")), 0);
    }
}
