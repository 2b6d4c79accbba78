//! `avocado vm start`.

use std::sync::atomic::{AtomicBool, Ordering};

use avocado_events::{Event, Sink};
use avocado_vm::channel;
use avocado_vm::dir::File;
use avocado_vm::status::{State, Status};
use serde_json::{Value, json};

use super::{Session, failure, launch, logs, machine, state_dir, update};
use crate::cli::VmStartArgs;
use crate::failure::{Failure, Result};
use crate::output::{Start, Summary};

pub(super) fn run(session: &Session, args: &VmStartArgs) -> Result<()> {
    let dir = state_dir(session)?;
    let output = &session.output;
    output.start(&Start {
        action: "vm start",
        target: None,
        runtime: None,
    });
    let before = machine::status(&dir)?;
    let not_now = match before.state {
        State::Starting => Some("the VM is being started already"),
        State::Stopping => Some("the VM is stopping"),
        _ => None,
    };
    if let Some(not_now) = not_now {
        return Err(Failure::new(not_now).hint("wait for it: see `avocado vm status`"));
    }
    if before.running && before.state != State::Unsupervised {
        launch::persist(&dir, args)?;
        if args.cpus.is_some() || args.memory_mib.is_some() {
            output.emit(Event::info("the new values count from the next start"));
        }
        return done(session, &before, "the VM runs already");
    }
    update::finish_interrupted(session, &dir)?;
    let launch = launch::resolve(session, &dir, args)?;
    launch::persist(&dir, args)?;
    channel::forget_running(&dir).map_err(failure)?;

    // A guest that is taken over may be in use.
    let up = before.state == State::Unsupervised;
    let attended = machine::Attended::new(session, &dir, up)?;
    let finished = AtomicBool::new(false);
    let console = dir.file(File::SerialLog);
    let newer = update::newer(session, &dir, &launch.image);
    let started = std::thread::scope(|scope| {
        if args.watch {
            scope.spawn(|| {
                logs::watch(&console, &finished, &|line| {
                    let stage = "console".to_owned();
                    output.emit(Event {
                        stage,
                        ..Event::info(line)
                    });
                });
            });
        }
        let started = machine::start(session, &dir, &launch);
        finished.store(true, Ordering::SeqCst);
        started
    });
    let status = match started {
        Err(_) if attended.interrupted() => return Err(Failure::interrupted()),
        started => started?,
    };
    attended.is_up();
    // Where the network is slow, the next start tells.
    if let Some(newer) = newer.and_then(|newer| newer.try_recv().ok()) {
        output.emit(Event::info(newer));
    }
    if args.foreground {
        output.emit(Event::info(
            "the VM runs; Ctrl-C stops it (and again leaves it alone)",
        ));
        machine::stay(&dir)?;
        return done(session, &machine::status(&dir)?, "the VM has ended");
    }
    done(session, &status, "the VM runs")
}

fn done(session: &Session, status: &Status, closing: &str) -> Result<()> {
    let mut summary = Summary::default();
    if let Ok(Value::Object(fields)) = serde_json::to_value(status) {
        summary.fields.insert("status".into(), json!(fields));
    }
    let ssh = status.ports.ssh.filter(|_| status.running);
    let ssh = ssh.map(|port| format!("; ssh on port {port}, or `avocado vm shell`"));
    summary.closing = format!("{closing}{}", ssh.unwrap_or_default());
    session.output.complete(summary)
}
