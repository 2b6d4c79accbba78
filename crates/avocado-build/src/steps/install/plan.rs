//! Which installs a build has.

use std::borrow::Cow;

use avocado_engine::TaskId;
use avocado_manifest::Name;
use avocado_project::{Late, Packages, Project, Runtime};

use super::task::{InstallOutput, InstallTask};
use super::wanted_kernel::{WantedKernel, wanted_kernel};
use super::{PackageTree, Uninstall};
use crate::error::BuildError;
use crate::needed;
use crate::plan::Plan;

/// Adds the install of a tree, and what it needs; nothing where an extension or a runtime has no
/// packages.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    tree: &PackageTree,
) -> Result<Option<TaskId<InstallOutput>>, BuildError> {
    match tree {
        PackageTree::Extension(name) => plan_extension(plan, name),
        PackageTree::Runtime(name) => {
            let runtime = plan.context.runtime(name)?;
            plan_runtime(plan, runtime)
        }
        tree => plan_tree(plan, tree).map(Some),
    }
}

/// Adds the install of the SDK: for what is installed, because the SDK brings the repository
/// configuration of the target, and for the project's own scripts, which may use its tools.
/// What needs neither is made without a feed.
pub(crate) fn plan_sdk(plan: &mut Plan<'_>) -> Result<TaskId<InstallOutput>, BuildError> {
    plan_tree(plan, &PackageTree::Sdk)
}

/// Adds the install of an extension's packages, if it has any.
pub(crate) fn plan_extension(
    plan: &mut Plan<'_>,
    name: &Name,
) -> Result<Option<TaskId<InstallOutput>>, BuildError> {
    let extension = plan.context.extension(name)?;
    needed::for_extension_install(plan.context.project, extension)?;
    if extension.packages.is_empty() {
        plan.uninstall(Uninstall::Packages(PackageTree::Extension(name.clone())));
        return Ok(None);
    }
    plan_tree(plan, &PackageTree::Extension(name.clone())).map(Some)
}

/// Adds the install of a runtime's own packages, if it has any.
pub(crate) fn plan_runtime(
    plan: &mut Plan<'_>,
    runtime: &Runtime,
) -> Result<Option<TaskId<InstallOutput>>, BuildError> {
    needed::for_runtime_install(plan.context.project, runtime)?;
    if runtime.packages.is_empty() {
        let tree = PackageTree::Runtime(runtime.name.clone());
        plan.uninstall(Uninstall::Packages(tree));
        return Ok(None);
    }
    plan_tree(plan, &PackageTree::Runtime(runtime.name.clone())).map(Some)
}

/// Adds the install of the rootfs that an extension is made for: that of the first runtime that
/// has the extension, else of the first runtime, else the project's first.
pub(crate) fn plan_base(
    plan: &mut Plan<'_>,
    extension: &Name,
) -> Result<Option<(Name, TaskId<InstallOutput>)>, BuildError> {
    let project = plan.context.project;
    let has = |r: &&Runtime| r.extensions.iter().any(|e| e.name == *extension);
    let runtime = project
        .runtimes
        .iter()
        .find(has)
        .or(project.runtimes.first());
    plan_first_rootfs(plan, runtime)
}

/// Adds the install of the rootfs of a runtime, else of the project's first.
fn plan_first_rootfs(
    plan: &mut Plan<'_>,
    runtime: Option<&Runtime>,
) -> Result<Option<(Name, TaskId<InstallOutput>)>, BuildError> {
    let project = plan.context.project;
    let first = project.rootfs.first().map(|(name, _)| name);
    match runtime.map(|r| &r.rootfs).or(first) {
        Some(name) => Ok(Some((name.clone(), plan_rootfs(plan, name)?))),
        None => Ok(None),
    }
}

/// Whether every runtime that has a rootfs compiles its kernel.
fn compiles_kernel(project: &Project, rootfs: &Name) -> bool {
    let mut runtimes = project.runtimes.iter().filter(|r| r.rootfs == *rootfs);
    let first = runtimes.next();
    first.is_some_and(Runtime::compiles_kernel) && runtimes.all(Runtime::compiles_kernel)
}

fn plan_rootfs(plan: &mut Plan<'_>, name: &Name) -> Result<TaskId<InstallOutput>, BuildError> {
    plan_tree(plan, &PackageTree::Rootfs(name.clone()))
}

/// What the target's C library and its headers come with.
const TARGET_SYSROOT_PACKAGE: &str = "avocado-sdk-target-sysroot";

/// What every section of `sdk.compile` is compiled against: all of them, whatever is built, so
/// that no two goals want another one.
fn target_sysroot_packages(project: &Project) -> Late<Packages> {
    let mut packages = Late::default();
    for section in &project.sdk.compile {
        packages.fill(&section.packages);
    }
    packages.add(TARGET_SYSROOT_PACKAGE, "*");
    packages
}

/// Adds the install of a tree, whether or not there are packages for it.
pub(crate) fn plan_tree(
    plan: &mut Plan<'_>,
    tree: &PackageTree,
) -> Result<TaskId<InstallOutput>, BuildError> {
    let key = tree.stamp_key(&plan.context.layout);
    plan.once(&key, |plan| {
        let context = plan.context;
        if let PackageTree::Sdk | PackageTree::Repositories = tree {
            needed::for_feed(context.project, &tree.label())?;
        }
        let sdk = match tree {
            PackageTree::Sdk => {
                needed::for_sdk(context.project)?;
                None
            }
            PackageTree::Repositories => None,
            PackageTree::Include(_) => Some(plan_tree(plan, &PackageTree::Repositories)?),
            _ => Some(plan_sdk(plan)?),
        };
        let (packages, base) = match tree {
            PackageTree::Sdk => (Cow::Owned(context.project.sdk_packages()), None),
            PackageTree::TargetSysroot => {
                let packages = target_sysroot_packages(context.project);
                let base = if packages.is_late() {
                    plan_first_rootfs(plan, context.project.runtimes.first())?
                } else {
                    None
                };
                (Cow::Owned(packages), base)
            }
            PackageTree::Rootfs(name) => {
                let os = context.os_image("rootfs", name)?;
                needed::for_os_install(context.project, &tree.label(), os)?;
                (Cow::Borrowed(&os.packages), None)
            }
            PackageTree::Initramfs(name) => {
                let os = context.os_image("initramfs", name)?;
                needed::for_os_install(context.project, &tree.label(), os)?;
                // It starts the kernel of the runtime that has it.
                let base = if os.packages.is_late() {
                    let mut runtimes = context.project.runtimes.iter();
                    plan_first_rootfs(plan, runtimes.find(|r| r.initramfs == *name))?
                } else {
                    None
                };
                (Cow::Borrowed(&os.packages), base)
            }
            PackageTree::Extension(name) => {
                let base = plan_base(plan, name)?;
                (Cow::Borrowed(&context.extension(name)?.packages), base)
            }
            PackageTree::Runtime(name) => {
                let runtime = context.runtime(name)?;
                let base = plan_rootfs(plan, &runtime.rootfs)?;
                let base = Some((runtime.rootfs.clone(), base));
                (Cow::Borrowed(&runtime.packages), base)
            }
            PackageTree::Repositories => (Cow::Owned(Late::default()), None),
            PackageTree::Include(name) => (
                Cow::Owned(Late::from(context.include(name)?.package())),
                None,
            ),
        };
        let include = match tree {
            PackageTree::Include(name) => Some(context.include(name)?),
            _ => None,
        };
        let rootfs = match tree {
            PackageTree::Rootfs(name) => Some(name),
            _ => base.as_ref().map(|(name, _)| name),
        };
        let kernel = match rootfs {
            Some(name) => wanted_kernel(context.project, name)?,
            None => WantedKernel::default(),
        };
        let task = InstallTask {
            context,
            kernel,
            kernel_is_compiled: rootfs.is_some_and(|name| compiles_kernel(context.project, name)),
            tree: tree.clone(),
            packages,
            sdk,
            base,
            include,
        };
        task.refuse_what_the_lock_has_not()?;
        Ok(task)
    })
}
