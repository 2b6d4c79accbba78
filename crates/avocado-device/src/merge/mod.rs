//! Merging: the images of the active runtime become part of `/usr`, `/opt` and `/etc`.
//!
//! systemd-sysext and systemd-confext put the overlays in place. They take what is linked in
//! `/run/extensions` and `/run/confexts`, the name that sorts last on top, and ask each image for
//! an `extension-release.<name of the link>`. In a manifest the first extension wins, so the links
//! are numbered from the back, and the numbered name is provided by a small directory that is
//! mounted over the image's own `extension-release.d`.

pub(crate) mod content;
mod failure;
mod hiding;
mod hooks;
pub(crate) mod layers;
mod left_out;
mod machine_id;
pub(crate) mod mounts;
mod proven;
pub(crate) mod release;
pub(crate) mod release_misfit;
pub(crate) mod service_manager;
pub(crate) mod state;
pub(crate) mod swap;
pub(crate) mod systemd;
pub(crate) mod units;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink, StepStatus};
use avocado_manifest::RuntimeId;

use crate::config::DeviceConfig;
use crate::context::DeviceContext;
use crate::degraded::DegradedState;
use crate::error::{DeviceError, FailureReason};
use crate::paths::DevicePaths;
use crate::store::files;
use crate::store::lock::StoreLock;
use avocado_events::chain;
use content::SystemdContent;
pub(crate) use failure::{MergeFailure, SetFailure};
use hooks::Hooks;
use layers::Layer;
use proven::ClassOverlay;
pub(crate) use proven::ProvenMerge;
use release::{ExtensionClass, ExtensionRelease};
use state::{LayerImage, MergedExtension, MergedState};
use systemd::SystemdMerger;

/// Whether to merge what is merged already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeMode {
    /// Only if it is not merged as it should be.
    IfNeeded,
    /// In any case.
    Always,
}

/// What is to be merged, in the order of the manifest: the first wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExtensionSet {
    pub(crate) runtime: Option<RuntimeId>,
    pub(crate) images: Vec<LayerImage>,
    /// Why it is not what should be merged.
    pub(crate) degraded: Option<DegradedState>,
}

/// Merges and unmerges. The caller holds the lock of the store.
#[derive(Clone, Copy)]
pub(crate) struct ExtensionMerger<'a> {
    paths: &'a DevicePaths,
    config: &'a DeviceConfig,
    sink: &'a dyn Sink,
}

const STAGE: &str = "merge";

impl<'a> ExtensionMerger<'a> {
    pub(crate) fn new(context: &'a DeviceContext, _lock: &StoreLock, sink: &'a dyn Sink) -> Self {
        ExtensionMerger {
            paths: &context.paths,
            config: &context.config,
            sink,
        }
    }

    /// Merges exactly `set`. When that fails, what was merged before is merged still, or again.
    pub(crate) fn merge(&self, set: &ExtensionSet, how: MergeMode) -> Result<(), MergeFailure> {
        self.prove(set, how)?.finish()
    }

    /// Does everything that can show that `set` cannot be merged, before anybody sees it.
    pub(crate) fn prove(
        &self,
        set: &ExtensionSet,
        how: MergeMode,
    ) -> Result<ProvenMerge<'a>, MergeFailure> {
        let before = MergedState::load(&self.paths.merged());
        if how == MergeMode::IfNeeded && self.is_merged(set, &before) {
            let nothing = set.images.is_empty();
            let why = if nothing {
                "nothing to merge"
            } else {
                "already merged"
            };
            self.step(StepStatus::Skipped, why);
            return Ok(ProvenMerge {
                merger: *self,
                now: before.clone(),
                before,
                overlays: None,
            });
        }
        self.step(StepStatus::Running, "");
        let proven = self.prepare(set).and_then(|now| {
            self.refuse_hiding(&now)?;
            let overlays = self.make_overlays(&now, &before)?;
            Ok((now, overlays))
        });
        match proven {
            Ok((now, overlays)) => Ok(ProvenMerge {
                merger: *self,
                now,
                before,
                overlays: Some(overlays),
            }),
            Err(failure) => Err(self.fail(self.withdraw(&before, failure))),
        }
    }

    /// Unmerges everything, and unmounts it if asked to.
    pub(crate) fn unmerge(&self, unmount: bool) -> Result<(), DeviceError> {
        let before = MergedState::load(&self.paths.merged());
        let nothing = MergedState::default();
        self.hooks().before_unmerge(&before, &nothing, false);
        self.make_overlays(&nothing, &before)
            .and_then(|overlays| self.commit(&nothing, overlays))
            .map_err(|failure| DeviceError::Unmerge(failure.reason))?;
        if unmount {
            self.tidy(&nothing).map_err(DeviceError::Unmerge)?;
        }
        self.hooks().after_unmerge(&before);
        Ok(())
    }

    fn exchange(
        &self,
        before: &MergedState,
        now: &MergedState,
        overlays: Vec<ClassOverlay>,
    ) -> Result<(), MergeFailure> {
        let hooks = self.hooks();
        hooks.before_unmerge(before, now, true);
        if let Err(failure) = self.commit(now, overlays) {
            return Err(self.back(before, now, failure));
        }
        let nothing_before = before.extensions.is_empty();
        let same = before.images() == now.images();
        let done = hooks.after_merge(before, now, !nothing_before && !same);
        if let Err(reason) = done {
            if nothing_before {
                // There is nothing to go back to, and a device that boots should have its
                // extensions.
                hooks.report("", Err(reason));
            } else if same {
                return Err(self.failure(before, true, reason.into()));
            } else {
                hooks.before_unmerge(now, before, true);
                return Err(self.back(before, now, reason.into()));
            }
        }
        if let Err(reason) = self.tidy(now) {
            self.sink.emit(Event::warning(format!(
                "what is not merged any more: {}",
                chain(&reason)
            )));
        }
        Ok(())
    }

    /// The failure of a set that cannot even be tried.
    pub(crate) fn not_begun(&self, set: SetFailure) -> MergeFailure {
        let before = MergedState::load(&self.paths.merged());
        self.failure(&before, true, set)
    }

    fn refuse_hiding(&self, now: &MergedState) -> Result<(), SetFailure> {
        now.extensions.iter().try_for_each(|extension| {
            let root = self.mount_point(&extension.image);
            hiding::refuse_hiding(Path::new("/"), extension, &root)
                .map_err(|reason| SetFailure::of(extension.image.full_name(), reason))
        })
    }

    /// Makes what is not seen yet be as if nothing had been tried: mounts may have been exchanged,
    /// and links.
    fn withdraw(&self, before: &MergedState, set: SetFailure) -> MergeFailure {
        let restored = self.prepare_again(before).and_then(|()| {
            self.mergers()
                .try_for_each(|m| self.link(&m, before).map(drop))
        });
        self.failure(before, restored.is_ok(), set)
    }

    fn failure(&self, before: &MergedState, restored: bool, set: SetFailure) -> MergeFailure {
        MergeFailure {
            set,
            restored,
            anything_before: !before.extensions.is_empty(),
        }
    }

    /// Brings back what was merged before.
    fn back(&self, before: &MergedState, now: &MergedState, set: SetFailure) -> MergeFailure {
        let restored = self
            .prepare_again(before)
            .map_err(SetFailure::from)
            .and_then(|()| self.make_overlays(before, now))
            .and_then(|overlays| self.commit(before, overlays));
        if restored.is_ok() {
            let hooks = self.hooks();
            hooks.report("", hooks.after_merge(now, before, false));
        }
        self.failure(before, restored.is_ok(), set)
    }

    fn fail(&self, failure: MergeFailure) -> MergeFailure {
        self.step(
            StepStatus::Failed,
            DeviceError::not_merged(failure.restored),
        );
        failure
    }

    fn hooks(&self) -> Hooks<'a> {
        Hooks {
            paths: self.paths,
            limit: self.config.hook_timeout,
            sink: self.sink,
        }
    }

    fn prepare_again(&self, before: &MergedState) -> Result<(), FailureReason> {
        let set = ExtensionSet {
            runtime: before.runtime.clone(),
            images: before.images(),
            degraded: None,
        };
        self.prepare(&set).map_err(|failure| failure.reason)?;
        self.tidy(before)
    }

    /// Mounts the images and reads what they say about themselves. Those of a runtime get numbers;
    /// without one their names alone say which is on top, as systemd has it.
    fn prepare(&self, set: &ExtensionSet) -> Result<MergedState, SetFailure> {
        let count = set.images.len();
        let mut extensions = Vec::with_capacity(count);
        for (position, image) in set.images.iter().enumerate() {
            let name = image.full_name();
            self.sink.emit(Event::items(
                STAGE,
                &name,
                position as u64,
                Some(count as u64),
            ));
            let link = match set.runtime {
                Some(_) => layers::link_name(position, count, &name),
                None => name,
            };
            let prepared = self.prepare_one(image, link);
            let prepared = prepared.map_err(|reason| SetFailure::of(image.full_name(), reason));
            extensions.push(prepared?);
        }
        Ok(MergedState {
            runtime: set.runtime.clone(),
            extensions,
            degraded: set.degraded.clone(),
        })
    }

    fn prepare_one(
        &self,
        image: &LayerImage,
        link: String,
    ) -> Result<MergedExtension, FailureReason> {
        let root = self.mount_point(image);
        let releases = self.paths.releases().join(image.full_name());
        if !mounts::is_mounted(&image.file, &root) {
            mounts::unmount(&root)?;
            mounts::mount(&self.paths.tools.mount, &image.file, &root)?;
        }
        let scope = if self.paths.initrd_release.exists() {
            "initrd"
        } else {
            "system"
        };
        let mut all = ExtensionRelease::default();
        let mut described = false;
        let mut merged = [false; 2];
        for (class, merged) in ExtensionClass::BOTH.into_iter().zip(&mut merged) {
            let Some(bytes) = release::find(&root, class, &image.name, image.version.as_ref())?
            else {
                continue;
            };
            described = true;
            let release = ExtensionRelease::parse(class, &String::from_utf8_lossy(&bytes));
            if !release.allows(scope) {
                self.sink.emit(Event::info(format!(
                    "{} is not meant to be merged as {} in the {scope} environment",
                    image.full_name(),
                    class.as_str()
                )));
                continue;
            }
            let dir = releases.join(class.as_str());
            fs::create_dir_all(&dir).map_err(FailureReason::file("create", &dir))?;
            // The image's own name as well: the directory is what we read next time.
            for name in [&image.full_name(), &link] {
                let path = dir.join(format!("extension-release.{name}"));
                fs::write(&path, &bytes).map_err(FailureReason::file("write", &path))?;
            }
            mounts::cover(&root, class, &dir)?;
            all.join(release);
            *merged = true;
        }
        if !described {
            return Err(FailureReason::NoRelease {
                extension: image.full_name(),
            });
        }
        let [sysext, confext] = merged;
        Ok(MergedExtension {
            image: image.clone(),
            link,
            sysext,
            confext,
            on_merge: all.on_merge,
            on_unmerge: all.on_unmerge,
            modules: all.modules,
            services: all.services,
            systemd: SystemdContent::of(&root),
        })
    }

    /// Makes the links of `merger` be those of `state`; whether there were any of ours before.
    fn link(&self, merger: &SystemdMerger<'_>, state: &MergedState) -> Result<bool, FailureReason> {
        let layers = self.layers(merger.class, state);
        let links: Vec<_> = layers
            .iter()
            .map(|layer| (layer.link.as_str(), layer.root.as_path()))
            .collect();
        merger.link(&self.paths.mounts(), &links)
    }

    fn layers(&self, class: ExtensionClass, state: &MergedState) -> Vec<Layer> {
        let within = state.extensions.iter().filter(|e| is_in(e, class));
        within
            .map(|extension| Layer {
                name: extension.image.full_name(),
                link: extension.link.clone(),
                root: self.mount_point(&extension.image),
            })
            .collect()
    }

    /// Links exactly `now` for systemd and makes the overlays of it, which nobody sees yet.
    fn make_overlays(
        &self,
        now: &MergedState,
        before: &MergedState,
    ) -> Result<Vec<ClassOverlay>, SetFailure> {
        let os = layers::has_os();
        let id = machine_id::read(self.paths);
        let mut all = Vec::new();
        for merger in self.mergers() {
            let layers = self.layers(merger.class, now);
            layers::check_count(merger.class, &layers)?;
            let had_links = self.link(&merger, now)?;
            let had = had_links || before.extensions.iter().any(|e| is_in(e, merger.class));
            if layers.is_empty() && !had {
                all.push(ClassOverlay::Nothing);
                continue;
            }
            let warn = |warning| self.sink.emit(Event::warning(warning));
            let look = |said: &str| {
                layers::check_os(merger.class, os)?;
                left_out::check(&merger, self.paths, &layers, said)?;
                layers::check(merger.class, &layers)?;
                if merger.class == ExtensionClass::Confext {
                    // Where this cannot be done, it is tried again and told once all see it.
                    let _ = machine_id::keep(self.paths, id.as_deref());
                }
                Ok(())
            };
            all.push(match merger.make(warn, |ended| look(&ended.said)) {
                Ok(Some(new)) => ClassOverlay::Made(new),
                Ok(None) => ClassOverlay::Unproven,
                // A program that does not exist has merged nothing.
                Err(SetFailure {
                    reason: FailureReason::NoTool { source, .. },
                    ..
                }) if layers.is_empty() && source.kind() == io::ErrorKind::NotFound => {
                    ClassOverlay::Nothing
                }
                Err(failure) => return Err(failure),
            });
        }
        Ok(all)
    }

    /// Shows the overlays of `now` in the place of what is seen, and writes it down.
    fn commit(&self, now: &MergedState, overlays: Vec<ClassOverlay>) -> Result<(), SetFailure> {
        let id = machine_id::read(self.paths);
        for (merger, overlay) in self.mergers().zip(overlays) {
            match overlay {
                ClassOverlay::Nothing => continue,
                ClassOverlay::Made(new) if swap::show(merger.class, &new)? => continue,
                ClassOverlay::Made(_) | ClassOverlay::Unproven => {}
            }
            let said = merger.refresh()?.said;
            let layers = self.layers(merger.class, now);
            left_out::check(&merger, self.paths, &layers, &said)?;
        }
        let kept = machine_id::keep(self.paths, id.as_deref());
        self.hooks().report("machine id", kept);
        Ok(now.save(&self.paths.merged())?)
    }

    /// Unmounts and forgets what is not part of `now`.
    fn tidy(&self, now: &MergedState) -> Result<(), FailureReason> {
        let kept: Vec<_> = now.extensions.iter().map(|e| e.image.full_name()).collect();
        let stale = |dir: PathBuf| -> Result<Vec<PathBuf>, FailureReason> {
            let names = files::names(&dir)?.into_iter();
            Ok(names
                .filter(|n| !kept.contains(n))
                .map(|n| dir.join(n))
                .collect())
        };
        for path in stale(self.paths.mounts())? {
            mounts::unmount(&path)?;
            fs::remove_dir(&path).map_err(FailureReason::file("remove", &path))?;
        }
        for path in stale(self.paths.releases())? {
            fs::remove_dir_all(&path).map_err(FailureReason::file("remove", &path))?;
        }
        for extension in &now.extensions {
            let name = extension.image.full_name();
            let wanted = [&name, &extension.link].map(|n| format!("extension-release.{n}"));
            for class in ExtensionClass::BOTH {
                let dir = self.paths.releases().join(&name).join(class.as_str());
                for file in files::names(&dir)? {
                    if !wanted.contains(&file) {
                        let path = dir.join(file);
                        fs::remove_file(&path).map_err(FailureReason::file("remove", &path))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_merged(&self, set: &ExtensionSet, before: &MergedState) -> bool {
        let same = before.runtime == set.runtime
            && before.images() == set.images
            && before.degraded == set.degraded;
        let mounted =
            |image: &LayerImage| mounts::is_mounted(&image.file, &self.mount_point(image));
        same && set.images.iter().all(mounted)
            && self.mergers().all(|merger| {
                let merged = merger.merged();
                let ours = before.extensions.iter().filter(|e| is_in(e, merger.class));
                merged.is_ok_and(|merged| ours.into_iter().all(|e| merged.contains(&e.link)))
            })
    }

    fn mergers(&self) -> impl Iterator<Item = SystemdMerger<'a>> + use<'a> {
        let (paths, config) = (self.paths, self.config);
        [
            SystemdMerger::new(ExtensionClass::Sysext, paths, config.sysext_mutable),
            SystemdMerger::new(ExtensionClass::Confext, paths, config.confext_mutable),
        ]
        .into_iter()
    }

    fn mount_point(&self, image: &LayerImage) -> PathBuf {
        self.paths.mounts().join(image.full_name())
    }

    fn step(&self, status: StepStatus, message: impl Into<String>) {
        self.sink.emit(Event::step(STAGE, status, message));
    }
}

fn is_in(extension: &MergedExtension, class: ExtensionClass) -> bool {
    match class {
        ExtensionClass::Sysext => extension.sysext,
        ExtensionClass::Confext => extension.confext,
    }
}
