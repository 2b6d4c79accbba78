//! The host backend: a child of our own in its own mount namespace.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use avocado_events::{Cancel, Event, Sink};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::{Line, Request};
use crate::tool::die_with_parent;
use crate::{Mounts, ToolError};

/// How often a waiting parent looks whether it was asked to stop.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// Work for the backend.
#[derive(Debug)]
pub struct Job<'a, J> {
    /// The stage under which its events appear.
    pub name: &'a str,
    /// The environment of the job and of its tools: all of it.
    pub environment: &'a BTreeMap<String, OsString>,
    /// What to do, in the caller's own terms.
    pub work: &'a J,
}

/// A job had no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SdkError {
    /// The step's own process could not be started or talked to.
    #[error("cannot run a step with {}", program.display())]
    Start {
        /// Our own program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The step ended without a word.
    #[error("the step ended without a result ({status}){said}")]
    Died {
        /// How it ended.
        status: String,
        /// What it left on standard error.
        said: String,
    },
    /// The step said why it failed.
    #[error("{message}")]
    Failed {
        /// The outermost cause.
        message: String,
        /// The causes below it.
        #[source]
        source: Option<Box<Cause>>,
    },
    /// The result is not what the caller expects.
    #[error("the step's result cannot be understood")]
    Result(#[source] serde_json::Error),
    /// The user asked to stop.
    #[error("stopped")]
    Cancelled,
    /// A tool failed outside a job.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// One cause in a chain that came from another process.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Cause {
    message: String,
    #[source]
    source: Option<Box<Cause>>,
}

fn is_request_to_stop(signal: i32) -> bool {
    use rustix::process::Signal;
    [Signal::INT, Signal::TERM, Signal::HUP]
        .iter()
        .any(|s| s.as_raw() == signal)
}

fn cause(mut messages: impl Iterator<Item = String>) -> Option<Box<Cause>> {
    let message = messages.next()?;
    Some(Box::new(Cause {
        message,
        source: cause(messages),
    }))
}

/// Runs jobs as children of this process.
#[derive(Debug)]
pub struct HostSdk {
    program: PathBuf,
    mounts: Mounts,
    processes: AtomicU64,
}

impl HostSdk {
    /// A backend that re-executes `program` as `program step`.
    pub fn new(program: PathBuf, mounts: Mounts) -> Self {
        HostSdk {
            program,
            mounts,
            processes: AtomicU64::new(0),
        }
    }

    /// How many processes were started so far, tools included.
    pub fn processes(&self) -> u64 {
        self.processes.load(Ordering::Relaxed)
    }

    /// Runs a job to its end.
    ///
    /// # Errors
    /// When the job fails, cannot be started, or `cancel` asks to stop; its process and its tools
    /// are gone then.
    pub fn run<J: Serialize, R: DeserializeOwned>(
        &self,
        job: &Job<'_, J>,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<R, SdkError> {
        let start = |source| SdkError::Start {
            program: self.program.clone(),
            source,
        };
        let request = Request {
            mounts: self.mounts.clone(),
            job: serde_json::to_value(job.work).map_err(|e| start(e.into()))?,
        };
        let request = serde_json::to_vec(&request).map_err(|e| start(e.into()))?;
        let mut command = Command::new(&self.program);
        command
            .arg("step")
            .env_clear()
            .envs(job.environment)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn().map_err(start)?;
        self.processes.fetch_add(1, Ordering::Relaxed);
        let outcome = self.talk(&mut child, &request, job.name, cancel, sink);
        if outcome.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(start)?;
        let (line, said) = outcome?;
        // Ctrl-C reaches the whole process group: the step may be gone before this process has
        // looked at its own signal, and may have had time to complain of a tool that was gone.
        let stopped = status.signal().is_some_and(is_request_to_stop) || cancel.is_cancelled();
        match line {
            Some(Line::Result(value)) => serde_json::from_value(value).map_err(SdkError::Result),
            _ if stopped => Err(SdkError::Cancelled),
            Some(Line::Failure(failure)) => {
                let mut causes = failure.causes.into_iter();
                Err(SdkError::Failed {
                    message: causes.next().unwrap_or_default(),
                    source: cause(causes),
                })
            }
            _ => Err(SdkError::Died {
                status: status.to_string(),
                said,
            }),
        }
    }

    /// Hands over the request and listens until the child closes its output.
    fn talk(
        &self,
        child: &mut Child,
        request: &[u8],
        name: &str,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<(Option<Line>, String), SdkError> {
        let lost = |source| SdkError::Start {
            program: self.program.clone(),
            source,
        };
        let missing = || lost(io::Error::other("the step has no streams"));
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let mut stderr = child.stderr.take().ok_or_else(missing)?;
        stdin.write_all(request).map_err(lost)?;
        drop(stdin);
        let (lines, received) = mpsc::channel();
        // Detached on purpose: both end with the child's streams, and a tool that inherited one
        // of them must not be able to hold up a cancelled run.
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { return };
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let mut last = None;
        loop {
            let line = match received.recv_timeout(CANCEL_INTERVAL) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => {
                    return Err(SdkError::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) => continue,
            };
            match serde_json::from_slice(&line) {
                Ok(Line::Event(mut event)) => {
                    name.clone_into(&mut event.stage);
                    sink.emit(event);
                }
                Ok(Line::Spawned) => {
                    self.processes.fetch_add(1, Ordering::Relaxed);
                }
                Ok(end) => last = Some(end),
                // A tool that got hold of our output: its words are output, nothing more.
                Err(_) => sink.emit(Event::output(name, String::from_utf8_lossy(&line))),
            }
            if cancel.is_cancelled() {
                return Err(SdkError::Cancelled);
            }
        }
        let said = errors.join().unwrap_or_default();
        let said = if said.is_empty() {
            said
        } else {
            format!("\n    {said}")
        };
        Ok((last, said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Runs a step whose process does what a shell script says.
    fn run(script: &str) -> Result<u32, SdkError> {
        let dir = tempfile::tempdir().unwrap();
        let (text, program) = (dir.path().join("text"), dir.path().join("program"));
        // Signals do what they do by default, even where this was started without an interrupt key.
        let shell = "#!/usr/bin/env -S --default-signal /bin/sh";
        fs::write(&text, format!("{shell}\ncat >/dev/null\n{script}\n")).unwrap();
        // Not written by this process, whose other children might hold it open.
        let mut install = Command::new("install");
        let installed = install.args(["-m", "755"]).args([&text, &program]).status();
        assert!(installed.unwrap().success());
        let mounts = Mounts {
            state: dir.path().to_owned(),
            source: dir.path().to_owned(),
        };
        let job = Job {
            name: "step",
            environment: &BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".into())]),
            work: &(),
        };
        HostSdk::new(program, mounts).run(&job, &Cancel::new(), &avocado_events::Silent)
    }

    #[test]
    fn a_signal_to_stop_counts_more_than_what_was_said_before_it() {
        let failure = serde_json::to_string(&Line::Failure(crate::protocol::Failure {
            causes: vec!["dnf failed".into()],
        }))
        .unwrap();
        // Ctrl-C ends a tool first, the step has a word to say about it, and then ends as well.
        for signal in ["INT", "TERM", "HUP"] {
            let result = run(&format!("echo '{failure}'; kill -{signal} $$"));
            assert!(matches!(result, Err(SdkError::Cancelled)), "{result:?}");
        }
        let result = run(&format!("echo '{failure}'; exit 1"));
        assert!(matches!(result, Err(SdkError::Failed { .. })), "{result:?}");
        let result = run("kill -SEGV $$");
        assert!(matches!(result, Err(SdkError::Died { .. })), "{result:?}");
        // What is done is done.
        let done = serde_json::to_string(&Line::Result(7.into())).unwrap();
        assert_eq!(run(&format!("echo '{done}'; kill -INT $$")).unwrap(), 7);
    }
}
