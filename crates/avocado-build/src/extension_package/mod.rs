//! Packaging the sources of an extension, for a feed: whoever names the package as the extension's
//! source builds it as if it were in the project.

mod files;
mod links;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use avocado_events::{Cancel, Sink};
use avocado_manifest::Name;
use avocado_project::{Extension, Project};

use crate::artifact::Artifact;
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::layout::Layout;
use crate::packages::version::to_rpm;
use crate::project_lock::lock_project;
use crate::rpm_package::{PackagedFile, RpmPackage};
use crate::trees::{self, CopyModes, Tree};
use files::ExtensionFiles;

/// What a package provides whose extension is in a directory of its name.
pub(crate) const NESTED: &str = "avocado-ext-layout(nested)";

/// What a package provides for each target that its extension is for.
pub(crate) fn target_provided(target: &str) -> String {
    format!("avocado-target({target})")
}

/// The target of [`target_provided`].
pub(crate) fn target_of(provided: &str) -> Option<&str> {
    provided.strip_prefix("avocado-target(")?.strip_suffix(')')
}

/// For all targets.
pub(crate) const ANY_TARGET: &str = "*";

/// Packages the sources of an extension. `projects` is the project for each target that it is for,
/// the one that is meant first: what differs for another target is in the package as well. `out_dir` is
/// where the package is going to be copied to: no earlier one that is there gets into it.
///
/// # Errors
/// Where a file is missing that the extension names, a password is in avocado.yaml, the extension is not of this project, or is
/// another one for each target; and when the package cannot be written.
pub fn package_extension(
    projects: &[Project],
    name: &Name,
    out_dir: Option<&Path>,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Artifact, BuildError> {
    let [project, ..] = projects else {
        return Err(BuildError::Invalid(
            "there is no target to package for".into(),
        ));
    };
    let extension = own_extension(project, name)?;
    if let Some(why) = &project.unusable_src_dir {
        return Err(project_error(why));
    }
    let version = extension.version.get().map_err(project_error)?;
    let mut targets = Vec::new();
    for other in projects {
        // One whose name is a template is another one elsewhere.
        let Some(same) = other.extension(name) else {
            continue;
        };
        if same.version.known() != Some(version) || same.rpm != extension.rpm {
            let message = format!(
                "the extension `{name}` has another version or description for {} than for {}, and \
                 one package is for both",
                other.target, project.target
            );
            let differs = extension.place.error(message);
            return Err(project_error(&differs.with_hint(
                "a package says one of each: give it the same for all targets",
            )));
        }
        targets.push(other);
    }
    let layout = Layout::new(&project.state_dir(), &project.target);
    let _lock = lock_project(&layout, cancel, sink)?;
    layout.check()?;
    let staging = layout.work("packaged").join(name);
    let modes = CopyModes::Checkout(trees::checkout_mode(&project.config_path));
    let package = describe(extension, version, &targets);
    let place = layout.extension_source_package(&package.file_name());
    let mut files = ExtensionFiles::new(&targets, name, modes);
    if let Some(directory) = out_dir {
        files = files.without_output(directory, &package.file_name());
    }
    let epoch = project.source_date_epoch;
    let written = write(&package, &files, epoch, &staging, &place, sink);
    trees::clear(&staging)?;
    written?;
    let file = FileDigest::of(&place)?;
    Ok(Artifact::new(
        "package",
        format!("{name}-{version}"),
        place,
        file,
    ))
}

/// Writes the package with these files, which are copied to `staging` first.
fn write(
    package: &RpmPackage,
    files: &ExtensionFiles<'_>,
    epoch: u64,
    staging: &Path,
    place: &Path,
    sink: &dyn Sink,
) -> Result<(), BuildError> {
    let tree = Tree::fresh(staging)?;
    files.stage(&tree, sink)?;
    let files = files_at(&tree, Path::new(&package.name))?;
    package.write(&tree, &files, epoch, place, sink)
}

fn own_extension<'p>(project: &'p Project, name: &Name) -> Result<&'p Extension, BuildError> {
    let own = || project.extensions.iter().filter(|e| e.fetched_to.is_none());
    if let Some(extension) = own().find(|extension| extension.name == *name) {
        return Ok(extension);
    }
    match project.source(name) {
        Some(source) => Err(BuildError::Invalid(format!(
            "the extension `{name}` ({}) comes from {}: package it there",
            source.stated_at, source.kind
        ))),
        None => Err(BuildError::Unknown {
            kind: "extension of its own",
            name: name.to_string(),
            available: own().map(|extension| extension.name.to_string()).collect(),
        }),
    }
}

fn project_error(why: &avocado_project::Diagnostic) -> BuildError {
    BuildError::Project {
        diagnostics: vec![why.clone()],
    }
}

fn describe(extension: &Extension, version: &Name, targets: &[&Project]) -> RpmPackage {
    let rpm = &extension.rpm;
    let or = |text: &Option<String>, default: &str| text.clone().unwrap_or(default.to_owned());
    let is_for_all = targets.iter().any(|p| p.supported_targets.is_empty());
    let mut provides = vec![NESTED.to_owned()];
    if is_for_all {
        provides.push(target_provided(ANY_TARGET));
    } else {
        let names = targets.iter().map(|p| target_provided(p.target.as_str()));
        provides.extend(names);
    }
    RpmPackage {
        name: extension.name.to_string(),
        version: to_rpm(version.as_str()),
        release: or(&rpm.release, "r0"),
        arch: or(&rpm.arch, "noarch"),
        summary: or(
            &rpm.summary,
            &format!("The Avocado extension {}", extension.name),
        ),
        description: rpm.description.clone(),
        license: or(&rpm.license, "Unspecified"),
        vendor: or(&rpm.vendor, "Unspecified"),
        url: rpm.url.clone(),
        group: Some("system-extension".to_owned()),
        provides,
        requires: Vec::new(),
    }
}

/// Everything at a path of a tree, with itself.
fn files_at(tree: &Tree, path: &Path) -> Result<Vec<PackagedFile>, BuildError> {
    let below = trees::paths_of(&tree.shown(path))?.into_iter();
    // Joining nothing leaves a slash at the end.
    let paths = below.map(|below| path.join(below).components().collect::<PathBuf>());
    Ok(paths.map(PackagedFile::from).collect())
}
