use avocado_manifest::Manifest;

use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::store::pool::ImagePool;
use crate::store::reserve;
use crate::store::signed::SignedTargets;

/// The stage that events of staging name.
pub(super) const STAGE: &str = "add";

/// The images are in the pool: makes them last, and only then lets the runtime appear. The caller
/// holds the lock of the store.
pub(super) fn finish(
    context: &DeviceContext,
    pool: &mut ImagePool,
    manifest: &Manifest,
    bytes: &[u8],
    signed: &SignedTargets,
) -> Result<(), FailureReason> {
    pool.sync()?;
    pool.remember();
    let runtimes = context.runtimes();
    runtimes.remove_leftovers()?;
    reserve::keep(context.base());
    runtimes.add(manifest, bytes, signed)
}
