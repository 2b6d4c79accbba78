//! A repository that is a directory of this machine.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use crate::repository_url::RepositoryUrl;
use crate::transport::{ResumeFrom, Transport, TransportError, TransportResponse};

/// Reads the files below a directory by the URLs that they have below
/// [`DirectoryTransport::url`].
#[derive(Debug, Clone)]
pub struct DirectoryTransport {
    directory: PathBuf,
    url: RepositoryUrl,
}

impl DirectoryTransport {
    /// For the files below `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        DirectoryTransport {
            url: RepositoryUrl::of_directory(&directory),
            directory,
        }
    }

    /// The URL of the directory.
    pub fn url(&self) -> &RepositoryUrl {
        &self.url
    }

    /// The file that a URL names; none where it leads out of the directory.
    fn file(&self, url: &str) -> Option<PathBuf> {
        let below = url.strip_prefix(self.url.as_str())?.strip_prefix('/')?;
        let below = decoded(below)?;
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        let is_below = Path::new(&below).components().all(plain);
        is_below.then(|| self.directory.join(below))
    }
}

impl Transport for DirectoryTransport {
    fn get(
        &self,
        url: &str,
        resume: Option<&ResumeFrom>,
    ) -> Result<TransportResponse, TransportError> {
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => TransportError::Missing(404),
            _ => TransportError::Request(Box::new(error)),
        };
        let path = self.file(url).ok_or(TransportError::Missing(404))?;
        // Opening a pipe would wait for who writes to it.
        let metadata = fs::metadata(&path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(TransportError::Missing(404));
        }
        let mut file = File::open(&path).map_err(failed)?;
        let length = metadata.len();
        let offset = resume.map_or(0, |resume| resume.offset);
        if offset > length {
            return Err(TransportError::Range);
        }
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        Ok(TransportResponse {
            offset,
            length: Some(length - offset),
            validator: None,
            body: Box::new(file.take(length - offset)),
        })
    }
}

/// A text with `%` and two digits for some of its bytes; none where it is not UTF-8 then.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_directory_are_read_and_no_others() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a repository");
        fs::create_dir_all(directory.join("targets")).unwrap();
        fs::write(directory.join("targets/a+b"), "content").unwrap();
        fs::write(parent.path().join("outside"), "secret").unwrap();
        let transport = DirectoryTransport::new(&directory);
        let targets = transport.url().join("targets");
        let read = |url: &str, offset: u64| {
            let resume = (offset > 0).then_some(ResumeFrom {
                offset,
                validator: None,
            });
            let mut text = String::new();
            let answer = transport.get(url, resume.as_ref())?;
            assert_eq!(answer.offset, offset);
            let mut body = answer.body;
            body.read_to_string(&mut text).unwrap();
            assert_eq!(answer.length, Some(text.len() as u64));
            Ok::<_, TransportError>(text)
        };
        assert_eq!(read(&format!("{targets}/a%2Bb"), 0).unwrap(), "content");
        assert_eq!(read(&format!("{targets}/a+b"), 3).unwrap(), "tent");
        assert!(matches!(
            read(&format!("{targets}/a+b"), 8),
            Err(TransportError::Range)
        ));
        for path in [
            "none",
            "a+b/c",
            "",
            "../../outside",
            "%2E%2E/%2e%2e/outside",
            "%2Fetc%2Fpasswd",
            "%",
            "%F",
            "%FF",
        ] {
            let answer = read(&format!("{targets}/{path}"), 0);
            assert!(
                matches!(answer, Err(TransportError::Missing(404))),
                "{path}"
            );
        }
        assert!(read("file:///etc/passwd", 0).is_err());
    }
}
