//! Staging: a runtime comes into the store, whole and checked, from a manifest file or from a
//! repository.
//!
//! What takes long, downloading and hashing, is done without the lock of the store. Then that lock
//! is taken, what was found without it is looked at once more, and the runtime appears.

mod fetch;
mod finish;
mod manifest;
mod plan;
mod request;

use std::path::Path;

use avocado_events::{Cancel, Event, Sink, StepStatus};
use avocado_manifest::Manifest;

pub use plan::{AddPlan, PlannedImage};
pub use request::{AddRequest, RuntimeSource};

use crate::context::DeviceContext;
use crate::error::{DeviceError, FailureReason};
use crate::store::lock::StoreLock;
use crate::store::pool::{ImagePool, RequiredImage};
use crate::store::signed::SignedTargets;
use crate::store::{files, staging};
use fetch::RepositoryFetch;
use finish::{STAGE, finish};

/// Stages a runtime. The store is locked still, so that it can be activated before another process
/// removes it.
pub(crate) fn add(
    context: &DeviceContext,
    source: RuntimeSource<'_>,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<(Manifest, StoreLock), DeviceError> {
    let result = match source {
        RuntimeSource::Repository(request) => {
            RepositoryFetch::open(context, request, cancel, sink)?.stage()
        }
        RuntimeSource::Manifest(path) => add_from_manifest(context, path, cancel, sink),
    };
    let event = match &result {
        Ok((manifest, _)) => {
            let message = format!("runtime {} is staged", manifest.id);
            Event::step(STAGE, StepStatus::Success, message)
        }
        Err(error) => Event::step(STAGE, StepStatus::Failed, error.to_string()),
    };
    sink.emit(event);
    result.map_err(DeviceError::Staging)
}

/// Says what [`add`] would do.
pub(crate) fn plan(
    context: &DeviceContext,
    source: RuntimeSource<'_>,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<AddPlan, DeviceError> {
    let plan = match source {
        RuntimeSource::Repository(request) => {
            RepositoryFetch::open(context, request, cancel, sink)?.plan()
        }
        RuntimeSource::Manifest(path) => plan_from_manifest(context, path, cancel, sink),
    };
    plan.map_err(DeviceError::Staging)
}

/// Downloads the images of a runtime into the pool, and does not stage it.
pub(crate) fn download(
    context: &DeviceContext,
    request: &AddRequest,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<AddPlan, DeviceError> {
    let mut fetch = RepositoryFetch::open(context, request, cancel, sink)?;
    fetch.download_only().map_err(DeviceError::Staging)
}

fn add_from_manifest(
    context: &DeviceContext,
    path: &Path,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<(Manifest, StoreLock), FailureReason> {
    let (manifest, bytes) = manifest::read_named(path, sink)?;
    let mut pool = ImagePool::cancellable(context.base(), cancel);
    let required = RequiredImage::of(&manifest);
    for (done, image) in required.iter().enumerate() {
        let total = Some(required.len() as u64);
        sink.emit(Event::items("verify", &image.label, done as u64, total));
        pool.need(image)?;
    }
    let lock = context.lock_store(cancel, sink)?;
    // No process changes the pool now; what was hashed above is only looked at.
    for image in &required {
        pool.need(image)?;
    }
    let signed = SignedTargets::default();
    finish(context, &mut pool, &manifest, &bytes, &signed)?;
    Ok((manifest, lock))
}

fn plan_from_manifest(
    context: &DeviceContext,
    path: &Path,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<AddPlan, FailureReason> {
    let (manifest, _) = manifest::read_named(path, sink)?;
    let mut pool = ImagePool::cancellable(context.base(), cancel);
    let mut images = Vec::new();
    for required in plan::distinct(&manifest) {
        pool.need(&required)?;
        let bytes = files::length(&pool.path(&required));
        images.push(PlannedImage::shared(&required, bytes));
    }
    let free = files::free(&staging::directory(context.base()))?;
    AddPlan::new(context, manifest, images, free, None)
}
