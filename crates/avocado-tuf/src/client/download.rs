use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use avocado_events::{Event, Sink};
use avocado_http::{ResumeFrom, TransportError, TransportResponse, within_deadline};

use super::destination::{Destination, DownloadOrigin, FileDestination};
use super::rate::{MeteredBody, PROGRESS, broken};
use super::retry::{RetryCounter, ended_early};
use super::{TargetInfo, TufClient, TufError};
use crate::digests::RunningDigests;
use crate::names::target_url_path;

/// How often progress is told.
const INTERVAL: Duration = Duration::from_millis(100);
/// How much is read at once, in bytes.
const BUFFER: usize = 128 * 1024;

impl TufClient {
    /// Downloads a target to `partial`, or what is missing of it there.
    ///
    /// On success `partial` holds exactly the target, verified and synced; giving it its final
    /// name (rename, and sync of the directory) is the caller's. On failure it may hold the first
    /// part, with a file `<partial>.resume` beside it that says what it is part of; a later call
    /// for the same target goes on from there. A file that turns out wrong is deleted. Nothing is
    /// ever written beyond the target's length.
    ///
    /// Progress goes to `sink` as bytes of the stage `download`.
    ///
    /// # Errors
    /// [`TufError::NoDigest`], [`TufError::Fetch`], [`TufError::TooLong`], [`TufError::Digest`], and
    /// [`TufError::Io`] when the file cannot be written.
    pub fn download(
        &self,
        target: &TargetInfo,
        partial: &Path,
        sink: &dyn Sink,
    ) -> Result<(), TufError> {
        self.download_to(target, &mut FileDestination::new(partial), sink)
    }

    /// Downloads a target, or what is missing of it, to where `destination` keeps it. On success it
    /// is verified and committed. On failure `destination` may hold the first part, and a later
    /// call goes on from there. What turns out wrong is discarded.
    ///
    /// # Errors
    /// As [`TufClient::download`].
    pub fn download_to(
        &self,
        target: &TargetInfo,
        destination: &mut dyn Destination,
        sink: &dyn Sink,
    ) -> Result<(), TufError> {
        let url = self.target_url(target)?;
        let mut download = TargetDownload::open(target, destination, sink)?;
        loop {
            let resumed = self.transfer(&url, &mut download)?;
            if download.is_target() {
                return Ok(download.destination.commit()?);
            }
            // What was there before this call may have been what is wrong.
            if resumed {
                download.restart()?;
                continue;
            }
            download.destination.discard()?;
            return Err(TufError::Digest {
                target: target.name.clone(),
            });
        }
    }

    /// Where a target is.
    pub(super) fn target_url(&self, target: &TargetInfo) -> Result<String, TufError> {
        let prefix = target.digests.file_prefix();
        let Some(prefix) = prefix else {
            return Err(TufError::NoDigest {
                target: target.name.clone(),
            });
        };
        let prefix = self.root.consistent_snapshot.then_some(prefix);
        let path = target_url_path(&target.name, prefix.as_deref());
        Ok(self.targets_url.join(&path))
    }

    /// Fetches until everything is there, and says whether it began with bytes of an earlier call.
    fn transfer(&self, url: &str, download: &mut TargetDownload<'_>) -> Result<bool, TufError> {
        let mut resumed = download.done > 0;
        let mut retry = RetryCounter::new(&*self.transport, &self.options.limits);
        download.tell(true);
        while download.missing() > 0 {
            let resume = download.resume();
            let before = download.done;
            let deadline = retry.deadline();
            let get = || self.transport.get(url, resume.as_ref());
            let error = match within_deadline(deadline, get) {
                Ok(response) => {
                    if response.offset == 0 && before > 0 {
                        download.restart()?;
                        resumed = false;
                    }
                    let response = TransportResponse {
                        body: Box::new(MeteredBody::new(
                            response.body,
                            &self.options.limits,
                            deadline,
                        )),
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

/// A download on its way. The digests always cover exactly the first `done` bytes.
struct TargetDownload<'a> {
    target: &'a TargetInfo,
    destination: &'a mut dyn Destination,
    running: RunningDigests,
    done: u64,
    validator: Option<String>,
    sink: &'a dyn Sink,
    told: Instant,
}

impl<'a> TargetDownload<'a> {
    /// Takes up what is there, if it is noted to be part of this target.
    fn open(
        target: &'a TargetInfo,
        destination: &'a mut dyn Destination,
        sink: &'a dyn Sink,
    ) -> Result<Self, TufError> {
        let there = destination.resume_point()?;
        let mut download = TargetDownload {
            target,
            destination,
            running: target.digests.start(),
            done: 0,
            validator: None,
            sink,
            told: Instant::now(),
        };
        match there.usable(target) {
            0 => download.restart()?,
            usable => {
                download.validator = there.origin.and_then(DownloadOrigin::into_validator);
                download.read_back(usable)?;
            }
        }
        Ok(download)
    }

    /// Hashes the first `length` bytes of what is there.
    fn read_back(&mut self, length: u64) -> Result<(), TufError> {
        let mut buffer = vec![0; BUFFER];
        while self.done < length {
            let left = usize::try_from(length - self.done).unwrap_or(BUFFER);
            let buffer = buffer.get_mut(..left.min(BUFFER)).unwrap_or_default();
            let n = self.destination.read_at(self.done, buffer)?;
            if n == 0 {
                break;
            }
            self.running.update(buffer.get(..n).unwrap_or_default());
            self.done += n as u64;
        }
        Ok(())
    }

    fn resume(&self) -> Option<ResumeFrom> {
        (self.done > 0).then(|| ResumeFrom {
            offset: self.done,
            validator: self.validator.clone(),
        })
    }

    /// Begins again with nothing.
    fn restart(&mut self) -> Result<(), TufError> {
        self.destination.restart()?;
        self.running = self.target.digests.start();
        self.done = 0;
        self.validator = None;
        Ok(())
    }

    /// Takes the body of an answer. The result says why it ended, if it ended too early.
    fn receive(
        &mut self,
        url: &str,
        mut response: TransportResponse,
    ) -> Result<Option<TransportError>, TufError> {
        if response.length.is_some_and(|n| n > self.missing()) {
            return Err(self.refuse(url)?);
        }
        if response.offset == 0 {
            self.validator = response.validator.take();
            let origin = DownloadOrigin::new(self.target, self.validator.clone());
            self.destination.remember(&origin)?;
        }
        let mut buffer = vec![0; BUFFER];
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
            self.destination.write_at(self.done, bytes)?;
            self.running.update(bytes);
            self.done += n as u64;
            self.tell(false);
        }
    }

    /// Whether what is there is the target.
    fn is_target(&mut self) -> bool {
        let running = std::mem::replace(&mut self.running, self.target.digests.start());
        running.matches(&self.target.digests)
    }

    /// How many bytes are not there yet.
    fn missing(&self) -> u64 {
        self.target.length.saturating_sub(self.done)
    }

    /// The server has more than it should: forget what came from it.
    fn refuse(&mut self, url: &str) -> Result<TufError, TufError> {
        self.destination.discard()?;
        Ok(TufError::TooLong {
            url: url.to_owned(),
            limit: self.target.length,
        })
    }

    fn tell(&mut self, always: bool) {
        if always || self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            let TargetDownload { target, done, .. } = self;
            let event = Event::bytes("download", &target.name, *done, Some(target.length));
            self.sink.emit(event);
        }
    }
}
