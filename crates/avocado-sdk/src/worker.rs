//! The child's side: what runs when our program is started as `avocado step`.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Mutex;

use avocado_events::{Event, Sink};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::namespace;
use crate::protocol::{Failure, Line, Request};

/// Writes lines to the parent. The parent alone decides what a user sees of them.
struct Parent;

/// One line at a time, also when several tools report at once.
static OUTPUT: Mutex<()> = Mutex::new(());

fn say(line: &Line) {
    let Ok(mut text) = serde_json::to_vec(line) else {
        return;
    };
    text.push(b'\n');
    let _guard = OUTPUT.lock();
    // A parent that is gone has no use for the line, and its death ends this process too.
    let _ = io::stdout().write_all(&text);
}

impl Sink for Parent {
    fn emit(&self, event: Event) {
        say(&Line::Event(event));
    }
}

/// Tells the parent that a tool is about to start. Outside a worker, in tests, nobody listens.
pub(crate) fn count_spawn() {
    if WORKER.get().is_some() {
        say(&Line::Spawned);
    }
}

static WORKER: std::sync::OnceLock<()> = std::sync::OnceLock::new();

/// Reads the job from standard input, enters its mounts, runs it and reports the result. To be
/// called first thing in `avocado step`, while the process has one thread.
pub fn main<J, R, E>(run: impl FnOnce(J, &dyn Sink) -> Result<R, E>) -> ExitCode
where
    J: DeserializeOwned,
    R: Serialize,
    E: std::error::Error + 'static,
{
    let _ = WORKER.set(());
    // The parent's death must not leave work behind; see `tool::die_with_parent`.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let (line, code) = match work(run) {
        Ok(value) => (Line::Result(value), ExitCode::SUCCESS),
        Err(causes) => (Line::Failure(Failure { causes }), ExitCode::FAILURE),
    };
    say(&line);
    code
}

fn work<J, R, E>(
    run: impl FnOnce(J, &dyn Sink) -> Result<R, E>,
) -> Result<serde_json::Value, Vec<String>>
where
    J: DeserializeOwned,
    R: Serialize,
    E: std::error::Error + 'static,
{
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text).map_err(|e| chain(&e))?;
    let request: Request = serde_json::from_slice(&text).map_err(|e| chain(&e))?;
    namespace::enter(&request.mounts).map_err(|e| chain(&e))?;
    let job = serde_json::from_value(request.job).map_err(|e| chain(&e))?;
    let result = run(job, &Parent).map_err(|e| chain(&e))?;
    serde_json::to_value(result).map_err(|e| chain(&e))
}

fn chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |e| e.source())
        .map(ToString::to_string)
        .collect()
}
