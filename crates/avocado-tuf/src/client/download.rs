use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use avocado_events::{Event, Sink};
use serde::{Deserialize, Serialize};

use super::rate::{Metered, broken};
use super::retry::{Retry, ended_early};
use super::{Client, Error, TargetInfo};
use crate::digests::Running;
use crate::files::{self, At, PathError};
use crate::names::target_url_path;
use crate::transport::{Response, Resume, TransportError};

/// How often progress is told.
const INTERVAL: Duration = Duration::from_millis(100);
/// How many new bytes make up for a failed attempt. A server that breaks the connection after
/// every few bytes runs out of attempts.
const PROGRESS: u64 = 256 * 1024;

impl Client {
    /// Downloads a target to `partial`, or what is missing of it there.
    ///
    /// On success `partial` holds exactly the target, verified and synced; giving it its final
    /// name (rename, and sync of the directory) is the caller's. On failure it may hold the first
    /// part, with a file `<partial>.resume` beside it that says what it is part of; a later call
    /// for the same target goes on from there. A file that turns out wrong is deleted. Nothing is
    /// ever written beyond the target's length.
    ///
    /// Progress goes to `sink` as bytes of the stage `download`.
    pub fn download(
        &self,
        target: &TargetInfo,
        partial: &Path,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        let prefix = target.digests.file_prefix();
        let Some(prefix) = prefix else {
            return Err(Error::NoDigest {
                target: target.name.clone(),
            });
        };
        let prefix = self.root.consistent_snapshot.then_some(prefix);
        let path = target_url_path(&target.name, prefix.as_deref());
        let url = format!("{}{path}", self.targets_url);

        let mut download = Download::open(target, partial, sink)?;
        loop {
            let resumed = self.transfer(&url, &mut download)?;
            match download.finish()? {
                None => return Ok(()),
                // What was there before this call may have been what is wrong.
                Some(next) if resumed => download = next,
                Some(next) => {
                    next.delete()?;
                    return Err(Error::Digest {
                        target: target.name.clone(),
                    });
                }
            }
        }
    }

    /// Fetches until everything is there, and says whether it began with bytes of an earlier call.
    fn transfer(&self, url: &str, download: &mut Download<'_>) -> Result<bool, Error> {
        let mut resumed = download.done > 0;
        let mut retry = Retry::new(&*self.transport, &self.options.limits);
        download.tell(true);
        while download.missing() > 0 {
            let resume = download.resume();
            let before = download.done;
            let error = match self.transport.get(url, resume.as_ref()) {
                Ok(response) => {
                    if response.offset == 0 && before > 0 {
                        download.restart()?;
                        resumed = false;
                    }
                    let response = Response {
                        body: Box::new(Metered::new(response.body, &self.options.limits)),
                        ..response
                    };
                    match download.receive(url, response)? {
                        None => continue,
                        Some(error) => error,
                    }
                }
                Err(TransportError::Range) if resume.is_some() => {
                    download.restart()?;
                    resumed = false;
                    TransportError::Connection(Box::new(TransportError::Range))
                }
                Err(error) => error,
            };
            let slow = matches!(error, TransportError::Slow(_));
            if !slow && download.done.saturating_sub(before) >= PROGRESS {
                retry.progress();
            }
            retry.after(url, error)?;
        }
        download.tell(true);
        Ok(resumed)
    }
}

/// What a partial file is part of.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Note {
    /// The digests of the target, as text.
    digests: String,
    length: u64,
    /// What the server named the state of the file that the bytes are from.
    validator: Option<String>,
}

/// A partial file while it grows. The digests always cover exactly its first `done` bytes.
struct Download<'a> {
    target: &'a TargetInfo,
    path: &'a Path,
    note_path: PathBuf,
    file: File,
    running: Running,
    done: u64,
    validator: Option<String>,
    sink: &'a dyn Sink,
    told: Instant,
}

impl<'a> Download<'a> {
    /// Opens the partial file; what is there is kept if it is noted to be part of this target.
    fn open(target: &'a TargetInfo, path: &'a Path, sink: &'a dyn Sink) -> Result<Self, Error> {
        let mut note_path = path.as_os_str().to_owned();
        note_path.push(".resume");
        let note_path = PathBuf::from(note_path);
        let note = files::read_if_there(&note_path)
            .at(&note_path)?
            .and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok())
            .filter(|note| note.digests == name_of(target) && note.length == target.length);

        let file = files::open_partial(path).at(path)?;
        let mut download = Download {
            target,
            path,
            note_path,
            file,
            running: target.digests.start(),
            done: 0,
            validator: None,
            sink,
            told: Instant::now(),
        };
        let there = download.file.metadata().at(path)?.len();
        match note {
            Some(note) if there <= target.length => {
                download.validator = note.validator;
                let Download { file, running, .. } = &mut download;
                download.done = running.update_from(file).at(path)?;
            }
            _ => download.restart()?,
        }
        Ok(download)
    }

    fn resume(&self) -> Option<Resume> {
        (self.done > 0).then(|| Resume {
            offset: self.done,
            validator: self.validator.clone(),
        })
    }

    /// Begins again with an empty file.
    fn restart(&mut self) -> Result<(), Error> {
        self.file.set_len(0).at(self.path)?;
        self.file.seek(SeekFrom::Start(0)).at(self.path)?;
        self.running = self.target.digests.start();
        self.done = 0;
        self.validator = None;
        Ok(())
    }

    /// Takes the body of an answer. The result says why it ended, if it ended too early.
    fn receive(
        &mut self,
        url: &str,
        mut response: Response,
    ) -> Result<Option<TransportError>, Error> {
        if response.length.is_some_and(|n| n > self.missing()) {
            return Err(self.refuse(url)?);
        }
        if response.offset == 0 {
            self.validator = response.validator.take();
            self.write_note()?;
        }
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let n = match response.body.read(&mut buffer) {
                Ok(0) if self.missing() > 0 => return Ok(Some(ended_early())),
                Ok(0) => return Ok(None),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if self.missing() > 0 => {
                    return Ok(Some(broken(e)));
                }
                // Everything came; how the connection ended no longer matters.
                Err(_) => return Ok(None),
            };
            let bytes = buffer.get(..n).unwrap_or_default();
            if n as u64 > self.missing() {
                return Err(self.refuse(url)?);
            }
            self.file.write_all(bytes).at(self.path)?;
            self.running.update(bytes);
            self.done += n as u64;
            self.tell(false);
        }
    }

    /// Verifies what is there. If it is not the target, the result is the emptied download.
    fn finish(mut self) -> Result<Option<Self>, Error> {
        let running = std::mem::replace(&mut self.running, self.target.digests.start());
        if !running.matches(&self.target.digests) {
            self.restart()?;
            return Ok(Some(self));
        }
        self.file.sync_all().at(self.path)?;
        files::remove_if_there(&self.note_path).at(&self.note_path)?;
        Ok(None)
    }

    /// How many bytes are not there yet.
    fn missing(&self) -> u64 {
        self.target.length.saturating_sub(self.done)
    }

    /// The server has more than it should: forget what came from it.
    fn refuse(&self, url: &str) -> Result<Error, Error> {
        self.delete()?;
        Ok(Error::TooLong {
            url: url.to_owned(),
            limit: self.target.length,
        })
    }

    fn delete(&self) -> Result<(), Error> {
        files::remove_if_there(self.path).at(self.path)?;
        files::remove_if_there(&self.note_path).at(&self.note_path)?;
        Ok(())
    }

    fn write_note(&self) -> Result<(), Error> {
        let note = Note {
            digests: name_of(self.target),
            length: self.target.length,
            validator: self.validator.clone(),
        };
        // A note that a crash tore is no note, and the download begins again.
        let text = serde_json::to_vec(&note)
            .map_err(io::Error::from)
            .and_then(|bytes| std::fs::write(&self.note_path, bytes));
        text.at(&self.note_path).map_err(|e: PathError| e.into())
    }

    fn tell(&mut self, always: bool) {
        if always || self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            let Download { target, done, .. } = self;
            let event = Event::bytes("download", &target.name, *done, Some(target.length));
            self.sink.emit(event);
        }
    }
}

fn name_of(target: &TargetInfo) -> String {
    format!("{:?}", target.digests)
}
