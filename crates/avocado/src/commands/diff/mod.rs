//! `avocado diff`: in what two runtimes differ.

mod device;
mod published;
mod side;

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use avocado_sbom::{BillContents, BillDifference};
use avocado_text::{bytes, count, table};
use clap::Args;
use serde_json::json;

use self::side::images_alone;
use super::tools::BuiltWithArgs;
use crate::failure::{Context, Failure, Result};
use crate::output::{WorkStart, WorkSummary};
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A bill (`avocado sbom`), a published repository (its directory or `http://…`), a device
    /// (`ssh://[USER@]HOST[:PORT]`), or a runtime as it was built last
    #[arg(value_name = "OLD")]
    old: OsString,
    /// Another one
    #[arg(value_name = "NEW")]
    new: OsString,

    /// Additional argument to pass to ssh (repeatable)
    #[arg(long = "ssh-arg", value_name = "SSH_ARG", allow_hyphen_values = true)]
    ssh_args: Vec<String>,

    #[command(flatten)]
    built_with: BuiltWithArgs,
}

pub(super) fn run(session: &Session, args: &DiffArgs) -> Result<()> {
    session.output.start(&WorkStart {
        action: "diff",
        target: None,
        runtime: None,
    });
    let side = |place| side::read(session, place, args);
    let (mut old, mut new) = (side(&args.old)?, side(&args.new)?);
    let is_whole = old.is_whole && new.is_whole;
    if !is_whole {
        images_alone(&mut old.contents);
        images_alone(&mut new.contents);
    }
    let difference = BillDifference::between(&old.contents, &new.contents);
    let mut summary = WorkSummary::default();
    for (key, value) in [
        ("packages", json!(difference.packages)),
        ("files", json!(difference.files)),
        ("fetch_bytes", json!(difference.fetch)),
        ("images_alone", json!(!is_whole)),
    ] {
        summary.fields.insert(key.to_owned(), value);
    }
    summary.data = shown(&difference);
    summary.closing = closing(&difference, is_whole);
    session.output.complete(summary)
}

/// What a bill lists.
pub(super) fn read_bill(path: &Path) -> Result<BillContents> {
    let text = fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    BillContents::read(&text).map_err(|e| {
        Failure::new(format!("{} is no bill of materials", path.display())).because(&e)
    })
}

#[cfg(target_os = "linux")]
pub(super) fn of_runtime(
    session: &Session,
    name: &avocado_manifest::Name,
    built_with: &BuiltWithArgs,
) -> Result<BillContents> {
    let scope = avocado_build::BillScope::Runtime(name.clone());
    Ok(BillContents::of(&super::sbom::bill(
        session, &scope, built_with,
    )?))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn of_runtime(
    _session: &Session,
    name: &avocado_manifest::Name,
    _built_with: &BuiltWithArgs,
) -> Result<BillContents> {
    Err(super::only_on_linux(&format!("diff {name}")))
}

fn shown(difference: &BillDifference) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut rows = Vec::new();
    let (images, files): (Vec<_>, Vec<_>) = difference
        .files
        .iter()
        .partition(|file| file.path.is_empty());
    for image in images {
        let side = |version: &Option<String>, size: Option<u64>| {
            let words = [version.clone(), size.map(bytes)];
            let words: Vec<String> = words.into_iter().flatten().collect();
            or_dash((!words.is_empty()).then(|| words.join(", ")))
        };
        rows.push([
            "image".to_owned(),
            image.image.clone(),
            side(&image.old_version, image.old_size),
            side(&image.new_version, image.new_size),
        ]);
    }
    for package in &difference.packages {
        rows.push([
            "package".to_owned(),
            format!("{}: {}", package.image, package.name),
            or_dash(package.old.clone()),
            or_dash(package.new.clone()),
        ]);
    }
    for file in files {
        rows.push([
            format!("file {}", file.change),
            format!("{}:/{}", file.image, file.path),
            or_dash(file.old_size.map(bytes)),
            or_dash(file.new_size.map(bytes)),
        ]);
    }
    if rows.is_empty() {
        return String::new();
    }
    table(["WHAT", "NAME", "OLD", "NEW"], rows, None)
}

fn closing(difference: &BillDifference, is_whole: bool) -> String {
    let compared = if is_whole {
        ""
    } else {
        "; a repository and a device tell their images alone, not what is in them"
    };
    if difference.is_empty() {
        return format!("The same{compared}");
    }
    let images = difference.files.iter().filter(|file| file.path.is_empty());
    let changed = images.count();
    let images = count(changed as u64, "image");
    let packages = count(difference.packages.len() as u64, "package");
    let files = difference.files.iter().filter(|file| !file.path.is_empty());
    let files = count(files.count() as u64, "file");
    let fetch = match difference.fetch {
        Some(size) => format!("; a device fetches {}", bytes(size)),
        None => String::new(),
    };
    if is_whole {
        format!("{images}, {packages} and {files} differ{fetch}")
    } else {
        let differ = if changed == 1 { "differs" } else { "differ" };
        format!("{images} {differ}{fetch}{compared}")
    }
}
