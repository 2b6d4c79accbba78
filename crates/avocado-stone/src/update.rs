//! How the operating system of a target is updated.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::error::StoneError;
use crate::manifest::StoneManifest;

/// How the operating system is updated.
#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "a map")]
pub struct StoneUpdate {
    /// How a device finds out which slot it runs from.
    pub slot_detection: Value,
    /// What an update brings, by name.
    pub os_artifacts: BTreeMap<String, StoneArtifact>,
    /// What makes the other slot the one that is booted, in this order.
    #[serde(default)]
    pub activate: Vec<Value>,
    /// What goes back to the slot before, in this order; the opposite of `activate` unless stated.
    #[serde(default)]
    pub rollback: Option<Vec<Value>>,
    /// What makes the switch last, in this order; what `activate` needs for that unless stated.
    #[serde(default)]
    pub commit: Option<Vec<Value>>,
}

/// An image that an update brings.
#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "a map")]
pub struct StoneArtifact {
    /// The name of the image; the artifact's own unless stated.
    #[serde(default)]
    pub image_key: Option<String>,
    /// The partition of each slot.
    pub slot_partitions: BTreeMap<String, String>,
}

impl StoneUpdate {
    /// The artifacts with their names and those of their images.
    pub fn artifacts(&self) -> impl Iterator<Item = (&str, &str, &StoneArtifact)> {
        self.os_artifacts.iter().map(|(name, artifact)| {
            let image = artifact.image_key.as_deref().unwrap_or(name);
            (name.as_str(), image, artifact)
        })
    }

    pub(crate) fn check(&self, manifest: &StoneManifest) -> Result<(), StoneError> {
        for (name, image, artifact) in self.artifacts() {
            let at = format!("update.os_artifacts.{name}");
            if manifest.image(image).is_none() {
                let why = format!("no disk has an image `{}`", image.escape_debug());
                return Err(StoneError::invalid(format!("{at}.image_key"), why));
            }
            for (slot, wanted) in &artifact.slot_partitions {
                if !manifest.partitions().any(|(name, _)| name == wanted) {
                    let why = format!("no disk has a partition `{}`", wanted.escape_debug());
                    let field = format!("{at}.slot_partitions.{slot}");
                    return Err(StoneError::invalid(field, why));
                }
            }
            if artifact.slot_partitions.len() != 2 {
                let why = "an artifact needs the partitions of two slots";
                return Err(StoneError::invalid(format!("{at}.slot_partitions"), why));
            }
        }
        Ok(())
    }
}
