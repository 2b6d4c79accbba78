//! What a user asks for, and the steps that it names. Everything that these need follows from
//! the steps themselves.

use avocado_manifest::Name;
use avocado_project::{Project, Runtime};

use crate::error::BuildError;
use crate::plan::Plan;
use crate::steps::disk_image::{self, ProvisionWish};
use crate::steps::install::{self, PackageTree};
use crate::steps::os_image::{self, OsPart};
use crate::steps::{
    compile, extension_build, extension_image, fetch, kernel_image, repository, section_package,
    var_image, vm_image,
};

/// What to bring up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Every tree of packages.
    Install,
    /// Everything of one runtime, or of all.
    Build {
        /// `None`: all runtimes.
        runtime: Option<Name>,
        /// Also what no deployment uses: the var partition, and the image of a VM, which has it.
        var: bool,
    },
    /// The tools, and what is compiled against.
    SdkInstall,
    /// The packages of one extension, or of all.
    ExtInstall(Option<Name>),
    /// All packages of one runtime: of its OS, its extensions and its own; or of all runtimes.
    RuntimeInstall(Option<Name>),
    /// The packages of every root file system.
    RootfsInstall,
    /// The packages of every initramfs.
    InitramfsInstall,
    /// These sections of `sdk.compile`, or all.
    SdkCompile(Vec<String>),
    /// The packages of one section of `sdk.compile`.
    SdkPackage(String),
    /// The sysroot of one extension, or of all.
    ExtBuild(Option<Name>),
    /// The image of one extension, or of all.
    ExtImage(Option<Name>),
    /// The files of these extensions, which come from elsewhere; of all that do.
    Fetch(Option<Vec<Name>>),
    /// The rootfs image of every runtime.
    RootfsImage,
    /// The initramfs image of every runtime.
    InitramfsImage,
    /// The kernel of every runtime.
    KernelImage,
    /// The disks of one runtime, and the repository that its devices get updates from.
    Provision {
        /// Which.
        runtime: Name,
        /// How.
        wish: ProvisionWish,
    },
}

/// A step that a goal names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GoalStep {
    Install(PackageTree),
    Fetch(Name),
    Compile(String),
    PackageSection(String),
    ExtensionBuild(Name),
    ExtensionImage(Name),
    /// One of the two images of a runtime's OS.
    OsImage(OsPart, Name),
    KernelImage(Name),
    Repository(Name),
    VarImage(Name),
    VmImage(Name),
    DiskImage(Name, ProvisionWish),
}

impl Goal {
    /// The steps that the goal names, in the order in which users see them: what takes longest,
    /// the packages, first.
    ///
    /// # Errors
    /// [`BuildError::Unknown`] where the project does not have what the goal is about.
    pub(crate) fn steps(&self, project: &Project) -> Result<Vec<GoalStep>, BuildError> {
        let runtimes: Vec<&Runtime> = match self {
            Goal::Build {
                runtime: Some(name),
                ..
            }
            | Goal::RuntimeInstall(Some(name))
            | Goal::Provision { runtime: name, .. } => vec![known_runtime(project, name)?],
            _ => project.runtimes.iter().collect(),
        };
        let rootfs_installs = || {
            let trees = runtimes.iter().map(|r| &r.rootfs).cloned();
            trees.map(|name| GoalStep::Install(PackageTree::Rootfs(name)))
        };
        let initramfs_installs = || {
            let trees = runtimes.iter().map(|r| &r.initramfs).cloned();
            trees.map(|name| GoalStep::Install(PackageTree::Initramfs(name)))
        };
        let os_installs = || {
            let pairs = rootfs_installs().zip(initramfs_installs());
            pairs.flat_map(|(rootfs, initramfs)| [rootfs, initramfs])
        };
        let last_installs = || {
            let extensions = extensions_of(project, &runtimes).map(PackageTree::Extension);
            let runtimes = runtimes.iter().map(|r| r.name.clone());
            let last = extensions.chain(runtimes.map(PackageTree::Runtime));
            last.map(GoalStep::Install)
        };
        let os_images = |part| {
            let names = runtimes.iter().map(|r| r.name.clone());
            names.map(move |name| GoalStep::OsImage(part, name))
        };
        Ok(match self {
            Goal::RuntimeInstall(_) => os_installs().chain(last_installs()).collect(),
            Goal::ExtInstall(name) => extensions(project, &runtimes, name.as_ref())?
                .into_iter()
                .map(|name| GoalStep::Install(PackageTree::Extension(name)))
                .collect(),
            // Without a runtime they are all wanted.
            Goal::RootfsInstall if runtimes.is_empty() => project
                .rootfs
                .iter()
                .map(|(name, _)| GoalStep::Install(PackageTree::Rootfs(name.clone())))
                .collect(),
            Goal::RootfsInstall => rootfs_installs().collect(),
            // Without a runtime they are all wanted.
            Goal::InitramfsInstall if runtimes.is_empty() => project
                .initramfs
                .iter()
                .map(|(name, _)| GoalStep::Install(PackageTree::Initramfs(name.clone())))
                .collect(),
            Goal::InitramfsInstall => initramfs_installs().collect(),
            Goal::Install => {
                let sysroot = has_sections(project).then_some(PackageTree::TargetSysroot);
                std::iter::once(PackageTree::Sdk)
                    .chain(sysroot)
                    .map(GoalStep::Install)
                    .chain(os_installs())
                    .chain(last_installs())
                    .collect()
            }
            Goal::Build { var, .. } => {
                let extensions = extensions_of(project, &runtimes);
                let names = || runtimes.iter().map(|r| r.name.clone());
                // Whoever deploys waits for the repositories alone.
                let var_images = names()
                    .filter(|_| *var)
                    .flat_map(|name| [GoalStep::VarImage(name.clone()), GoalStep::VmImage(name)]);
                os_installs()
                    .chain(extensions.map(GoalStep::ExtensionImage))
                    .chain(names().map(GoalStep::Repository))
                    .chain(var_images)
                    .collect()
            }
            Goal::SdkInstall => std::iter::once(PackageTree::Sdk)
                .chain(has_sections(project).then_some(PackageTree::TargetSysroot))
                .map(GoalStep::Install)
                .collect(),
            Goal::SdkCompile(names) => sections(project, names)?
                .into_iter()
                .map(GoalStep::Compile)
                .collect(),
            Goal::SdkPackage(name) => sections(project, std::slice::from_ref(name))?
                .into_iter()
                .map(GoalStep::PackageSection)
                .collect(),
            Goal::ExtBuild(name) => extensions(project, &runtimes, name.as_ref())?
                .into_iter()
                .map(GoalStep::ExtensionBuild)
                .collect(),
            Goal::ExtImage(name) => extensions(project, &runtimes, name.as_ref())?
                .into_iter()
                .map(GoalStep::ExtensionImage)
                .collect(),
            Goal::Fetch(names) => sources(project, names.as_deref())?
                .into_iter()
                .map(GoalStep::Fetch)
                .collect(),
            Goal::RootfsImage => rootfs_installs().chain(os_images(OsPart::Rootfs)).collect(),
            Goal::InitramfsImage => initramfs_installs()
                .chain(os_images(OsPart::Initramfs))
                .collect(),
            Goal::Provision { runtime, wish } => os_installs()
                .chain(extensions_of(project, &runtimes).map(GoalStep::ExtensionImage))
                .chain([
                    GoalStep::Repository(runtime.clone()),
                    GoalStep::VarImage(runtime.clone()),
                    GoalStep::DiskImage(runtime.clone(), wish.clone()),
                ])
                .collect(),
            Goal::KernelImage => {
                let names = runtimes.iter().map(|r| r.name.clone());
                names.map(GoalStep::KernelImage).collect()
            }
        })
    }
}

impl Goal {
    /// The extensions that a goal about all of them leaves out, for no runtime has them.
    pub(crate) fn left_out<'p>(&self, project: &'p Project) -> Vec<&'p Name> {
        let is_about_all = match self {
            Goal::Install | Goal::ExtBuild(None) | Goal::ExtImage(None) => true,
            Goal::Build { runtime, .. } => runtime.is_none(),
            _ => false,
        };
        let runtimes: Vec<&Runtime> = project.runtimes.iter().collect();
        let wanted: Vec<Name> = extensions_of(project, &runtimes).collect();
        let names = project.extensions.iter().map(|extension| &extension.name);
        names
            .filter(|name| is_about_all && !wanted.contains(name))
            .collect()
    }
}

impl GoalStep {
    /// Adds the step to the plan, after what it needs. One of which the project has nothing to
    /// do adds nothing: the install of an extension without packages, say.
    pub(crate) fn add_to(&self, plan: &mut Plan<'_>) -> Result<(), BuildError> {
        match self {
            GoalStep::Install(tree) => install::plan(plan, tree).map(drop),
            GoalStep::Fetch(name) => fetch::plan(plan, name),
            GoalStep::Compile(section) => compile::plan(plan, section).map(drop),
            GoalStep::PackageSection(section) => section_package::plan(plan, section).map(drop),
            GoalStep::ExtensionBuild(name) => extension_build::plan(plan, name).map(drop),
            GoalStep::ExtensionImage(name) => extension_image::plan(plan, name).map(drop),
            GoalStep::OsImage(part, runtime) => os_image::plan(plan, *part, runtime).map(drop),
            GoalStep::KernelImage(runtime) => kernel_image::plan(plan, runtime).map(drop),
            GoalStep::Repository(runtime) => repository::plan(plan, runtime).map(drop),
            GoalStep::VarImage(runtime) => var_image::plan(plan, runtime).map(drop),
            GoalStep::DiskImage(runtime, wish) => disk_image::plan(plan, runtime, wish).map(drop),
            GoalStep::VmImage(runtime) => vm_image::plan(plan, runtime).map(drop),
        }
    }
}

fn has_sections(project: &Project) -> bool {
    !project.sdk.compile.is_empty()
}

/// The sections of these names, or all.
fn sections(project: &Project, names: &[String]) -> Result<Vec<String>, BuildError> {
    let all = || project.sdk.compile.iter().map(|s| s.name.value.clone());
    if names.is_empty() {
        return Ok(all().collect());
    }
    match names
        .iter()
        .find(|name| !all().any(|known| known == **name))
    {
        None => Ok(names.to_vec()),
        Some(name) => Err(BuildError::Unknown {
            kind: "section of `sdk.compile`",
            name: name.clone(),
            available: all().collect(),
        }),
    }
}

fn known_runtime<'p>(project: &'p Project, name: &Name) -> Result<&'p Runtime, BuildError> {
    project.runtime(name).ok_or_else(|| BuildError::Unknown {
        kind: "runtime",
        name: name.to_string(),
        available: project
            .runtimes
            .iter()
            .map(|r| r.name.to_string())
            .collect(),
    })
}

/// The extensions of these names, which come from elsewhere, or all that do.
fn sources(project: &Project, names: Option<&[Name]>) -> Result<Vec<Name>, BuildError> {
    let known = || project.sources.iter().map(|source| &source.extension);
    let Some(names) = names else {
        return Ok(known().cloned().collect());
    };
    match names.iter().find(|name| project.source(name).is_none()) {
        None => Ok(names.to_vec()),
        Some(name) => Err(BuildError::Unknown {
            kind: "extension with a `source`",
            name: name.to_string(),
            available: known().map(ToString::to_string).collect(),
        }),
    }
}

/// The extension of that name, or all of them.
fn extensions(
    project: &Project,
    runtimes: &[&Runtime],
    name: Option<&Name>,
) -> Result<Vec<Name>, BuildError> {
    let Some(name) = name else {
        return Ok(extensions_of(project, runtimes).collect());
    };
    // One that is not here is known all the same: its step says so.
    let source = project.source(name);
    if project.extension(name).is_some() || source.is_some_and(|s| s.section.is_none()) {
        return Ok(vec![name.clone()]);
    }
    let available = project.extensions.iter().map(|e| e.name.to_string());
    Err(BuildError::Unknown {
        kind: "extension",
        name: name.to_string(),
        available: available.collect(),
    })
}

/// The extensions that these runtimes have, in the order of the project, and those that are not
/// here after them. Without any runtime every extension counts as wanted.
fn extensions_of(project: &Project, runtimes: &[&Runtime]) -> impl Iterator<Item = Name> {
    let is_wanted = |name: &Name| {
        let mut members = runtimes.iter().flat_map(|r| &r.extensions);
        runtimes.is_empty() || members.any(|member| member.name == *name)
    };
    let names = project.extensions.iter().map(|e| &e.name);
    let missing = project.sources.iter().filter(|s| s.section.is_none());
    let missing = missing.map(|s| &s.extension);
    let missing = missing.filter(|name| project.extension(name).is_none());
    let names = names.chain(missing);
    let wanted: Vec<Name> = names.filter(|name| is_wanted(name)).cloned().collect();
    wanted.into_iter()
}
