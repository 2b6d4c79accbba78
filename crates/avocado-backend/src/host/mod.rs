//! The host backend: jobs are children of this process, each in namespaces of its own.

pub(crate) mod devices;
mod mounts;
pub(crate) mod namespace;
mod owners;
mod tool_identities;
#[cfg(test)]
mod view_tests;

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use avocado_events::{Cancel, Event, Sink};

use crate::error::RemoteCause;
use crate::parent_death::die_with_parent;
use crate::protocol::{Failure, FailureOrigin, JobView, Line, Request};
use crate::terminal::{LentTerminal, ignore_interrupts};
use crate::{Backend, BackendError, Capabilities, Job, ToolQuery};
use tool_identities::ToolIdentities;

/// How often a waiting parent looks whether it was asked to stop.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs jobs as children of this process, with the tools of this host.
#[derive(Debug)]
pub struct HostBackend {
    program: PathBuf,
    identities: ToolIdentities,
    processes: AtomicU64,
}

impl HostBackend {
    /// A backend that re-executes `program` as `program step`, with the tools on `search_path`.
    /// What they say of themselves is remembered in the file `identities`, which may be removed
    /// at any time.
    pub fn new(program: PathBuf, search_path: OsString, identities: PathBuf) -> Self {
        HostBackend {
            program,
            identities: ToolIdentities::new(search_path, identities),
            processes: AtomicU64::new(0),
        }
    }

    /// The same for who only looks: a tool that is another one than before is said to be that, and is
    /// not asked what it is.
    #[must_use]
    pub fn asking_no_tools(mut self) -> Self {
        self.identities.asks = false;
        self
    }

    fn count_process(&self) {
        self.processes.fetch_add(1, Ordering::Relaxed);
    }

    fn lost(&self, source: io::Error) -> BackendError {
        BackendError::Start {
            program: self.program.clone(),
            source,
        }
    }

    /// Hands over the request and listens until the child closes its output.
    fn listen(
        &self,
        child: &mut Child,
        request: &[u8],
        stage: &str,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<(Option<Line>, String), BackendError> {
        let missing = || self.lost(io::Error::other("the step has no streams"));
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let mut stderr = child.stderr.take().ok_or_else(missing)?;
        stdin.write_all(request).map_err(|e| self.lost(e))?;
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
                    return Err(BackendError::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) => continue,
            };
            match serde_json::from_slice(&line) {
                Ok(Line::Event(mut event)) => {
                    stage.clone_into(&mut event.stage);
                    sink.emit(event);
                }
                Ok(Line::Spawned) => self.count_process(),
                Ok(end) => last = Some(end),
                // A tool that got hold of our output: its words are output, nothing more.
                Err(_) => sink.emit(Event::output(stage, String::from_utf8_lossy(&line))),
            }
            if cancel.is_cancelled() {
                return Err(BackendError::Cancelled);
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

impl Backend for HostBackend {
    fn capabilities(&self) -> Capabilities {
        // In a user namespace, where a step of another user than root runs, block devices can
        // neither be mounted nor opened.
        let privileged = namespace::is_privileged();
        Capabilities {
            loop_mounts: privileged,
            devices: privileged,
            network: true,
        }
    }

    fn run(
        &self,
        job: &Job,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<serde_json::Value, BackendError> {
        let lent = if job.terminal {
            Some(LentTerminal::new().map_err(|e| self.lost(e))?)
        } else {
            None
        };
        let request = Request {
            terminal: lent.as_ref().map(LentTerminal::numbers),
            view: JobView {
                network: job.network,
                mounts: job.mounts.clone(),
                visible: job.visible.clone(),
                hidden: job.hidden.clone(),
            },
            loop_mounts: job.loop_mounts && self.capabilities().loop_mounts,
            job: job.request.clone(),
        };
        let request = serde_json::to_vec(&request).map_err(|e| self.lost(e.into()))?;
        let mut command = Command::new(&self.program);
        command
            .arg("step")
            .env_clear()
            .envs(&job.environment)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_parent(&mut command);
        if lent.is_some() {
            ignore_interrupts(&mut command);
        }
        let mut child = command.spawn().map_err(|e| self.lost(e))?;
        drop(lent);
        self.count_process();
        let outcome = self.listen(&mut child, &request, &job.stage, cancel, sink);
        if outcome.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|e| self.lost(e))?;
        // Ctrl-C reaches the whole process group: the step may be gone before this process has
        // looked at its own signal, or even written the request, and may have had time to complain
        // of a tool that was gone.
        let has_failed = !matches!(outcome, Ok((Some(Line::Result(_)), _)));
        let stopped = status.signal().is_some_and(is_request_to_stop)
            || has_failed && is_cancelled_within(SIGNAL_DELAY, cancel);
        let (line, said) = match outcome {
            Err(_) if stopped => return Err(BackendError::Cancelled),
            outcome => outcome?,
        };
        match line {
            Some(Line::Result(value)) => Ok(value),
            _ if stopped => Err(BackendError::Cancelled),
            Some(Line::Failure(failure)) => Err(failed(failure)),
            _ => Err(BackendError::Died {
                status: status.to_string(),
                said,
            }),
        }
    }

    fn tool_identity(&self, query: &ToolQuery) -> Result<Option<String>, BackendError> {
        self.identities.get(query, &|| self.count_process())
    }

    fn processes(&self) -> u64 {
        self.processes.load(Ordering::Relaxed)
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
    use std::collections::BTreeMap;
    use std::fs;

    /// Runs a step whose process takes the request, and then does what a shell script says.
    fn run(script: &str) -> Result<u32, BackendError> {
        run_request(
            &format!("cat >/dev/null\n{script}"),
            serde_json::Value::Null,
        )
    }

    fn run_request(script: &str, request: serde_json::Value) -> Result<u32, BackendError> {
        let dir = tempfile::tempdir().unwrap();
        let (text, program) = (dir.path().join("text"), dir.path().join("program"));
        // Signals do what they do by default, even where this was started without an interrupt key.
        let shell = "#!/usr/bin/env -S --default-signal /bin/sh";
        fs::write(&text, format!("{shell}\n{script}\n")).unwrap();
        // Not written by this process, whose other children might hold it open.
        let mut install = Command::new("install");
        let installed = install.args(["-m", "755"]).args([&text, &program]).status();
        assert!(installed.unwrap().success());
        let job = Job {
            stage: "step".to_owned(),
            environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".into())]),
            mounts: Vec::new(),
            visible: Vec::new(),
            hidden: Vec::new(),
            network: true,
            terminal: false,
            loop_mounts: false,
            request,
        };
        let backend = HostBackend::new(program, "/usr/bin:/bin".into(), dir.path().join("tools"));
        job.run_on(&backend, &Cancel::new(), &avocado_events::Silent)
    }

    fn line(origin: FailureOrigin, causes: &[&str]) -> String {
        let causes = causes.iter().map(|c| (*c).to_owned()).collect();
        serde_json::to_string(&Line::Failure(Failure { origin, causes })).unwrap()
    }

    #[test]
    fn a_signal_to_stop_counts_more_than_what_was_said_before_it() {
        let failure = line(FailureOrigin::Job(None), &["dnf failed"]);
        // Ctrl-C ends a tool first, the step has a word to say about it, and then ends as well.
        for signal in ["INT", "TERM", "HUP"] {
            let result = run(&format!("echo '{failure}'; kill -{signal} $$"));
            assert!(matches!(result, Err(BackendError::Cancelled)), "{result:?}");
        }
        // More than a pipe holds: it is gone before it has the request.
        let request = || serde_json::Value::String("x".repeat(1 << 20));
        let result = run_request("kill -INT $$", request());
        assert!(matches!(result, Err(BackendError::Cancelled)), "{result:?}");
        let result = run_request("exit 1", request());
        assert!(
            matches!(result, Err(BackendError::Start { .. })),
            "{result:?}"
        );
        let result = run(&format!("echo '{failure}'; exit 1"));
        assert!(
            matches!(result, Err(BackendError::Failed { .. })),
            "{result:?}"
        );
        let result = run("kill -SEGV $$");
        assert!(
            matches!(result, Err(BackendError::Died { .. })),
            "{result:?}"
        );
        // What is done is done.
        let done = serde_json::to_string(&Line::Result(7.into())).unwrap();
        assert_eq!(run(&format!("echo '{done}'; kill -INT $$")).unwrap(), 7);
    }

    #[test]
    fn a_wish_to_stop_may_be_noticed_after_what_it_did() {
        let cancel = Cancel::new();
        assert!(!is_cancelled_within(Duration::ZERO, &cancel));
        let later = cancel.clone();
        let noticed = thread::spawn(move || later.cancel());
        assert!(is_cancelled_within(Duration::MAX / 4, &cancel));
        noticed.join().unwrap();
    }

    #[test]
    fn the_kind_of_a_failure_arrives_beside_its_words() {
        let origin = FailureOrigin::Job(Some("storage_full".into()));
        let failure = line(origin, &["cannot write x", "no space"]);
        let error = run(&format!("echo '{failure}'; exit 1")).unwrap_err();
        let said = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(said.as_deref(), Some("no space"));
        let BackendError::Failed { kind, message, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(kind.as_deref(), Some("storage_full"));
        assert_eq!(message, "cannot write x");

        let failure = line(FailureOrigin::Namespace, &["cannot unshare"]);
        let error = run(&format!("echo '{failure}'; exit 1")).unwrap_err();
        assert!(matches!(error, BackendError::Namespace { .. }), "{error:?}");
    }
}
