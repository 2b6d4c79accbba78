//! What the parent's side of every step can see, and how it hands work to a child.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use avocado_backend::{
    Backend, BackendError, Job, Mount, MountAccess, Processor, SOURCE_MOUNT, STATE_MOUNT, ToolQuery,
};
use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::Name;
use avocado_project::{
    CompileSection, Extension, ExtensionSource, LockFile, OsImageConfig, Packages, Project,
    Runtime, SourceKind,
};
use serde::Serialize;

use crate::architecture::Architectures;
use crate::error::BuildError;
use crate::known_files::KnownFiles;
use crate::layout::Layout;
use crate::options::Options;
use crate::packages::feed::Feed;
use crate::scriptlets::SkippedScriptlets;
use crate::sources::{ProjectSources, SourceReader, SourcesDigest};
use crate::step_environment::{CERTIFICATES, StepVariables};
use crate::step_request::{StepMessage, StepRequest, StepView};
use crate::trees::{self, CopyModes};

/// What the parent's side of every step can see.
pub(crate) struct BuildContext<'a> {
    pub(crate) options: &'a Options,
    pub(crate) project: &'a Project,
    pub(crate) layout: Layout,
    pub(crate) backend: Box<dyn Backend + 'a>,
    /// `avocado.lock`.
    pub(crate) lock_file: Mutex<LockFile>,
    /// That installs write into the lock what it did not have, which is told once in a run.
    pub(crate) completes_lock: Once,
    /// That something of the environment of scripts is left out, the same.
    pub(crate) shortens_environment: Once,
    /// That a program for another processor does not start is told once.
    pub(crate) misses_emulation: Once,
    /// What of packages does not run, as far as this run knows it.
    pub(crate) skipped_scriptlets: Mutex<Vec<SkippedScriptlets>>,
    pub(crate) feed: Feed<'a>,
    pub(crate) cancel: &'a Cancel,
    /// The mode of avocado.yaml; see [`CopyModes::Checkout`].
    pub(crate) checkout_mode: u32,
    /// The state of the project's files, for the scripts that read them.
    pub(crate) sources: ProjectSources,
    /// What of these files is known from earlier runs.
    pub(crate) known_files: KnownFiles,
}

/// Where a step sees the directories of this machine that extensions are in. Whatever else was
/// fetched is below the state.
const INCLUDES_MOUNT: &str = "/opt/includes";

/// An extension that comes in a package of the feed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IncludedPackage<'a> {
    pub(crate) source: &'a ExtensionSource,
    pub(crate) name: &'a str,
    version: &'a str,
    pub(crate) repository: Option<&'a str>,
}

/// How scripts start programs for another processor.
#[derive(Debug, Serialize)]
pub(crate) struct EmulationInputs {
    processor: Processor,
    /// [`Backend::emulator_identity`].
    emulator: Option<String>,
}

impl EmulationInputs {
    /// Whether such programs start.
    pub(crate) fn has_emulator(&self) -> bool {
        self.emulator.is_some()
    }
}

impl<'a> IncludedPackage<'a> {
    fn of(source: &'a ExtensionSource) -> Option<Self> {
        match &source.kind {
            SourceKind::Package {
                package,
                version,
                repository,
            } => Some(IncludedPackage {
                source,
                name: package,
                version,
                repository: repository.as_deref(),
            }),
            _ => None,
        }
    }

    /// As what is to be installed.
    pub(crate) fn package(&self) -> Packages {
        Packages::from([(self.name.to_owned(), self.version.to_owned())])
    }
}

/// The directory that the paths of a project, or of a fetched extension, are relative to.
pub(crate) struct FilesOfProject {
    pub(crate) on_host: PathBuf,
    pub(crate) in_step: PathBuf,
    /// They were fetched: what they say is not what the user says.
    pub(crate) is_foreign: bool,
}

impl FilesOfProject {
    /// Where a file or directory really is. The user may name it by a link; one of what was
    /// fetched must not lead to what else is on this machine.
    pub(crate) fn find(&self, path: &Path) -> Result<PathBuf, BuildError> {
        let place = trees::of_project(&self.on_host.join(path))?;
        if self.is_foreign && !place.starts_with(trees::of_project(&self.on_host)?) {
            return Err(BuildError::Invalid(format!(
                "`{}` leads out of {}, which was fetched",
                path.display(),
                self.on_host.display()
            )));
        }
        Ok(place)
    }
}

impl<'a> BuildContext<'a> {
    /// Whether who runs this wants the lock to stay as it is.
    pub(crate) fn is_locked(&self) -> bool {
        self.options.locked || self.options.frozen
    }

    /// The files of the project itself.
    pub(crate) fn files(&self) -> FilesOfProject {
        FilesOfProject {
            on_host: self.project.src_dir.clone(),
            in_step: SOURCE_MOUNT.into(),
            is_foreign: false,
        }
    }

    /// The files that an extension names.
    pub(crate) fn files_of(&self, extension: &Extension) -> FilesOfProject {
        match &extension.fetched_to {
            Some(place) => self.fetched_files(&extension.name, place),
            None => self.files(),
        }
    }

    /// The files that were fetched to `place` under that name.
    fn fetched_files(&self, name: &Name, place: &Path) -> FilesOfProject {
        let of_state = place.strip_prefix(self.project.state_dir());
        FilesOfProject {
            is_foreign: of_state.is_ok(),
            on_host: place.to_owned(),
            in_step: match of_state {
                Ok(below) => Path::new(STATE_MOUNT).join(below),
                Err(_) => Path::new(INCLUDES_MOUNT).join(name),
            },
        }
    }

    /// The files that what is written in this avocado.yaml is relative to: those that it was
    /// fetched with, or those of the project.
    pub(crate) fn files_at(&self, config: &Path) -> FilesOfProject {
        let source = self.project.source_of_file(config);
        let place = source.and_then(|s| Some((&s.extension, s.fetched_to.as_deref()?)));
        match place {
            Some((name, place)) => self.fetched_files(name, place),
            None => self.files(),
        }
    }

    /// The state of everything that a script among `files` can read, as far as it is the project's.
    pub(crate) fn sources_of(&self, files: &FilesOfProject) -> Vec<SourcesDigest> {
        let own = &self.project.src_dir;
        let reader = SourceReader {
            modes: self.modes(),
            known: &self.known_files,
            hidden: self.keyrings().cloned().collect(),
            project: Some(own),
        };
        let mut sources = vec![self.sources.get(own, &reader)];
        // What is in the state is left out of those of the project.
        if files.on_host != *own {
            sources.push(reader.read(&files.on_host));
        }
        sources
    }

    /// A section of `sdk.compile`.
    pub(crate) fn compile_section(&self, name: &str) -> Result<&'a CompileSection, BuildError> {
        let sections = &self.project.sdk.compile;
        let found = sections.iter().find(|section| **section.name == *name);
        found.ok_or_else(|| BuildError::Unknown {
            kind: "section of `sdk.compile`",
            name: name.to_owned(),
            available: sections.iter().map(|s| s.name.value.clone()).collect(),
        })
    }

    /// The directories of extensions that are neither in the project nor in its state.
    fn mounts_of_extensions(&self, access: MountAccess) -> impl Iterator<Item = Mount> {
        let extensions = self.project.extensions.iter();
        let extensions = extensions.map(|e| (&e.name, e.fetched_to.as_deref()));
        let sources = self.project.sources.iter();
        let sources = sources.map(|s| (&s.extension, s.fetched_to.as_deref()));
        // An extension that came along has no source of its own, and a section is no extension.
        let fetched: BTreeMap<&Name, &Path> = extensions
            .chain(sources)
            .filter_map(|(name, place)| Some((name, place?)))
            .collect();
        let files = fetched.into_iter();
        files
            .map(|(name, place)| self.fetched_files(name, place))
            .filter(|files| files.in_step.starts_with(INCLUDES_MOUNT))
            .map(move |files| Mount {
                source: files.on_host,
                target: files.in_step,
                access,
            })
    }

    /// How files of the project are copied and digested.
    pub(crate) fn modes(&self) -> CopyModes {
        CopyModes::Checkout(self.checkout_mode)
    }

    /// `avocado.lock`, for this step alone while the guard lives.
    pub(crate) fn lock_file(&self) -> MutexGuard<'_, LockFile> {
        self.lock_file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Scriptlets that did not run, for this step alone while the guard lives.
    pub(crate) fn skipped_scriptlets(&self) -> MutexGuard<'_, Vec<SkippedScriptlets>> {
        let skipped = self.skipped_scriptlets.lock();
        skipped.unwrap_or_else(PoisonError::into_inner)
    }

    /// The extension of that name.
    pub(crate) fn extension(&self, name: &Name) -> Result<&'a Extension, BuildError> {
        let project = self.project;
        let missing = || match project.source(name) {
            Some(source) => BuildError::not_fetched(source),
            None => BuildError::Invalid(format!("extension `{name}` is not in the project")),
        };
        project.extension(name).ok_or_else(missing)
    }

    /// The version of an extension.
    pub(crate) fn version_of(&self, extension: &'a Extension) -> Result<&'a Name, BuildError> {
        extension.version.get().map_err(|why| BuildError::Project {
            diagnostics: vec![why.clone()],
        })
    }

    /// The package that an extension is fetched as.
    pub(crate) fn include(&self, name: &Name) -> Result<IncludedPackage<'a>, BuildError> {
        let found = self.project.source(name).and_then(IncludedPackage::of);
        found.ok_or_else(|| BuildError::Invalid(format!("extension `{name}` comes in no package")))
    }

    /// The runtime of that name.
    pub(crate) fn runtime(&self, name: &Name) -> Result<&'a Runtime, BuildError> {
        let runtime = self.project.runtime(name);
        runtime
            .ok_or_else(|| BuildError::Invalid(format!("runtime `{name}` is not in the project")))
    }

    /// The `rootfs` or `initramfs` of that name.
    pub(crate) fn os_image(
        &self,
        kind: &'static str,
        name: &Name,
    ) -> Result<&'a OsImageConfig, BuildError> {
        let list = match kind {
            "rootfs" => &self.project.rootfs,
            _ => &self.project.initramfs,
        };
        let found = list.iter().find(|(n, _)| n == name).map(|(_, os)| os);
        found.ok_or_else(|| BuildError::Unknown {
            kind,
            name: name.to_string(),
            available: list.iter().map(|(n, _)| n.to_string()).collect(),
        })
    }

    /// Has a step's work done by a child, and returns what it made.
    pub(crate) fn run_step<R: StepRequest>(
        &self,
        stage: &str,
        request: R,
        sink: &dyn Sink,
    ) -> Result<R::Result, BuildError> {
        let runs_hook = request.runs_hook();
        let view = request.view(&self.layout);
        let runs_programs = request.runs_programs();
        let sources = if runs_hook {
            MountAccess::Write
        } else {
            MountAccess::Read
        };
        let message = StepMessage {
            state: self.project.state_dir(),
            target: self.project.target.clone(),
            sdk_processor: self.layout.sdk_processor(),
            source_date_epoch: self.project.source_date_epoch,
            checkout_mode: self.checkout_mode,
            kind: R::KIND.to_owned(),
            request,
        };
        let request = serde_json::to_value(message).map_err(|e| {
            BuildError::Invalid(format!("the step's request has no JSON form: {e}"))
        })?;
        let foreign = self.foreign_processor().filter(|_| runs_programs);
        if let Some(processor) = foreign {
            self.need_emulation(processor, runs_hook, sink)?;
        }
        let mut variables = self.variables();
        if runs_hook {
            variables = variables.of_scripts(self.project);
            self.tell_of_variables(&variables, sink);
        }
        let job = Job {
            stage: stage.to_owned(),
            loop_mounts: R::LOOP_MOUNTS,
            terminal: R::TERMINAL,
            emulates: foreign,
            request,
            ..self.job_with(&view, variables, sources)
        };
        let result = job.run_on(&*self.backend, self.cancel, sink);
        if runs_hook {
            self.sources.forget();
        }
        // Not after steps that run nothing but what is ours.
        if runs_hook || R::INSTALLS {
            self.layout.check_fixed()?;
        }
        Ok(result?)
    }

    /// A job without work, with what it sees.
    fn job_with(&self, view: &StepView, variables: StepVariables, sources: MountAccess) -> Job {
        let parts = match view {
            StepView::Project | StepView::Sources => {
                // Among the sources it would be there once more, to be changed.
                let (state, again) = if *view == StepView::Project {
                    (MountAccess::Write, None)
                } else {
                    (MountAccess::Read, Some(self.project.state_dir()))
                };
                let mut mounts = vec![
                    Mount {
                        source: self.project.state_dir(),
                        target: STATE_MOUNT.into(),
                        access: state,
                    },
                    Mount {
                        source: self.project.src_dir.clone(),
                        target: SOURCE_MOUNT.into(),
                        access: sources,
                    },
                ];
                mounts.extend(self.mounts_of_extensions(sources));
                return Job {
                    stage: String::new(),
                    environment: variables.environment(self.options),
                    mounts,
                    hidden: self.hidden().into_iter().chain(again).collect(),
                    visible: self.visible(),
                    network: true,
                    terminal: false,
                    emulates: None,
                    loop_mounts: false,
                    request: serde_json::Value::Null,
                };
            }
            StepView::Parts(parts) => parts,
        };
        let in_step = Layout::in_step(&self.project.target);
        let mount = |(part, access): &(PathBuf, MountAccess)| Mount {
            source: self.layout.prefix().join(part),
            target: in_step.prefix().join(part),
            access: *access,
        };
        // Where they are on the host the project and what else it is made of are not seen either.
        let beside_config = self.project.config_path.parent().map(Path::to_owned);
        let own = [self.project.src_dir.clone(), self.project.state_dir()];
        let extensions = self.mounts_of_extensions(MountAccess::Read);
        let extensions = extensions.map(|mount| mount.source);
        let hidden: Vec<PathBuf> = self
            .hidden()
            .into_iter()
            .chain(own)
            .chain(beside_config)
            .chain(extensions)
            .collect();
        // It is told nothing of the project, which would be an input. The way to the feed may have a
        // password in it, and there is none from here.
        let variables = StepVariables::of_target(&self.project.target, self.layout.sdk_processor());
        let mut environment = variables.environment(self.options);
        environment.retain(|name, _| !self.options.proxy_environment.contains_key(name));
        Job {
            stage: String::new(),
            environment,
            mounts: parts.iter().map(mount).collect(),
            visible: Vec::new(),
            hidden,
            network: false,
            terminal: false,
            emulates: None,
            loop_mounts: false,
            request: serde_json::Value::Null,
        }
    }

    /// The processor of the SDK's tools or of the target's programs, where it is another one than that of
    /// this machine.
    fn foreign_processor(&self) -> Option<Processor> {
        // Before the SDK is installed nothing is known of the target, and nothing of it runs.
        let of_target = Architectures::of_target(&self.layout.target_repoconf());
        let of_target = of_target.ok().and_then(|names| names.processor());
        let mut processors = [Some(self.layout.sdk_processor()), of_target].into_iter();
        let is_foreign = |processor: &Processor| *processor != Processor::HOST;
        processors.find_map(|processor| processor.filter(is_foreign))
    }

    /// What scripts that start programs for another processor follow from as well; nothing where there
    /// are no such programs.
    pub(crate) fn emulation(&self) -> Result<Option<EmulationInputs>, BuildError> {
        let Some(processor) = self.foreign_processor() else {
            return Ok(None);
        };
        let emulator = self.backend.emulator_identity(processor)?;
        Ok(Some(EmulationInputs {
            processor,
            emulator,
        }))
    }

    /// Tells where nothing runs the programs for `processor` that a step may start, and refuses to start
    /// the tools of an SDK for it (`uses_sdk`).
    fn need_emulation(
        &self,
        processor: Processor,
        uses_sdk: bool,
        sink: &dyn Sink,
    ) -> Result<(), BuildError> {
        if self.backend.emulator_identity(processor)?.is_some() {
            return Ok(());
        }
        if uses_sdk && processor == self.layout.sdk_processor() {
            return Err(BackendError::NoEmulation { processor }.into());
        }
        self.misses_emulation.call_once(|| {
            sink.emit(Event::warning(format!(
                "this machine does not emulate {processor}: a script that starts a program of the                  device fails with an `Exec format error`, and what its package or hook would have                  made is missing (install the package qemu-user-static; `avocado doctor` says more)"
            )));
        });
        Ok(())
    }

    fn variables(&self) -> StepVariables {
        let releasever = self.feed.releasever(&self.lock_file());
        StepVariables::new(self.options, self.project, releasever)
    }

    /// What the project's scripts are told in their environment, which is an input of theirs.
    pub(crate) fn told_to_scripts(&self) -> BTreeMap<&'static str, String> {
        self.variables().of_scripts(self.project).inputs()
    }

    fn tell_of_variables(&self, variables: &StepVariables, sink: &dyn Sink) {
        if variables.left_out.is_empty() {
            return;
        }
        self.shortens_environment.call_once(|| {
            let mut text = format!(
                "scripts are not told {}, which is too long for a variable of their environment",
                variables.left_out.join(", ")
            );
            let ca = self.project.distro.ca.as_ref();
            if let Some(ca) = ca.filter(|_| variables.left_out.contains(&CERTIFICATES)) {
                text += &format!("; they see its file, {}", ca.display());
            }
            sink.emit(Event::warning(text));
        });
    }

    /// What no step sees: what else the user has, and above all the signing keys.
    fn hidden(&self) -> Vec<PathBuf> {
        let home = self.options.home.iter();
        home.chain(self.keyrings()).cloned().collect()
    }

    /// Where signing keys are kept.
    pub(crate) fn keyrings(&self) -> impl Iterator<Item = &PathBuf> {
        let options = self.options;
        options.keyring.iter().chain(&options.owner_keyring)
    }

    /// What a step sees wherever it is: the project, and what proves who the feed is.
    fn visible(&self) -> Vec<PathBuf> {
        let sources = std::iter::once(self.project.src_dir.clone());
        let repositories = self.project.repositories.iter();
        let authorities = repositories.filter_map(|repository| repository.ca.clone());
        let authorities = self
            .project
            .distro
            .ca
            .clone()
            .into_iter()
            .chain(authorities);
        let paths = sources.chain(authorities);
        let hidden = self.hidden();
        // What holds all that is hidden would bring it back.
        let is_kept = |path: &PathBuf| {
            path.is_absolute() && !hidden.iter().any(|hidden| hidden.starts_with(path))
        };
        paths.filter(is_kept).collect()
    }

    /// What a tool is: part of the inputs of every step whose bytes it shapes. `None` where the
    /// tool is missing, which is for the step to complain of.
    pub(crate) fn tool(&self, query: &ToolQuery) -> Result<Option<String>, BuildError> {
        Ok(self.backend.tool_identity(query)?)
    }
}
