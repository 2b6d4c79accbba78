use std::io::Read;

use avocado_http::{ResumeFrom, TransportError, within_deadline};

use super::rate::{MeteredBody, PROGRESS, broken};
use super::retry::{RetryCounter, ended_early};
use super::{TargetInfo, TufClient, TufError};

/// How many bytes are rather read over than another request is made, which costs a round trip or more.
const READ_OVER: u64 = 256 << 10;

/// How much of that is read at once, in bytes.
const BUFFER: usize = 16 << 10;

/// Reads parts of a target. They are whatever the server sends: whoever asks for parts has to know the
/// digest of each. An answer that breaks off is taken up where it did, as by [`TufClient::download`].
pub struct TargetReader<'a> {
    client: &'a TufClient,
    target: &'a TargetInfo,
    url: String,
    answer: Option<OpenAnswer>,
    /// Whether the server sends the target from its beginning, whatever it is asked for.
    from_beginning: bool,
    /// What the server named the state of the file.
    validator: Option<String>,
    retry: RetryCounter<'a>,
    /// How many bytes came since the last failure.
    came: u64,
}

/// An answer that is being read.
struct OpenAnswer {
    body: Box<dyn Read + Send>,
    /// Where in the target its next byte is.
    at: u64,
}

impl TufClient {
    /// A reader of parts of `target`. Makes no request.
    ///
    /// # Errors
    /// [`TufError::NoDigest`].
    pub fn reader<'a>(&'a self, target: &'a TargetInfo) -> Result<TargetReader<'a>, TufError> {
        Ok(TargetReader {
            client: self,
            target,
            url: self.target_url(target)?,
            answer: None,
            from_beginning: false,
            validator: None,
            retry: RetryCounter::new(&*self.transport, &self.options.limits),
            came: 0,
        })
    }
}

impl TargetReader<'_> {
    /// Fills `buffer` with the bytes of the target that begin at `offset`.
    ///
    /// # Errors
    /// [`TufError::Fetch`], and [`TufError::TooLong`] where the target ends before.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), TufError> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.target.length) {
            return Err(TufError::TooLong {
                url: self.url.clone(),
                limit: self.target.length,
            });
        }
        // What was done since the last call took none of the server's time.
        self.retry.progress();
        self.came = 0;
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_some(offset + done as u64, rest) {
                Ok(n) => done += n,
                Err(error) => {
                    self.answer = None;
                    if std::mem::take(&mut self.came) >= PROGRESS {
                        self.retry.progress();
                    }
                    self.retry.after(&self.url, error)?;
                }
            }
        }
        Ok(())
    }

    /// Some of the bytes at `offset`; at least one.
    fn read_some(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, TransportError> {
        let furthest = if self.from_beginning {
            u64::MAX
        } else {
            READ_OVER
        };
        let answer = self.answer.take();
        let answer = answer.filter(|a| a.at <= offset && offset - a.at <= furthest);
        let mut answer = match answer {
            Some(answer) => answer,
            None => self.request(offset)?,
        };
        let mut unwanted = [0; BUFFER];
        while answer.at < offset {
            let left = usize::try_from(offset - answer.at).unwrap_or(BUFFER);
            let unwanted = unwanted.get_mut(..left.min(BUFFER)).unwrap_or_default();
            self.came += answer.read(unwanted)?;
        }
        let n = answer.read(buffer)?;
        self.came += n;
        self.answer = Some(answer);
        Ok(usize::try_from(n).unwrap_or(buffer.len()))
    }

    /// Asks for the target from `offset` on.
    fn request(&mut self, offset: u64) -> Result<OpenAnswer, TransportError> {
        let client = self.client;
        let resume = (offset > 0).then(|| ResumeFrom {
            offset,
            validator: self.validator.clone(),
        });
        let deadline = self.retry.deadline();
        let get = || client.transport.get(&self.url, resume.as_ref());
        let answer = within_deadline(deadline, get)?;
        self.from_beginning = answer.offset < offset;
        self.validator = answer.validator.or(self.validator.take());
        let body = MeteredBody::new(answer.body, &client.options.limits, deadline);
        Ok(OpenAnswer {
            body: Box::new(body),
            at: answer.offset,
        })
    }
}

impl OpenAnswer {
    /// Reads some bytes; at least one.
    fn read(&mut self, buffer: &mut [u8]) -> Result<u64, TransportError> {
        loop {
            match self.body.read(buffer) {
                Ok(0) => return Err(ended_early()),
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n as u64);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(broken(e)),
            }
        }
    }
}

impl std::fmt::Debug for TargetReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TargetReader")
            .field("target", &self.target.name)
            .finish_non_exhaustive()
    }
}
