//! The files below the root: found without ever leaving it, and described for HTTP.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The decoded path of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlPath {
    /// For people and reports, and no longer than those want it. Starts with `/`.
    pub(crate) text: String,
    /// Relative to the root; `None` when nothing can be there: it has `..` or NUL in it, or bad
    /// escapes, or names the root itself.
    pub(crate) file: Option<PathBuf>,
}

impl UrlPath {
    pub(crate) fn new(raw: &str) -> Self {
        let Some(bytes) = decode(raw) else {
            return UrlPath {
                text: beginning(raw, LONGEST_PATH),
                file: None,
            };
        };
        let text = beginning(&String::from_utf8_lossy(&bytes), LONGEST_PATH);
        // A trailing slash names a directory, and directories are not served.
        let refused = bytes.contains(&0)
            || bytes.ends_with(b"/")
            || bytes.split(|byte| *byte == b'/').any(|part| part == b"..");
        let file = (!refused).then(|| {
            bytes
                .split(|byte| *byte == b'/')
                .filter(|part| !part.is_empty() && *part != b".")
                .map(OsStr::from_bytes)
                .collect::<PathBuf>()
        });
        UrlPath {
            text,
            file: file.filter(|file| !file.as_os_str().is_empty()),
        }
    }
}

/// The longest path in a report, in bytes.
const LONGEST_PATH: usize = 1024;

/// A text that clients choose, for reports: those who keep reports keep no more than this of it.
pub(crate) fn beginning(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(longest);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// The path of a request's URL as people write it, as in
/// [`ServedRequest::path`](crate::ServedRequest::path).
pub fn decoded_path(raw: &str) -> String {
    UrlPath::new(raw).text
}

/// Undoes percent-encoding; `None` for an escape that is none.
fn decode(raw: &str) -> Option<Vec<u8>> {
    let mut bytes = raw.bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

/// An open regular file and what HTTP says about it.
#[derive(Debug)]
pub(crate) struct FileContent {
    pub(crate) file: File,
    pub(crate) length: u64,
    pub(crate) etag: String,
    pub(crate) modified: SystemTime,
    pub(crate) kind: &'static str,
}

/// Opens the regular file `path` below `root`. `Ok(None)`: there is no such file.
pub(crate) fn open(root: &Path, path: &Path) -> std::io::Result<Option<FileContent>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
    // The kernel keeps the whole resolution, symbolic links included, below the root. It asks for
    // a retry when a rename anywhere made that unsure.
    let opened = loop {
        let opened = rustix::fs::openat2(
            &root,
            path,
            // A FIFO must not hold the server up while it has no writer.
            flags | OFlags::NONBLOCK,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        );
        if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            break opened;
        }
    };
    let file = match opened {
        Ok(file) => File::from(file),
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::NXIO,
        ) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    Ok(Some(FileContent {
        length: metadata.len(),
        // With the time of the last change of the inode, a file that was rewritten in place and
        // then given its old date is still a new one.
        etag: format!(
            "\"{:x}-{:x}-{:x}.{:x}-{:x}.{:x}\"",
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ),
        modified: whole_seconds(metadata.modified()?),
        kind: kind(path),
        file,
    }))
}

/// HTTP dates have no fractions; comparing with one would never be equal otherwise.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(OsStr::to_str) {
        Some("json") => "application/json",
        Some("xml") => "application/xml",
        Some("txt" | "repo") => "text/plain; charset=utf-8",
        Some("rpm") => "application/x-rpm",
        _ => "application/octet-stream",
    }
}

/// Whether `root` is a directory that can be opened, and where it is independent of the current
/// directory.
pub(crate) fn check_root(root: &Path) -> std::io::Result<PathBuf> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    rustix::fs::openat(CWD, root, flags, Mode::empty())?;
    std::path::absolute(root)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn what_is_reported_of_a_path_is_bounded() {
        let at_most = LONGEST_PATH + '…'.len_utf8();
        for raw in [
            "a".repeat(70_000),
            "%C3%A4".repeat(9_000),
            "%".repeat(9_000),
        ] {
            let text = decoded_path(&format!("/{raw}"));
            assert!(text.len() <= at_most && text.ends_with('…'), "{text}");
        }
        let fits = format!("/{}", "a".repeat(LONGEST_PATH - 1));
        assert_eq!(decoded_path(&fits), fits);
    }

    #[test]
    fn paths() {
        for (raw, expected) in [
            ("/a/b.json", Some("a/b.json")),
            ("//a/./b", Some("a/b")),
            ("/a%20b%2Bc~^", Some("a b+c~^")),
            ("/a%2fb", Some("a/b")),
            ("/a+b", Some("a+b")),
            ("/", None),
            ("", None),
            ("/.", None),
            ("/a/", None),
            ("/../a", None),
            ("/a/..", None),
            ("/a/%2e%2E/b", None),
            ("/a%2f..%2fb", None),
            ("/a%00", None),
            ("/a%", None),
            ("/a%2", None),
            ("/a%zz", None),
            ("/..a/b..", Some("..a/b..")),
        ] {
            let file = UrlPath::new(raw).file;
            assert_eq!(file.as_deref(), expected.map(Path::new), "{raw}");
        }
        let odd = UrlPath::new("/%ff");
        assert_eq!(odd.file.unwrap().into_os_string().into_vec(), [0xff]);
    }

    proptest::proptest! {
        #[test]
        fn no_path_leaves_the_root(raw in "[/.%2eEfF5cC\\\\a]{0,24}") {
            if let Some(file) = UrlPath::new(&raw).file {
                let inside = |part| matches!(part, std::path::Component::Normal(_));
                assert!(file.components().all(inside), "{file:?}");
            }
        }
    }
}
