//! `avocado verify --rebuild`: whether images are what a build from nothing makes.

use std::time::Instant;

use avocado_build::RebuiltImage;
use avocado_manifest::Name;
use avocado_project::Project;
use avocado_text::{count, duration, table};
use serde_json::json;

use super::VerifyArgs;
use crate::commands::build_run::{cancellable, failure, options_as_built};
use crate::failure::{Failure, Result};
use crate::output::WorkSummary;
use crate::session::Session;

/// How many files that differ are named of each image.
const SHOWN: usize = 10;

pub(super) fn run(
    session: &Session,
    project: Project,
    runtime: &Name,
    args: &VerifyArgs,
) -> Result<()> {
    let began = Instant::now();
    let cancel = cancellable(session)?;
    let options = options_as_built(session, project, &args.built_with)?;
    let images = avocado_build::rebuild(&options, runtime, args.audit, &cancel, &*session.output)
        .map_err(|e| failure(&e))?;
    let different: Vec<&RebuiltImage> = images.iter().filter(|image| !image.is_same).collect();
    if different.is_empty() {
        let mut summary = WorkSummary::default();
        let told = images
            .iter()
            .map(|image| json!({ "image": image.step, "same": true }));
        let told: Vec<serde_json::Value> = told.collect();
        summary.fields.insert("rebuilt".to_owned(), json!(told));
        let rows = images
            .iter()
            .map(|image| [image.step.clone(), "same".to_owned()]);
        summary.data = table(["IMAGE", "MADE FROM NOTHING"], rows, None);
        summary.closing = format!(
            "{} made from nothing, each the same ({})",
            count(images.len() as u64, "image"),
            duration(began.elapsed())
        );
        return session.output.complete(summary);
    }
    let told = different.iter().map(|image| {
        let mut files = image.files.iter().take(SHOWN).cloned().collect::<Vec<_>>();
        if image.files.len() > SHOWN {
            files.push(format!("and {} more", image.files.len() - SHOWN));
        }
        let what = match files.len() {
            0 => "no file in it, but its bytes".to_owned(),
            _ => files.join(", "),
        };
        format!(
            "{} ({}) differs in {what}",
            image.step,
            image.path.display()
        )
    });
    let told: Vec<String> = told.collect();
    Err(Failure::new(format!(
        "{} of {} is not what a build from nothing makes: {}",
        different.len(),
        count(images.len() as u64, "image"),
        told.join("; ")
    ))
    .hint(
        "run `avocado build --no-stamps --no-cache`; where the difference comes back, a script of the \
         project or of a package makes something else each time",
    ))
}
