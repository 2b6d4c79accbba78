//! `avocadoctl runtime add`.

use std::path::PathBuf;

use avocado_text::{bytes, escape, table};
use clap::Args;
use serde_json::json;

use super::{report, short_text};
use crate::access::{AccessMode, RuntimeOrigin};
use crate::commands::{Context, UrlParser};
use crate::failure::Failure;
use crate::interface::{AddFromUrlParameters, Plan};
use crate::output::WIDTH;

#[derive(Debug, Args)]
#[command(
    after_help = "A bearer token for the servers is taken from AVOCADO_TUF_AUTH_TOKEN.",
    after_long_help = "\
A bearer token for the servers is taken from AVOCADO_TUF_AUTH_TOKEN.

A download that is interrupted goes on where it was, another time. Files that the device has \
already are not downloaded again.

Examples:
  From a repository, after a look at what it would cost:
    avocadoctl runtime add --plan --url https://updates.example.com/fleet
    avocadoctl runtime add --url https://updates.example.com/fleet

  From a stick, when its images were copied into /var/lib/avocado/images:
    avocadoctl runtime add --manifest /mnt/manifest.json"
)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Download images from here instead of from the repository
    #[arg(long, value_name = "URL", requires = "url", value_parser = UrlParser)]
    pub(crate) artifacts_url: Option<String>,
    #[command(flatten)]
    pub(crate) limit: LimitArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SourceArgs {
    /// A TUF repository: the address below which metadata/ and targets/ are
    #[arg(long, value_parser = UrlParser)]
    pub(crate) url: Option<String>,
    /// A manifest whose images are in the pool already
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct LimitArgs {
    /// Only say whether there is a runtime that is not on this device yet
    #[arg(long)]
    pub(crate) check: bool,
    /// Only say what would be downloaded, what is there already, and whether a reboot is needed
    #[arg(long)]
    pub(crate) plan: bool,
    /// Only download the images, so that adding the runtime later is quick
    #[arg(long, conflicts_with = "manifest")]
    pub(crate) download_only: bool,
}

pub(super) fn run(args: &AddArgs, context: &Context) -> Result<(), Failure> {
    let Context {
        output, progress, ..
    } = context;
    let mut device = context.device(AccessMode::Write)?;
    let request = |url: &String| AddFromUrlParameters {
        url: url.clone(),
        auth_token: context.auth_token.clone(),
        artifacts_url: args.artifacts_url.clone(),
    };
    let source = match (&args.source.url, &args.source.manifest) {
        (Some(url), _) => RuntimeOrigin::Url(request(url)),
        (None, Some(path)) => RuntimeOrigin::Manifest(path),
        // The arguments require one of them.
        (None, None) => return Ok(()),
    };
    if args.limit.check || args.limit.plan {
        let plan = device.plan(source, progress);
        progress.clear();
        let plan = plan?;
        if args.limit.plan {
            return output.result(&plan, || plan_text(&plan));
        }
        let document = json!({"available": !plan.staged, "runtime": plan.runtime});
        return output.result(&document, || check_text(&plan));
    }
    if let (true, RuntimeOrigin::Url(request)) = (args.limit.download_only, &source) {
        let result = device.download(request.clone(), progress);
        progress.clear();
        let plan = result?;
        let document = json!({"status": "ok", "plan": plan});
        return output.result(&document, || downloaded_text(&plan));
    }
    let result = device.add(source, progress);
    progress.clear();
    let runtime = result?;
    let done = if runtime.active {
        "staged and active"
    } else {
        "staged"
    };
    report(context, &runtime, done)
}

/// What adding a runtime comes to.
fn plan_text(plan: &Plan) -> String {
    let staged = match (plan.runtime.active, plan.staged) {
        (true, _) => ", which is the active one",
        (_, true) => ", which is on this device already",
        _ => "",
    };
    let mut text = format!("Runtime:   {}{staged}\n", short_text(&plan.runtime));
    let mut field = |name: &str, value: &str| text.push_str(&format!("{name:<10} {value}\n"));
    field("Download:", &bytes(plan.fetch_bytes));
    field(
        "Shared:",
        &format!("{} are here already", bytes(plan.shared_bytes)),
    );
    let (disk, free) = (bytes(plan.disk_bytes), bytes(plan.free_bytes));
    field("Disk:", &format!("{disk} of {free} that are free"));
    field(
        "Reboot:",
        if plan.reboot {
            "yes, to activate it"
        } else {
            "no"
        },
    );
    if let Some(update) = &plan.os_update {
        for problem in &update.problems {
            field("Problem:", &escape(problem));
        }
        for note in &update.notes {
            field("Note:", &escape(note));
        }
        for artifact in &update.artifacts {
            let place = match artifact.partition_bytes {
                Some(size) => format!("{} of {}", artifact.partition, bytes(size)),
                None => artifact.partition.clone(),
            };
            let (name, size) = (&artifact.name, bytes(artifact.bytes));
            field("OS:", &format!("{name}, {size}, to the partition {place}"));
        }
    }
    if plan.relaxed {
        field("Layout:", "the older one, for which some rules are relaxed");
    }
    if !plan.images.is_empty() {
        let rows = plan.images.iter().map(|image| {
            let what = if image.shared {
                "is here".to_owned()
            } else {
                bytes(image.fetch_bytes)
            };
            [image.label.clone(), bytes(image.bytes), what]
        });
        text.push('\n');
        text.push_str(&table(["IMAGE", "SIZE", "DOWNLOAD"], rows, WIDTH));
    }
    text
}

/// Whether there is something new.
fn check_text(plan: &Plan) -> String {
    let runtime = short_text(&plan.runtime);
    if plan.staged {
        format!("Nothing new: {runtime} is on this device already.\n")
    } else {
        format!("New: {runtime}, {} to download.\n", bytes(plan.fetch_bytes))
    }
}

/// What was downloaded.
fn downloaded_text(plan: &Plan) -> String {
    let runtime = short_text(&plan.runtime);
    format!("The images of {runtime} are on this device, and it is not added yet.\n")
}
