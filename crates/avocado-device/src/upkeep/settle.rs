use avocado_events::{Cancel, Sink};

use crate::context::DeviceContext;
use crate::store::lock::StoreLock;
use crate::store::pool::ImagePool;
use crate::store::reserve;

/// Brings the store into the state that this version keeps it in, whichever one made it. What does
/// not succeed, on a read-only store for example, is no reason not to go on.
pub(crate) fn settle(context: &DeviceContext, _lock: &StoreLock) {
    let base = context.base();
    let _ = ImagePool::open(base).protect();
    reserve::keep(base);
}

/// The same, where there is a store at all and it is not locked.
pub(crate) fn settle_unlocked(context: &DeviceContext, sink: &dyn Sink) {
    if !context.base().is_dir() {
        return;
    }
    if let Ok(lock) = context.lock_store(&Cancel::new(), sink) {
        settle(context, &lock);
    }
}
