//! Whether images are what a build from nothing makes of the project.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use avocado_events::{Cancel, Sink};
use avocado_manifest::Name;
use avocado_project::Project;
use avocado_sbom::ImageInventory;
use serde::{Deserialize, Serialize};

use crate::bill::read_image;
use crate::build_context::BuildContext;
use crate::error::{At as _, BuildError};
use crate::file_digest::FileDigest;
use crate::goal::GoalStep;
use crate::layout::Layout;
use crate::options::Options;
use crate::run::{bring_up_to_date, in_project, outdated};
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::steps::os_image::OsPart;
use crate::trees;

/// An image that was made once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuiltImage {
    /// The step that makes it.
    pub step: String,
    /// The one that was there before.
    pub path: PathBuf,
    /// Whether it has the bytes of that one.
    pub is_same: bool,
    /// The files in it that differ, without a `/` in front. None where only their order differs, or what
    /// the format adds.
    pub files: Vec<String>,
}

/// Makes images of a runtime from nothing, in a state of their own that is removed in the end, and compares
/// them with what is there. `audit`: of how many, in percent, chosen at random, and at least one; `None`:
/// of all. No cache of a team has a part in it, and neither the project's state nor its lock changes.
///
/// # Errors
/// When what is there is older than the project, when a step fails, or when `cancel` asks to stop.
pub fn rebuild(
    options: &Options,
    runtime: &Name,
    audit: Option<f64>,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Vec<RebuiltImage>, BuildError> {
    if let Some(task) = outdated(options, runtime)? {
        return Err(BuildError::Invalid(format!(
            "what is there is not what a build would make now, and cannot be compared: `{}` would run ({}); \
             run `avocado build -r {runtime}` first",
            task.stage, task.reason
        )));
    }
    let project = &options.project;
    let steps = chosen(steps_of(project, runtime)?, audit);
    let scratch = ScratchState::make(project)?;
    let rebuilt = Options {
        project: project.clone().with_state(scratch.0.clone()),
        // The stamps of an empty state are none, and keep what one step made for the next.
        stamps: true,
        cache: None,
        unsaved: true,
        explain: false,
        ..options.clone()
    };
    in_project(&rebuilt, cancel, sink, |context| {
        let report = bring_up_to_date(context, &steps, sink)?;
        let before = Layout::new(&project.state_dir(), &project.target);
        let mut images = Vec::new();
        for artifact in &report.artifacts {
            let kind = artifact.kind.as_str();
            if !["extension", "rootfs", "initramfs"].contains(&kind) {
                continue;
            }
            let prefix = context.layout.prefix();
            let below = artifact.path.strip_prefix(prefix).unwrap_or(&artifact.path);
            let path = before.prefix().join(below);
            let is_same = FileDigest::of(&path)?.sha256 == artifact.sha256;
            let files = if is_same {
                Vec::new()
            } else {
                differing(context, &path, below, sink)?
            };
            images.push(RebuiltImage {
                step: format!("{kind} {}", artifact.name),
                path,
                is_same,
                files,
            });
        }
        Ok(images)
    })
}

/// What makes the images of a runtime.
fn steps_of(project: &Project, runtime: &Name) -> Result<Vec<GoalStep>, BuildError> {
    let Some(runtime) = project.runtime(runtime) else {
        let what = format!("runtime `{runtime}` is not in the project");
        return Err(BuildError::Invalid(what));
    };
    let mut steps = Vec::new();
    for inclusion in &runtime.extensions {
        let extension = project.extension(&inclusion.name);
        let fetched = extension.and_then(|extension| extension.fetched_to.as_ref());
        // Its files are of the state that they were fetched to.
        if fetched.is_some_and(|place| place.starts_with(project.state_dir())) {
            return Err(BuildError::Invalid(format!(
                "extension `{}` was fetched, and cannot be made from nothing in a state of its own; this \
                 version compares runtimes whose extensions are in the project or in a directory",
                inclusion.name
            )));
        }
        steps.push(GoalStep::ExtensionImage(inclusion.name.clone()));
    }
    for part in [OsPart::Rootfs, OsPart::Initramfs] {
        steps.push(GoalStep::OsImage(part, runtime.name.clone()));
    }
    Ok(steps)
}

fn chosen(steps: Vec<GoalStep>, audit: Option<f64>) -> Vec<GoalStep> {
    let Some(percent) = audit else {
        return steps;
    };
    let wanted = (1..=steps.len())
        .find(|count| *count as f64 * 100.0 >= percent * steps.len() as f64)
        .unwrap_or(steps.len());
    // The keys of a hash map are the randomness that the standard library has.
    let random = RandomState::new();
    let mut by_chance: BTreeMap<u64, GoalStep> = BTreeMap::new();
    for (index, step) in steps.into_iter().enumerate() {
        by_chance.insert(random.hash_one(index), step);
    }
    by_chance.into_values().take(wanted).collect()
}

/// A state that goes when this does.
struct ScratchState(PathBuf);

impl ScratchState {
    /// On the file system of the project's own.
    fn make(project: &Project) -> Result<Self, BuildError> {
        let path = project.state_dir().with_file_name("rebuild");
        // One that was cut off left it.
        trees::fresh(&path)?;
        Ok(ScratchState(path))
    }
}

impl Drop for ScratchState {
    fn drop(&mut self) {
        // The next one removes what is left.
        let _ = avocado_fs::remove_tree(&self.0);
    }
}

/// The files in which the image at `path` differs from the one at `below` in this state.
fn differing(
    context: &BuildContext<'_>,
    path: &Path,
    below: &Path,
    sink: &dyn Sink,
) -> Result<Vec<String>, BuildError> {
    let was = Path::new(".work/was-before");
    let copy = context.layout.prefix().join(was);
    fs::copy(path, &copy).at("copy", path)?;
    let request = CompareImagesRequest {
        was: was.to_owned(),
        is: below.to_owned(),
    };
    context.run_step("verify", request, sink)
}

/// Two images, relative to the prefix.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CompareImagesRequest {
    was: PathBuf,
    is: PathBuf,
}

impl StepRequest for CompareImagesRequest {
    const KIND: &'static str = "compare_images";
    type Result = Vec<String>;

    fn work(self, context: &StepContext<'_>) -> Result<Vec<String>, BuildError> {
        let prefix = context.layout.prefix();
        let was = told(read_image(context, &prefix.join(self.was))?);
        let is = told(read_image(context, &prefix.join(self.is))?);
        let mut names: Vec<String> = was
            .keys()
            .chain(is.keys())
            .filter(|name| was.get(*name) != is.get(*name))
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// What is at each path.
fn told(inventory: ImageInventory) -> BTreeMap<String, String> {
    let files = inventory.files.into_iter();
    let files = files.map(|file| (file.path, format!("{:o} {}", file.mode, file.sha256)));
    files.chain(inventory.links).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_takes_its_part_and_at_least_one() {
        let steps = |count: usize| -> Vec<GoalStep> {
            let name = |n: usize| format!("e{n}").parse().unwrap();
            (0..count)
                .map(|n| GoalStep::ExtensionImage(name(n)))
                .collect()
        };
        for (count, audit, taken) in [
            (10, None, 10),
            (10, Some(1.0), 1),
            (10, Some(25.0), 3),
            (10, Some(100.0), 10),
            (200, Some(1.0), 2),
            (1, Some(0.1), 1),
            (0, Some(1.0), 0),
        ] {
            assert_eq!(
                chosen(steps(count), audit).len(),
                taken,
                "{count} {audit:?}"
            );
        }
        let all = |audit| {
            let mut all = chosen(steps(8), audit);
            all.sort_by_key(|step| format!("{step:?}"));
            all
        };
        assert_eq!(all(Some(100.0)), steps(8));
    }
}
