//! `avocado vm keep-awake`.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use avocado_events::{Event, Sink};
use avocado_vm::control::{self, HeldRequest};
use clap::Args;
use serde_json::json;

use super::duration::parse_duration;
use super::{machine, state_dir};
use crate::failure::{Failure, Result};
use crate::output::WorkSummary;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct KeepAwakeArgs {
    /// For how long, such as 90s, 30m or 1h30m; then this command ends
    #[arg(
        long = "for",
        value_name = "DURATION",
        value_parser = parse_duration,
        conflicts_with = "command"
    )]
    pub(crate) time: Option<Duration>,

    /// For as long as this command runs on this machine; its exit code is that of avocado
    #[arg(
        long = "while",
        value_name = "COMMAND",
        num_args = 1..,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

const LOST: &str = "the VM's supervisor has ended: nothing keeps the guest awake any more";

pub(super) fn run(session: &Session, args: &KeepAwakeArgs) -> Result<ExitCode> {
    let dir = state_dir(session)?;
    machine::supervised(&dir)?;
    let awake = control::keep_awake(&dir).map_err(|error| machine::refused(&error))?;
    if let Some((program, rest)) = args.command.split_first() {
        return while_it_runs(session, awake, program, rest);
    }
    session.output.emit(Event::info(match args.time {
        Some(time) => format!(
            "the guest is kept awake for {}, or until this command ends",
            avocado_text::duration(time)
        ),
        None => "the guest is kept awake until this command ends".to_owned(),
    }));
    let lasts = awake.lasts(args.time);
    if !lasts.map_err(|error| machine::refused(&error))? {
        return Err(Failure::new(LOST).hint("`avocado vm status` says what became of it"));
    }
    let mut summary = WorkSummary::default();
    let secs = args.time.map(|time| time.as_secs());
    summary.fields.insert("kept_awake_secs".into(), json!(secs));
    summary.closing = "the guest may sleep again".into();
    session.output.complete(summary)?;
    Ok(ExitCode::SUCCESS)
}

fn while_it_runs(
    session: &Session,
    awake: HeldRequest,
    program: &str,
    arguments: &[String],
) -> Result<ExitCode> {
    let failed = |what: String, error| Failure::new(what).because(&error);
    let output = session.output.clone();
    let watch = std::thread::Builder::new().name("keep-awake".to_owned());
    watch
        .spawn(move || {
            // The command goes on, whatever becomes of the VM.
            if !matches!(awake.lasts(None), Ok(true)) {
                output.emit(Event::warning(LOST));
            }
        })
        .map_err(|error| failed("cannot watch the supervisor".to_owned(), error))?;
    let ended = Command::new(program)
        .args(arguments)
        .status()
        .map_err(|error| failed(format!("cannot run {program}"), error))?;
    Ok(exit_code(ended))
}

/// As a shell tells it: 128 and the number of a signal that ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| signal + 128));
    let code = code.and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(u8::MAX))
}
