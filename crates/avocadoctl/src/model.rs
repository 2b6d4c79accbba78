//! What both doors of the agent, the command line and the service, give out: the types of the
//! varlink interfaces. They are also what `--output json` prints.

use avocado_device::{ExtensionStatus, RuntimeEntry, Status};
use serde::{Deserialize, Serialize};

/// `Runtime` of org.avocado.Runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Runtime {
    pub(crate) id: String,
    pub(crate) manifest_version: i64,
    pub(crate) built_at: String,
    pub(crate) runtime: RuntimeInfo,
    pub(crate) extensions: Vec<ManifestExtension>,
    pub(crate) active: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os_build_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) initramfs_build_id: Option<String>,
}

/// `RuntimeInfo` of org.avocado.Runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuntimeInfo {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// `ManifestExtension` of org.avocado.Runtimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManifestExtension {
    pub(crate) name: String,
    pub(crate) version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image_id: Option<String>,
}

impl From<RuntimeEntry> for Runtime {
    fn from(entry: RuntimeEntry) -> Self {
        let manifest = entry.manifest;
        let bundle = manifest.os_bundle;
        let (os_build_id, initramfs_build_id) =
            bundle.map_or((None, None), |b| (b.os_build_id, b.initramfs_build_id));
        let extensions = manifest.extensions.into_iter().map(|e| ManifestExtension {
            name: e.name.into(),
            version: e.version.into(),
            image_id: e.image_id.map(Into::into),
        });
        Runtime {
            id: manifest.id.into(),
            manifest_version: manifest.manifest_version.into(),
            built_at: manifest.built_at,
            runtime: RuntimeInfo {
                name: manifest.runtime.name,
                version: manifest.runtime.version,
            },
            extensions: extensions.collect(),
            active: entry.active,
            os_build_id,
            initramfs_build_id,
        }
    }
}

impl Runtime {
    /// The first eight characters of the id.
    pub(crate) fn short_id(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

/// The result of `List`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) runtimes: Vec<Runtime>,
}

/// The result of `Inspect`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inspected {
    pub(crate) runtime: Runtime,
}

/// A reply of `AddFromUrl`, `AddFromManifest` and `Activate`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Progressed {
    pub(crate) message: String,
    pub(crate) done: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) runtime: Option<Runtime>,
}

/// The parameters of `AddFromUrl`. Without `Debug`, because of the token.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddFromUrl {
    pub(crate) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifacts_url: Option<String>,
}

/// What `avocadoctl status` tells.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceStatus {
    pub(crate) runtime: Option<Runtime>,
    pub(crate) os_build_id: Option<String>,
    pub(crate) extensions: Vec<Extension>,
}

/// An extension of the device, in the shape that org.avocado.Extensions gives it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Extension {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) is_sysext: bool,
    pub(crate) is_confext: bool,
    pub(crate) is_merged: bool,
    pub(crate) origin: Option<String>,
    pub(crate) image_id: Option<String>,
}

impl From<Status> for DeviceStatus {
    fn from(status: Status) -> Self {
        DeviceStatus {
            runtime: status.runtime.map(Runtime::from),
            os_build_id: status.os_build_id,
            extensions: status.extensions.into_iter().map(Extension::from).collect(),
        }
    }
}

impl From<ExtensionStatus> for Extension {
    fn from(status: ExtensionStatus) -> Self {
        Extension {
            name: status.name.into(),
            version: status.version.into(),
            is_sysext: status.sysext,
            is_confext: status.confext,
            is_merged: status.merged,
            origin: status.origin,
            image_id: status.image_id.map(Into::into),
        }
    }
}
