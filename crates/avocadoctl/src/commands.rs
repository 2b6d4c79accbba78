//! What each command does.

use avocado_device::{Device, Error};
use avocado_varlink::activation::Variables;
use serde_json::json;

use crate::agent::{Agent, Need, Settings};
use crate::cli::{self, Command, Ext};
use crate::failure::{Failure, of_merging};
use crate::model::{AddFromUrl, DeviceStatus, Runtime};
use crate::output::{self, Output};
use crate::progress::Talk;
use crate::serve;

/// Everything that a command may need.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) output: Output,
    pub(crate) talk: Talk,
    /// The bearer token for servers.
    pub(crate) auth_token: Option<String>,
    /// The sockets that a service manager passes.
    pub(crate) passed: Variables,
}

/// Runs a command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Status => {
            let status = status(context)?;
            context.output.result(&status, || output::status(&status))
        }
        Command::Ext(Ext::List) => {
            let extensions = status(context)?.extensions;
            context
                .output
                .result(&extensions, || output::extensions(&extensions))
        }
        Command::Merge | Command::Ext(Ext::Merge) => {
            merging(context, "The extensions are merged.\n", |d| {
                d.merge(&context.talk)
            })
        }
        Command::Unmerge | Command::Ext(Ext::Unmerge) => {
            merging(context, "The extensions are unmerged.\n", |d| {
                d.unmerge(&context.talk)
            })
        }
        Command::Refresh | Command::Ext(Ext::Refresh) => {
            merging(context, "The extensions are refreshed.\n", |d| {
                d.refresh(&context.talk)
            })
        }
        Command::Runtime(command) => runtime(command, context),
        Command::Serve(args) => serve::run(args, context.settings.config.clone(), &context.passed),
    }
}

fn device(context: &Context) -> Device {
    Device::new(context.settings.config.clone())
}

fn status(context: &Context) -> Result<DeviceStatus, Failure> {
    device(context)
        .status()
        .map(DeviceStatus::from)
        .map_err(|e| of_merging(&e))
}

/// Merging has no method in an interface of ours yet, so it is always done here.
fn merging(
    context: &Context,
    done: &str,
    work: impl FnOnce(&Device) -> Result<(), Error>,
) -> Result<(), Failure> {
    let result = work(&device(context));
    context.talk.clear();
    result.map_err(|e| of_merging(&e))?;
    context
        .output
        .result(&json!({"status": "ok"}), || done.to_owned())
}

fn runtime(command: &cli::Runtime, context: &Context) -> Result<(), Failure> {
    let Context {
        settings,
        output,
        talk,
        ..
    } = context;
    match command {
        cli::Runtime::List => {
            let runtimes = Agent::open(settings, Need::Read)?.list()?;
            output.result(&runtimes, || output::runtimes(&runtimes))
        }
        cli::Runtime::Inspect { id } => {
            let runtime = Agent::open(settings, Need::Read)?.inspect(id.as_deref())?;
            output.result(&runtime, || output::runtime(&runtime))
        }
        cli::Runtime::Add(add) => {
            let agent = Agent::open(settings, Need::Write)?;
            let result = match (&add.source.url, &add.source.manifest) {
                (Some(url), _) => agent.add_from_url(
                    AddFromUrl {
                        url: url.clone(),
                        auth_token: context.auth_token.clone(),
                        artifacts_url: add.artifacts_url.clone(),
                    },
                    talk,
                ),
                (None, Some(path)) => agent.add_from_manifest(path, talk),
                // The arguments require one of them.
                (None, None) => return Ok(()),
            };
            talk.clear();
            changed(context, &result?, "staged")
        }
        cli::Runtime::Activate { id } => {
            let result = Agent::open(settings, Need::Write)?.activate(id, talk);
            talk.clear();
            changed(context, &result?, "activated")
        }
        cli::Runtime::Remove { id } => {
            let result = Agent::open(settings, Need::Write)?.remove(id, talk);
            talk.clear();
            result?;
            output.result(&json!({"status": "ok"}), || {
                "The runtime is removed.\n".to_owned()
            })
        }
    }
}

fn changed(context: &Context, runtime: &Runtime, what: &str) -> Result<(), Failure> {
    let document = json!({"status": "ok", "runtime": runtime});
    context.output.result(&document, || {
        let (name, version) = (&runtime.runtime.name, &runtime.runtime.version);
        let active = match runtime.active && what == "staged" {
            true => " and active",
            false => "",
        };
        let line = format!("Runtime {name} {version} is {what}{active}: {}", runtime.id);
        format!("{}\n", crate::failure::printable(&line))
    })
}
