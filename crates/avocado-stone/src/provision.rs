//! How a device is provisioned.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::StoneError;
use crate::manifest::StoneRuntime;

/// How a device comes to have what the manifest describes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(expecting = "a map")]
pub struct ProvisionSection {
    /// Variables of every profile's script.
    #[serde(default)]
    pub envs: BTreeMap<String, String>,
    /// The ways to provision, by name.
    #[serde(default)]
    pub profiles: BTreeMap<String, ProvisionProfile>,
}

/// A way to provision.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(expecting = "a map")]
pub struct ProvisionProfile {
    /// The script that does it.
    #[serde(default)]
    pub script: Option<String>,
    /// More variables of it.
    #[serde(default)]
    pub envs: BTreeMap<String, String>,
    /// Programs that it needs.
    #[serde(default)]
    pub requires: Vec<String>,
}

impl ProvisionSection {
    pub(crate) fn check(&self, runtime: &StoneRuntime) -> Result<(), StoneError> {
        match &runtime.provision_default {
            Some(name) if !self.profiles.is_empty() && !self.profiles.contains_key(name) => {
                let known: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
                Err(StoneError::invalid(
                    "runtime.provision_default",
                    format!(
                        "there is no profile `{}`; there are {}",
                        name.escape_debug(),
                        known.join(", ")
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}
