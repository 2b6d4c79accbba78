//! The body of an answer, counted, and spoilt as a [`FaultPlan`] says.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use avocado_serve::{AnswerBody, StopSignal};
use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::faults::FaultPlan;
use crate::flushes::Flushes;
use crate::request_log::{LogEntry, LoggedOutcome};

/// Ends when a stall is over: well when it was released, not so when the server stops.
type Stall = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// A body that reports its progress to the log.
pub(crate) struct FaultyBody {
    body: AnswerBody,
    plan: FaultPlan,
    /// What `body` gave that was not sent yet.
    pending: Bytes,
    sent: u64,
    total: u64,
    stall: Option<Stall>,
    /// The end of the connection: with this error, after the flush that follows this one.
    failing: Option<(u64, io::Error)>,
    entry: LogEntry,
    flushes: Flushes,
    stop: StopSignal,
}

impl FaultyBody {
    pub(crate) fn new(
        body: AnswerBody,
        total: u64,
        plan: FaultPlan,
        entry: LogEntry,
        flushes: Flushes,
        stop: StopSignal,
    ) -> Self {
        FaultyBody {
            body,
            plan,
            pending: Bytes::new(),
            sent: 0,
            total,
            stall: None,
            failing: None,
            entry,
            flushes,
            stop,
        }
    }

    /// Does what the plan has for the place that was reached.
    fn poll_faults(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failing.is_none() && self.plan.cut.is_some_and(|cut| cut <= self.sent) {
            self.fail(io::ErrorKind::ConnectionAborted.into());
        }
        if self.failing.is_none() {
            if let Some((_, mut released)) = self.plan.stall.take_if(|(at, _)| *at <= self.sent) {
                let mut stop = self.stop.clone();
                self.entry
                    .update(|request| request.outcome = LoggedOutcome::Stalled);
                self.stall = Some(Box::pin(async move {
                    tokio::select! {
                        biased;
                        () = stop.wait() => Err(io::ErrorKind::ConnectionAborted.into()),
                        // The faults live as long as the server, so this is a release.
                        _ = released.changed() => Ok(()),
                    }
                }));
            }
            if let Some(stall) = &mut self.stall {
                let ended = ready!(stall.as_mut().poll(cx));
                self.stall = None;
                if let Err(error) = ended {
                    self.fail(error);
                }
            }
        }
        if let Some((flush, _)) = &self.failing {
            // hyper throws its buffer away when a body fails: what was sent has to leave first.
            ready!(self.flushes.poll_later(cx, *flush));
            if let Some((_, error)) = self.failing.take() {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn fail(&mut self, error: io::Error) {
        self.failing = Some((self.flushes.count(), error));
    }

    /// Takes so much of what is pending that no fault is passed by, and spoils its byte.
    fn take_pending(&mut self) -> Bytes {
        let stall = self.plan.stall.as_ref().map(|(at, _)| *at);
        let start = self.sent;
        let mut end = start + self.pending.len() as u64;
        for stop in [self.plan.cut, stall].into_iter().flatten() {
            end = end.min(stop.max(start));
        }
        let length = usize::try_from(end - start).unwrap_or(self.pending.len());
        let bytes = self.pending.split_to(length);
        self.sent = end;
        let spoilt = self.plan.corrupt.filter(|at| (start..end).contains(at));
        let Some(at) = spoilt.and_then(|at| usize::try_from(at - start).ok()) else {
            return bytes;
        };
        let mut bytes = bytes.to_vec();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = !*byte;
        }
        bytes.into()
    }
}

impl Body for FaultyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if let Err(error) = ready!(this.poll_faults(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        if this.pending.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                // Our own server sends no trailers.
                Some(Ok(frame)) => this.pending = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    this.fail(error);
                    let error = ready!(this.poll_faults(cx)).err();
                    return Poll::Ready(error.map(Err));
                }
                None => return Poll::Ready(None),
            }
        }
        let bytes = this.take_pending();
        let sent = this.sent;
        this.entry.update(|request| {
            request.sent = sent;
            request.outcome = LoggedOutcome::Sending;
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

impl Drop for FaultyBody {
    fn drop(&mut self) {
        let outcome = if self.is_end_stream() {
            LoggedOutcome::Complete
        } else {
            LoggedOutcome::Broken
        };
        self.entry.update(|request| request.outcome = outcome);
    }
}
