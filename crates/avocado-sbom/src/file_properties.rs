//! What a file is by the profile of BSI TR-03183-2: executable, an archive, structured.

use crate::bill::FileComponent;

/// Names by which files are known that hold other files.
const ARCHIVES: [&str; 18] = [
    ".a",
    ".apk",
    ".bz2",
    ".cpio",
    ".deb",
    ".egg",
    ".gz",
    ".img",
    ".jar",
    ".lz4",
    ".raw",
    ".rpm",
    ".squashfs",
    ".tar",
    ".tgz",
    ".whl",
    ".xz",
    ".zip",
];

/// The properties of a file, in the words of the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileProperties {
    pub(crate) is_executable: bool,
    pub(crate) is_archive: bool,
}

impl FileProperties {
    /// Of an image: it holds files, with their names.
    pub(crate) const IMAGE: FileProperties = FileProperties {
        is_executable: false,
        is_archive: true,
    };

    pub(crate) fn of(file: &FileComponent) -> Self {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let ends = |end: &str| name.ends_with(end);
        let is_library = ends(".so") || name.contains(".so.") || ends(".ko");
        FileProperties {
            is_executable: file.mode & 0o111 != 0 || is_library,
            is_archive: ARCHIVES.iter().any(|end| ends(end)) || ends(".zst"),
        }
    }

    pub(crate) fn executable(self) -> &'static str {
        if self.is_executable {
            "executable"
        } else {
            "non-executable"
        }
    }

    pub(crate) fn archive(self) -> &'static str {
        if self.is_archive {
            "archive"
        } else {
            "no archive"
        }
    }

    /// Whether what is in it can be told apart.
    pub(crate) fn structured(self) -> &'static str {
        if self.is_archive {
            "structured"
        } else {
            "unstructured"
        }
    }
}
