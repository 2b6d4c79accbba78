//! The commands for runtimes.

use serde_json::json;

use super::Context;
use crate::agent::{Need, Origin};
use crate::cli::{self, Add};
use crate::failure::{Failure, printable};
use crate::model::{AddFromUrl, Prune, Runtime};
use crate::output;

/// Runs a command.
pub(super) fn run(command: &cli::Runtime, context: &Context) -> Result<(), Failure> {
    let Context { output, talk, .. } = context;
    match command {
        cli::Runtime::List => {
            let listed = context.agent(Need::Read)?.list()?;
            output.result(&listed.runtimes, || output::runtimes(&listed))
        }
        cli::Runtime::Inspect { id } => {
            let mut agent = context.agent(Need::Read)?;
            let runtime = match id {
                Some(id) => agent.inspect(Some(id))?,
                None => agent.active()?.ok_or_else(|| {
                    Failure::new("RuntimeNotFound", "no runtime is active on this device")
                        .hint("`avocadoctl runtime activate ID` makes one active")
                })?,
            };
            output.result(&runtime, || output::runtime(&runtime))
        }
        cli::Runtime::Add(args) => add(args, context),
        cli::Runtime::Activate { id } => {
            let result = context.agent(Need::Write)?.activate(id, talk);
            talk.clear();
            changed(context, &result?, "activated")
        }
        cli::Runtime::Rollback => {
            let result = context.agent(Need::Write)?.rollback(talk);
            talk.clear();
            changed(context, &result?, "active again")
        }
        cli::Runtime::Pin { id } => {
            let runtime = context.agent(Need::Write)?.pin(id, true, talk)?;
            changed(context, &runtime, "pinned")
        }
        cli::Runtime::Unpin { id } => {
            let runtime = context.agent(Need::Write)?.pin(id, false, talk)?;
            changed(context, &runtime, "not pinned any more")
        }
        cli::Runtime::Remove { id } => {
            let result = context.agent(Need::Write)?.remove(id, talk);
            talk.clear();
            result?;
            output.result(&json!({"status": "ok"}), || {
                "The runtime is removed.\n".to_owned()
            })
        }
        cli::Runtime::Prune(args) => {
            let request = Prune {
                keep: args.keep.map(i64::from),
                dry_run: args.dry_run.then_some(true),
            };
            let result = context.agent(Need::Write)?.prune(&request, talk);
            talk.clear();
            let pruned = result?;
            output.result(&pruned, || output::pruned(&pruned, args.dry_run))
        }
        cli::Runtime::Verify => {
            // Nothing is changed, but every image has to be readable.
            let result = context.agent(Need::Write)?.verify(talk);
            talk.clear();
            let found = result?;
            if found.good {
                return output.result(&found, || output::verification(&found));
            }
            let message = output::verification(&found);
            let failure = Failure::new("VerificationFailed", message.trim_end())
                .hint("adding a runtime again repairs it");
            Err(failure.with("verification", json!(found)))
        }
    }
}

fn add(args: &Add, context: &Context) -> Result<(), Failure> {
    let Context { output, talk, .. } = context;
    let agent = context.agent(Need::Write)?;
    let request = |url: &String| AddFromUrl {
        url: url.clone(),
        auth_token: context.auth_token.clone(),
        artifacts_url: args.artifacts_url.clone(),
    };
    let from = match (&args.source.url, &args.source.manifest) {
        (Some(url), _) => Origin::Url(request(url)),
        (None, Some(path)) => Origin::Manifest(path),
        // The arguments require one of them.
        (None, None) => return Ok(()),
    };
    if args.how.check || args.how.plan {
        let mut agent = agent;
        let plan = agent.plan(from, talk);
        talk.clear();
        let plan = plan?;
        if args.how.plan {
            return output.result(&plan, || output::plan(&plan));
        }
        let document = json!({"available": !plan.staged, "runtime": plan.runtime});
        return output.result(&document, || output::check(&plan));
    }
    if let (true, Origin::Url(request)) = (args.how.download_only, &from) {
        let result = agent.download(request.clone(), talk);
        talk.clear();
        let plan = result?;
        let document = json!({"status": "ok", "plan": plan});
        return output.result(&document, || output::downloaded(&plan));
    }
    let result = agent.add(from, talk);
    talk.clear();
    changed(context, &result?, "staged")
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
        format!("{}\n", printable(&line))
    })
}
