//! Merging: the images of the active runtime become part of `/usr`, `/opt` and `/etc`.
//!
//! systemd-sysext and systemd-confext put the overlays in place. They take what is linked in
//! `/run/extensions` and `/run/confexts`, the name that sorts last on top, and ask each image for
//! an `extension-release.<name of the link>`. In a manifest the first extension wins, so the links
//! are numbered from the back, and the numbered name is provided by a small directory that is
//! mounted over the image's own `extension-release.d`.

mod hooks;
mod mounts;
pub(crate) mod release;
pub(crate) mod state;
mod swap;
pub(crate) mod systemd;

use std::fs;
use std::io;
use std::path::PathBuf;

use avocado_events::{Event, Sink, Status};
use avocado_manifest::RuntimeId;

use crate::store::files;
use crate::{Config, Error, Paths, Reason};
use avocado_events::chain;
use hooks::Hooks;
use release::{Class, Release};
use state::{Image, Merged, State};
use systemd::Merger;

/// Whether to merge what is merged already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Only if it is not merged as it should be.
    IfNeeded,
    /// In any case.
    Anew,
}

/// What is to be merged, in the order of the manifest: the first wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) runtime: Option<RuntimeId>,
    pub(crate) images: Vec<Image>,
}

/// Merges and unmerges. Whoever calls it holds the lock of the store.
pub(crate) struct Merge<'a> {
    paths: &'a Paths,
    config: &'a Config,
    sink: &'a dyn Sink,
}

const STAGE: &str = "merge";

impl<'a> Merge<'a> {
    pub(crate) fn new(paths: &'a Paths, config: &'a Config, sink: &'a dyn Sink) -> Self {
        Merge {
            paths,
            config,
            sink,
        }
    }

    /// Merges exactly `set`. When that fails, what was merged before is merged still, or again.
    pub(crate) fn merge(&self, set: &Set, how: How) -> Result<(), Error> {
        let before = State::load(&self.paths.merged());
        if how == How::IfNeeded && self.is_merged(set, &before) {
            let nothing = set.images.is_empty();
            let why = if nothing {
                "nothing to merge"
            } else {
                "already merged"
            };
            self.step(Status::Skipped, why);
            return Ok(());
        }
        self.step(Status::Running, "");
        let result = self.exchange(set, &before);
        match &result {
            Ok(()) if set.images.is_empty() => self.step(Status::Success, "nothing to merge"),
            Ok(()) => {
                let names: Vec<_> = set.images.iter().map(Image::full_name).collect();
                self.step(Status::Success, names.join(", "));
            }
            Err(error) => self.step(Status::Failed, error.to_string()),
        }
        result
    }

    /// Unmerges everything, and unmounts it if asked to.
    pub(crate) fn unmerge(&self, unmount: bool) -> Result<(), Error> {
        let before = State::load(&self.paths.merged());
        let nothing = State::default();
        self.hooks().before_unmerge(&before, &nothing);
        self.commit(&nothing, &before).map_err(Error::Unmerge)?;
        if unmount {
            self.tidy(&nothing).map_err(Error::Unmerge)?;
        }
        self.hooks().after_unmerge(&before);
        Ok(())
    }

    fn exchange(&self, set: &Set, before: &State) -> Result<(), Error> {
        let now = match self.prepare(set) {
            Ok(now) => now,
            // Nothing visible has changed yet; only mounts may have been exchanged.
            Err(source) => {
                let restored = self.prepare_again(before).is_ok();
                return Err(Error::Merge { restored, source });
            }
        };
        let hooks = self.hooks();
        hooks.before_unmerge(before, &now);
        if let Err(source) = self.commit(&now, before) {
            return Err(self.back(before, &now, source));
        }
        let nothing_before = before.extensions.is_empty();
        let same = before.images() == now.images();
        let done = hooks.after_merge(before, &now, !nothing_before && !same);
        if let Err(source) = done {
            if nothing_before {
                // There is nothing to go back to, and a device that boots should have its
                // extensions.
                hooks.report("", Err(source));
            } else if same {
                return Err(Error::Merge {
                    restored: true,
                    source,
                });
            } else {
                hooks.before_unmerge(&now, before);
                return Err(self.back(before, &now, source));
            }
        }
        if let Err(reason) = self.tidy(&now) {
            self.sink.emit(Event::warning(format!(
                "what is not merged any more: {}",
                chain(&reason)
            )));
        }
        Ok(())
    }

    /// Brings back what was merged before.
    fn back(&self, before: &State, now: &State, source: Reason) -> Error {
        let restored = self
            .prepare_again(before)
            .and_then(|()| self.commit(before, now));
        if restored.is_ok() {
            let hooks = self.hooks();
            hooks.report("", hooks.after_merge(now, before, false));
        }
        Error::Merge {
            restored: restored.is_ok(),
            source,
        }
    }

    fn hooks(&self) -> Hooks<'a> {
        Hooks {
            paths: self.paths,
            limit: self.config.hook_timeout,
            sink: self.sink,
        }
    }

    fn prepare_again(&self, before: &State) -> Result<(), Reason> {
        self.prepare(&Set {
            runtime: before.runtime.clone(),
            images: before.images(),
        })?;
        self.tidy(before)
    }

    /// Mounts the images and reads what they say about themselves. Those of a runtime get numbers;
    /// without one their names alone say which is on top, as systemd has it.
    fn prepare(&self, set: &Set) -> Result<State, Reason> {
        let count = set.images.len();
        let width = count.saturating_sub(1).to_string().len().max(2);
        let mut extensions = Vec::with_capacity(count);
        for (position, image) in set.images.iter().enumerate() {
            let name = image.full_name();
            self.sink.emit(Event::items(
                STAGE,
                &name,
                position as u64,
                Some(count as u64),
            ));
            let number = count - 1 - position;
            let link = match set.runtime {
                Some(_) => format!("{number:0width$}-{name}"),
                None => name,
            };
            extensions.push(self.prepare_one(image, link)?);
        }
        Ok(State {
            runtime: set.runtime.clone(),
            extensions,
        })
    }

    fn prepare_one(&self, image: &Image, link: String) -> Result<Merged, Reason> {
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
        let mut all = Release::default();
        let mut described = false;
        let mut merged = [false; 2];
        for (class, merged) in Class::BOTH.into_iter().zip(&mut merged) {
            let Some(bytes) = release::find(&root, class, &image.name, image.version.as_ref())?
            else {
                continue;
            };
            described = true;
            let release = Release::parse(class, &String::from_utf8_lossy(&bytes));
            if !release.allows(scope) {
                self.sink.emit(Event::info(format!(
                    "{} is not meant to be merged as {} in the {scope} environment",
                    image.full_name(),
                    class.as_str()
                )));
                continue;
            }
            let dir = releases.join(class.as_str());
            fs::create_dir_all(&dir).map_err(Reason::file("create", &dir))?;
            // The image's own name as well: the directory is what we read next time.
            for name in [&image.full_name(), &link] {
                let path = dir.join(format!("extension-release.{name}"));
                fs::write(&path, &bytes).map_err(Reason::file("write", &path))?;
            }
            mounts::cover(&root, class, &dir)?;
            all.join(release);
            *merged = true;
        }
        if !described {
            return Err(Reason::NoRelease {
                extension: image.full_name(),
            });
        }
        let [sysext, confext] = merged;
        Ok(Merged {
            image: image.clone(),
            link,
            sysext,
            confext,
            on_merge: all.on_merge,
            on_unmerge: all.on_unmerge,
            modules: all.modules,
            services: all.services,
        })
    }

    /// Makes systemd merge exactly `now`, checks that it did, and writes it down.
    fn commit(&self, now: &State, before: &State) -> Result<(), Reason> {
        let mounts = self.paths.mounts();
        for merger in self.mergers() {
            let is_in = |e: &&Merged| is_in(e, merger.class);
            let wanted: Vec<_> = now.extensions.iter().filter(is_in).collect();
            let places: Vec<_> = wanted.iter().map(|e| self.mount_point(&e.image)).collect();
            let links: Vec<_> = wanted
                .iter()
                .zip(&places)
                .map(|(e, place)| (e.link.as_str(), place.as_path()))
                .collect();
            let had_links = merger.link(&mounts, &links)?;
            let had = had_links || before.extensions.iter().any(|e| is_in(&e));
            if wanted.is_empty() && !had {
                continue;
            }
            let warn = |warning| self.sink.emit(Event::warning(warning));
            let ended = match merger.refresh(warn) {
                // A program that does not exist has merged nothing.
                Err(Reason::NoTool { source, .. })
                    if wanted.is_empty() && source.kind() == io::ErrorKind::NotFound =>
                {
                    continue;
                }
                other => other?,
            };
            // systemd passes over what it does not like, and succeeds.
            let merged = merger.merged()?;
            let left_out = wanted.iter().filter(|e| !merged.contains(&e.link));
            let left_out: Vec<_> = left_out.map(|e| e.image.full_name()).collect();
            if !left_out.is_empty() {
                return Err(Reason::LeftOut {
                    tool: merger.program(),
                    extensions: left_out,
                    said: ended.said,
                });
            }
        }
        now.save(&self.paths.merged())
    }

    /// Unmounts and forgets what is not part of `now`.
    fn tidy(&self, now: &State) -> Result<(), Reason> {
        let kept: Vec<_> = now.extensions.iter().map(|e| e.image.full_name()).collect();
        let stale = |dir: PathBuf| -> Result<Vec<PathBuf>, Reason> {
            let names = files::names(&dir)?.into_iter();
            Ok(names
                .filter(|n| !kept.contains(n))
                .map(|n| dir.join(n))
                .collect())
        };
        for path in stale(self.paths.mounts())? {
            mounts::unmount(&path)?;
            fs::remove_dir(&path).map_err(Reason::file("remove", &path))?;
        }
        for path in stale(self.paths.releases())? {
            fs::remove_dir_all(&path).map_err(Reason::file("remove", &path))?;
        }
        for extension in &now.extensions {
            let name = extension.image.full_name();
            let wanted = [&name, &extension.link].map(|n| format!("extension-release.{n}"));
            for class in Class::BOTH {
                let dir = self.paths.releases().join(&name).join(class.as_str());
                for file in files::names(&dir)? {
                    if !wanted.contains(&file) {
                        let path = dir.join(file);
                        fs::remove_file(&path).map_err(Reason::file("remove", &path))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_merged(&self, set: &Set, before: &State) -> bool {
        let same = before.runtime == set.runtime && before.images() == set.images;
        let mounted = |image: &Image| mounts::is_mounted(&image.file, &self.mount_point(image));
        same && set.images.iter().all(mounted)
            && self.mergers().all(|merger| {
                let merged = merger.merged();
                let ours = before.extensions.iter().filter(|e| is_in(e, merger.class));
                merged.is_ok_and(|merged| ours.into_iter().all(|e| merged.contains(&e.link)))
            })
    }

    fn mergers(&self) -> impl Iterator<Item = Merger<'a>> + use<'a> {
        let (paths, config) = (self.paths, self.config);
        [
            Merger::new(Class::Sysext, paths, config.sysext_mutable),
            Merger::new(Class::Confext, paths, config.confext_mutable),
        ]
        .into_iter()
    }

    fn mount_point(&self, image: &Image) -> PathBuf {
        self.paths.mounts().join(image.full_name())
    }

    fn step(&self, status: Status, message: impl Into<String>) {
        self.sink.emit(Event::step(STAGE, status, message));
    }
}

fn is_in(extension: &Merged, class: Class) -> bool {
    match class {
        Class::Sysext => extension.sysext,
        Class::Confext => extension.confext,
    }
}
