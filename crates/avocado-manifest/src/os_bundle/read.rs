//! From the shape of the file to what it means, with everything checked on the way.

use serde_json::Number;
use uuid::Uuid;

use super::checks::{
    arguments, by_slot, device_path, different, distinct, distinct_by_slot, few, stated_bytes, text,
};
use super::wire::{self, SlotMap};
use super::{
    BootEntry, BootPartition, BySlot, DiskLayout, LARGEST_OS_BUNDLE_DESCRIPTION, LayoutPartition,
    OS_BUNDLE_FORMAT, OS_BUNDLE_IMAGES, OsArtifact, OsBundleDescription, OsBundleError,
    OsBundleUpdate, OsSlot, ReleaseCheck, SlotAction, SlotDetection, SlotNaming, UpdateStrategy,
};
use crate::Name;

type Result<T> = std::result::Result<T, OsBundleError>;

impl OsBundleDescription {
    /// Reads `bundle.json`.
    ///
    /// # Errors
    /// When it is not of this format, or says something that cannot be. The error names the field.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        // The version is looked at first: a later format may have another shape altogether.
        #[derive(serde::Deserialize)]
        #[serde(expecting = "a map")]
        struct Version {
            format_version: u32,
        }
        if bytes.len() > LARGEST_OS_BUNDLE_DESCRIPTION {
            return Err(OsBundleError::TooLarge(bytes.len()));
        }
        let syntax = |source: serde_json::Error| OsBundleError::Syntax {
            field: format!("line {}, column {}", source.line(), source.column()),
            source,
        };
        let Version { format_version } = serde_json::from_slice(bytes).map_err(syntax)?;
        if format_version != OS_BUNDLE_FORMAT {
            return Err(OsBundleError::Version(format_version));
        }
        Self::of_wire(serde_json::from_slice(bytes).map_err(syntax)?)
    }

    /// The same of what a program put together: an error names the way to the field, for there are no
    /// lines.
    ///
    /// # Errors
    /// As [`OsBundleDescription::parse`].
    pub fn from_json(bundle: serde_json::Value) -> Result<Self> {
        let bundle: wire::Bundle =
            serde_path_to_error::deserialize(bundle).map_err(|e| OsBundleError::Syntax {
                field: e.path().to_string(),
                source: e.into_inner(),
            })?;
        if bundle.format_version != OS_BUNDLE_FORMAT {
            return Err(OsBundleError::Version(bundle.format_version));
        }
        Self::of_wire(bundle)
    }

    fn of_wire(bundle: wire::Bundle) -> Result<Self> {
        let stated = |id: &String| !id.is_empty();
        let bundle = OsBundleDescription {
            platform: bundle.platform,
            architecture: bundle.architecture,
            os_build_id: Some(bundle.os_build_id).filter(stated),
            initramfs_build_id: bundle.initramfs_build_id.filter(stated),
            update: bundle.update.map(update).transpose()?,
            layout: bundle.layout.map(layout).transpose()?,
            verify: bundle.verify,
            verify_initramfs: bundle.verify_initramfs,
        };
        let ids = [
            ("os_build_id", &bundle.os_build_id),
            ("initramfs_build_id", &bundle.initramfs_build_id),
        ];
        for (field, id) in ids {
            id.iter().try_for_each(|id| text(field, id))?;
        }
        release_check("verify", bundle.verify.as_ref())?;
        release_check("verify_initramfs", bundle.verify_initramfs.as_ref())?;
        Ok(bundle)
    }

    /// The bytes of `bundle.json`: indented by two spaces, with a final newline.
    ///
    /// # Errors
    /// When it says something that [`OsBundleDescription::parse`] would refuse.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let bundle = wire::Bundle::of(self);
        let mut bytes = serde_json::to_vec_pretty(&bundle).map_err(OsBundleError::Write)?;
        bytes.push(b'\n');
        Self::parse(&bytes)?;
        Ok(bytes)
    }
}

fn update(update: wire::Update) -> Result<OsBundleUpdate> {
    let Some(strategy) = UpdateStrategy::named(&update.strategy) else {
        let named = update.strategy.escape_debug();
        return Err(OsBundleError::field(
            "update.strategy",
            format!("the strategy `{named}` is not known"),
        ));
    };
    let naming = strategy.naming();
    let list = |field: &str, list| actions(naming, &format!("update.{field}"), list);
    let artifacts = update.artifacts.into_iter().enumerate();
    let artifacts: Vec<_> = artifacts
        .map(|(at, read)| artifact(naming, &format!("update.artifacts[{at}]"), read))
        .collect::<Result<_>>()?;
    few("update.artifacts", artifacts.len())?;
    different(
        "update.artifacts",
        "name",
        artifacts.iter().map(|artifact| &artifact.name),
    )?;
    different(
        "update.artifacts",
        "file",
        artifacts.iter().map(|artifact| &artifact.file),
    )?;
    // Two artifacts in one partition: the second would be written over the first.
    for slot in OsSlot::ALL {
        let partitions = artifacts
            .iter()
            .map(|artifact| artifact.partitions.get(slot));
        different("update.artifacts", "partition", partitions)?;
    }
    for artifact in &artifacts {
        let elsewhere = artifacts
            .iter()
            .find(|other| artifact.partitions.first == other.partitions.second);
        if let Some(other) = elsewhere {
            return Err(OsBundleError::field(
                "update.artifacts",
                format!(
                    "the partition {} belongs to both slots (artifacts {} and {})",
                    artifact.partitions.first, artifact.name, other.name
                ),
            ));
        }
    }
    Ok(OsBundleUpdate {
        strategy,
        slot_detection: detection(naming, update.slot_detection)?,
        artifacts,
        activate: list("activate", update.activate)?,
        rollback: stated(update.rollback.map(|l| list("rollback", l)).transpose()?),
        commit: stated(update.commit.map(|l| list("commit", l)).transpose()?),
    })
}

/// A list without actions says no more than one that is missing: some writers make one of the other.
fn stated(actions: Option<Vec<SlotAction>>) -> Option<Vec<SlotAction>> {
    actions.filter(|actions| !actions.is_empty())
}

fn artifact(naming: SlotNaming, field: &str, artifact: wire::Artifact) -> Result<OsArtifact> {
    let file = &artifact.file;
    let plain = file
        .strip_prefix(OS_BUNDLE_IMAGES)
        .and_then(|rest| rest.strip_prefix('/'));
    let file: Name = plain
        .unwrap_or(file)
        .parse()
        .map_err(|e: crate::NameError| {
            OsBundleError::field(format!("{field}.file"), e.to_string())
        })?;
    let targets = format!("{field}.slot_targets");
    let partitions = by_slot(naming, &targets, artifact.slot_targets)?;
    Ok(OsArtifact {
        name: artifact.name,
        file,
        sha256: artifact.sha256,
        size: artifact.size,
        partitions: BySlot {
            first: partitions.first.partition,
            second: partitions.second.partition,
        },
    })
}

fn detection(naming: SlotNaming, detection: wire::Detection) -> Result<SlotDetection> {
    let field = "update.slot_detection";
    let below = |name: &str| format!("{field}.{name}");
    Ok(match detection {
        wire::Detection::UbootEnv { var } => SlotDetection::UbootEnv { var },
        wire::Detection::Command { command } => {
            arguments(&below("command"), &command)?;
            SlotDetection::Command { command }
        }
        wire::Detection::SdbootEfi { partitions } => SlotDetection::SdbootEfi {
            partitions: boot_partitions(naming, &below("partitions"), partitions)?,
        },
        wire::Detection::RpiTryboot { boot_partitions } => SlotDetection::RpiTryboot {
            boot_partitions: numbers(naming, &below("boot_partitions"), boot_partitions)?,
        },
        wire::Detection::RaucUboot { bootnames } => SlotDetection::RaucUboot {
            bootnames: distinct_by_slot(naming, &below("bootnames"), bootnames)?,
        },
        wire::Detection::MenderUboot { partitions } => SlotDetection::MenderUboot {
            partitions: numbers(naming, &below("partitions"), partitions)?,
        },
    })
}

/// `stone` maps UUIDs to slots, the published documentation slots to devices.
fn boot_partitions(
    naming: SlotNaming,
    field: &str,
    partitions: SlotMap<String>,
) -> Result<BySlot<BootPartition>> {
    let by_slot_name = partitions.keys().all(|key| naming.slot(key).is_some());
    if by_slot_name {
        let devices = by_slot(naming, field, partitions)?;
        let device = |path: String| device_path(field, path).map(BootPartition::Device);
        let found = BySlot {
            first: device(devices.first)?,
            second: device(devices.second)?,
        };
        return distinct(field, found);
    }
    let mut uuids = SlotMap::new();
    for (uuid, slot) in partitions {
        let Ok(parsed) = Uuid::try_parse(&uuid) else {
            return Err(OsBundleError::field(
                field,
                format!("`{}` is neither a UUID nor a slot", uuid.escape_debug()),
            ));
        };
        let uuid = parsed.hyphenated().to_string();
        if uuids.insert(slot, BootPartition::Uuid(uuid)).is_some() {
            return Err(OsBundleError::field(field, "a slot has two partitions"));
        }
    }
    distinct_by_slot(naming, field, uuids)
}

/// Numbers of partitions, which begin at 1.
fn numbers(naming: SlotNaming, field: &str, numbers: SlotMap<u32>) -> Result<BySlot<u32>> {
    let numbers = distinct_by_slot(naming, field, numbers)?;
    if numbers.first == 0 || numbers.second == 0 {
        return Err(OsBundleError::field(field, "partitions are counted from 1"));
    }
    Ok(numbers)
}

/// The actions of a list, each checked.
pub(super) fn actions(
    naming: SlotNaming,
    field: &str,
    list: wire::ActionList,
) -> Result<Vec<SlotAction>> {
    let list = list.into_actions();
    few(field, list.len())?;
    let list = list.into_iter().enumerate();
    list.map(|(at, read)| action(naming, &format!("{field}[{at}]"), read))
        .collect()
}

fn action(naming: SlotNaming, field: &str, action: wire::Action) -> Result<SlotAction> {
    let below = |name: &str| format!("{field}.{name}");
    Ok(match action {
        wire::Action::UbootEnv { set } => {
            if set.is_empty() {
                return Err(OsBundleError::field(below("set"), "it sets nothing"));
            }
            few(&below("set"), set.len())?;
            // A line break would begin another variable in the script of fw_setenv.
            set.values()
                .try_for_each(|value| text(&below("set"), value))?;
            SlotAction::UbootEnv { set }
        }
        wire::Action::Command { command } => {
            arguments(&below("command"), &command)?;
            SlotAction::Command { command }
        }
        wire::Action::MbrSwitch {
            devpath,
            slot_layouts,
        } => {
            let field = below("slot_layouts");
            let slot_layouts = by_slot(naming, &field, slot_layouts)?;
            for slot in OsSlot::ALL {
                let names = slot_layouts.get(slot);
                // A table has four places.
                if !(1..=4).contains(&names.len()) {
                    let why = format!("{} partitions; there are 1 to 4", names.len());
                    return Err(OsBundleError::field(field, why));
                }
                different(&field, "partition", names.iter())?;
            }
            SlotAction::MbrSwitch {
                devpath: device_path(&below("devpath"), devpath)?,
                slot_layouts,
            }
        }
        wire::Action::Efibootmgr { slot_entries } => {
            let field = below("slot_entries");
            let entries = by_slot(naming, &field, slot_entries)?;
            let entries = BySlot {
                first: boot_entry(&field, entries.first)?,
                second: boot_entry(&field, entries.second)?,
            };
            SlotAction::Efibootmgr {
                slot_entries: distinct(&field, entries)?,
            }
        }
        wire::Action::RpiTryboot {
            devpath,
            boot_partitions,
        } => SlotAction::RpiTryboot {
            devpath: devpath
                .map(|path| device_path(&below("devpath"), path))
                .transpose()?,
            boot_partitions: numbers(naming, &below("boot_partitions"), boot_partitions)?,
        },
        wire::Action::RaucUboot { bootnames } => SlotAction::RaucUboot {
            bootnames: distinct_by_slot(naming, &below("bootnames"), bootnames)?,
        },
        wire::Action::MenderUboot { partitions } => SlotAction::MenderUboot {
            partitions: numbers(naming, &below("partitions"), partitions)?,
        },
    })
}

/// `stone` names the entry by its label, the published documentation by its number in four digits.
fn boot_entry(field: &str, entry: String) -> Result<BootEntry> {
    text(field, &entry)?;
    let digits = entry.strip_prefix("Boot").unwrap_or(&entry);
    let is_number = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    match u16::from_str_radix(digits, 16) {
        Ok(number) if is_number => Ok(BootEntry::Number(number)),
        _ if entry.is_empty() => Err(OsBundleError::field(field, "an entry has no name")),
        _ => Ok(BootEntry::Label(entry)),
    }
}

fn layout(layout: wire::Layout) -> Result<DiskLayout> {
    few("layout.partitions", layout.partitions.len())?;
    if layout
        .block_size
        .is_some_and(|size| !size.is_power_of_two())
    {
        let why = "it is no power of two";
        return Err(OsBundleError::field("layout.block_size", why));
    }
    let block_size = layout.block_size;
    let mut partitions: Vec<LayoutPartition> = Vec::new();
    for (at, read) in layout.partitions.into_iter().enumerate() {
        let field = format!("layout.partitions[{at}]");
        let bytes = |name: &str, number: &Number, unit: Option<&str>| {
            stated_bytes(&format!("{field}.{name}"), number, unit, block_size)
        };
        let size = bytes("size", &read.size, read.size_unit.as_deref())?;
        // Without an offset it follows the one before it.
        let offset = match &read.offset {
            Some(offset) => bytes("offset", offset, read.offset_unit.as_deref())?,
            None => partitions.last().map_or(0, |last| last.offset + last.size),
        };
        let expand = match read.expand {
            None => false,
            Some(wire::Expand::Is(expand)) => expand,
            Some(wire::Expand::Word(word)) => match word.as_str() {
                "true" => true,
                "false" => false,
                _ => {
                    let why = format!("`{}` is neither true nor false", word.escape_debug());
                    return Err(OsBundleError::field(format!("{field}.expand"), why));
                }
            },
        };
        if offset.checked_add(size).is_none() {
            return Err(OsBundleError::field(field, "it ends beyond any disk"));
        }
        partitions.push(LayoutPartition {
            name: read.name,
            offset,
            size,
            expand,
        });
    }
    let names = partitions
        .iter()
        .filter_map(|partition| partition.name.as_ref());
    different("layout.partitions", "name", names)?;
    let device = layout.device;
    Ok(DiskLayout {
        device: device
            .map(|path| device_path("layout.device", path))
            .transpose()?,
        block_size,
        partitions,
    })
}

impl DiskLayout {
    /// Reads the layout of a disk that stands elsewhere than in a bundle: `device`, `block_size` and
    /// `partitions`, in the same shape.
    ///
    /// # Errors
    /// [`OsBundleError::Syntax`] and [`OsBundleError::Field`], as for a bundle.
    pub fn from_json(value: serde_json::Value) -> Result<Self> {
        let read = serde_path_to_error::deserialize(value).map_err(|e| OsBundleError::Syntax {
            field: format!("layout.{}", e.path()),
            source: e.into_inner(),
        })?;
        layout(read)
    }
}

fn release_check(field: &str, check: Option<&ReleaseCheck>) -> Result<()> {
    let Some(check) = check else { return Ok(()) };
    if check.kind != ReleaseCheck::OS_RELEASE {
        let why = format!("the type `{}` is not known", check.kind.escape_debug());
        return Err(OsBundleError::field(format!("{field}.type"), why));
    }
    if check.expected.is_empty() || check.field.is_empty() {
        return Err(OsBundleError::field(field, "it expects nothing"));
    }
    text(field, &check.field)?;
    text(field, &check.expected)?;
    check.path.iter().try_for_each(|path| text(field, path))
}
