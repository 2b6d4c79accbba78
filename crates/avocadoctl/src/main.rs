//! The device CLI and varlink service.
// Devices run Linux; elsewhere there is nothing of this program.
#![cfg_attr(not(target_os = "linux"), no_main)]
#![cfg(target_os = "linux")]

mod agent;
mod authority;
mod cli;
mod commands;
mod declared;
mod failure;
mod model;
mod output;
mod progress;
mod serve;
mod service;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use avocado_device::Config;
use avocado_varlink::activation::Variables;
use clap::Parser;

use agent::Settings;
use cli::{Cli, Format};
use commands::Context;
use failure::{Failure, chain};
use output::Output;
use progress::Talk;

const CONFIG: &str = "/etc/avocado/avocadoctl.conf";

/// Wrong usage.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // The one place that looks at the environment.
    let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let environment = Environment {
        base_dir: std::env::var_os("AVOCADO_BASE_DIR")
            .filter(|v| !v.is_empty())
            .map(Into::into),
        auth_token: text("AVOCADO_TUF_AUTH_TOKEN"),
        no_color: text("NO_COLOR").is_some(),
        passed: Variables {
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
    passed: Variables,
}

fn run(cli: &Cli, environment: Environment, output: Output) -> Result<(), Failure> {
    let Some(command) = &cli.command else {
        return output.result(
            &serde_json::json!({"version": env!("CARGO_PKG_VERSION")}),
            || cli::OVERVIEW.to_owned(),
        );
    };
    let mut config = read_config(cli.global.config.as_deref())?;
    let own_base = environment.base_dir.is_some();
    if let Some(base) = environment.base_dir {
        config.base = std::path::absolute(&base).map_err(|e| {
            Failure::new(
                "Configuration",
                format!("AVOCADO_BASE_DIR cannot be used: {e}"),
            )
        })?;
    }
    let context = Context {
        settings: Settings {
            config,
            socket: cli.global.socket.clone(),
            own_base,
        },
        output,
        talk: Talk::new(cli.global.verbose),
        auth_token: environment.auth_token,
        passed: environment.passed,
    };
    commands::run(command, &context)
}

/// The configuration file. It has to exist only where the user names it.
fn read_config(named: Option<&Path>) -> Result<Config, Failure> {
    let path = named.unwrap_or(Path::new(CONFIG));
    let failed = |error: &dyn std::error::Error| {
        let message = format!(
            "the configuration {} cannot be used: {}",
            path.display(),
            chain(error)
        );
        Failure::new("Configuration", message)
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Config::parse(&text).map_err(|e| failed(&e)),
        Err(e) if e.kind() == ErrorKind::NotFound && named.is_none() => Ok(Config::default()),
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
        let message = message
            .strip_prefix("error: ")
            .unwrap_or(&message)
            .trim_end();
        output.failure(&Failure::new("Usage", message));
    } else {
        // A reader that left is no failure.
        let _ = error.print();
    }
    match error.use_stderr() {
        true => ExitCode::from(USAGE),
        false => ExitCode::SUCCESS,
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
