//! The device CLI and varlink service.
//!
//! A command (`commands`) gets to the device by one of two ways (`access`): the service behind its
//! socket (`service`), or the same functions in this process. Both speak in the types of the
//! varlink interfaces (`interface`) and fail with the same [failures](failure).
// Devices run Linux; elsewhere there is nothing of this program.
#![cfg(target_os = "linux")]

mod access;
mod commands;
mod failure;
mod interface;
mod logging;
mod output;
mod progress;
mod service;
mod trust_anchor;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use avocado_device::DeviceConfig;
use avocado_varlink::activation::ListenVariables;
use clap::{CommandFactory, Parser};

use access::AccessSettings;
use commands::{Cli, Context, OVERVIEW};
use failure::{Failure, chain};
use output::{Format, Output};
use progress::ProgressPrinter;

const CONFIG: &str = "/etc/avocado/avocadoctl.conf";

/// Wrong usage.
const USAGE: u8 = 2;

/// The definition of the command line, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program with the arguments and the environment of this process.
pub fn main() -> ExitCode {
    // The store is the same whoever starts the program: nothing in it may be written by others.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // The one place that looks at the environment.
    let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let environment = Environment {
        base_dir: std::env::var_os("AVOCADO_BASE_DIR")
            .filter(|v| !v.is_empty())
            .map(Into::into),
        auth_token: text("AVOCADO_TUF_AUTH_TOKEN"),
        no_color: text("NO_COLOR").is_some(),
        log: text("AVOCADO_LOG"),
        journal_stream: text("JOURNAL_STREAM"),
        passed: ListenVariables {
            pid: text("LISTEN_PID"),
            pidfd_id: text("LISTEN_PIDFDID"),
            fds: text("LISTEN_FDS"),
            names: text("LISTEN_FDNAMES"),
        },
    };
    let args: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &args, &environment),
    };
    let output = Output {
        format: cli.global.output,
        plain: environment.no_color,
    };
    match run(&cli, environment, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::FAILURE
        }
    }
}

struct Environment {
    base_dir: Option<PathBuf>,
    auth_token: Option<String>,
    no_color: bool,
    log: Option<String>,
    journal_stream: Option<String>,
    passed: ListenVariables,
}

fn run(cli: &Cli, environment: Environment, output: Output) -> Result<(), Failure> {
    let Some(command) = &cli.command else {
        return output.result(
            &serde_json::json!({"version": env!("CARGO_PKG_VERSION")}),
            || OVERVIEW.to_owned(),
        );
    };
    logging::install(
        command,
        cli.global.verbose,
        environment.log.as_deref(),
        environment.journal_stream.as_deref(),
    )?;
    let mut config = read_config(cli.global.config.as_deref())?;
    let own_base = environment.base_dir.is_some();
    if let Some(base) = environment.base_dir {
        config.base = std::path::absolute(&base)
            .map_err(|e| Failure::Configuration(format!("AVOCADO_BASE_DIR cannot be used: {e}")))?;
    }
    let context = Context {
        settings: AccessSettings {
            config,
            socket: cli.global.socket.clone(),
            own_base,
        },
        output,
        progress: ProgressPrinter::new(cli.global.verbose > 0),
        auth_token: environment.auth_token,
        passed: environment.passed,
    };
    commands::run(command, &context)
}

/// The configuration file. It has to exist only where the user names it.
fn read_config(named: Option<&Path>) -> Result<DeviceConfig, Failure> {
    let path = named.unwrap_or(Path::new(CONFIG));
    let failed = |error: &dyn std::error::Error| {
        Failure::Configuration(format!(
            "the configuration {} cannot be used: {}",
            path.display(),
            chain(error)
        ))
    };
    match std::fs::read_to_string(path) {
        Ok(text) => DeviceConfig::parse(&text).map_err(|e| failed(&e)),
        Err(e) if e.kind() == ErrorKind::NotFound && named.is_none() => Ok(DeviceConfig::default()),
        Err(e) => Err(failed(&e)),
    }
}

/// Help and version go to stdout and are a success; everything else is wrong usage.
fn usage(error: &clap::Error, args: &[OsString], environment: &Environment) -> ExitCode {
    if error.use_stderr() && wants_json(args) {
        let output = Output {
            format: Format::Json,
            plain: environment.no_color,
        };
        let message = error.to_string();
        // Where clap prints the error itself, it begins so; our documents have the message alone.
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        output.failure(&Failure::Usage(message.trim_end().to_owned()));
    } else {
        // A reader that left is no failure.
        let _ = error.print();
    }
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// Whether the arguments ask for JSON, as far as that can be told when they are wrong.
fn wants_json(args: &[OsString]) -> bool {
    let args: Vec<_> = args.iter().map(|a| a.to_string_lossy()).collect();
    let single = |a: &str| matches!(a, "--output=json" | "-ojson" | "-o=json");
    args.iter().any(|a| single(a))
        || args
            .windows(2)
            .any(|pair| matches!(&*pair[0], "-o" | "--output") && pair[1] == "json")
}
