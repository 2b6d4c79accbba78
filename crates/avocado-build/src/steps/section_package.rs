//! Packaging what a section of `sdk.compile` made: its script installs it into a tree, and what is there
//! becomes packages of rpm.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::{Event, Sink};
use avocado_manifest::{Digest, DigestHasher};
use avocado_project::{CompilePackage, CompileSection, SplitPackage};
use serde::{Deserialize, Serialize};

use super::hook::Hook;
use super::scripts::{ScriptInputs, Scripts};
use crate::architecture::Architectures;
use crate::artifact::Artifact;
use crate::build_context::{BuildContext, FilesOfProject};
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::needed;
use crate::packages::version::to_rpm;
use crate::plan::{BuildStep, Plan};
use crate::rpm_package::{FileList, PackagedFile, RpmPackage};
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, Tree};

/// What is to be packaged, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SectionPackageRequest {
    section: String,
    install: Hook,
    name: String,
    version: String,
    release: String,
    /// That of the target where none is stated.
    arch: Option<String>,
    summary: String,
    license: String,
    vendor: String,
    url: Option<String>,
    main: PackageContent,
    split: Vec<PackageContent>,
}

/// What one package has of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PackageContent {
    /// Behind the name; empty for the main one.
    suffix: String,
    summary: Option<String>,
    description: Option<String>,
    requires: Vec<String>,
    /// Empty for everything that no other one has.
    files: Vec<String>,
}

/// What was packaged.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SectionPackageOutput {
    packages: Vec<WrittenPackage>,
}

/// A package and its file.
#[derive(Debug, Serialize, Deserialize)]
struct WrittenPackage {
    name: String,
    file: String,
    digest: FileDigest,
}

/// Adds the packaging of a section, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    section: &str,
) -> Result<TaskId<SectionPackageOutput>, BuildError> {
    let key = StampKey {
        component: "sdk",
        directory: "compile",
        name: Some(section.to_owned()),
        command: "package",
    };
    plan.once(&key, |plan| {
        let context = plan.context;
        let section = context.compile_section(section)?;
        needed::for_section_package(context.project, section)?;
        let package = section.package.as_ref();
        let package =
            package.ok_or_else(|| BuildError::Invalid("the section has no package".into()))?;
        let mut scripts = Scripts::plan(plan, &[], true)?;
        scripts.add_section(plan, &section.name)?;
        Ok(SectionPackageTask {
            context,
            section,
            package,
            files: context.files_at(&package.install.place.file),
            scripts,
            key: key.clone(),
        })
    })
}

/// The parent's side.
struct SectionPackageTask<'a> {
    context: &'a BuildContext<'a>,
    section: &'a CompileSection,
    package: &'a CompilePackage,
    /// What the script is relative to.
    files: FilesOfProject,
    scripts: Scripts,
    key: StampKey,
}

/// What is consumed.
#[derive(Debug, Serialize)]
struct SectionPackageInputs {
    package: SectionPackageRequest,
    source_date_epoch: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scripts: Option<ScriptInputs>,
}

impl SectionPackageTask<'_> {
    fn request(&self) -> Result<SectionPackageRequest, BuildError> {
        let CompilePackage {
            install,
            name,
            rpm,
            version,
            requires,
            files,
            split,
        } = self.package;
        let or = |text: &Option<String>, default: &str| text.clone().unwrap_or(default.to_owned());
        let name = or(name, &self.section.name);
        Ok(SectionPackageRequest {
            section: self.section.name.value.clone(),
            install: Hook::new(&self.files, install)?,
            version: to_rpm(version),
            release: or(&rpm.release, "1"),
            arch: rpm.arch.clone(),
            summary: or(&rpm.summary, &name),
            license: or(&rpm.license, "Unspecified"),
            vendor: or(&rpm.vendor, "Unspecified"),
            url: rpm.url.clone(),
            main: PackageContent {
                suffix: String::new(),
                summary: None,
                description: rpm.description.clone(),
                requires: requires.clone(),
                files: files.clone(),
            },
            split: split.iter().map(PackageContent::of).collect(),
            name,
        })
    }
}

impl PackageContent {
    fn of(split: &SplitPackage) -> Self {
        PackageContent {
            suffix: format!("-{}", split.name),
            summary: split.summary.clone(),
            description: split.description.clone(),
            requires: split.requires.clone(),
            files: split.files.clone(),
        }
    }
}

impl Task for SectionPackageTask<'_> {
    type Inputs = SectionPackageInputs;
    type Output = SectionPackageOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("sdk package {}", &**self.section.name)
    }

    fn stamp_key(&self) -> StampKey {
        self.key.clone()
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        self.scripts.needs().collect()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<SectionPackageInputs, BuildError> {
        Ok(SectionPackageInputs {
            package: self.request()?,
            source_date_epoch: self.context.project.source_date_epoch,
            scripts: self.scripts.inputs(self.context, &self.files, needs)?,
        })
    }

    fn recorded_inputs(
        &self,
        before: SectionPackageInputs,
    ) -> Result<SectionPackageInputs, BuildError> {
        Ok(SectionPackageInputs {
            scripts: before.scripts.map(ScriptInputs::recorded),
            ..before
        })
    }

    fn run(
        &self,
        inputs: &SectionPackageInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<SectionPackageOutput, BuildError> {
        let request = inputs.package.clone();
        self.context.run_step(&self.stage(), request, sink)
    }

    fn output_files(&self, output: &SectionPackageOutput) -> Vec<PathBuf> {
        let files = output.packages.iter().map(|package| &package.file);
        files
            .map(|file| self.context.layout.compiled_package(file))
            .collect()
    }

    fn digest(&self, output: &SectionPackageOutput) -> Digest {
        let mut hasher = DigestHasher::default();
        for package in &output.packages {
            hasher.update(format!("{} {}\n", package.file, package.digest.sha256).as_bytes());
        }
        hasher.finish()
    }
}

impl BuildStep for SectionPackageTask<'_> {
    fn artifacts(&self, output: &SectionPackageOutput) -> Vec<Artifact> {
        let packages = output.packages.iter().map(|package| {
            let path = self.context.layout.compiled_package(&package.file);
            Artifact::new("package", package.name.clone(), path, package.digest)
        });
        packages.collect()
    }
}

/// The files of one package.
struct SelectedFiles<'a> {
    content: &'a PackageContent,
    files: Vec<PackagedFile>,
}

impl StepRequest for SectionPackageRequest {
    const KIND: &'static str = "section_package";
    type Result = SectionPackageOutput;

    fn runs_hook(&self) -> bool {
        true
    }

    fn work(self, context: &StepContext<'_>) -> Result<SectionPackageOutput, BuildError> {
        let staging = context.layout.staging(&self.section);
        trees::fresh(&staging)?;
        let build = context.layout.compile(&self.section);
        let variables = [("DESTDIR", &staging), ("AVOCADO_BUILD_DIR", &build)];
        let step = format!("sdk package {}", self.section);
        self.install.run(context, &step, &variables)?;
        // The script may have put another directory there.
        let tree = Tree::open(&staging)?;
        let paths = trees::paths_of(tree.path())?;
        if paths.len() < 2 {
            return Err(BuildError::Invalid(format!(
                "the script `{}` installed nothing into the directory that DESTDIR names",
                self.install.path().display()
            )));
        }
        let arch = match &self.arch {
            Some(arch) => arch.clone(),
            None => Architectures::of_target(&context.layout.target_repoconf())?
                .best()
                .to_owned(),
        };
        let mut packages = Vec::new();
        for SelectedFiles { content, files } in self.select(&paths, context.sink)? {
            let package = self.describe(content, &arch);
            let file = package.file_name();
            let place = context.layout.compiled_package(&file);
            package.write(&tree, &files, context.epoch, &place, context.sink)?;
            packages.push(WrittenPackage {
                name: format!("{}-{}", package.name, package.version),
                digest: FileDigest::of(&place)?,
                file,
            });
        }
        Ok(SectionPackageOutput { packages })
    }
}

impl SectionPackageRequest {
    /// What is in each package, the main one first: without a list it has what no other has.
    fn select(
        &self,
        paths: &[PathBuf],
        sink: &dyn Sink,
    ) -> Result<Vec<SelectedFiles<'_>>, BuildError> {
        let mut selected = Vec::new();
        let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
        let mut listed = |content: &PackageContent| {
            let name = format!("{}{}", self.name, content.suffix);
            let list = FileList::parse(&name, &content.files)?;
            let excluded = list.excluded(&name, paths)?;
            seen.extend(excluded.into_iter().map(Path::to_owned));
            let files = list.select(&name, paths)?;
            seen.extend(files.iter().map(|file| file.path.clone()));
            Ok::<_, BuildError>(files)
        };
        for content in &self.split {
            let files = listed(content)?;
            selected.push(SelectedFiles { content, files });
        }
        let files = if self.main.files.is_empty() {
            let mut rest = FileList::everything(paths);
            rest.retain(|file| !seen.contains(&file.path));
            rest
        } else {
            let files = listed(&self.main)?;
            self.tell_of_left_out(paths, &seen, sink);
            files
        };
        let content = &self.main;
        selected.insert(0, SelectedFiles { content, files });
        Ok(selected)
    }

    fn tell_of_left_out(&self, paths: &[PathBuf], seen: &BTreeSet<PathBuf>, sink: &dyn Sink) {
        // A directory is there where something in it is.
        let is_above = |path: &Path| paths.iter().any(|p| p != path && p.starts_with(path));
        let left_out = paths.iter();
        let left_out = left_out.filter(|path| !seen.contains(*path) && !is_above(path));
        let left_out: Vec<PathBuf> = left_out.cloned().collect();
        if !left_out.is_empty() {
            sink.emit(Event::warning(format!(
                "installed, and in no package of the section `{}`: {}",
                self.section,
                trees::list_of(&left_out)
            )));
        }
    }

    fn describe(&self, content: &PackageContent, arch: &str) -> RpmPackage {
        let summary = content.summary.clone();
        RpmPackage {
            name: format!("{}{}", self.name, content.suffix),
            version: self.version.clone(),
            release: self.release.clone(),
            arch: arch.to_owned(),
            summary: summary.unwrap_or_else(|| self.summary.clone()),
            description: content.description.clone(),
            license: self.license.clone(),
            vendor: self.vendor.clone(),
            url: self.url.clone(),
            group: None,
            provides: Vec::new(),
            requires: content.requires.clone(),
        }
    }
}
