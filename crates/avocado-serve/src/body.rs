//! The body of an answer: read as fast as the client takes it, counted, and spoilt on demand.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::faults::Plan;
use crate::log::{Log, Outcome};
use crate::server::Stopped;
use crate::wire::Flushes;

/// How much of a file is in memory per response: two pieces in the queue and one being read.
const PIECE: usize = 64 * 1024;
const QUEUE: usize = 2;

enum Source {
    /// All of it at hand. Empty when it was given away.
    Whole(Bytes),
    /// Pieces from the task that reads the file.
    Pieces(mpsc::Receiver<Piece>),
    /// To end the connection with this error once the flush after this one happened.
    Failing(u64, Option<io::Error>),
}

/// A body that reports its progress to the [`Log`].
pub(crate) struct Answer {
    source: Source,
    sent: u64,
    total: u64,
    number: u64,
    log: Log,
    flushes: Flushes,
}

impl Answer {
    /// A short body that is in memory.
    pub(crate) fn whole(bytes: Bytes, number: u64, log: Log) -> Self {
        Answer {
            total: bytes.len() as u64,
            source: Source::Whole(bytes),
            sent: 0,
            number,
            log,
            flushes: Flushes::default(),
        }
    }

    /// What `reader` makes of `file` from `start` on.
    pub(crate) fn file(reader: Reader, file: File, start: u64, flushes: Flushes) -> Self {
        let (pieces, source) = mpsc::channel(QUEUE);
        let answer = Answer {
            source: Source::Pieces(source),
            sent: 0,
            total: reader.total,
            number: reader.number,
            log: reader.log.clone(),
            flushes,
        };
        tokio::spawn(reader.run(file, start, pieces));
        answer
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let bytes = loop {
            match &mut this.source {
                Source::Whole(bytes) => break std::mem::take(bytes),
                Source::Pieces(pieces) => match ready!(pieces.poll_recv(cx)) {
                    Some(Piece::Data(bytes)) => break bytes,
                    Some(Piece::Stalled) => this.log.update(this.number, |request| {
                        request.outcome = Outcome::Stalled;
                    }),
                    Some(Piece::Failed(error)) => {
                        this.source = Source::Failing(this.flushes.count(), Some(error));
                    }
                    None => return Poll::Ready(None),
                },
                Source::Failing(after, error) => {
                    ready!(this.flushes.poll_later(cx, *after));
                    return Poll::Ready(error.take().map(Err));
                }
            }
        };
        if bytes.is_empty() {
            return Poll::Ready(None);
        }
        this.sent += bytes.len() as u64;
        let sent = this.sent;
        this.log.update(this.number, |request| {
            request.sent = sent;
            request.outcome = Outcome::Sending;
        });
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.total
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.total - self.sent)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let outcome = if self.sent == self.total {
            Outcome::Complete
        } else {
            Outcome::Broken
        };
        self.log
            .update(self.number, |request| request.outcome = outcome);
    }
}

/// The task that reads a file for one [`Answer`]. It ends when the answer is dropped.
pub(crate) struct Reader {
    /// How many bytes to read.
    pub(crate) total: u64,
    /// What to do to them.
    pub(crate) plan: Plan,
    pub(crate) number: u64,
    pub(crate) log: Log,
    pub(crate) stopped: Stopped,
}

type Pieces = mpsc::Sender<Piece>;

/// What the reader hands to its answer.
enum Piece {
    Data(Bytes),
    /// Nothing more comes for a while.
    Stalled,
    /// Nothing more comes: the connection has to end.
    Failed(io::Error),
}

impl Reader {
    async fn run(mut self, file: File, start: u64, pieces: Pieces) {
        if let Err(error) = self.send(file, start, &pieces).await {
            // Nobody is listening when the client went away, which is all right.
            let _ = pieces.send(Piece::Failed(error)).await;
        }
    }

    async fn send(&mut self, mut file: File, start: u64, pieces: &Pieces) -> io::Result<()> {
        file.seek(SeekFrom::Start(start))?;
        let mut file = tokio::fs::File::from_std(file);
        let mut done = 0;
        loop {
            if self.plan.cut.is_some_and(|cut| cut <= done) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if let Some((_, mut released)) = self.plan.stall.take_if(|(at, _)| *at <= done) {
                if pieces.send(Piece::Stalled).await.is_err() {
                    return Ok(());
                }
                tokio::select! {
                    biased;
                    () = pieces.closed() => return Ok(()),
                    () = self.stopped.wait() => {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    // The faults live as long as the server, so this is a release.
                    _ = released.changed() => {}
                }
            }
            if done == self.total {
                return Ok(());
            }
            let mut end = self.total.min(done + PIECE as u64);
            let stall = self.plan.stall.as_ref().map(|(at, _)| *at);
            for stop in [self.plan.cut, stall].into_iter().flatten() {
                end = end.min(stop.max(done));
            }
            let piece = read(&mut file, end - done, self.spoilt(done, end)).await?;
            if pieces.send(Piece::Data(piece)).await.is_err() {
                return Ok(());
            }
            done = end;
        }
    }

    /// Which byte of the piece `start..end` is to be spoilt.
    fn spoilt(&self, start: u64, end: u64) -> Option<usize> {
        let at = self.plan.corrupt.filter(|at| (start..end).contains(at))?;
        usize::try_from(at - start).ok()
    }
}

async fn read(file: &mut tokio::fs::File, length: u64, spoilt: Option<usize>) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    // Fails when the file became shorter: then its promised length cannot be kept.
    file.read_exact(&mut piece).await?;
    if let Some(byte) = spoilt.and_then(|at| piece.get_mut(at)) {
        *byte = !*byte;
    }
    Ok(piece.into())
}
