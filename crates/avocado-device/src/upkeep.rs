//! Keeping the store in order: removing, pinning, pruning, verifying.

mod prune;
mod verify;

use avocado_events::{Event, Sink};
use avocado_manifest::RuntimeId;

pub use prune::{PruneOptions, Pruned, PrunedImage, PrunedRuntime};
pub use verify::{Problem, Verification};

use crate::store::pins::Pins;
use crate::{Device, Error, RuntimeEntry};

impl Device {
    /// Removes a runtime. The images stay in the pool, where others may use them, until
    /// [`Device::prune`]. One that cannot be read is removed by its full id.
    ///
    /// # Errors
    /// [`Error::RuntimeNotFound`], [`Error::AmbiguousRuntimeId`],
    /// [`Error::RemoveActiveRuntime`], [`Error::RemovePinnedRuntime`], or [`Error::Store`].
    pub fn remove(&self, id: &str, sink: &dyn Sink) -> Result<(), Error> {
        let _lock = self.lock(sink).map_err(Error::Store)?;
        let runtimes = self.runtimes();
        runtimes.settle().map_err(Error::Store)?;
        let id = match runtimes.resolve(id) {
            // It is there and damaged.
            Err(Error::Store(reason)) => id.parse().map_err(|_| Error::Store(reason))?,
            other => other?.id.clone(),
        };
        if runtimes.active_id().map_err(Error::Store)?.as_ref() == Some(&id) {
            return Err(Error::RemoveActiveRuntime);
        }
        if self.pins()?.contains(&id) {
            return Err(Error::RemovePinnedRuntime { id });
        }
        runtimes.remove(&id).map_err(Error::Store)?;
        sink.emit(Event::info(format!("runtime {id} is removed")));
        Ok(())
    }

    /// Keeps a runtime from being removed, by anybody, until [`Device::unpin`].
    ///
    /// # Errors
    /// [`Error::RuntimeNotFound`], [`Error::AmbiguousRuntimeId`], or [`Error::Store`].
    pub fn pin(&self, id: &str, sink: &dyn Sink) -> Result<RuntimeEntry, Error> {
        self.set_pinned(id, true, sink)
    }

    /// Ends what [`Device::pin`] did. A success also where nothing was pinned.
    ///
    /// # Errors
    /// As [`Device::pin`].
    pub fn unpin(&self, id: &str, sink: &dyn Sink) -> Result<RuntimeEntry, Error> {
        self.set_pinned(id, false, sink)
    }

    fn set_pinned(&self, id: &str, pinned: bool, sink: &dyn Sink) -> Result<RuntimeEntry, Error> {
        let _lock = self.lock(sink).map_err(Error::Store)?;
        let runtimes = self.runtimes();
        let manifest = runtimes.resolve(id)?;
        let exists = |id: &RuntimeId| runtimes.exists(id);
        let changed = self.pins()?.set(&manifest.id, pinned, exists);
        changed.map_err(Error::Store)?;
        Ok(self.entry(manifest))
    }

    fn pins(&self) -> Result<Pins, Error> {
        Pins::load(&self.paths().base).map_err(Error::Store)
    }

    /// The runtimes that pruning must not remove.
    fn protected(&self) -> Result<Vec<RuntimeId>, Error> {
        let runtimes = self.runtimes();
        let mut protected = Vec::new();
        protected.extend(runtimes.active_id().map_err(Error::Store)?);
        protected.extend(self.previous());
        protected.extend(prune::pending(&self.paths().base).map_err(Error::Store)?);
        let pins = self.pins()?;
        let all = runtimes.all().map_err(Error::Store)?.into_iter();
        let pinned = all.filter(|manifest| pins.contains(&manifest.id));
        protected.extend(pinned.map(|manifest| manifest.id.clone()));
        Ok(protected)
    }
}
