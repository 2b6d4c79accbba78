use std::cmp::Reverse;
use std::path::Path;

use avocado_events::{Event, Sink};
use avocado_manifest::{Manifest, RuntimeId};

use crate::merge::state::Image;
use crate::merge::{How, Merge, Set};
use crate::stage::{self, AddRequest};
use crate::status::{self, Status};
use crate::store::files::{self, Lock};
use crate::store::pool::{Pool, Wanted};
use crate::store::{Runtimes, check};
use crate::{Config, Error, Paths, Reason};

/// A runtime of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeEntry {
    /// Its manifest.
    pub manifest: Manifest,
    /// Whether it is the active one.
    pub active: bool,
}

/// A device: the store, and what is merged from it.
///
/// Several values, in several threads and processes, may stand for the same device: whatever
/// changes it takes a lock and waits for it.
#[derive(Debug, Clone)]
pub struct Device {
    config: Config,
    paths: Paths,
}

impl Device {
    /// The device on which this program runs.
    pub fn new(config: Config) -> Self {
        let paths = Paths::new(&config.base);
        Device { config, paths }
    }

    /// A device with other paths than the usual ones. `paths.base` counts, not `config.base`.
    pub fn with_paths(config: Config, paths: Paths) -> Self {
        Device { config, paths }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The paths.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Every runtime: the active one first, then the one built last.
    ///
    /// # Errors
    /// When the store cannot be read. An `active` that leads nowhere is not one: no runtime is
    /// active then.
    pub fn list(&self) -> Result<Vec<RuntimeEntry>, Error> {
        let runtimes = self.runtimes();
        let active = runtimes.active_id().ok().flatten();
        let all = runtimes.all().map_err(Error::Store)?.into_iter();
        let mut entries: Vec<_> = all.map(|m| entry(m, active.as_ref())).collect();
        entries.sort_by_cached_key(|e| {
            let built = built_at(&e.manifest);
            (!e.active, Reverse(built), e.manifest.id.clone())
        });
        Ok(entries)
    }

    /// A runtime by its id or the beginning of it, or the active one.
    ///
    /// # Errors
    /// [`Error::RuntimeNotFound`], [`Error::AmbiguousRuntimeId`], or [`Error::Store`] when the
    /// store cannot be read or `active` leads nowhere.
    pub fn inspect(&self, id: Option<&str>) -> Result<RuntimeEntry, Error> {
        let runtimes = self.runtimes();
        match id {
            Some(id) => {
                let active = runtimes.active_id().ok().flatten();
                Ok(entry(runtimes.resolve(id)?, active.as_ref()))
            }
            None => match runtimes.active().map_err(Error::Store)? {
                Some(manifest) => Ok(RuntimeEntry {
                    manifest,
                    active: true,
                }),
                None => Err(Error::RuntimeNotFound {
                    id: "active".to_owned(),
                }),
            },
        }
    }

    /// What runs on the device.
    ///
    /// # Errors
    /// [`Error::Store`] when the store cannot be read, `active` leads nowhere, or systemd does
    /// not say what is merged.
    pub fn status(&self) -> Result<Status, Error> {
        let active = self.runtimes().active().map_err(Error::Store)?;
        Ok(Status {
            extensions: status::extensions(&self.paths, &self.config, active.as_ref())
                .map_err(Error::Store)?,
            os_build_id: status::os_build_id(&self.paths),
            runtime: active.map(|manifest| RuntimeEntry {
                manifest,
                active: true,
            }),
        })
    }

    /// Downloads a runtime from a TUF repository, and stages it. Adding what is there already is
    /// a success.
    ///
    /// # Errors
    /// [`Error::NoTrustAnchor`], [`Error::Staging`], and those of [`Device::activate`] where the
    /// configuration lets adding activate.
    pub fn add_from_url(
        &self,
        request: &AddRequest,
        sink: &dyn Sink,
    ) -> Result<RuntimeEntry, Error> {
        let lock = self.lock(sink).map_err(Error::Staging)?;
        let relax = self.config.legacy_repositories;
        let manifest = stage::from_url(&self.paths.base, request, relax, sink)?;
        self.added(manifest, &lock, sink)
    }

    /// Stages the runtime that a manifest file describes. Its images are in the pool already.
    ///
    /// # Errors
    /// [`Error::Staging`], and those of [`Device::activate`] where the configuration lets adding
    /// activate.
    pub fn add_from_manifest(&self, path: &Path, sink: &dyn Sink) -> Result<RuntimeEntry, Error> {
        let lock = self.lock(sink).map_err(Error::Staging)?;
        let manifest = stage::from_manifest(&self.paths.base, path, sink)?;
        self.added(manifest, &lock, sink)
    }

    fn added(
        &self,
        manifest: Manifest,
        lock: &Lock,
        sink: &dyn Sink,
    ) -> Result<RuntimeEntry, Error> {
        if self.config.activate_on_add {
            return self.activate_locked(manifest, lock, sink);
        }
        let active = self.runtimes().active_id().ok().flatten();
        Ok(entry(manifest, active.as_ref()))
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

    fn activate_locked(
        &self,
        manifest: Manifest,
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
        let set = self.set(Some(&manifest)).map_err(|e| failed(&before, e))?;
        self.check_os(&manifest).map_err(|e| failed(&before, e))?;
        let how = if before.as_ref() == Some(&id) {
            How::IfNeeded
        } else {
            runtimes.activate(&id).map_err(|e| failed(&before, e))?;
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
        Ok(RuntimeEntry {
            manifest,
            active: true,
        })
    }

    /// Removes a runtime. The images stay in the pool: others may use them.
    ///
    /// # Errors
    /// [`Error::RuntimeNotFound`], [`Error::AmbiguousRuntimeId`],
    /// [`Error::RemoveActiveRuntime`], or [`Error::Store`].
    pub fn remove(&self, id: &str, sink: &dyn Sink) -> Result<(), Error> {
        let _lock = self.lock(sink).map_err(Error::Store)?;
        let runtimes = self.runtimes();
        let manifest = runtimes.resolve(id)?;
        if runtimes.active_id().map_err(Error::Store)? == Some(manifest.id.clone()) {
            return Err(Error::RemoveActiveRuntime);
        }
        runtimes.remove(&manifest.id).map_err(Error::Store)
    }

    /// Merges the extensions of the active runtime, unless that is done already. Without an
    /// active runtime nothing is merged, and that is a success.
    ///
    /// # Errors
    /// [`Error::Merge`]; what was merged before is merged still, if the error says so.
    pub fn merge(&self, sink: &dyn Sink) -> Result<(), Error> {
        self.merge_active(How::IfNeeded, sink)
    }

    /// Merges the extensions of the active runtime anew, in the place of what is merged.
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
        let set = self.set(active.as_ref()).map_err(early)?;
        self.merger(sink).merge(&set, how)
    }

    /// Unmerges everything that we merged, and unmounts the images.
    ///
    /// # Errors
    /// [`Error::Unmerge`].
    pub fn unmerge(&self, sink: &dyn Sink) -> Result<(), Error> {
        let _lock = self.lock(sink).map_err(Error::Unmerge)?;
        self.merger(sink).unmerge()
    }

    /// The images of a runtime that are to be merged. Each is in the pool and has the right
    /// bytes.
    fn set(&self, manifest: Option<&Manifest>) -> Result<Set, Reason> {
        let Some(manifest) = manifest else {
            return Ok(Set::default());
        };
        check(manifest)?;
        let mut pool = Pool::open(&self.paths.base);
        let enabled = manifest.extensions.iter().filter(|e| e.enabled);
        let images = enabled.map(|extension| {
            let wanted = Wanted::extension(extension);
            Ok(Image {
                name: extension.name.clone(),
                version: extension.version.clone(),
                image_id: extension.image_id.clone(),
                sha256: pool.need(&wanted)?,
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
        let bundle = manifest.os_bundle.as_ref();
        let needed = bundle.and_then(|b| b.os_build_id.clone());
        match (needed, status::os_build_id(&self.paths)) {
            (Some(needed), Some(running)) if needed != running => {
                Err(Reason::OtherOs { needed, running })
            }
            _ => Ok(()),
        }
    }

    fn runtimes(&self) -> Runtimes {
        Runtimes::new(&self.paths.base)
    }

    fn merger<'a>(&'a self, sink: &'a dyn Sink) -> Merge<'a> {
        Merge::new(&self.paths, &self.config, sink)
    }

    fn lock(&self, sink: &dyn Sink) -> Result<Lock, Reason> {
        files::lock(&self.paths.base, || {
            sink.emit(Event::info("waiting for another operation on this device"));
        })
    }
}

fn entry(manifest: Manifest, active: Option<&RuntimeId>) -> RuntimeEntry {
    RuntimeEntry {
        active: active == Some(&manifest.id),
        manifest,
    }
}

/// When a runtime was built; one that does not say is older than all others.
fn built_at(manifest: &Manifest) -> Option<jiff::Timestamp> {
    manifest.built_at.parse().ok()
}
