use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::Number;

use crate::error::StoneError;
use crate::image::StoneImage;
use crate::provision::ProvisionSection;
use crate::update::StoneUpdate;

/// How the storage of a target is laid out, filled, updated and provisioned.
#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "a map")]
pub struct StoneManifest {
    /// What it is for.
    pub runtime: StoneRuntime,
    /// Its disks, by name.
    #[serde(default)]
    pub storage_devices: BTreeMap<String, StorageDevice>,
    /// How a device comes to have this.
    #[serde(default)]
    pub provision: ProvisionSection,
    /// How the operating system is updated; a target without cannot be.
    #[serde(default)]
    pub update: Option<StoneUpdate>,
}

/// What a manifest is for.
#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "a map")]
pub struct StoneRuntime {
    /// The target, for example `qemux86-64`: what a bundle has to be for.
    pub platform: String,
    /// Of the processor, for example `x86_64`.
    pub architecture: String,
    /// The script that provisions where no profile is asked for.
    #[serde(default)]
    pub provision: Option<String>,
    /// The profile that is meant where none is asked for.
    #[serde(default)]
    pub provision_default: Option<String>,
    /// How slots are named and switched: `uboot-ab` unless stated.
    #[serde(default)]
    pub update_strategy: Option<String>,
}

/// A disk.
#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "a map")]
pub struct StorageDevice {
    /// The file that its image is.
    #[serde(default)]
    pub out: Option<String>,
    /// How its image is made by the target's own tools.
    #[serde(default)]
    pub build_args: Option<serde_json::Value>,
    /// Where it is on the device, for example `/dev/mmcblk0`.
    #[serde(default)]
    pub devpath: Option<String>,
    /// In bytes; 512 unless stated.
    #[serde(default)]
    pub block_size: Option<u32>,
    /// The identifier of its partition table.
    #[serde(default)]
    pub uuid: Option<String>,
    /// What its partitions hold, by name.
    #[serde(default)]
    pub images: BTreeMap<String, StoneImage>,
    /// In the order of the disk.
    #[serde(default)]
    pub partitions: Vec<PartitionSpec>,
}

/// A partition, as it is stated. [`StorageDevice::layout`] says where it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "a map")]
pub struct PartitionSpec {
    /// Its label; one without is space that something else uses.
    #[serde(default)]
    pub name: Option<String>,
    /// The image that it starts with.
    #[serde(default)]
    pub image: Option<String>,
    /// Its type: a GUID of a GPT, or a number of an MBR.
    #[serde(default)]
    pub partition_type: Option<String>,
    /// Its GUID.
    #[serde(default)]
    pub partition_uuid: Option<String>,
    /// Where it begins; after the one before unless stated.
    #[serde(default)]
    pub offset: Option<Number>,
    /// Of the offset; bytes unless stated.
    #[serde(default)]
    pub offset_unit: Option<String>,
    /// Where a second copy begins, in the unit of the offset.
    #[serde(default)]
    pub offset_redundant: Option<Number>,
    /// How large it is.
    pub size: Number,
    /// Of the size; bytes unless stated.
    #[serde(default)]
    pub size_unit: Option<String>,
    /// Whether it takes the rest of a larger disk.
    #[serde(default, deserialize_with = "truth")]
    pub expand: bool,
}

impl StoneManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Where it is no JSON, a field has another shape, or two fields contradict each other.
    pub fn parse(text: &[u8]) -> Result<Self, StoneError> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let manifest: Self =
            serde_path_to_error::deserialize(&mut json).map_err(|error| StoneError::Syntax {
                field: error.path().to_string(),
                source: error.into_inner(),
            })?;
        json.end().map_err(|source| StoneError::Syntax {
            field: ".".into(),
            source,
        })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The image of this name, on whichever disk it is.
    pub fn image(&self, name: &str) -> Option<&StoneImage> {
        let mut devices = self.storage_devices.values();
        devices.find_map(|device| device.images.get(name))
    }

    /// The names of all partitions, with the disks that have them.
    pub fn partitions(&self) -> impl Iterator<Item = (&str, &PartitionSpec)> {
        self.storage_devices
            .values()
            .flat_map(|device| &device.partitions)
            .filter_map(|partition| Some((partition.name.as_deref()?, partition)))
    }

    fn check(&self) -> Result<(), StoneError> {
        let mut images = BTreeSet::new();
        for (name, device) in &self.storage_devices {
            let at = format!("storage_devices.{name}");
            device.layout(&at)?;
            for (index, partition) in device.partitions.iter().enumerate() {
                if let Some(image) = &partition.image
                    && !device.images.contains_key(image)
                {
                    return Err(StoneError::invalid(
                        format!("{at}.partitions[{index}].image"),
                        format!("the disk has no image `{}`", image.escape_debug()),
                    ));
                }
            }
            for (image, made) in &device.images {
                let at = format!("{at}.images.{image}");
                made.check(&at)?;
                if !images.insert(image) {
                    return Err(StoneError::invalid(
                        at,
                        "another disk has an image of this name",
                    ));
                }
            }
        }
        if let Some(update) = &self.update {
            update.check(self)?;
        }
        self.provision.check(&self.runtime)
    }
}

/// `true`, or the text `"true"` of older writers.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Truth;
    impl Visitor<'_> for Truth {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<bool, E> {
            match value {
                "true" => Ok(true),
                "false" => Ok(false),
                other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
            }
        }
    }
    deserializer.deserialize_any(Truth)
}
