//! What is to be done with the store, and what was, for people.

use super::table;
use crate::failure::printable;
use crate::model::{Plan, Problem, Pruned, Runtime, Verification};
use crate::progress::size;

/// What adding a runtime comes to.
pub(crate) fn plan(plan: &Plan) -> String {
    let staged = match (plan.runtime.active, plan.staged) {
        (true, _) => ", which is the active one",
        (_, true) => ", which is on this device already",
        _ => "",
    };
    let mut text = format!("Runtime:   {}{staged}\n", named(&plan.runtime));
    let mut field = |name: &str, value: &str| text.push_str(&format!("{name:<10} {value}\n"));
    field("Download:", &size(plan.fetch_bytes));
    field(
        "Shared:",
        &format!("{} are here already", size(plan.shared_bytes)),
    );
    let (disk, free) = (size(plan.disk_bytes), size(plan.free_bytes));
    field("Disk:", &format!("{disk} of {free} that are free"));
    field(
        "Reboot:",
        if plan.reboot {
            "yes, to activate it"
        } else {
            "no"
        },
    );
    if plan.relaxed {
        field("Layout:", "the older one, for which some rules are relaxed");
    }
    if !plan.images.is_empty() {
        let rows = plan.images.iter().map(|image| {
            let what = match image.shared {
                true => "is here".to_owned(),
                false => size(image.fetch_bytes),
            };
            [printable(&image.label), size(image.bytes), what]
        });
        text.push('\n');
        text.push_str(&table(["IMAGE", "SIZE", "DOWNLOAD"], rows.collect()));
    }
    text
}

/// Whether there is something new.
pub(crate) fn check(plan: &Plan) -> String {
    let runtime = named(&plan.runtime);
    match plan.staged {
        true => format!("Nothing new: {runtime} is on this device already.\n"),
        false => format!("New: {runtime}, {} to download.\n", size(plan.fetch_bytes)),
    }
}

/// What was downloaded.
pub(crate) fn downloaded(plan: &Plan) -> String {
    let runtime = named(&plan.runtime);
    format!("The images of {runtime} are on this device, and it is not added yet.\n")
}

fn named(runtime: &Runtime) -> String {
    let (name, version) = (&runtime.runtime.name, &runtime.runtime.version);
    printable(&format!("{name} {version} ({})", runtime.short_id()))
}

/// What was removed, or would be.
pub(crate) fn pruned(pruned: &Pruned, dry_run: bool) -> String {
    let mut text = String::new();
    let would = if dry_run { "Would remove" } else { "Removed" };
    for found in &pruned.runtimes {
        let (name, version) = (&found.runtime.name, &found.runtime.version);
        let line = format!("{would} runtime {name} {version} ({})", found.id);
        text.push_str(&format!("{}\n", printable(&line)));
    }
    for image in &pruned.images {
        let line = format!("{would} image {}, {}", image.file, size(image.bytes));
        text.push_str(&format!("{}\n", printable(&line)));
    }
    if let Some(why) = &pruned.spared {
        text.push_str(&format!("Images are spared: {}.\n", printable(why)));
    }
    let freed = size(pruned.freed_bytes);
    let line = match (pruned.freed_bytes, dry_run) {
        (0, _) => "There is nothing to remove.\n".to_owned(),
        (_, true) => format!("{freed} would be freed.\n"),
        (_, false) => format!("{freed} are freed.\n"),
    };
    text + &line
}

/// What is not as it should be.
pub(crate) fn verification(found: &Verification) -> String {
    let read = format!(
        "{} runtimes, {} images, {} read",
        found.runtimes,
        found.images,
        size(found.bytes)
    );
    let bad = found.problems.iter().filter(|p| p.kind != "unreferenced");
    let mut text = match bad.count() {
        0 => format!("Everything is right: {read}.\n"),
        1 => format!("1 thing is wrong: {read}.\n"),
        n => format!("{n} things are wrong: {read}.\n"),
    };
    for problem in &found.problems {
        text.push_str(&format!("{}\n", printable(&line(problem))));
    }
    text
}

fn line(problem: &Problem) -> String {
    let mut line = format!("{}:", problem.kind);
    let mut add = |before: &str, what: &str| line.push_str(&format!("{before}{what}"));
    match (&problem.image, &problem.file) {
        (Some(image), Some(file)) => add(" ", &format!("{image} ({file})")),
        (None, Some(file)) => add(" ", file),
        _ => {}
    }
    let short = |id: &String| id.get(..8).unwrap_or(id).to_owned();
    let runtimes = problem.runtimes.iter().flatten().map(short);
    let runtimes: Vec<_> = runtimes.collect();
    if !runtimes.is_empty() {
        add(" ", &format!("of {}", runtimes.join(", ")));
    }
    if let Some(why) = &problem.why {
        add(" ", why);
    }
    line
}
