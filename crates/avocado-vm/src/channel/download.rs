//! One file from the network: what is there already is not fetched again, and nothing gets its
//! name before its digest is right.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use avocado_events::Cancel;
use avocado_http::{ResumeFrom, Transport, TransportError};
use avocado_manifest::{Digest, DigestHasher, VmArtifact};

use super::error::ChannelError;
use crate::error::VmError;
use crate::files;

/// How often in a row a connection may bring nothing.
const TRIES: u32 = 4;
/// The largest file whose size the manifest does not state.
const LARGEST: u64 = 64 << 30;

/// What a download needs beside the file itself.
pub(super) struct FileDownload<'a> {
    pub(super) transport: &'a dyn Transport,
    pub(super) cancel: &'a Cancel,
    /// Before the second try; it doubles after each.
    pub(super) pause: Duration,
}

/// The bytes that are there, with everything to go on.
struct PartialFile {
    file: fs::File,
    hasher: DigestHasher,
    length: u64,
}

impl PartialFile {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(path)?;
        let mut hasher = DigestHasher::default();
        let mut length = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(buffer.get(..n).unwrap_or_default());
                    length += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(PartialFile {
            file,
            hasher,
            length,
        })
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = DigestHasher::default();
        self.length = 0;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl FileDownload<'_> {
    /// Fetches `url` to `path`; meanwhile it is in `partial`. `progress` hears of the bytes that
    /// are there.
    pub(super) fn fetch(
        &self,
        url: &str,
        artifact: &VmArtifact,
        partial: &Path,
        path: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<(), VmError> {
        let needed = artifact.size.unwrap_or(0);
        let broken = |e| files::write_error(partial, needed, e);
        let mut have = PartialFile::open(partial).map_err(broken)?;
        // Of an earlier run, of which nobody knows what it fetched.
        let mut inherited = have.length > 0;
        loop {
            self.complete(url, artifact, partial, &mut have, progress)?;
            let found = have.hasher.clone().finish();
            if found == artifact.sha256 {
                break;
            }
            have.restart().map_err(broken)?;
            if !std::mem::take(&mut inherited) {
                _ = fs::remove_file(partial);
                return Err(damaged(url, artifact.sha256, found).into());
            }
        }
        have.file.sync_all().map_err(broken)?;
        fs::rename(partial, path).map_err(broken)?;
        Ok(())
    }

    /// Asks until everything is there.
    fn complete(
        &self,
        url: &str,
        artifact: &VmArtifact,
        partial: &Path,
        have: &mut PartialFile,
        progress: &dyn Fn(u64),
    ) -> Result<(), VmError> {
        let broken = |e| files::write_error(partial, artifact.size.unwrap_or(0), e);
        // The longest that it ever was: a server that cannot resume starts again and again.
        let (mut best, mut fruitless) = (have.length, 0);
        loop {
            if artifact.size.is_some_and(|size| have.length > size) {
                have.restart().map_err(broken)?;
            }
            progress(have.length);
            if artifact.size == Some(have.length) {
                return Ok(());
            }
            self.check()?;
            let outcome = self.once(url, artifact, partial, have, progress)?;
            let cause = match outcome {
                RequestOutcome::Complete => return Ok(()),
                // Nothing follows what is there: it may be all, or something else.
                RequestOutcome::NothingMore if artifact.size.is_none() => return Ok(()),
                RequestOutcome::NothingMore => {
                    have.restart().map_err(broken)?;
                    None
                }
                RequestOutcome::Broken(cause) => cause,
            };
            fruitless = if have.length > best { 0 } else { fruitless + 1 };
            best = best.max(have.length);
            if fruitless >= TRIES {
                return Err(match cause {
                    Some(BreakCause::Transport(source)) => ChannelError::Fetch {
                        url: url.to_owned(),
                        source,
                    },
                    Some(BreakCause::Body(source)) => cut(url, have.length, Some(source)),
                    None => cut(url, have.length, None),
                }
                .into());
            }
            if fruitless > 0 {
                std::thread::sleep(self.pause * 2_u32.pow(fruitless - 1));
            }
        }
    }

    /// One request.
    fn once(
        &self,
        url: &str,
        artifact: &VmArtifact,
        partial: &Path,
        have: &mut PartialFile,
        progress: &dyn Fn(u64),
    ) -> Result<RequestOutcome, VmError> {
        let broken = |e| files::write_error(partial, artifact.size.unwrap_or(0), e);
        let resume = (have.length > 0).then_some(ResumeFrom {
            offset: have.length,
            validator: None,
        });
        let mut response = match self.transport.get(url, resume.as_ref()) {
            Ok(response) => response,
            Err(TransportError::Range) => return Ok(RequestOutcome::NothingMore),
            Err(e) if e.is_temporary() => {
                return Ok(RequestOutcome::Broken(Some(BreakCause::Transport(e))));
            }
            Err(source) => {
                return Err(ChannelError::Fetch {
                    url: url.to_owned(),
                    source,
                }
                .into());
            }
        };
        if response.offset != have.length {
            have.restart().map_err(broken)?;
        }
        let expected = response.length.map(|length| response.offset + length);
        let most = artifact.size.unwrap_or(LARGEST);
        let mut buffer = vec![0; 256 << 10];
        loop {
            self.check()?;
            match response.body.read(&mut buffer) {
                Ok(0) if expected.is_some_and(|expected| have.length < expected) => {
                    return Ok(RequestOutcome::Broken(None));
                }
                Ok(0) if artifact.size.is_some_and(|size| have.length < size) => {
                    return Ok(RequestOutcome::Broken(None));
                }
                Ok(0) => return Ok(RequestOutcome::Complete),
                Ok(n) => {
                    if have.length + n as u64 > most {
                        return Err(ChannelError::TooLarge {
                            url: url.to_owned(),
                            most,
                        }
                        .into());
                    }
                    have.append(buffer.get(..n).unwrap_or_default())
                        .map_err(broken)?;
                    progress(have.length);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Ok(RequestOutcome::Broken(Some(BreakCause::Body(e)))),
            }
        }
    }

    fn check(&self) -> Result<(), ChannelError> {
        if self.cancel.is_cancelled() {
            return Err(ChannelError::Cancelled);
        }
        Ok(())
    }
}

/// How a request ended.
enum RequestOutcome {
    Complete,
    NothingMore,
    Broken(Option<BreakCause>),
}

enum BreakCause {
    Transport(TransportError),
    Body(io::Error),
}

fn cut(url: &str, done: u64, source: Option<io::Error>) -> ChannelError {
    ChannelError::Cut {
        url: url.to_owned(),
        done,
        source,
    }
}

fn damaged(url: &str, expected: Digest, found: Digest) -> ChannelError {
    ChannelError::Damaged {
        url: url.to_owned(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}
