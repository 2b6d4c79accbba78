//! The program of a target that provisions it: `avocado-provision-<target>` of its SDK (published).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use avocado_backend::{SOURCE_MOUNT, Tool};
use avocado_manifest::Name;
use avocado_project::Runtime;
use avocado_stone::WayToProvision;
use serde::{Deserialize, Serialize};

use super::super::hook;
use super::super::runtime_kernel::RuntimeKernel;
use super::ProvisionWish;
use crate::build_context::BuildContext;
use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::stone_files::{include_paths_in_step, stated_manifest_in_step};
use crate::trees::{self, Tree};

/// Where an SDK has programs.
const PLACES: [&str; 3] = ["usr/bin", "usr/sbin", "bin"];

/// The program, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProvisionProgramRequest {
    /// Relative to the SDK.
    pub(super) program: PathBuf,
    pub(super) runtime: Name,
    pub(super) variables: BTreeMap<String, String>,
}

/// What a program did, as far as it can be seen.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProvisionProgramOutput {
    /// Whether there is something where images of disks belong.
    pub(super) left_files: bool,
}

/// Where the SDK has the program of a target, relative to it.
pub(super) fn find(layout: &Layout, target: &Name) -> Result<Option<PathBuf>, BuildError> {
    let sdk = layout.sdk();
    if !sdk.is_dir() {
        return Ok(None);
    }
    let tree = Tree::open(&sdk)?;
    let name = format!("avocado-provision-{target}");
    let mut places = PLACES.iter().map(|place| Path::new(place).join(&name));
    Ok(places.find(|path| tree.has(path)))
}

/// What it is told, besides what every script is. Those of the user come last.
pub(super) fn variables(
    context: &BuildContext<'_>,
    runtime: &Runtime,
    way: &WayToProvision,
    wish: &ProvisionWish,
    kernel: Option<&RuntimeKernel>,
) -> Result<BTreeMap<String, String>, BuildError> {
    let inside = Layout::in_step(&context.project.target);
    let shown = |path: &Path| path.display().to_string();
    let mut variables = way.envs.clone();
    let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
    set("AVOCADO_RUNTIME", runtime.name.to_string());
    set("AVOCADO_RUNTIME_NAME", runtime.name.to_string());
    set(
        "AVOCADO_RUNTIME_BUILD_DIR",
        shown(&inside.runtime(&runtime.name)),
    );
    set(
        "AVOCADO_RUNTIME_VERSION",
        context.project.distro.release.clone().unwrap_or_default(),
    );
    set(
        "AVOCADO_STONE_BUILD_DIR",
        shown(&inside.disk_images(&runtime.name)),
    );
    if let Some(profile) = &way.profile {
        set("AVOCADO_PROVISION_PROFILE", profile.clone());
    }
    if let Some(out) = &wish.out {
        let below = below(&context.project.src_dir, out)?;
        set(
            "AVOCADO_PROVISION_OUT",
            shown(&Path::new(SOURCE_MOUNT).join(below)),
        );
    }
    if let Some(kernel) = kernel {
        if let Some(version) = kernel.version() {
            set("AVOCADO_PROVISION_KERNEL_VERSION", version.to_owned());
        }
        let image = kernel.path_in(&inside, &runtime.name);
        set("AVOCADO_PROVISION_KERNEL_IMAGE", shown(&image));
    }
    let includes = include_paths_in_step(context, runtime)?;
    if !includes.is_empty() {
        let includes: Vec<String> = includes.iter().map(|path| shown(path)).collect();
        set("AVOCADO_STONE_INCLUDE_PATHS", includes.join(":"));
    }
    if let Some(manifest) = stated_manifest_in_step(context, runtime) {
        set("AVOCADO_STONE_MANIFEST", shown(&manifest));
    }
    variables.extend(wish.variables.clone());
    Ok(variables)
}

/// The path relative to the sources: of what is outside, a step sees nothing that it could write to.
fn below(sources: &Path, out: &Path) -> Result<PathBuf, BuildError> {
    let real = fs::canonicalize(sources).at("find", sources)?;
    let below = out
        .strip_prefix(sources)
        .or_else(|_| out.strip_prefix(&real));
    let is_plain = |path: &&Path| path.components().all(|c| matches!(c, Component::Normal(_)));
    let below = below.ok().filter(is_plain);
    below.map(ToOwned::to_owned).ok_or_else(|| {
        BuildError::Invalid(format!(
            "the program of the target writes below {}, and {} (--out) is not there",
            sources.display(),
            out.display()
        ))
    })
}

/// Whether something is in a directory; a program may have removed that.
fn has_entries(directory: &Path) -> Result<bool, BuildError> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("read", directory),
    }
}

impl StepRequest for ProvisionProgramRequest {
    const KIND: &'static str = "provision_program";
    type Result = ProvisionProgramOutput;

    fn runs_hook(&self) -> bool {
        true
    }

    fn work(self, context: &StepContext<'_>) -> Result<ProvisionProgramOutput, BuildError> {
        // What was there before is not what it makes.
        let place = context.layout.disk_images(&self.runtime);
        trees::fresh(&place)?;
        let program = Tree::open(&context.layout.sdk())?.resolve(&self.program)?;
        let mut words = hook::in_environment_of_sdk(context);
        words.push(program.into());
        words.push(self.runtime.as_str().into());
        let mut words = words.into_iter();
        let mut tool = Tool::new(words.next().unwrap_or_default())
            .args(words)
            .called(self.program.display().to_string())
            .current_dir(SOURCE_MOUNT)
            .env("HOME", "/tmp")
            .env("SOURCE_DATE_EPOCH", context.epoch.to_string());
        for (name, value) in &self.variables {
            tool = tool.env(name, value);
        }
        tool.run(context.sink)?;
        Ok(ProvisionProgramOutput {
            left_files: has_entries(&place)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_something_in_it_or_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_entries(dir.path()).unwrap());
        assert!(!has_entries(&dir.path().join("none")).unwrap());
        fs::write(dir.path().join("disk.img"), "").unwrap();
        assert!(has_entries(dir.path()).unwrap());
        assert!(has_entries(&dir.path().join("disk.img")).is_err());
    }

    #[test]
    fn results_of_a_program_are_below_the_sources() {
        let dir = tempfile::tempdir().unwrap();
        let sources = fs::canonicalize(dir.path()).unwrap();
        let of = |path: &Path| below(&sources, path).ok();
        assert_eq!(of(&sources.join("out/a")), Some("out/a".into()));
        assert_eq!(of(&sources.join("../out")), None);
        assert_eq!(of(Path::new("/elsewhere")), None);
    }
}
