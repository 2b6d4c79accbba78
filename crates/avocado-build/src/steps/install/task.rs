//! The parent's side of an install.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::{Event, Sink};
use avocado_manifest::{Digest, Name};
use avocado_project::{Late, PackageHeaders, Packages};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::PackageTree;
use super::publish::PACKAGE_LIST;
use super::request::{FinishInstallRequest, InstallRequest, InstallResult, PublishRequest};
use super::spec::{InstallSpec, KernelChoice, SDK_PACKAGE, repositories_package};
use super::wanted_kernel::WantedKernel;
use crate::build_context::{BuildContext, EmulationInputs, IncludedPackage};
use crate::error::{At as _, BuildError};
use crate::kept_warnings::{self, KeptWarnings};
use crate::packages::repository::{RepositoryAccess, RepositoryInputs};
use crate::packages::version;
use crate::plan::BuildStep;
use crate::scriptlets::{self, ScriptletsRequest, SkippedScriptlets};
use crate::shared_environment;
use crate::trees;

/// The rootfs package that brings a whole system, and with it a kernel.
const ROOTFS_PACKAGE: &str = "avocado-pkg-rootfs";

/// What the next steps want to know of an install.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstallOutput {
    /// Of the packages with their headers.
    digest: Digest,
    /// The version of the kernel that a rootfs brought.
    #[serde(default, deserialize_with = "as_one_name")]
    pub(crate) kernel: Option<String>,
    /// What was warned of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// What of its packages did not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<SkippedScriptlets>,
}

/// It becomes the name of a directory, and may come from another machine.
fn as_one_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = Option::<Name>::deserialize(deserializer)?;
    Ok(name.map(|name| name.to_string()))
}

/// What scriptlets consume beside their packages.
#[derive(Debug, Serialize)]
struct ScriptletInputs {
    revision: u32,
    /// Where it answers what they call.
    sdk: Option<Digest>,
    /// What they are told that the time is, in `shadow` too.
    source_date_epoch: u64,
    /// What runs the programs of the tree, where they are for another processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    emulation: Option<EmulationInputs>,
}

/// The parent's side of an install.
pub(super) struct InstallTask<'a> {
    pub(super) context: &'a BuildContext<'a>,
    pub(super) tree: PackageTree,
    pub(super) packages: Cow<'a, Late<Packages>>,
    /// Which kernel the project wants for the rootfs that this is, or is made for.
    pub(super) kernel: WantedKernel<'a>,
    /// The project compiles the kernel of every runtime that has this rootfs: the feed's is of no
    /// use to them.
    pub(super) kernel_is_compiled: bool,
    /// The install of the SDK, for every other tree; that of the repository configuration alone for
    /// what is fetched.
    pub(super) sdk: Option<TaskId<InstallOutput>>,
    /// The rootfs whose packages count as present, with its install.
    pub(super) base: Option<(Name, TaskId<InstallOutput>)>,
    /// What is fetched.
    pub(super) include: Option<IncludedPackage<'a>>,
}

/// What an install consumes.
#[derive(Debug, Serialize)]
pub(super) struct InstallInputs {
    install: InstallSpec,
    base: Option<Digest>,
    /// What of the feed counts: its snapshot, or its place.
    feed: String,
    /// Who may sign packages, where signatures are checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_keys: Option<Digest>,
    dnf_args: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scriptlets: Option<ScriptletInputs>,
    /// Those beside the feed that it may be installed from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    repositories: Vec<RepositoryInputs>,
}

impl InstallTask<'_> {
    fn spec(&self, base_kernel: Option<String>) -> InstallSpec {
        let lock_file = self.context.lock_file();
        let lock = lock_file.target(&self.context.project.target);
        let sysroot = self.tree.sysroot(&self.context.layout);
        let is_rootfs = matches!(self.tree, PackageTree::Rootfs(_));
        let kernels = self.kernel.version.map(|version| &version.value);
        let package = self.kernel.package.map(|package| &package.value);
        let wants_kernel = is_rootfs && self.kernel.is_stated()
            || !self.kernel_is_compiled
                && wants_newest_kernel(&self.tree, self.packages.template());
        let locked = lock.and_then(|l| l.packages(&sysroot)).cloned();
        let mut locked = locked.unwrap_or_default();
        let is_meant = |version: &&str| {
            kernels.is_none_or(|kernels| kernels.matches(version))
                && package.is_none_or(|package| has_kernel(&locked, package, version))
        };
        let pinned = lock
            .and_then(|l| l.kernel_version(&sysroot))
            .filter(is_meant)
            .map(ToOwned::to_owned);
        let mut headers = lock.map(|l| l.headers(&sysroot)).unwrap_or_default();
        if self.tree == PackageTree::Repositories {
            // The rest of what the lock has of the SDK is not asked for here.
            let package = repositories_package(&self.context.project.target);
            locked.retain(|name, _| *name == package);
            headers.retain(|name, _| *name == package);
        }
        InstallSpec {
            tree: self.tree.clone(),
            packages: Late::clone(&self.packages),
            repository: self
                .include
                .and_then(|include| include.repository)
                .map(ToOwned::to_owned),
            locked,
            headers,
            weak_dependencies: !self.context.project.sdk.disable_weak_dependencies,
            base: self.base.as_ref().map(|(name, _)| name.clone()),
            base_kernel,
            kernel: wants_kernel.then(|| KernelChoice {
                package: package.cloned(),
                pinned,
                wanted: kernels.cloned(),
            }),
            scriptlets: self.tree.becomes_image() && self.context.options.scriptlets,
            one_kernel: self.kernel.is_stated(),
        }
    }

    /// Its scriptlets find a whole system.
    fn is_system(&self) -> bool {
        !matches!(self.tree, PackageTree::Extension(_))
    }

    /// Where the lock is not to change: stops before the first step, which may download something, if
    /// the lock has another version than the project states by now.
    pub(super) fn refuse_what_the_lock_has_not(&self) -> Result<(), BuildError> {
        if !self.context.is_locked() {
            return Ok(());
        }
        let Some(what) = self.what_the_lock_has_not(&self.spec(None)) else {
            return Ok(());
        };
        Ok(self.context.lock_file().refuse_if_locked(&what)?)
    }

    fn what_the_lock_has_not(&self, spec: &InstallSpec) -> Option<String> {
        if let Some(include) = self.include
            && !spec.locked.contains_key(include.name)
        {
            return Some(format!("the package {} would be locked", include.name));
        }
        for (name, stated) in self.packages.template() {
            let Some(locked) = spec.locked.get(name) else {
                continue;
            };
            let epoch = spec.headers.get(name).map(|header| header.epoch);
            let is_stated = match self.include {
                Some(_) => version::is_stated_of_extension(locked, epoch, stated),
                None => version::is_stated(locked, epoch, stated),
            };
            if !is_stated {
                let (place, reader) = match self.include {
                    Some(include) => (include.source.version_at.as_ref(), String::new()),
                    None => (
                        self.packages.place(name),
                        format!(" for {}", self.tree.label()),
                    ),
                };
                let place = place.map_or_else(|| "avocado.yaml".to_owned(), ToString::to_string);
                return Some(format!(
                    "the package {name} is locked in version {locked}, and {place} states \
                     {stated}{reader}"
                ));
            }
        }
        let (wanted, place) = (self.kernel.version?, self.kernel.place()?);
        let lock_file = self.context.lock_file();
        let lock = lock_file.target(&self.context.project.target)?;
        let locked = lock.kernel_version(&self.tree.sysroot(&self.context.layout))?;
        let is_rootfs = matches!(self.tree, PackageTree::Rootfs(_));
        (is_rootfs && !wanted.matches(locked)).then(|| {
            format!(
                "the kernel {locked} is locked, and {place} states {}",
                wanted.value
            )
        })
    }

    /// What the lock gains beside what was asked for.
    fn tell_of_lock(&self, spec: &InstallSpec, installed: &PackageHeaders, sink: &dyn Sink) {
        if spec.locked.is_empty() {
            return;
        }
        if spec.locked.keys().any(|p| !spec.headers.contains_key(p)) {
            self.context.completes_lock.call_once(|| {
                sink.emit(Event::info(
                    "avocado.lock had versions alone, as earlier versions of avocado wrote it: \
                     now it also says what each package is",
                ));
            });
        }
        // With all that the project asks for in the lock, what it needs was in the lock too.
        let asked = self.packages.template().keys().map(String::as_str);
        let of_sdk = (self.tree == PackageTree::Sdk).then_some(SDK_PACKAGE);
        if asked.chain(of_sdk).any(|p| !spec.locked.contains_key(p)) {
            return;
        }
        let new = installed.keys().filter(|p| !spec.locked.contains_key(*p));
        let new: Vec<&str> = new.map(String::as_str).collect();
        if !new.is_empty() {
            sink.emit(Event::warning(format!(
                "the feed added what avocado.lock did not have: {}",
                new.join(", ")
            )));
        }
    }

    /// Runs the scriptlets of a tree that has some, and puts it at its place.
    fn run_scriptlets(
        &self,
        spec: &InstallSpec,
        mut installed: InstallResult,
        sink: &dyn Sink,
    ) -> Result<InstallResult, BuildError> {
        let context = self.context;
        let skipped = installed.skipped.iter().cloned();
        context.skipped_scriptlets().extend(skipped);
        let Some(unfinished) = installed.unfinished.take() else {
            return Ok(installed);
        };
        let tree = trees::unfinished(&self.tree.root(&context.layout));
        let below = tree.strip_prefix(context.layout.prefix());
        let request = ScriptletsRequest {
            tree: below.unwrap_or(&tree).to_owned(),
            packages: unfinished.scriptlets,
            is_system: self.is_system(),
            accounts: unfinished.accounts,
        };
        let made = context.run_step(&self.stage(), request, sink)?;
        let request = FinishInstallRequest {
            spec: spec.clone(),
            packages: installed.packages.clone(),
            began: unfinished.began,
            kernel: installed.kernel,
        };
        let kernel = context.run_step(&self.stage(), request, sink)?;
        let both = format!("{} {}", installed.digest, made.digest);
        Ok(InstallResult {
            digest: Digest::of(both.as_bytes()),
            kernel,
            ..installed
        })
    }

    /// The repositories beside the feed that count for this tree.
    fn repositories(&self) -> Result<Vec<RepositoryInputs>, BuildError> {
        let all = self.context.feed.repositories()?;
        let counts = |other: &&RepositoryAccess| match self.tree {
            PackageTree::Repositories => false,
            PackageTree::Sdk => other.for_sdk,
            _ => other.for_target,
        };
        Ok(all
            .iter()
            .filter(counts)
            .map(RepositoryAccess::inputs)
            .collect())
    }

    fn feed(&self) -> String {
        self.context.feed.identity(&self.context.lock_file())
    }
}

impl Task for InstallTask<'_> {
    type Inputs = InstallInputs;
    type Output = InstallOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        self.tree.label()
    }

    fn stamp_key(&self) -> StampKey {
        self.tree.stamp_key(&self.context.layout)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let base = self.base.as_ref().map(|(_, id)| *id);
        let needs = [self.sdk, base];
        needs.into_iter().flatten().map(AnyTaskId::from).collect()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<InstallInputs, BuildError> {
        let base = self.base.as_ref().map(|(_, id)| *id);
        let base_kernel = match base {
            Some(base) if self.packages.is_late() || self.kernel.is_stated() => {
                needs.output(base)?.kernel.clone()
            }
            _ => None,
        };
        let install = self.spec(base_kernel);
        let scriptlets = if install.scriptlets {
            let has_shims = scriptlets::published_shims(&self.context.layout).is_some();
            Some(ScriptletInputs {
                revision: scriptlets::REVISION,
                sdk: needs.optional_digest(self.sdk.filter(|_| has_shims))?,
                source_date_epoch: self.context.project.source_date_epoch,
                emulation: self.context.emulation()?,
            })
        } else {
            None
        };
        Ok(InstallInputs {
            install,
            scriptlets,
            base: needs.optional_digest(base)?,
            feed: self.feed(),
            signing_keys: self
                .context
                .feed
                .signing_keys()?
                .map(|keys| Digest::of(keys.as_bytes())),
            dnf_args: self.context.options.dnf_args.clone(),
            repositories: self.repositories()?,
        })
    }

    /// What an install writes into the lock, and the pin that the first one sets, are settled by
    /// the run.
    fn recorded_inputs(&self, before: InstallInputs) -> Result<InstallInputs, BuildError> {
        let now = self.spec(None);
        Ok(InstallInputs {
            install: InstallSpec {
                locked: now.locked,
                headers: now.headers,
                kernel: now.kernel,
                ..before.install
            },
            feed: self.feed(),
            ..before
        })
    }

    fn run(
        &self,
        inputs: &InstallInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<InstallOutput, BuildError> {
        let context = self.context;
        let access = context
            .feed
            .access(&context.lock_file, &context.options.dnf_args, sink)?;
        let feed = format!("{}/{}", access.url, access.releasever);
        let request = InstallRequest {
            spec: inputs.install.clone(),
            access,
            kernels_stated_at: self.kernel.place().map(ToString::to_string),
        };
        let includes = context.layout.includes();
        if let Some(include) = self.include {
            // Before what was fetched earlier is replaced.
            let forgotten = include.source.forget(&includes);
            forgotten.at("write to", &includes)?;
        }
        let warnings = KeptWarnings::new(sink);
        let installed = context
            .run_step(&self.stage(), request, &warnings)
            .map_err(|source| BuildError::Install {
                feed,
                source: Box::new(context.feed.after_failure(&context.lock_file, source)),
            })
            .map_err(|error| match self.include {
                Some(include) => BuildError::fetch(include.source, error),
                None => error,
            })?;
        let installed = self.run_scriptlets(&inputs.install, installed, &warnings)?;
        if let Some(include) = self.include {
            let noted = include.source.note(&includes);
            noted.at("write to", &includes)?;
        }
        self.tell_of_lock(&inputs.install, &installed.packages, sink);
        let mut lock_file = context.lock_file();
        let locked = lock_file.target_mut(&context.project.target);
        let sysroot = self.tree.sysroot(&self.context.layout);
        let versions = installed.packages.iter();
        let versions = versions.map(|(name, p)| (name.clone(), p.version.clone()));
        let (mut packages, mut headers) = (BTreeMap::new(), PackageHeaders::new());
        if self.tree == PackageTree::Repositories {
            // The install of the SDK locks the rest.
            packages = locked.packages(&sysroot).cloned().unwrap_or_default();
            headers = locked.headers(&sysroot);
        }
        packages.extend(versions);
        headers.extend(installed.packages);
        if let Some(include) = self.include
            && let Some(version) = packages.get(include.name)
        {
            locked.set_source_package(&include.source.extension, include.name, version);
        }
        locked.set_packages(&sysroot, packages);
        locked.set_headers(&sysroot, headers);
        // A rootfs may have had one before.
        if matches!(self.tree, PackageTree::Rootfs(_)) {
            locked.set_kernel_version(&sysroot, installed.kernel.clone());
        }
        lock_file.save()?;
        Ok(InstallOutput {
            digest: installed.digest,
            kernel: installed.kernel,
            warnings: warnings.into_texts(),
            skipped: installed.skipped,
        })
    }

    fn output_files(&self, _output: &InstallOutput) -> Vec<PathBuf> {
        let layout = &self.context.layout;
        let mut files = vec![self.tree.root(layout)];
        match &self.tree {
            PackageTree::Sdk => files.push(layout.target_repoconf()),
            PackageTree::Runtime(name) => files.push(layout.runtime(name).join(PACKAGE_LIST)),
            _ => {}
        }
        if let Some(include) = self.include {
            files.push(include.source.record(&layout.includes()));
        }
        files
    }

    /// Another rootfs may have the same kernel.
    fn shared_files(&self, output: &InstallOutput) -> Vec<PathBuf> {
        let kernel = output.kernel.iter();
        kernel
            .map(|version| self.context.layout.kernel(version))
            .collect()
    }

    fn digest(&self, output: &InstallOutput) -> Digest {
        output.digest
    }

    /// What is fetched is of the state that it was fetched to.
    fn shared_environment(&self) -> Result<Option<Value>, BuildError> {
        let is_fetched = matches!(
            self.tree,
            PackageTree::Repositories | PackageTree::Include(_)
        );
        if is_fetched {
            return Ok(None);
        }
        let has_scriptlets = self.tree.becomes_image() && self.context.options.scriptlets;
        shared_environment::of_install(self.context, has_scriptlets)
    }

    /// The lock has the packages: they are among the inputs.
    fn restored(&self, output: &InstallOutput, sink: &dyn Sink) -> Result<(), BuildError> {
        let context = self.context;
        kept_warnings::tell(&output.warnings, &self.stage(), sink);
        let skipped = output.skipped.iter().cloned();
        context.skipped_scriptlets().extend(skipped);
        match &self.tree {
            PackageTree::Runtime(name) => {
                let request = PublishRequest { name: name.clone() };
                context.run_step(&self.stage(), request, sink)
            }
            PackageTree::Rootfs(_) => {
                let mut lock_file = context.lock_file();
                let locked = lock_file.target_mut(&context.project.target);
                locked
                    .set_kernel_version(&self.tree.sysroot(&context.layout), output.kernel.clone());
                lock_file.save()?;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl BuildStep for InstallTask<'_> {}

/// Whether these packages have the kernel of that version: by a name that says it, or by a version
/// of the package.
fn has_kernel(locked: &BTreeMap<String, String>, package: &str, version: &str) -> bool {
    let is_version = |found: &String| {
        let rest = found.strip_prefix(version);
        rest.is_some_and(|rest| rest.starts_with('-'))
    };
    locked.contains_key(&format!("{package}-{version}"))
        || locked.get(package).is_some_and(is_version)
}

/// Whether a kernel comes with the rootfs of the distribution that the project does not name.
fn wants_newest_kernel(tree: &PackageTree, packages: &Packages) -> bool {
    let explicit_kernel = packages.keys().any(|p| p.starts_with("kernel-image"));
    matches!(tree, PackageTree::Rootfs(_))
        && packages.contains_key(ROOTFS_PACKAGE)
        && !explicit_kernel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_another_machine_names_is_one_directory() {
        let read = |kernel: Value| {
            let digest = Digest::of(b"").to_string();
            let output = serde_json::json!({ "digest": digest, "kernel": kernel });
            serde_json::from_value::<InstallOutput>(output).map(|output| output.kernel)
        };
        assert_eq!(read("6.12.1-rt".into()).unwrap().unwrap(), "6.12.1-rt");
        assert_eq!(read(Value::Null).unwrap(), None);
        for kernel in ["../../x", "..", ".", "", "a/b", "/a", "a/"] {
            read(kernel.into()).unwrap_err();
        }
    }

    #[test]
    fn the_lock_has_a_kernel_by_its_name_or_its_version() {
        let locked = [("kernel-rt-6.6", "6.6-r0.x"), ("kernel-own", "6.12.1-r0.x")];
        let locked = locked.map(|(name, version)| (name.to_owned(), version.to_owned()));
        let locked = BTreeMap::from(locked);
        for (package, version, has) in [
            ("kernel-rt", "6.6", true),
            ("kernel-rt", "6.12.1", false),
            ("kernel-own", "6.12.1", true),
            ("kernel-own", "6.12", false),
            ("kernel-image", "6.6", false),
        ] {
            assert_eq!(
                has_kernel(&locked, package, version),
                has,
                "{package} {version}"
            );
        }
    }

    #[test]
    fn a_kernel_comes_with_the_rootfs_that_names_none() {
        let name: Name = "default".parse().unwrap();
        let rootfs = PackageTree::Rootfs(name.clone());
        let initramfs = PackageTree::Initramfs(name);
        for (tree, packages, wants) in [
            (&rootfs, &[ROOTFS_PACKAGE][..], true),
            (&rootfs, &[ROOTFS_PACKAGE, "more"], true),
            (&rootfs, &[ROOTFS_PACKAGE, "kernel-image-6.12"], false),
            (&rootfs, &["small-rootfs"], false),
            (&initramfs, &[ROOTFS_PACKAGE], false),
        ] {
            let packages = packages.iter().map(|p| ((*p).to_owned(), "*".to_owned()));
            let packages: Packages = packages.collect();
            assert_eq!(
                wants_newest_kernel(tree, &packages),
                wants,
                "{tree:?} {packages:?}"
            );
        }
    }
}
