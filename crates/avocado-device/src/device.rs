use std::cmp::Reverse;
use std::sync::Arc;

use avocado_events::{Event, Sink, chain};
use avocado_manifest::{Manifest, RuntimeId};

use crate::merge::state::{Image, State};
use crate::merge::{How, Merge, Set};
use crate::status::{self, ExtensionStatus, Status};
use crate::store::history::History;
use crate::store::lock::{self, Lock};
use crate::store::pins::Pins;
use crate::store::pool::{Pool, Wanted};
use crate::store::{Cache, Found, Runtimes, check};
use crate::{Cancel, Config, Error, Paths, Reason};

/// A runtime of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuntimeEntry {
    /// Its manifest. Entries share it with what this process remembers of the store.
    pub manifest: Arc<Manifest>,
    /// Whether it is the active one.
    pub active: bool,
    /// Whether it was active before the active one: [`Device::rollback`] goes back to it.
    pub previous: bool,
    /// Whether it must not be removed: [`Device::pin`].
    pub pinned: bool,
}

/// The runtimes of the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// The active one first, then the one built last.
    pub runtimes: Vec<RuntimeEntry>,
    /// What lies among the runtimes and cannot be used, by name.
    pub unreadable: Vec<Unreadable>,
}

/// A runtime that is damaged. Adding it again repairs it, and it can be removed by its full name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Unreadable {
    /// The name of its directory: the id, if it is one.
    pub id: String,
    /// What is wrong with it, in words.
    pub why: String,
}

/// A device: the store, and what is merged from it.
///
/// Several values, in several threads and processes, may stand for the same device: whatever
/// changes it takes a lock and waits for it.
#[derive(Debug, Clone)]
pub struct Device {
    config: Config,
    paths: Paths,
    manifests: Cache,
}

impl Device {
    /// The device on which this program runs.
    pub fn new(config: Config) -> Self {
        let paths = Paths::new(&config.base);
        Device::with_paths(config, paths)
    }

    /// A device with other paths than the usual ones. `paths.base` counts, not `config.base`.
    pub fn with_paths(config: Config, paths: Paths) -> Self {
        Device {
            config,
            paths,
            manifests: Cache::default(),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The paths.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Every runtime: the active one first, then the one built last. [`Device::listing`] has those
    /// as well that cannot be used.
    ///
    /// # Errors
    /// When the store cannot be read. An `active` that leads nowhere is not one: no runtime is
    /// active then.
    pub fn list(&self) -> Result<Vec<RuntimeEntry>, Error> {
        Ok(self.listing()?.runtimes)
    }

    /// Every runtime, and what lies among them and cannot be used.
    ///
    /// # Errors
    /// As [`Device::list`].
    pub fn listing(&self) -> Result<Listing, Error> {
        let runtimes = self.runtimes();
        let view = View::new(self);
        let everything = runtimes.everything().map_err(Error::Store)?;
        let mut listing = Listing {
            runtimes: Vec::with_capacity(everything.len()),
            ..Listing::default()
        };
        for found in everything {
            match found {
                Found::Whole(manifest) => listing.runtimes.push(view.entry(manifest)),
                Found::Unreadable(id, reason) => listing.unreadable.push(Unreadable {
                    id,
                    why: chain(&reason),
                }),
            }
        }
        // They come by id, and those built at the same time stay like that.
        listing
            .runtimes
            .sort_by_cached_key(|e| (!e.active, Reverse(built_at(&e.manifest))));
        Ok(listing)
    }

    /// A runtime by its id or the beginning of it, or the active one.
    ///
    /// # Errors
    /// [`Error::RuntimeNotFound`], [`Error::AmbiguousRuntimeId`], or [`Error::Store`] when the
    /// store or the runtime cannot be read, or `active` leads nowhere.
    pub fn inspect(&self, id: Option<&str>) -> Result<RuntimeEntry, Error> {
        let runtimes = self.runtimes();
        let manifest = match id {
            Some(id) => runtimes.resolve(id)?,
            None => match runtimes.active().map_err(Error::Store)? {
                Some(manifest) => manifest,
                None => {
                    return Err(Error::RuntimeNotFound {
                        id: "active".to_owned(),
                    });
                }
            },
        };
        let mut entry = View::new(self).entry(manifest);
        // Another one may have become active since, and this is the answer to that question.
        entry.active |= id.is_none();
        Ok(entry)
    }

    /// What runs on the device.
    ///
    /// # Errors
    /// [`Error::Store`] when the store cannot be read, `active` leads nowhere, or systemd does
    /// not say what is merged.
    pub fn status(&self) -> Result<Status, Error> {
        let active = self.runtimes().active().map_err(Error::Store)?;
        let wanted = match &active {
            Some(manifest) => manifest
                .extensions
                .iter()
                .map(ExtensionStatus::from)
                .collect(),
            None => {
                let enabled = self.enabled().map_err(Error::Store)?.into_iter();
                enabled.map(ExtensionStatus::from).collect()
            }
        };
        Ok(Status {
            extensions: status::extensions(&self.paths, &self.config, wanted)
                .map_err(Error::Store)?,
            os_build_id: status::os_build_id(&self.paths),
            runtime: active.map(|manifest| {
                let mut entry = self.entry(manifest);
                entry.active = true;
                entry
            }),
        })
    }

    /// Makes a runtime the active one and merges its extensions. If they cannot be merged, the
    /// runtime that was active before is active again.
    ///
    /// # Errors
    /// [`Error::RuntimeNotFound`], [`Error::AmbiguousRuntimeId`], and [`Error::Update`] for
    /// everything that goes wrong afterwards.
    pub fn activate(&self, id: &str, sink: &dyn Sink) -> Result<RuntimeEntry, Error> {
        let lock = self.lock(sink).map_err(Error::Store)?;
        let manifest = self.runtimes().resolve(id)?;
        self.activate_locked(manifest, &lock, sink)
    }

    /// Activates the runtime that was active before the active one, and still exists.
    ///
    /// # Errors
    /// [`Error::NoPreviousRuntime`], and [`Error::Update`] as in [`Device::activate`].
    pub fn rollback(&self, sink: &dyn Sink) -> Result<RuntimeEntry, Error> {
        let lock = self.lock(sink).map_err(Error::Store)?;
        let previous = self.previous().ok_or(Error::NoPreviousRuntime)?;
        let manifest = self
            .runtimes()
            .read(&previous)
            .map_err(Error::Store)?
            .into();
        self.activate_locked(manifest, &lock, sink)
    }

    pub(crate) fn activate_locked(
        &self,
        manifest: Arc<Manifest>,
        _lock: &Lock,
        sink: &dyn Sink,
    ) -> Result<RuntimeEntry, Error> {
        let runtimes = self.runtimes();
        // A broken `active` is repaired by activating something.
        let before = runtimes.active_id().ok().flatten();
        let id = manifest.id.clone();
        let failed = |back_to: &Option<RuntimeId>, source: Reason| Error::Update {
            id: id.clone(),
            back_to: back_to.clone(),
            source: Box::new(source),
        };
        let set = self.set(&manifest).map_err(|e| failed(&before, e))?;
        self.check_os(&manifest).map_err(|e| failed(&before, e))?;
        let how = if before.as_ref() == Some(&id) {
            runtimes.settle().map_err(|e| failed(&before, e))?;
            How::IfNeeded
        } else {
            History::load(&self.paths.base)
                .enter(before.as_ref(), &id)
                .and_then(|()| runtimes.activate(&id))
                .map_err(|e| failed(&before, e))?;
            How::Anew
        };
        if let Err(error) = self.merger(sink).merge(&set, how) {
            let back = match &before {
                Some(before) => runtimes.activate(before),
                None => runtimes.deactivate(),
            };
            if let Err(reason) = back {
                return Err(failed(&Some(id.clone()), reason));
            }
            return Err(failed(&before, Reason::Merge(Box::new(error))));
        }
        sink.emit(Event::info(format!("runtime {id} is active")));
        Ok(self.entry(manifest))
    }

    /// Merges the extensions of the active runtime, unless that is done already. Without an active
    /// runtime those are merged that are enabled ([`Device::enable`]); where there are none, that
    /// is a success.
    ///
    /// # Errors
    /// [`Error::Merge`]; what was merged before is merged still, if the error says so.
    pub fn merge(&self, sink: &dyn Sink) -> Result<(), Error> {
        self.merge_active(How::IfNeeded, sink)
    }

    /// Merges the same extensions anew, in the place of what is merged.
    ///
    /// # Errors
    /// As [`Device::merge`].
    pub fn refresh(&self, sink: &dyn Sink) -> Result<(), Error> {
        self.merge_active(How::Anew, sink)
    }

    fn merge_active(&self, how: How, sink: &dyn Sink) -> Result<(), Error> {
        let early = |source| Error::Merge {
            restored: true,
            source,
        };
        let _lock = self.lock(sink).map_err(early)?;
        let active = self.runtimes().active().map_err(early)?;
        let set = match active {
            Some(manifest) => self.set(&manifest),
            None => self.enabled_set(sink),
        };
        self.merger(sink).merge(&set.map_err(early)?, how)
    }

    /// Finishes an activation that was cut off after `active` had moved: what is merged then
    /// belongs to another runtime. Does nothing in any other state, above all where nothing is
    /// merged yet; returns whether it had to.
    ///
    /// # Errors
    /// As [`Device::merge`].
    pub fn finish_activation(&self, sink: &dyn Sink) -> Result<bool, Error> {
        let merged = State::load(&self.paths.merged());
        let active = self.runtimes().active_id().ok().flatten();
        let anything = !merged.extensions.is_empty();
        let cut_off = anything && active.is_some() && merged.runtime != active;
        if cut_off {
            self.merge(sink)?;
        }
        Ok(cut_off)
    }

    /// Unmerges everything that we merged. The images stay mounted, so that merging them again is
    /// quick, unless `unmount` is set.
    ///
    /// # Errors
    /// [`Error::Unmerge`].
    pub fn unmerge(&self, unmount: bool, sink: &dyn Sink) -> Result<(), Error> {
        let _lock = self.lock(sink).map_err(Error::Unmerge)?;
        self.merger(sink).unmerge(unmount)
    }

    /// The images of a runtime that are to be merged. Each is in the pool and has the right
    /// bytes.
    fn set(&self, manifest: &Manifest) -> Result<Set, Reason> {
        check(manifest)?;
        let mut pool = Pool::open(&self.paths.base);
        let enabled = manifest.extensions.iter().filter(|e| e.enabled);
        let images = enabled.map(|extension| {
            let wanted = Wanted::extension(extension);
            Ok(Image {
                name: extension.name.clone(),
                version: Some(extension.version.clone()),
                image_id: extension.image_id.clone(),
                sha256: Some(pool.need(&wanted)?),
                file: pool.path(&wanted),
            })
        });
        let images = images.collect::<Result<_, Reason>>();
        pool.remember();
        Ok(Set {
            runtime: Some(manifest.id.clone()),
            images: images?,
        })
    }

    fn check_os(&self, manifest: &Manifest) -> Result<(), Reason> {
        match self.other_os(manifest) {
            Some((needed, running)) => Err(Reason::OtherOs { needed, running }),
            None => Ok(()),
        }
    }

    /// The build of the operating system that a runtime needs and the one that runs, where they
    /// differ.
    pub(crate) fn other_os(&self, manifest: &Manifest) -> Option<(String, String)> {
        let needed = manifest.os_bundle.as_ref()?.os_build_id.clone()?;
        let running = status::os_build_id(&self.paths)?;
        (needed != running).then_some((needed, running))
    }

    /// The runtime that was active before the active one, and still exists.
    pub(crate) fn previous(&self) -> Option<RuntimeId> {
        let active = self.runtimes().active_id().ok().flatten();
        self.before(active.as_ref())
    }

    /// The runtime that was active before `active`, and still exists.
    fn before(&self, active: Option<&RuntimeId>) -> Option<RuntimeId> {
        let runtimes = self.runtimes();
        let history = History::load(&self.paths.base);
        let mut before = history.before(active).into_iter();
        before.find(|id| runtimes.exists(id)).cloned()
    }

    pub(crate) fn runtimes(&self) -> Runtimes {
        Runtimes::new(&self.paths.base, self.manifests.clone())
    }

    pub(crate) fn entry(&self, manifest: Arc<Manifest>) -> RuntimeEntry {
        View::new(self).entry(manifest)
    }

    fn merger<'a>(&'a self, sink: &'a dyn Sink) -> Merge<'a> {
        Merge::new(&self.paths, &self.config, sink)
    }

    pub(crate) fn lock(&self, sink: &dyn Sink) -> Result<Lock, Reason> {
        self.lock_unless(&Cancel::new(), sink)
    }

    pub(crate) fn lock_unless(&self, cancel: &Cancel, sink: &dyn Sink) -> Result<Lock, Reason> {
        lock::store(&self.paths.base, cancel, || {
            sink.emit(Event::info("waiting for another operation on this device"));
        })
    }
}

/// What is said about a runtime besides its manifest.
struct View {
    active: Option<RuntimeId>,
    previous: Option<RuntimeId>,
    pins: Pins,
}

impl View {
    fn new(device: &Device) -> Self {
        let active = device.runtimes().active_id().ok().flatten();
        View {
            previous: device.before(active.as_ref()),
            active,
            pins: Pins::load(&device.paths.base).unwrap_or_default(),
        }
    }

    fn entry(&self, manifest: Arc<Manifest>) -> RuntimeEntry {
        let id = Some(&manifest.id);
        RuntimeEntry {
            active: self.active.as_ref() == id,
            previous: self.previous.as_ref() == id,
            pinned: self.pins.contains(&manifest.id),
            manifest,
        }
    }
}

/// When a runtime was built; one that does not say is older than all others.
pub(crate) fn built_at(manifest: &Manifest) -> Option<jiff::Timestamp> {
    manifest.built_at.parse().ok()
}
