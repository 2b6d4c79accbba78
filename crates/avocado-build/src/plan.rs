//! From a project and a goal to the graph of steps.

use std::collections::BTreeMap;

use avocado_manifest::Name;
use avocado_project::{OsImage, Project, Runtime};

use crate::graph::{Graph, TaskId};
use crate::keys::RuntimeKey;
use crate::steps::Context;
use crate::steps::extension_build::ExtensionBuildTask;
use crate::steps::extension_image::ExtensionImageTask;
use crate::steps::install::{InstallTask, Tree};
use crate::steps::os_image::{OsImageTask, Part};
use crate::steps::repository::RepositoryTask;
use crate::steps::runtime_build::RuntimeBuildTask;
use crate::steps::vm_image::{Machine, VmImageTask};
use crate::{Error, Goal};

/// What a goal is about, by name: checked before anything else happens.
pub(crate) struct Scope<'a> {
    pub(crate) runtimes: Vec<&'a Runtime>,
    /// In the order of the project.
    pub(crate) extensions: Vec<Name>,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(project: &'a Project, goal: &Goal) -> Result<Self, Error> {
        let all: Vec<&Runtime> = project.runtimes.iter().collect();
        let runtimes = match goal {
            Goal::Build {
                runtime: Some(name),
            } => vec![project.runtime(name).ok_or_else(|| Error::Unknown {
                kind: "runtime",
                name: name.to_string(),
                available: all.iter().map(|r| r.name.to_string()).collect(),
            })?],
            Goal::ExtBuild(_) | Goal::ExtImage(_) => Vec::new(),
            _ => all.clone(),
        };
        let extensions = match goal {
            Goal::ExtBuild(Some(name)) | Goal::ExtImage(Some(name)) => {
                project.extension(name).ok_or_else(|| Error::Unknown {
                    kind: "extension",
                    name: name.to_string(),
                    available: project
                        .extensions
                        .iter()
                        .map(|e| e.name.to_string())
                        .collect(),
                })?;
                vec![name.clone()]
            }
            Goal::RootfsImage | Goal::InitramfsImage => Vec::new(),
            _ => {
                // Without any runtime every extension counts as wanted.
                let scope = if runtimes.is_empty() { &all } else { &runtimes };
                let wanted = |name: &Name| {
                    scope.is_empty()
                        || scope
                            .iter()
                            .any(|r| r.extensions.iter().any(|e| e.name == *name))
                };
                let names = project.extensions.iter().map(|e| e.name.clone());
                names.filter(wanted).collect()
            }
        };
        Ok(Scope {
            runtimes,
            extensions,
        })
    }
}

/// Which of an extension's steps and of a runtime's steps are in the graph.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(crate) images: BTreeMap<Name, TaskId>,
    pub(crate) rootfs_images: BTreeMap<Name, TaskId>,
    pub(crate) initramfs_images: BTreeMap<Name, TaskId>,
    pub(crate) runtimes: BTreeMap<Name, TaskId>,
    pub(crate) vm_images: BTreeMap<Name, TaskId>,
}

/// Builds the graph of a goal.
pub(crate) struct Planner<'a> {
    context: &'a Context<'a>,
    graph: Graph<'a>,
    placed: Placed,
    /// The install of the SDK, once something needs it.
    sdk: Option<TaskId>,
    /// Installs that several steps may need, by kind and name.
    installs: BTreeMap<(&'static str, Name), TaskId>,
    builds: BTreeMap<Name, TaskId>,
}

impl<'a> Planner<'a> {
    pub(crate) fn plan(
        context: &'a Context<'a>,
        goal: &Goal,
        scope: &Scope<'a>,
        keys: &'a BTreeMap<Name, RuntimeKey>,
    ) -> Result<(Graph<'a>, Placed), Error> {
        let mut planner = Planner {
            context,
            graph: Graph::default(),
            placed: Placed::default(),
            sdk: None,
            installs: BTreeMap::new(),
            builds: BTreeMap::new(),
        };
        planner.goal(goal, scope, keys)?;
        Ok((planner.graph, planner.placed))
    }

    fn goal(
        &mut self,
        goal: &Goal,
        scope: &Scope<'a>,
        keys: &'a BTreeMap<Name, RuntimeKey>,
    ) -> Result<(), Error> {
        if matches!(goal, Goal::Install) {
            self.sdk();
        }
        for runtime in &scope.runtimes {
            if !matches!(goal, Goal::InitramfsImage) {
                self.os_install(Part::Rootfs, &runtime.rootfs)?;
            }
            if !matches!(goal, Goal::RootfsImage) {
                self.os_install(Part::Initramfs, &runtime.initramfs)?;
            }
        }
        for name in &scope.extensions {
            match goal {
                Goal::Install => {
                    self.extension_install(name)?;
                }
                Goal::ExtBuild(_) => {
                    self.extension_build(name)?;
                }
                _ => {
                    self.extension_image(name)?;
                }
            }
        }
        for runtime in &scope.runtimes {
            match goal {
                Goal::Install => {
                    self.runtime_install(runtime)?;
                }
                Goal::RootfsImage => {
                    self.os_image(Part::Rootfs, runtime)?;
                }
                Goal::InitramfsImage => {
                    self.os_image(Part::Initramfs, runtime)?;
                }
                _ => {
                    if let Some(key) = keys.get(&runtime.name) {
                        self.runtime(runtime, key)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The install of the SDK: for what is installed, because the SDK brings the repository
    /// configuration of the target, and for the project's own scripts, which may use its tools.
    /// What needs neither is made without a feed.
    fn sdk(&mut self) -> TaskId {
        let task = InstallTask {
            context: self.context,
            tree: Tree::Sdk,
            packages: self.context.project.sdk.packages.clone(),
            base: None,
        };
        *self.sdk.get_or_insert_with(|| self.graph.add(task, &[]))
    }

    /// Adds an install once; later steps find it again.
    fn install(&mut self, kind: &'static str, name: &Name, task: InstallTask<'a>) -> TaskId {
        let mut needs = vec![self.sdk()];
        needs.extend(task.base.as_ref().map(|(_, id)| *id));
        let key = (kind, name.clone());
        *self
            .installs
            .entry(key)
            .or_insert_with(|| self.graph.add(task, &needs))
    }

    fn os(&self, part: Part, name: &Name) -> Result<&'a OsImage, Error> {
        let project = self.context.project;
        let list = match part {
            Part::Rootfs => &project.rootfs,
            Part::Initramfs => &project.initramfs,
        };
        let found = list.iter().find(|(n, _)| n == name).map(|(_, os)| os);
        found.ok_or_else(|| Error::Unknown {
            kind: part.as_str(),
            name: name.to_string(),
            available: list.iter().map(|(n, _)| n.to_string()).collect(),
        })
    }

    fn os_install(&mut self, part: Part, name: &Name) -> Result<TaskId, Error> {
        let task = InstallTask {
            context: self.context,
            tree: match part {
                Part::Rootfs => Tree::Rootfs(name.clone()),
                Part::Initramfs => Tree::Initramfs(name.clone()),
            },
            packages: self.os(part, name)?.packages.clone(),
            base: None,
        };
        Ok(self.install(part.as_str(), name, task))
    }

    /// The rootfs that extensions are made for: that of the first runtime that has the
    /// extension, else of the first runtime, else the project's first.
    fn base(&mut self, extension: &Name) -> Result<Option<(Name, TaskId)>, Error> {
        let project = self.context.project;
        let has = |r: &&Runtime| r.extensions.iter().any(|e| e.name == *extension);
        let runtime = project
            .runtimes
            .iter()
            .find(has)
            .or(project.runtimes.first());
        let first = project.rootfs.first().map(|(name, _)| name);
        match runtime.map(|r| &r.rootfs).or(first) {
            Some(name) => Ok(Some((name.clone(), self.os_install(Part::Rootfs, name)?))),
            None => Ok(None),
        }
    }

    fn extension_install(&mut self, name: &Name) -> Result<Option<TaskId>, Error> {
        let Some(extension) = self.context.project.extension(name) else {
            return Ok(None);
        };
        if extension.packages.is_empty() {
            return Ok(None);
        }
        let task = InstallTask {
            context: self.context,
            tree: Tree::Extension(name.clone()),
            packages: extension.packages.clone(),
            base: self.base(name)?,
        };
        Ok(Some(self.install("extension", name, task)))
    }

    fn extension_build(&mut self, name: &Name) -> Result<TaskId, Error> {
        if let Some(id) = self.builds.get(name) {
            return Ok(*id);
        }
        let extension =
            self.context.project.extension(name).ok_or_else(|| {
                Error::Invalid(format!("extension `{name}` is not in the project"))
            })?;
        let install = self.extension_install(name)?;
        let base = if extension.enable_services.is_empty() {
            None
        } else {
            self.base(name)?
        };
        let mut needs: Vec<TaskId> = install
            .into_iter()
            .chain(base.as_ref().map(|b| b.1))
            .collect();
        let sdk = extension.post_build.as_ref().map(|_| self.sdk());
        needs.extend(sdk);
        let task = ExtensionBuildTask {
            context: self.context,
            extension,
            install,
            base,
            sdk,
        };
        let id = self.graph.add(task, &needs);
        self.builds.insert(name.clone(), id);
        Ok(id)
    }

    fn extension_image(&mut self, name: &Name) -> Result<TaskId, Error> {
        if let Some(id) = self.placed.images.get(name) {
            return Ok(*id);
        }
        let build = self.extension_build(name)?;
        let extension =
            self.context.project.extension(name).ok_or_else(|| {
                Error::Invalid(format!("extension `{name}` is not in the project"))
            })?;
        let task = ExtensionImageTask {
            context: self.context,
            extension,
            build,
        };
        let id = self.graph.add(task, &[build]);
        self.placed.images.insert(name.clone(), id);
        Ok(id)
    }

    fn runtime_install(&mut self, runtime: &'a Runtime) -> Result<Option<TaskId>, Error> {
        if runtime.packages.is_empty() {
            return Ok(None);
        }
        let base = (
            runtime.rootfs.clone(),
            self.os_install(Part::Rootfs, &runtime.rootfs)?,
        );
        let task = InstallTask {
            context: self.context,
            tree: Tree::Runtime(runtime.name.clone()),
            packages: runtime.packages.clone(),
            base: Some(base),
        };
        Ok(Some(self.install("runtime", &runtime.name, task)))
    }

    fn os_image(&mut self, part: Part, runtime: &'a Runtime) -> Result<TaskId, Error> {
        let name = match part {
            Part::Rootfs => &runtime.rootfs,
            Part::Initramfs => &runtime.initramfs,
        };
        let install = self.os_install(part, name)?;
        let os = self.os(part, name)?;
        let sdk = os.post_install.as_ref().map(|_| self.sdk());
        let needs: Vec<TaskId> = std::iter::once(install).chain(sdk).collect();
        let task = OsImageTask {
            context: self.context,
            part,
            name,
            os,
            runtime,
            install,
            sdk,
        };
        let id = self.graph.add(task, &needs);
        let images = match part {
            Part::Rootfs => &mut self.placed.rootfs_images,
            Part::Initramfs => &mut self.placed.initramfs_images,
        };
        images.insert(runtime.name.clone(), id);
        Ok(id)
    }

    fn runtime(&mut self, runtime: &'a Runtime, key: &'a RuntimeKey) -> Result<(), Error> {
        let rootfs_install = self.os_install(Part::Rootfs, &runtime.rootfs)?;
        let rootfs = self.os_image(Part::Rootfs, runtime)?;
        let initramfs = self.os_image(Part::Initramfs, runtime)?;
        let packages = self.runtime_install(runtime)?;
        let mut images = Vec::new();
        for member in &runtime.extensions {
            images.push(self.extension_image(&member.name)?);
        }
        let mut needs = vec![rootfs_install, rootfs, initramfs];
        let sdk = runtime.post_build.as_ref().map(|_| self.sdk());
        needs.extend(packages);
        needs.extend(&images);
        needs.extend(sdk);
        let build = self.graph.add(
            RuntimeBuildTask {
                context: self.context,
                runtime,
                key,
                images: images.clone(),
                rootfs,
                rootfs_install,
                initramfs,
                packages,
                sdk,
            },
            &needs,
        );
        self.placed.runtimes.insert(runtime.name.clone(), build);
        if let Some(machine) = Machine::of(&self.context.project.target) {
            let task = VmImageTask {
                context: self.context,
                runtime,
                machine,
                build,
                rootfs: (self.os(Part::Rootfs, &runtime.rootfs)?, rootfs),
                rootfs_install,
                initramfs: (self.os(Part::Initramfs, &runtime.initramfs)?, initramfs),
            };
            let needs = [build, rootfs, rootfs_install, initramfs];
            let id = self.graph.add(task, &needs);
            self.placed.vm_images.insert(runtime.name.clone(), id);
        }
        let mut needs = images.clone();
        needs.push(build);
        self.graph.add(
            RepositoryTask {
                context: self.context,
                runtime,
                key,
                build,
                images,
            },
            &needs,
        );
        Ok(())
    }
}
