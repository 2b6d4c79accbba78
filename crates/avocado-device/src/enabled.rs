//! The extensions that are merged where no runtime says which: those that are enabled for the
//! release of the operating system that runs.

use avocado_events::{Cancel, Sink};

use crate::context::DeviceContext;
use crate::error::{DeviceError, FailureReason};
use crate::os_release;
use crate::store::standalone::{EnabledExtensions, StandaloneExtension, in_pool};

/// Which extensions [`Device::disable`](crate::Device::disable) is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtensionSelection<'a> {
    /// Every one that is enabled.
    All,
    /// Those with these names.
    Named(&'a [String]),
}

/// Enables extensions of the pool for a release: the named one, or the one that runs.
pub(crate) fn enable(
    context: &DeviceContext,
    names: &[String],
    release: Option<&str>,
    sink: &dyn Sink,
) -> Result<u64, DeviceError> {
    let enabled = of_release(context, release)?;
    let _lock = context
        .lock_store(&Cancel::new(), sink)
        .map_err(DeviceError::Store)?;
    let all = in_pool(context.base()).map_err(DeviceError::Store)?;
    let wanted = find(&all, names)?;
    wanted
        .iter()
        .try_for_each(|extension| enabled.add(extension))
        .and_then(|()| enabled.sync_to_disk())
        .map_err(DeviceError::Store)?;
    Ok(wanted.len() as u64)
}

/// Ends what [`enable`] did.
pub(crate) fn disable(
    context: &DeviceContext,
    which: ExtensionSelection<'_>,
    release: Option<&str>,
    sink: &dyn Sink,
) -> Result<u64, DeviceError> {
    let enabled = of_release(context, release)?;
    let _lock = context
        .lock_store(&Cancel::new(), sink)
        .map_err(DeviceError::Store)?;
    let mut all = enabled
        .all()
        .map_err(DeviceError::Store)?
        .unwrap_or_default();
    // What is no link was put there by hand, and nothing could bring it back.
    all.retain(|extension| extension.path.is_symlink());
    let unwanted = match which {
        ExtensionSelection::All => all.iter().collect(),
        ExtensionSelection::Named(names) => find(&all, names)?,
    };
    unwanted
        .iter()
        .try_for_each(|extension| enabled.remove(extension))
        .and_then(|()| enabled.sync_to_disk())
        .map_err(DeviceError::Store)?;
    Ok(unwanted.len() as u64)
}

/// What is wanted while no runtime is active: what is enabled for the release that runs. Where
/// nothing was ever enabled, and the device has no runtimes at all, it is everything that has a
/// name: devices without runtimes work like that.
pub(crate) fn enabled(context: &DeviceContext) -> Result<Vec<StandaloneExtension>, FailureReason> {
    let base = context.base();
    let release = os_release::version_id(&context.paths);
    let enabled = match release.and_then(|release| release.parse().ok()) {
        Some(release) => EnabledExtensions::new(base, &release).all()?,
        None => None,
    };
    match enabled {
        Some(enabled) => Ok(enabled),
        None if context.runtimes().everything()?.is_empty() => in_pool(base),
        None => Ok(Vec::new()),
    }
}

/// What is enabled for a release: the named one, or the one that runs.
fn of_release(
    context: &DeviceContext,
    release: Option<&str>,
) -> Result<EnabledExtensions, DeviceError> {
    let release = match release {
        Some(release) => release.to_owned(),
        None => os_release::version_id(&context.paths).ok_or(DeviceError::Release(None))?,
    };
    let release = release.parse().map_err(|e| DeviceError::Release(Some(e)))?;
    Ok(EnabledExtensions::new(context.base(), &release))
}

/// Those with these names, each once.
fn find<'a>(
    all: &'a [StandaloneExtension],
    names: &[String],
) -> Result<Vec<&'a StandaloneExtension>, DeviceError> {
    let mut found: Vec<&StandaloneExtension> = Vec::new();
    for name in names {
        let extension = all.iter().find(|extension| extension.name.as_str() == name);
        let extension =
            extension.ok_or_else(|| DeviceError::ExtensionNotFound { name: name.clone() })?;
        if !found.contains(&extension) {
            found.push(extension);
        }
    }
    Ok(found)
}
