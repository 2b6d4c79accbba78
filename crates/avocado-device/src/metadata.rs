//! What others keep of a runtime on this device, as words under keys. Nothing here means anything to
//! the device itself.

use std::collections::BTreeMap;

use avocado_events::{Cancel, Sink};

use crate::context::DeviceContext;
use crate::error::DeviceError;
use crate::store::beside_manifest::{self, RuntimeMetadata};

/// All of it.
pub(crate) fn list(
    context: &DeviceContext,
    id: &str,
) -> Result<BTreeMap<String, String>, DeviceError> {
    let runtimes = context.runtimes();
    let directory = runtimes.directory(&runtimes.resolve(id)?.id);
    let metadata: RuntimeMetadata =
        beside_manifest::load(&directory).map_err(DeviceError::Store)?;
    Ok(metadata.entries)
}

/// What is kept under a key.
pub(crate) fn get(context: &DeviceContext, id: &str, key: &str) -> Result<String, DeviceError> {
    let found = list(context, id)?.remove(key);
    match found {
        Some(value) => Ok(value),
        None => Err(not_found(context, id, key)?),
    }
}

/// Keeps `value` under a key, or with `None` nothing any more.
pub(crate) fn set(
    context: &DeviceContext,
    id: &str,
    key: &str,
    value: Option<&str>,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let _lock = context
        .lock_store(&Cancel::new(), sink)
        .map_err(DeviceError::Store)?;
    let runtimes = context.runtimes();
    let directory = runtimes.directory(&runtimes.resolve(id)?.id);
    let mut metadata: RuntimeMetadata =
        beside_manifest::load(&directory).map_err(DeviceError::Store)?;
    let before = match value {
        Some(value) => metadata.entries.insert(key.to_owned(), value.to_owned()),
        None => metadata.entries.remove(key),
    };
    if value.is_none() && before.is_none() {
        return Err(not_found(context, id, key)?);
    }
    beside_manifest::save(&directory, &metadata).map_err(DeviceError::Store)
}

fn not_found(context: &DeviceContext, id: &str, key: &str) -> Result<DeviceError, DeviceError> {
    Ok(DeviceError::MetadataKeyNotFound {
        id: context.runtimes().resolve(id)?.id.clone(),
        key: key.to_owned(),
    })
}
