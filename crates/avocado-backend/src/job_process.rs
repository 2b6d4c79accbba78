//! The process that does a job, as its parent sees it: our own program, started as `avocado step`
//! on this host or in a container.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use avocado_events::{Cancel, Event, Sink};

use crate::BackendError;
use crate::error::RemoteCause;
use crate::job_socket::JobSocket;
use crate::parent_death::die_with_parent;
use crate::protocol::{Failure, FailureOrigin, Line, Place, Request};

/// How often a waiting parent looks whether it was asked to stop.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// How often a child on another machine hears from its parent, which is far more often than it has to.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);
/// How long such a child may take to end when it hears that it shall.
const END_LIMIT: Duration = Duration::from_secs(10);

/// What starts the process, and who hears of it.
pub(crate) struct JobProcess<'a> {
    /// Starts it, with the environment that it is to have.
    pub(crate) command: Command,
    /// What `command` starts, for messages.
    pub(crate) program: &'a Path,
    /// The stage under which its events appear.
    pub(crate) stage: &'a str,
    pub(crate) cancel: &'a Cancel,
    pub(crate) sink: &'a dyn Sink,
    /// Told of each process, tools included.
    pub(crate) count: &'a dyn Fn(),
    /// Where it calls, where it has the standard streams of this program.
    pub(crate) socket: Option<&'a JobSocket>,
}

/// What goes to the process and comes from it.
struct JobStreams {
    requests: Box<dyn Write + Send>,
    lines: Box<dyn Read + Send>,
    errors: Box<dyn Read + Send>,
    /// Where it called, if it did.
    called: Option<UnixStream>,
}

impl JobStreams {
    /// Those of one that has no others.
    fn of_child(child: &mut Child) -> io::Result<Self> {
        let missing = || io::Error::other("the step has no streams");
        Ok(JobStreams {
            requests: Box::new(child.stdin.take().ok_or_else(missing)?),
            lines: Box::new(child.stdout.take().ok_or_else(missing)?),
            errors: Box::new(child.stderr.take().ok_or_else(missing)?),
            called: None,
        })
    }

    /// Those of one that calls at a socket. Of one that never does there is nothing to hear.
    fn of_socket(socket: &JobSocket, child: &mut Child, cancel: &Cancel) -> io::Result<Self> {
        let errors = Box::new(io::empty());
        Ok(match socket.accept(child, || cancel.is_cancelled())? {
            Some(stream) => JobStreams {
                lines: Box::new(stream.try_clone()?),
                called: Some(stream.try_clone()?),
                requests: Box::new(EndingSocket(stream)),
                errors,
            },
            None => JobStreams {
                requests: Box::new(io::sink()),
                lines: Box::new(io::empty()),
                errors,
                called: None,
            },
        })
    }
}

/// The half of a socket that is written to: with it the other side sees the end, as with a pipe.
struct EndingSocket(UnixStream);

impl Write for EndingSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for EndingSocket {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

/// How the process ended, and what it said.
struct Ended {
    line: Option<Line>,
    /// What it left on standard error, ready to be quoted.
    said: String,
}

impl JobProcess<'_> {
    /// Starts it, and waits for its end.
    ///
    /// # Errors
    /// As [`Backend::run`](crate::Backend::run). It is gone then.
    pub(crate) fn run(mut self, request: &Request) -> Result<serde_json::Value, BackendError> {
        let text = serde_json::to_vec(request).map_err(|e| self.lost(e.into()))?;
        self.command.current_dir("/");
        if self.socket.is_none() {
            self.command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
        }
        die_with_parent(&mut self.command);
        let mut child = self.command.spawn().map_err(|e| self.lost(e))?;
        (self.count)();
        let streams = match self.socket {
            Some(socket) => JobStreams::of_socket(socket, &mut child, self.cancel),
            None => JobStreams::of_child(&mut child),
        };
        let streams = match streams {
            Ok(_) if self.cancel.is_cancelled() => Err(BackendError::Cancelled),
            streams => streams.map_err(|error| self.lost(error)),
        };
        let JobStreams {
            requests,
            lines,
            errors,
            called,
        } = streams.inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        // The client of an engine may end before its container does.
        let notice_end = || {
            if let (Some(called), Ok(Some(_))) = (&called, child.try_wait()) {
                // What it said is still heard, and then the end.
                let _ = called.shutdown(Shutdown::Both);
            }
        };
        // Beside the listening: a child that does not read must not keep us from hearing why, nor from
        // being asked to stop.
        let watch = ParentWatch::of(&request.place);
        let (lives, ended) = mpsc::channel();
        thread::spawn(move || watch.stay(requests, &text, &ended));
        let outcome = self.listen(lines, errors, notice_end);
        if outcome.is_err() {
            if watch == ParentWatch::Beats {
                // ssh ends when all has ended there. Killed, it would leave that to go on for a while.
                drop(lives);
                wait_for(&mut child, END_LIMIT);
            }
            let _ = child.kill();
        }
        let status = child.wait().map_err(|e| self.lost(e))?;
        self.result(status, outcome)
    }

    fn lost(&self, source: io::Error) -> BackendError {
        BackendError::Start {
            program: self.program.to_owned(),
            source,
        }
    }

    /// Listens until the child closes its output.
    fn listen(
        &self,
        output: Box<dyn Read + Send>,
        mut errors: Box<dyn Read + Send>,
        mut notice_end: impl FnMut(),
    ) -> Result<Ended, BackendError> {
        let (lines, received) = mpsc::channel();
        // Detached on purpose: both end with the child's streams, and a tool that inherited one
        // of them must not be able to hold up a cancelled run.
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let mut last = None;
        loop {
            let line = match received.recv_timeout(CANCEL_INTERVAL) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if self.cancel.is_cancelled() => {
                    return Err(BackendError::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) => {
                    notice_end();
                    continue;
                }
            };
            match serde_json::from_slice(&line) {
                Ok(Line::Event(mut event)) => {
                    self.stage.clone_into(&mut event.stage);
                    self.sink.emit(event);
                }
                Ok(Line::Spawned) => (self.count)(),
                Ok(end) => last = Some(end),
                // A tool that got hold of our output: its words are output, nothing more.
                Err(_) => self
                    .sink
                    .emit(Event::output(self.stage, String::from_utf8_lossy(&line))),
            }
            if self.cancel.is_cancelled() {
                return Err(BackendError::Cancelled);
            }
        }
        let said = errors.join().unwrap_or_default();
        let said = if said.is_empty() {
            said
        } else {
            format!("\n    {said}")
        };
        Ok(Ended { line: last, said })
    }

    fn result(
        &self,
        status: ExitStatus,
        outcome: Result<Ended, BackendError>,
    ) -> Result<serde_json::Value, BackendError> {
        // Ctrl-C reaches the whole process group: the step may be gone before this process has
        // looked at its own signal, or even written the request, and may have had time to complain
        // of a tool that was gone.
        let has_failed =
            !matches!(&outcome, Ok(ended) if matches!(ended.line, Some(Line::Result(_))));
        let stopped = status.signal().is_some_and(is_request_to_stop)
            || has_failed && is_cancelled_within(SIGNAL_DELAY, self.cancel);
        let ended = match outcome {
            Err(_) if stopped => return Err(BackendError::Cancelled),
            outcome => outcome?,
        };
        match ended.line {
            Some(Line::Result(value)) => Ok(value),
            _ if stopped => Err(BackendError::Cancelled),
            Some(Line::Failure(failure)) => Err(failed(failure)),
            _ => Err(BackendError::Died {
                status,
                said: ended.said,
            }),
        }
    }
}

/// By what a child sees that its parent lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParentWatch {
    /// The kernel ends it with its parent.
    Kernel,
    /// Its input stays open.
    Open,
    /// Its input stays open, and now and then there is something to read: a network that is cut
    /// closes nothing.
    Beats,
}

impl ParentWatch {
    fn of(place: &Place) -> Self {
        match place {
            Place::Host(_) => ParentWatch::Kernel,
            Place::Container { .. } => ParentWatch::Open,
            Place::Remote(_) => ParentWatch::Beats,
        }
    }

    /// Writes the request, and then what the child watches until `ended` is closed. A child that is gone
    /// before it has read all of it says why in another way.
    fn stay(self, mut requests: Box<dyn Write + Send>, request: &[u8], ended: &Receiver<()>) {
        let mut say = |text: &[u8]| requests.write_all(text).and_then(|()| requests.flush());
        if say(request).and_then(|()| say(b"\n")).is_err() || self == ParentWatch::Kernel {
            return;
        }
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(BEAT_INTERVAL) {
            if self == ParentWatch::Beats && say(b"\n").is_err() {
                return;
            }
        }
    }
}

/// Waits until the child has ended, but no longer than this.
fn wait_for(child: &mut Child, limit: Duration) {
    let begin = Instant::now();
    while matches!(child.try_wait(), Ok(None)) && begin.elapsed() < limit {
        thread::sleep(CANCEL_INTERVAL);
    }
}

/// How long the thread that watches for signals may take to notice one that a tool of a step has
/// died of already.
const SIGNAL_DELAY: Duration = Duration::from_millis(250);

fn is_cancelled_within(limit: Duration, cancel: &Cancel) -> bool {
    let begin = Instant::now();
    while !cancel.is_cancelled() && begin.elapsed() < limit {
        thread::sleep(Duration::from_millis(5));
    }
    cancel.is_cancelled()
}

fn is_request_to_stop(signal: i32) -> bool {
    use rustix::process::Signal;
    [Signal::INT, Signal::TERM, Signal::HUP]
        .iter()
        .any(|s| s.as_raw() == signal)
}

fn failed(failure: Failure) -> BackendError {
    let mut causes = failure.causes.into_iter();
    let message = causes
        .next()
        .unwrap_or_else(|| "the step failed without a reason".to_owned());
    let source = RemoteCause::chain(causes);
    match failure.origin {
        FailureOrigin::Namespace => BackendError::Namespace { message, source },
        FailureOrigin::Share => BackendError::Share { message, source },
        FailureOrigin::Job(kind) => BackendError::Failed {
            kind,
            message,
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_stop_may_be_noticed_after_what_it_did() {
        let cancel = Cancel::new();
        assert!(!is_cancelled_within(Duration::ZERO, &cancel));
        let later = cancel.clone();
        let noticed = thread::spawn(move || later.cancel());
        assert!(is_cancelled_within(Duration::MAX / 4, &cancel));
        noticed.join().unwrap();
    }
}
