//! What each command does.

mod runtimes;

use avocado_device::Forget;
use avocado_varlink::activation::Variables;
use serde::Serialize;
use serde_json::json;

use crate::agent::{Agent, Merging, Need, Settings};
use crate::cli::{self, Command, Ext, RootAuthority, What};
use crate::failure::Failure;
use crate::model::{Disable, Enable};
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

impl Context {
    fn agent(&self, need: Need) -> Result<Agent, Failure> {
        Agent::open(&self.settings, need)
    }
}

/// Runs a command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Status => {
            let status = context.agent(Need::Read)?.status()?;
            context.output.result(&status, || output::status(&status))
        }
        Command::Runtime { command: None } => hint(context, cli::RUNTIME),
        Command::Runtime {
            command: Some(command),
        } => runtimes::run(command, context),
        Command::Ext { command } => match command {
            None => hint(context, cli::EXT),
            Some(Ext::List) => {
                let extensions = context.agent(Need::Read)?.extensions()?;
                context
                    .output
                    .result(&extensions, || output::extensions(&extensions))
            }
            Some(Ext::Status) => {
                let statuses = context.agent(Need::Read)?.statuses()?.extensions;
                context
                    .output
                    .result(&statuses, || output::statuses(&statuses))
            }
            Some(Ext::Merge) => merging(context, Merging::Merge),
            Some(Ext::Unmerge(args)) => merging(context, unmerge(args)),
            Some(Ext::Refresh) => merging(context, Merging::Refresh),
        },
        Command::Merge => merging(context, Merging::Merge),
        Command::Unmerge(args) => merging(context, unmerge(args)),
        Command::Refresh => merging(context, Merging::Refresh),
        Command::Enable(args) => {
            let request = Enable {
                extensions: args.extensions.clone(),
                os_release: args.os_release.clone(),
            };
            let result = context
                .agent(Need::Write)?
                .enable(&request, &context.talk)?;
            marked(context, &result, "enabled", result.enabled)
        }
        Command::Disable(args) => {
            let request = Disable {
                extensions: (!args.all).then(|| args.extensions.clone()),
                all: args.all.then_some(true),
                os_release: args.os_release.clone(),
            };
            let result = context
                .agent(Need::Write)?
                .disable(&request, &context.talk)?;
            marked(context, &result, "disabled", result.disabled)
        }
        Command::RootAuthority { command: None } => {
            let authority = context.agent(Need::Read)?.root_authority()?;
            let text = || output::authority(authority.as_ref());
            context.output.result(&authority, text)
        }
        Command::RootAuthority {
            command: Some(RootAuthority::Forget { url, what }),
        } => {
            let what = match what {
                What::Roles => Forget::Roles,
                What::Versions => Forget::Versions,
                What::Time => Forget::Time,
            };
            let forgotten = context.agent(Need::Write)?.forget(url, what)?;
            context.output.result(&forgotten, || match forgotten.known {
                true => "Forgotten: the repository begins anew.\n".to_owned(),
                false => "Nothing was known of that repository.\n".to_owned(),
            })
        }
        Command::Serve(args) => serve::run(args, context.settings.config.clone(), &context.passed),
    }
}

/// What a group of commands is for, when none of them is given.
fn hint(context: &Context, text: &str) -> Result<(), Failure> {
    let document = json!({"hint": text.lines().last().unwrap_or_default()});
    context.output.result(&document, || text.to_owned())
}

fn unmerge(args: &cli::Unmerge) -> Merging {
    Merging::Unmerge {
        unmount: args.unmount,
    }
}

fn merging(context: &Context, what: Merging) -> Result<(), Failure> {
    let Context { settings, talk, .. } = context;
    let agent = Agent::open(settings, Need::Write)?;
    let result = agent.merging(what, talk).or_else(|failure| {
        // Merging twice is merging once.
        Agent::open_instead(settings, Need::Write, failure)?.merging(what, talk)
    });
    talk.clear();
    result?;
    context.output.result(&json!({"status": "ok"}), || {
        let done = match what {
            Merging::Merge => "merged",
            Merging::Unmerge { .. } => "unmerged",
            Merging::Refresh => "refreshed",
        };
        format!("The extensions are {done}.\n")
    })
}

fn marked(
    context: &Context,
    result: &impl Serialize,
    what: &str,
    done: u64,
) -> Result<(), Failure> {
    let plural = if done == 1 { " is" } else { "s are" };
    context
        .output
        .result(result, || format!("{done} extension{plural} {what}.\n"))
}
