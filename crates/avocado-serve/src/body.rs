//! The body of an answer: read as fast as the client takes it, and counted.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::request::{RequestOutcome, RequestReporter, ServedRequest};

/// How much of a file is in memory per response: two pieces in the queue and one being read.
const PIECE: usize = 64 * 1024;
const QUEUE: usize = 2;

enum Source {
    /// All of it at hand. Empty when it was given away.
    Whole(Bytes),
    /// Pieces from the task that reads the file.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

/// The body of an answer; tells the server's owner about its progress.
pub struct AnswerBody {
    source: Source,
    request: ServedRequest,
    reporter: Arc<RequestReporter>,
}

impl AnswerBody {
    /// A short body that is in memory.
    pub(crate) fn whole(
        bytes: Bytes,
        request: ServedRequest,
        reporter: Arc<RequestReporter>,
    ) -> Self {
        AnswerBody {
            source: Source::Whole(bytes),
            request,
            reporter,
        }
    }

    /// The bytes `range` of `file`.
    pub(crate) fn file(
        file: File,
        range: Range<u64>,
        request: ServedRequest,
        reporter: Arc<RequestReporter>,
    ) -> Self {
        let (pieces, source) = mpsc::channel(QUEUE);
        tokio::spawn(read_file(file, range, pieces));
        AnswerBody {
            source: Source::Pieces(source),
            request,
            reporter,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let bytes = match &mut this.source {
            Source::Whole(bytes) => std::mem::take(bytes),
            Source::Pieces(pieces) => match ready!(pieces.poll_recv(cx)) {
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            },
        };
        if bytes.is_empty() {
            return Poll::Ready(None);
        }
        this.request.sent += bytes.len() as u64;
        this.reporter.tell(&this.request);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.request.sent == self.request.total
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.request.total - self.request.sent)
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.request.outcome = if self.is_end_stream() {
            RequestOutcome::Complete
        } else {
            RequestOutcome::Broken
        };
        self.reporter.tell(&self.request);
    }
}

type Pieces = mpsc::Sender<io::Result<Bytes>>;

/// The task that reads a file for one [`AnswerBody`]. It ends when the body is dropped.
async fn read_file(file: File, range: Range<u64>, pieces: Pieces) {
    if let Err(error) = send_pieces(file, range, &pieces).await {
        // A client that went away took the receiver with it: it does not need the error.
        let _ = pieces.send(Err(error)).await;
    }
}

async fn send_pieces(mut file: File, range: Range<u64>, pieces: &Pieces) -> io::Result<()> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut file = tokio::fs::File::from_std(file);
    let mut left = range.end - range.start;
    while left > 0 {
        let length = left.min(PIECE as u64);
        let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        // Fails when the file became shorter: then its promised length cannot be kept.
        file.read_exact(&mut piece).await?;
        if pieces.send(Ok(piece.into())).await.is_err() {
            return Ok(());
        }
        left -= length;
    }
    Ok(())
}
