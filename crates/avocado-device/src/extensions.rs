//! The extensions that are on the device.

use std::path::PathBuf;

use avocado_manifest::Name;
use serde::Serialize;

use crate::context::DeviceContext;
use crate::error::DeviceError;
use crate::merge::release::ExtensionClass;
use crate::status::ExtensionStatus;
use crate::store::standalone::in_pool;

/// An extension that is on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InstalledExtension {
    /// The name. Of one that belongs to no runtime it is that of its file, and may include a
    /// version.
    pub name: Name,
    /// The version, where a runtime says it.
    pub version: Option<Name>,
    /// Its image or directory.
    pub path: PathBuf,
    /// Whether it extends `/usr` and `/opt`. Of an image this is known once it is merged.
    pub sysext: bool,
    /// Whether it extends `/etc`. Of an image this is known once it is merged.
    pub confext: bool,
    /// Whether it is a directory and not an image.
    pub directory: bool,
}

/// The extensions of `statuses` whose images are on the device, and then what else has a name in the
/// pool and can be enabled.
pub(crate) fn installed(
    context: &DeviceContext,
    statuses: Vec<ExtensionStatus>,
) -> Result<Vec<InstalledExtension>, DeviceError> {
    let base = context.base();
    let mut all = Vec::new();
    let mut standalone = in_pool(base).map_err(DeviceError::Store)?;
    for status in statuses {
        let file = match (&status.image_id, &status.version) {
            (Some(id), _) => id.file_name(),
            (None, Some(version)) => format!("{}-{version}.raw", status.name),
            // One of those without a runtime.
            (None, None) => continue,
        };
        let path = base.join("images").join(file);
        if path.exists() {
            standalone.retain(|other| other.path != path);
            all.push(InstalledExtension {
                name: status.name,
                version: status.version,
                path,
                sysext: status.sysext,
                confext: status.confext,
                directory: false,
            });
        }
    }
    all.extend(standalone.into_iter().map(|extension| {
        let has = |class: ExtensionClass| extension.path.join(class.release_dir()).is_dir();
        InstalledExtension {
            sysext: has(ExtensionClass::Sysext),
            confext: has(ExtensionClass::Confext),
            directory: extension.path.is_dir(),
            name: extension.name,
            version: None,
            path: extension.path,
        }
    }));
    Ok(all)
}
