//! What others keep of a runtime on this device, as words under keys. Nothing here means anything to
//! the device itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use avocado_events::{Cancel, Sink};
use avocado_manifest::RuntimeId;

use crate::context::DeviceContext;
use crate::error::DeviceError;
use crate::store::beside_manifest::{self, RuntimeMetadata};

/// All of it.
pub(crate) fn list(
    context: &DeviceContext,
    id: &str,
) -> Result<BTreeMap<String, String>, DeviceError> {
    let (_, metadata) = load(context, &context.runtimes().resolve(id)?.id)?;
    Ok(metadata.entries)
}

/// What is kept under a key.
pub(crate) fn get(context: &DeviceContext, id: &str, key: &str) -> Result<String, DeviceError> {
    let id = context.runtimes().resolve(id)?.id.clone();
    let (_, mut metadata) = load(context, &id)?;
    metadata
        .entries
        .remove(key)
        .ok_or_else(|| not_found(&id, key))
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
    let id = context.runtimes().resolve(id)?.id.clone();
    let (directory, mut metadata) = load(context, &id)?;
    match value {
        Some(value) => {
            metadata.entries.insert(key.to_owned(), value.to_owned());
        }
        None => {
            let before = metadata.entries.remove(key);
            before.ok_or_else(|| not_found(&id, key))?;
        }
    }
    beside_manifest::save(&directory, &metadata).map_err(DeviceError::Store)
}

fn load(
    context: &DeviceContext,
    id: &RuntimeId,
) -> Result<(PathBuf, RuntimeMetadata), DeviceError> {
    let directory = context.runtimes().directory(id);
    let metadata = beside_manifest::load(&directory).map_err(DeviceError::Store)?;
    Ok((directory, metadata))
}

fn not_found(id: &RuntimeId, key: &str) -> DeviceError {
    DeviceError::MetadataKeyNotFound {
        id: id.clone(),
        key: key.to_owned(),
    }
}
