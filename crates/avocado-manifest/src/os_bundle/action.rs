use std::collections::BTreeMap;

use serde_json::Value;

use super::{BySlot, OsBundleError, SlotNaming, read, wire};
use crate::Name;

/// Something that is done to a boot loader. What it does hangs on when: when a slot was written, when it
/// has proven itself, or when the slot before has to be started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotAction {
    /// Sets variables of the U-Boot environment.
    UbootEnv {
        /// The variables and their values, in which the placeholders are filled in.
        set: BTreeMap<Name, String>,
    },
    /// Runs a program.
    Command {
        /// The program and its arguments, in which the placeholders are filled in.
        command: Vec<String>,
    },
    /// Writes the partition table of a disk with an MBR.
    MbrSwitch {
        /// The disk.
        devpath: String,
        /// The names of the partitions of each slot, in the order of the table.
        slot_layouts: BySlot<Vec<Name>>,
    },
    /// Chooses an entry of the firmware's boot menu.
    Efibootmgr {
        /// The entry of each slot.
        slot_entries: BySlot<BootEntry>,
    },
    /// Chooses the boot partition that the firmware of a Raspberry Pi tries (`autoboot.txt`).
    RpiTryboot {
        /// The disk. None: the one that the root file system is on.
        devpath: Option<String>,
        /// The number of the boot partition of each slot, from 1.
        boot_partitions: BySlot<u32>,
    },
    /// Sets `BOOT_ORDER` and `BOOT_<name>_LEFT`, as RAUC does.
    RaucUboot {
        /// What RAUC calls the slots.
        bootnames: BySlot<Name>,
    },
    /// Sets `mender_boot_part` and `upgrade_available`, as Mender does.
    MenderUboot {
        /// The number of the root partition of each slot.
        partitions: BySlot<u32>,
    },
}

/// An entry of the firmware's boot menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootEntry {
    /// By what it is called.
    Label(String),
    /// By its number, `Boot####`.
    Number(u16),
}

impl SlotAction {
    /// Reads actions that were kept outside of a bundle.
    ///
    /// # Errors
    /// [`OsBundleError::Syntax`] and [`OsBundleError::Field`], as for a bundle.
    pub fn list_from_json(list: &Value, naming: SlotNaming) -> Result<Vec<Self>, OsBundleError> {
        let actions = wire::ActionList::of_value(list.clone());
        let actions = actions.map_err(|why| OsBundleError::field("rollback", why))?;
        read::actions(naming, "rollback", actions)
    }

    /// What [`SlotAction::list_from_json`] reads.
    ///
    /// # Errors
    /// [`OsBundleError::Write`].
    pub fn list_to_json(list: &[Self], naming: SlotNaming) -> Result<Value, OsBundleError> {
        let actions: Vec<_> = list
            .iter()
            .map(|action| wire::Action::of(action, naming))
            .collect();
        serde_json::to_value(actions).map_err(OsBundleError::Write)
    }
}
