//! The shape of `bundle.json`: what both published writers make is read into it, and what it writes
//! is the shape of `stone`.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    BootEntry, BootPartition, BySlot, DiskLayout, LayoutPartition, OS_BUNDLE_FORMAT, OsArtifact,
    OsBundleDescription, OsBundleUpdate, OsSlot, ReleaseCheck, SlotAction, SlotDetection,
    SlotNaming,
};
use crate::{Digest, Name};

/// What each slot has, by the name of the slot.
pub(super) type SlotMap<T> = BTreeMap<String, T>;

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub(super) struct Bundle {
    pub(super) format_version: u32,
    pub(super) platform: Name,
    pub(super) architecture: Name,
    #[serde(default)]
    pub(super) os_build_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) initramfs_build_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) update: Option<Update>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layout: Option<Layout>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) verify: Option<ReleaseCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) verify_initramfs: Option<ReleaseCheck>,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub(super) struct Update {
    pub(super) strategy: String,
    pub(super) slot_detection: Detection,
    pub(super) artifacts: Vec<Artifact>,
    pub(super) activate: ActionList,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rollback: Option<ActionList>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<ActionList>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", expecting = "a map")]
pub(super) enum Detection {
    UbootEnv {
        var: Name,
    },
    Command {
        command: Vec<String>,
    },
    /// UUIDs with their slots, or slots with their devices.
    SdbootEfi {
        partitions: BTreeMap<String, String>,
    },
    RpiTryboot {
        boot_partitions: SlotMap<u32>,
    },
    RaucUboot {
        bootnames: SlotMap<Name>,
    },
    MenderUboot {
        partitions: SlotMap<u32>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub(super) struct Artifact {
    pub(super) name: Name,
    pub(super) file: String,
    pub(super) sha256: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    pub(super) slot_targets: SlotMap<Target>,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub(super) struct Target {
    pub(super) partition: Name,
}

/// Actions; one alone need not be in a list.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ActionList {
    Many(Vec<Action>),
    One(Box<Action>),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", expecting = "a map")]
pub(super) enum Action {
    UbootEnv {
        set: BTreeMap<Name, String>,
    },
    Command {
        command: Vec<String>,
    },
    MbrSwitch {
        devpath: String,
        slot_layouts: SlotMap<Vec<Name>>,
    },
    Efibootmgr {
        slot_entries: SlotMap<String>,
    },
    RpiTryboot {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        devpath: Option<String>,
        boot_partitions: SlotMap<u32>,
    },
    RaucUboot {
        bootnames: SlotMap<Name>,
    },
    MenderUboot {
        partitions: SlotMap<u32>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub(super) struct Layout {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) block_size: Option<u32>,
    #[serde(default)]
    pub(super) partitions: Vec<Partition>,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub(super) struct Partition {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<Name>,
    #[serde(default)]
    pub(super) offset: Option<serde_json::Number>,
    #[serde(default)]
    pub(super) offset_unit: Option<String>,
    pub(super) size: serde_json::Number,
    #[serde(default)]
    pub(super) size_unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expand: Option<Expand>,
}

/// Whether a partition expands: a word in what was published, or what it means.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "`true` or `false`")]
pub(super) enum Expand {
    Is(bool),
    Word(String),
}

// By way of values: an error knows which action of the list it is about, and a device's program has one
// reader of them.
impl<'de> Deserialize<'de> for ActionList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        ActionList::of_value(value).map_err(D::Error::custom)
    }
}

impl ActionList {
    pub(super) fn of_value(value: Value) -> Result<Self, String> {
        let Value::Array(list) = value else {
            let action = Action::deserialize(value).map_err(|e| e.to_string())?;
            return Ok(ActionList::One(Box::new(action)));
        };
        let read = |(at, action)| {
            Action::deserialize(action).map_err(|e| format!("action {at} of the list, from 0: {e}"))
        };
        let list: Result<_, String> = (0_usize..).zip(list).map(read).collect();
        list.map(ActionList::Many)
    }

    pub(super) fn into_actions(self) -> Vec<Action> {
        match self {
            ActionList::Many(actions) => actions,
            ActionList::One(action) => vec![*action],
        }
    }

    fn of(actions: &[SlotAction], naming: SlotNaming) -> Self {
        let actions = actions.iter().map(|action| Action::of(action, naming));
        ActionList::Many(actions.collect())
    }
}

impl Bundle {
    pub(super) fn of(bundle: &OsBundleDescription) -> Self {
        Bundle {
            format_version: OS_BUNDLE_FORMAT,
            platform: bundle.platform.clone(),
            architecture: bundle.architecture.clone(),
            os_build_id: bundle.os_build_id.clone().unwrap_or_default(),
            initramfs_build_id: bundle.initramfs_build_id.clone(),
            update: bundle.update.as_ref().map(Update::of),
            layout: bundle.layout.as_ref().map(Layout::of),
            verify: bundle.verify.clone(),
            verify_initramfs: bundle.verify_initramfs.clone(),
        }
    }
}

impl Update {
    fn of(update: &OsBundleUpdate) -> Self {
        let naming = update.strategy.naming();
        let list = |actions: &Vec<SlotAction>| ActionList::of(actions, naming);
        Update {
            strategy: update.strategy.as_str().into(),
            slot_detection: Detection::of(&update.slot_detection, naming),
            artifacts: update
                .artifacts
                .iter()
                .map(|artifact| Artifact::of(artifact, naming))
                .collect(),
            activate: list(&update.activate),
            rollback: update.rollback.as_ref().map(list),
            commit: update.commit.as_ref().map(list),
        }
    }
}

impl Detection {
    fn of(detection: &SlotDetection, naming: SlotNaming) -> Self {
        match detection {
            SlotDetection::UbootEnv { var } => Detection::UbootEnv { var: var.clone() },
            SlotDetection::Command { command } => Detection::Command {
                command: command.clone(),
            },
            SlotDetection::SdbootEfi { partitions } => {
                let entry = |slot: OsSlot| match partitions.get(slot) {
                    BootPartition::Uuid(uuid) => (uuid.clone(), naming.name(slot).to_owned()),
                    BootPartition::Device(device) => (naming.name(slot).to_owned(), device.clone()),
                };
                Detection::SdbootEfi {
                    partitions: OsSlot::ALL.map(entry).into(),
                }
            }
            SlotDetection::RpiTryboot { boot_partitions } => Detection::RpiTryboot {
                boot_partitions: map(boot_partitions, naming, |number| *number),
            },
            SlotDetection::RaucUboot { bootnames } => Detection::RaucUboot {
                bootnames: map(bootnames, naming, Name::clone),
            },
            SlotDetection::MenderUboot { partitions } => Detection::MenderUboot {
                partitions: map(partitions, naming, |number| *number),
            },
        }
    }
}

impl Artifact {
    fn of(artifact: &OsArtifact, naming: SlotNaming) -> Self {
        Artifact {
            name: artifact.name.clone(),
            file: artifact.archive_path(),
            sha256: artifact.sha256,
            size: artifact.size,
            slot_targets: map(&artifact.partitions, naming, |partition| Target {
                partition: partition.clone(),
            }),
        }
    }
}

impl Action {
    pub(super) fn of(action: &SlotAction, naming: SlotNaming) -> Self {
        match action {
            SlotAction::UbootEnv { set } => Action::UbootEnv { set: set.clone() },
            SlotAction::Command { command } => Action::Command {
                command: command.clone(),
            },
            SlotAction::MbrSwitch {
                devpath,
                slot_layouts,
            } => Action::MbrSwitch {
                devpath: devpath.clone(),
                slot_layouts: map(slot_layouts, naming, Vec::clone),
            },
            SlotAction::Efibootmgr { slot_entries } => Action::Efibootmgr {
                slot_entries: map(slot_entries, naming, |entry| match entry {
                    BootEntry::Label(label) => label.clone(),
                    BootEntry::Number(number) => format!("{number:04X}"),
                }),
            },
            SlotAction::RpiTryboot {
                devpath,
                boot_partitions,
            } => Action::RpiTryboot {
                devpath: devpath.clone(),
                boot_partitions: map(boot_partitions, naming, |number| *number),
            },
            SlotAction::RaucUboot { bootnames } => Action::RaucUboot {
                bootnames: map(bootnames, naming, Name::clone),
            },
            SlotAction::MenderUboot { partitions } => Action::MenderUboot {
                partitions: map(partitions, naming, |number| *number),
            },
        }
    }
}

impl Layout {
    fn of(layout: &DiskLayout) -> Self {
        Layout {
            device: layout.device.clone(),
            block_size: layout.block_size,
            partitions: layout.partitions.iter().map(Partition::of).collect(),
        }
    }
}

impl Partition {
    fn of(partition: &LayoutPartition) -> Self {
        let bytes = || Some("bytes".to_owned());
        Partition {
            name: partition.name.clone(),
            offset: Some(partition.offset.into()),
            offset_unit: bytes(),
            size: partition.size.into(),
            size_unit: bytes(),
            expand: partition.expand.then(|| Expand::Word("true".into())),
        }
    }
}

fn map<T, W>(by_slot: &BySlot<T>, naming: SlotNaming, of: impl Fn(&T) -> W) -> SlotMap<W> {
    let entry = |slot: OsSlot| (naming.name(slot).to_owned(), of(by_slot.get(slot)));
    OsSlot::ALL.map(entry).into()
}
