//! Staging: a runtime comes into the store, whole and checked, from a manifest file or from a
//! repository.
//!
//! What takes long, downloading and hashing, is done without the lock of the store. Then that lock
//! is taken, what was found without it is looked at once more, and the runtime appears.

mod fetch;
mod plan;

use std::fmt;
use std::path::Path;

use avocado_events::{Event, Sink, Status};
use avocado_manifest::Manifest;
use jiff::Timestamp;

pub use plan::{Plan, PlannedImage};

use crate::store::lock::{self, Lock};
use crate::store::pool::{Pool, Wanted};
use crate::store::{MANIFEST_LIMIT, check, files};
use crate::{Cancel, Device, Error, Reason, RuntimeEntry};

const STAGE: &str = "add";

/// What to add, and from where.
#[derive(Clone)]
pub struct AddRequest {
    /// The repository, with `metadata/` and `targets/` below it.
    pub url: String,
    /// A bearer token for the repository and for `artifacts_url`.
    pub auth_token: Option<String>,
    /// Where the images are, if not below the repository's `targets/`.
    pub artifacts_url: Option<String>,
    /// The time of the system clock. Metadata must not have expired by then, nor by the newest
    /// time that trusted metadata was seen to be from.
    pub now: Timestamp,
}

impl fmt::Debug for AddRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddRequest")
            .field("url", &self.url)
            .field("artifacts_url", &self.artifacts_url)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// Where a runtime comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A TUF repository.
    Repository(&'a AddRequest),
    /// A manifest file; the images are in the pool already.
    Manifest(&'a Path),
}

impl Device {
    /// Stages a runtime. Adding what is there already is a success, and repairs it where it is
    /// damaged.
    ///
    /// # Errors
    /// [`Error::NoTrustAnchor`], [`Error::Staging`], and those of [`Device::activate`] where the
    /// configuration lets adding activate.
    pub fn add(
        &self,
        source: Source<'_>,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<RuntimeEntry, Error> {
        let (manifest, lock) = match source {
            Source::Repository(request) => {
                let mut fetch = fetch::Fetch::open(self, request, cancel, sink)?;
                report(fetch.stage(), sink)
            }
            Source::Manifest(path) => report(self.stage_manifest(path, cancel, sink), sink),
        }?;
        let manifest = manifest.into();
        if self.config().activate_on_add {
            return self.activate_locked(manifest, &lock, sink);
        }
        Ok(self.entry(manifest))
    }

    /// Downloads a runtime from a TUF repository, and stages it: [`Device::add`].
    ///
    /// # Errors
    /// As [`Device::add`].
    pub fn add_from_url(
        &self,
        request: &AddRequest,
        sink: &dyn Sink,
    ) -> Result<RuntimeEntry, Error> {
        self.add(Source::Repository(request), &Cancel::new(), sink)
    }

    /// Stages the runtime that a manifest file describes: [`Device::add`].
    ///
    /// # Errors
    /// As [`Device::add`].
    pub fn add_from_manifest(&self, path: &Path, sink: &dyn Sink) -> Result<RuntimeEntry, Error> {
        self.add(Source::Manifest(path), &Cancel::new(), sink)
    }

    /// Says what adding a runtime would do, and does nothing of it; the repository's metadata and
    /// the manifest are fetched and checked.
    ///
    /// # Errors
    /// [`Error::NoTrustAnchor`] and [`Error::Staging`].
    pub fn plan(
        &self,
        source: Source<'_>,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<Plan, Error> {
        match source {
            Source::Repository(request) => {
                let mut fetch = fetch::Fetch::open(self, request, cancel, sink)?;
                fetch.plan().map_err(Error::Staging)
            }
            Source::Manifest(path) => self.plan_manifest(path, cancel).map_err(Error::Staging),
        }
    }

    /// Downloads the images of a runtime into the pool, and does not stage it: adding it later
    /// needs little more than the manifest. Until then no runtime needs the images, so pruning
    /// removes them. Returns what was done.
    ///
    /// # Errors
    /// [`Error::NoTrustAnchor`] and [`Error::Staging`].
    pub fn download(
        &self,
        request: &AddRequest,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<Plan, Error> {
        let mut fetch = fetch::Fetch::open(self, request, cancel, sink)?;
        fetch.download_only().map_err(Error::Staging)
    }

    pub(crate) fn downloads(&self, cancel: &Cancel, sink: &dyn Sink) -> Result<Lock, Reason> {
        lock::downloads(&self.paths().base, cancel, || {
            sink.emit(Event::info("waiting for another download on this device"));
        })
    }

    fn stage_manifest(
        &self,
        path: &Path,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<(Manifest, Lock), Reason> {
        let (manifest, bytes) = read(path)?;
        let base = &self.paths().base;
        let mut pool = Pool::cancellable(base, cancel);
        let wanted = Wanted::of(&manifest);
        for (done, image) in wanted.iter().enumerate() {
            let total = Some(wanted.len() as u64);
            sink.emit(Event::items("verify", &image.label, done as u64, total));
            pool.need(image)?;
        }
        let lock = self.lock_unless(cancel, sink)?;
        // Nobody changes the pool now; what was hashed above is only looked at.
        for image in &wanted {
            pool.need(image)?;
        }
        self.finish(&mut pool, &manifest, &bytes)?;
        Ok((manifest, lock))
    }

    fn plan_manifest(&self, path: &Path, cancel: &Cancel) -> Result<Plan, Reason> {
        let (manifest, _) = read(path)?;
        let mut pool = Pool::cancellable(&self.paths().base, cancel);
        let mut images = Vec::new();
        for wanted in plan::distinct(&manifest) {
            pool.need(&wanted)?;
            let bytes = files::length(&pool.path(&wanted));
            images.push(PlannedImage::shared(&wanted, bytes));
        }
        Plan::new(self, manifest, images)
    }

    /// The images are in the pool: makes them last, and only then lets the runtime appear. The
    /// caller holds the lock of the store.
    fn finish(&self, pool: &mut Pool, manifest: &Manifest, bytes: &[u8]) -> Result<(), Reason> {
        pool.sync()?;
        pool.remember();
        let runtimes = self.runtimes();
        runtimes.tidy()?;
        runtimes.add(manifest, bytes)
    }
}

fn read(path: &Path) -> Result<(Manifest, Vec<u8>), Reason> {
    let bytes = files::read(path, MANIFEST_LIMIT)?;
    Ok((parse(path, &bytes)?, bytes))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, Reason> {
    let manifest = Manifest::parse(bytes).map_err(|source| Reason::Manifest {
        path: path.to_owned(),
        source,
    })?;
    check(&manifest)?;
    Ok(manifest)
}

fn report(
    result: Result<(Manifest, Lock), Reason>,
    sink: &dyn Sink,
) -> Result<(Manifest, Lock), Error> {
    let event = match &result {
        Ok((manifest, _)) => {
            let message = format!("runtime {} is staged", manifest.id);
            Event::step(STAGE, Status::Success, message)
        }
        Err(error) => Event::step(STAGE, Status::Failed, error.to_string()),
    };
    sink.emit(event);
    result.map_err(Error::Staging)
}
