//! What decides which slot is started, and how it is told.
//!
//! Each kind has one record, which changes whole or not at all, and is the last that is written of an
//! update: a copy of the U-Boot environment, an EFI variable, the sector of a partition table, a sector
//! of `autoboot.txt`.

mod efi;
mod mbr;
mod tryboot;
mod uboot;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use avocado_manifest::os_bundle::{
    BootEntry, BootPartition, BySlot, DiskLayout, OsBundleDescription, OsSlot, SlotAction,
    SlotDetection, SlotNaming,
};

use super::error::OsUpdateError;
use crate::error::FailureReason;
use crate::paths::DevicePaths;
use crate::tool;

pub(super) use tryboot::REBOOT_ARGUMENT;

/// What a boot loader is told about a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoaderOrder {
    /// To start it next; once, where it knows of such a thing.
    Try,
    /// To go on starting it.
    Keep,
    /// To start it from now on, and not the other one.
    GoBack,
}

/// The boot loader of a device, as a bundle describes it.
#[derive(Debug)]
pub(super) struct BootLoader<'a> {
    paths: &'a DevicePaths,
    pub(super) naming: SlotNaming,
    detection: Option<SlotDetection>,
    activate: Vec<SlotAction>,
    commit: Vec<SlotAction>,
    rollback: Vec<SlotAction>,
    layout: Option<DiskLayout>,
    /// Placeholders and what they stand for, besides those for the slot.
    placeholders: Vec<(&'static str, String)>,
}

impl<'a> BootLoader<'a> {
    /// The boot loader that a bundle is for. None: the bundle has no update.
    pub(super) fn of(paths: &'a DevicePaths, bundle: &OsBundleDescription) -> Option<Self> {
        let update = bundle.update.as_ref()?;
        let activate = update.activate.clone();
        // Without a word of its own, what is tried once is committed by its own kind, and what was
        // chosen is chosen the other way round.
        let once = || activate.iter().filter(|a| is_tried_once(a)).cloned();
        // Writers differ in how they say nothing: a list of nothing is no way back and no commit.
        let stated = |list: &Option<Vec<SlotAction>>| list.clone().filter(|l| !l.is_empty());
        Some(BootLoader {
            paths,
            naming: update.strategy.naming(),
            detection: Some(update.slot_detection.clone()),
            commit: stated(&update.commit).unwrap_or_else(|| once().collect()),
            rollback: stated(&update.rollback).unwrap_or_else(|| activate.clone()),
            activate,
            layout: bundle.layout.clone(),
            placeholders: vec![
                ("{platform}", bundle.platform.to_string()),
                ("{architecture}", bundle.architecture.to_string()),
            ],
        })
    }

    /// The boot loader as the marker of an older agent describes it: only the way back is known.
    pub(super) fn of_rollback(
        paths: &'a DevicePaths,
        naming: SlotNaming,
        rollback: Vec<SlotAction>,
        layout: Option<DiskLayout>,
    ) -> Self {
        BootLoader {
            paths,
            naming,
            detection: None,
            activate: Vec::new(),
            commit: Vec::new(),
            rollback,
            layout,
            placeholders: Vec::new(),
        }
    }

    /// The slot that runs, as far as the boot loader knows. Where it is a variable, it is the slot that
    /// is started next.
    pub(super) fn running(&self) -> Result<OsSlot, FailureReason> {
        let unknown = |why: String| FailureReason::from(OsUpdateError::Slot(why));
        let Some(detection) = &self.detection else {
            return Err(unknown("nothing says how it is known".into()));
        };
        let named = |name: &str| {
            self.naming.slot(name.trim()).ok_or_else(|| {
                let [a, b] = OsSlot::ALL.map(|slot| self.naming.name(slot));
                unknown(format!(
                    "`{}` is neither `{a}` nor `{b}`",
                    name.trim().escape_debug()
                ))
            })
        };
        match detection {
            SlotDetection::UbootEnv { var } => named(&uboot::value(self.paths, var.as_str())?),
            SlotDetection::Command { command } => named(&answer(command)?),
            SlotDetection::SdbootEfi { partitions } => {
                let uuid = efi::boot_partition(self.paths)?;
                let device = self.paths.os.partition_uuids.join(&uuid);
                let is = |partition: &BootPartition| match partition {
                    BootPartition::Uuid(of_slot) => *of_slot == uuid,
                    // Both may be links of udev.
                    BootPartition::Device(path) => {
                        let [of_slot, device] = [Path::new(path), &device].map(fs::canonicalize);
                        matches!((of_slot, device), (Ok(a), Ok(b)) if a == b)
                    }
                };
                partitions.find(is).ok_or_else(|| {
                    unknown(format!(
                        "systemd-boot was started from the partition {uuid}"
                    ))
                })
            }
            SlotDetection::RpiTryboot { boot_partitions } => {
                let number = tryboot::booted_partition(self.paths)?;
                let found = boot_partitions.find(|of_slot| *of_slot == number);
                found.ok_or_else(|| unknown(format!("the firmware booted partition {number}")))
            }
            SlotDetection::RaucUboot { bootnames } => {
                let line = uboot::kernel_command_line(self.paths)?;
                let mut words = line.split_whitespace().rev();
                let name = words.find_map(|word| word.strip_prefix("rauc.slot="));
                let name = name.ok_or_else(|| {
                    unknown("the kernel's command line has no `rauc.slot=`".into())
                })?;
                let found = bootnames.find(|of_slot| of_slot.as_str() == name);
                found.ok_or_else(|| unknown(format!("`rauc.slot={}`", name.escape_debug())))
            }
            SlotDetection::MenderUboot { partitions } => {
                let number = uboot::value(self.paths, "mender_boot_part")?;
                let found = partitions.find(|of_slot| of_slot.to_string() == number.trim());
                found.ok_or_else(|| {
                    unknown(format!("`mender_boot_part` is `{}`", number.escape_debug()))
                })
            }
        }
    }

    /// Whether [`BootLoader::running`] is what was started, and not only what is started next.
    pub(super) fn says_what_runs(&self) -> bool {
        match &self.detection {
            Some(
                SlotDetection::Command { .. }
                | SlotDetection::SdbootEfi { .. }
                | SlotDetection::RpiTryboot { .. }
                | SlotDetection::RaucUboot { .. },
            ) => true,
            Some(SlotDetection::UbootEnv { .. } | SlotDetection::MenderUboot { .. }) | None => {
                false
            }
        }
    }

    /// Makes the other slot the one that is started from now on, as far as that is not so already, so
    /// that this one is not while it is written.
    pub(super) fn forbid(&self, slot: OsSlot) -> Result<(), FailureReason> {
        let chosen = slot.other();
        let actions = self.choice().ok_or_else(|| failed(NO_CHOICE))?;
        self.follow(actions, LoaderOrder::GoBack, chosen)?;
        // Firmware that cannot start the first entry of the menu takes the next.
        for action in actions {
            if let SlotAction::Efibootmgr { slot_entries } = action {
                efi::leave_out(self.entry(slot_entries, slot))?;
            }
        }
        // Where what runs is known by what is started next, that can be compared.
        let known = matches!(
            self.detection,
            Some(SlotDetection::UbootEnv { .. } | SlotDetection::MenderUboot { .. })
        );
        if known && self.running()? != chosen {
            return Err(failed(format!(
                "it would start the slot `{}`, which is to be written",
                self.naming.name(slot)
            )));
        }
        Ok(())
    }

    /// Makes the entries of a slot in a boot menu that has dropped them. Nothing starts them yet: before
    /// the slot is written it is known that there is room for them.
    pub(super) fn make_entries(&self, slot: OsSlot) -> Result<(), FailureReason> {
        for action in &self.activate {
            if let SlotAction::Efibootmgr { slot_entries } = action {
                self.entry(slot_entries, slot).ensure()?;
            }
        }
        Ok(())
    }

    fn entry<'s>(&'s self, entries: &'s BySlot<BootEntry>, slot: OsSlot) -> efi::SlotEntry<'s> {
        let stated = match &self.detection {
            Some(SlotDetection::SdbootEfi { partitions }) => Some(partitions.get(slot)),
            _ => None,
        };
        let disk = self
            .layout
            .as_ref()
            .and_then(|layout| layout.device.as_deref());
        efi::SlotEntry {
            paths: self.paths,
            entry: entries.get(slot),
            stated,
            disk: disk.map(Path::new),
        }
    }

    /// The actions that make a slot the one that is started. Some ways back name no slot, and would
    /// change to the other one when this one is meant.
    fn choice(&self) -> Option<&[SlotAction]> {
        let lists = [self.rollback.as_slice(), self.activate.as_slice()];
        lists
            .into_iter()
            .find(|list| list.iter().any(names_its_slot))
    }

    /// Tells it something about a slot. What can be read again is compared.
    pub(super) fn tell(&self, order: LoaderOrder, slot: OsSlot) -> Result<(), FailureReason> {
        let actions = match order {
            LoaderOrder::Try => &self.activate,
            LoaderOrder::Keep => &self.commit,
            LoaderOrder::GoBack => &self.rollback,
        };
        self.follow(actions, order, slot)
    }

    fn follow(
        &self,
        actions: &[SlotAction],
        order: LoaderOrder,
        slot: OsSlot,
    ) -> Result<(), FailureReason> {
        // Everything for the U-Boot environment that comes together is one write of it.
        let mut variables = BTreeMap::new();
        for action in actions {
            if let Some(more) = self.variables(action, order, slot) {
                variables.extend(more);
                continue;
            }
            self.flush(&mut variables)?;
            match action {
                SlotAction::Command { command } => {
                    let command: Vec<_> = command.iter().map(|a| self.filled_in(a, slot)).collect();
                    answer(&command)?;
                }
                SlotAction::MbrSwitch {
                    devpath,
                    slot_layouts,
                } => mbr::switch(
                    Path::new(devpath),
                    self.layout.as_ref(),
                    slot_layouts.get(slot),
                )?,
                SlotAction::Efibootmgr { slot_entries } => {
                    efi::tell(order, self.entry(slot_entries, slot))?;
                }
                SlotAction::RpiTryboot {
                    devpath,
                    boot_partitions,
                } => tryboot::tell(self.paths, devpath.as_deref(), boot_partitions, order, slot)?,
                SlotAction::UbootEnv { .. }
                | SlotAction::RaucUboot { .. }
                | SlotAction::MenderUboot { .. } => {}
            }
        }
        self.flush(&mut variables)
    }

    fn flush(&self, variables: &mut BTreeMap<String, String>) -> Result<(), FailureReason> {
        if variables.is_empty() {
            return Ok(());
        }
        uboot::set(self.paths, &std::mem::take(variables))
    }

    /// What an action puts into the U-Boot environment. None: it is about something else.
    fn variables(
        &self,
        action: &SlotAction,
        order: LoaderOrder,
        slot: OsSlot,
    ) -> Option<Vec<(String, String)>> {
        match action {
            SlotAction::UbootEnv { set } => {
                let filled = set
                    .iter()
                    .map(|(name, value)| (name.to_string(), self.filled_in(value, slot)));
                Some(filled.collect())
            }
            SlotAction::RaucUboot { bootnames } => Some(uboot::rauc(bootnames, order, slot)),
            SlotAction::MenderUboot { partitions } => Some(uboot::mender(partitions, order, slot)),
            _ => None,
        }
    }

    /// A text of an action with its placeholders filled in. As published agents do it, both of those
    /// for a slot stand for the one that the action is about.
    fn filled_in(&self, text: &str, slot: OsSlot) -> String {
        let name = self.naming.name(slot);
        let mut filled = text.to_owned();
        for placeholder in SLOT_PLACEHOLDERS {
            filled = filled.replace(placeholder, name);
        }
        for (placeholder, value) in &self.placeholders {
            filled = filled.replace(placeholder, value);
        }
        filled
    }

    /// What would keep the loader from being told, found out without telling it anything.
    pub(super) fn problems(&self, target: OsSlot) -> Vec<String> {
        let mut problems = Vec::new();
        if self.activate.is_empty() {
            problems.push("the bundle does not say what switches the boot loader".into());
        } else if self.choice().is_none() {
            problems.push(NO_CHOICE.into());
        }
        for program in self.programs() {
            if !self.is_there(&program) {
                problems.push(format!("the program {} is missing", program.display()));
            }
        }
        if self.sets_environment() {
            problems.extend(uboot::config_problem(self.paths));
            let tools = &self.paths.tools;
            if self.is_there(&tools.fw_printenv) && self.is_there(&tools.fw_setenv) {
                let why = uboot::script_form(self.paths).err();
                problems.extend(why.map(|reason| avocado_events::chain(&reason)));
            }
        }
        for action in self.activate.iter().chain(&self.rollback) {
            let why = match action {
                SlotAction::MbrSwitch {
                    devpath,
                    slot_layouts,
                } => mbr::check(Path::new(devpath), self.layout.as_ref(), slot_layouts).err(),
                SlotAction::Efibootmgr { slot_entries } => OsSlot::ALL
                    .into_iter()
                    .find_map(|slot| self.entry(slot_entries, slot).check().err()),
                SlotAction::RpiTryboot {
                    devpath,
                    boot_partitions,
                } => tryboot::check(self.paths, devpath.as_deref(), boot_partitions).err(),
                _ => None,
            };
            problems.extend(why.map(|reason| avocado_events::chain(&reason)));
        }
        problems.extend(self.literal_slot(target));
        problems.sort();
        problems.dedup();
        problems
    }

    /// What the loader will be told besides that is worth a word, found out as [`BootLoader::problems`].
    pub(super) fn notes(&self) -> BTreeSet<String> {
        let entries = self.activate.iter().filter_map(|action| match action {
            SlotAction::Efibootmgr { slot_entries } => Some(slot_entries),
            _ => None,
        });
        entries
            .flat_map(|entries| OsSlot::ALL.map(|slot| self.entry(entries, slot)))
            .filter_map(|entry| entry.check().ok().flatten())
            .collect()
    }

    /// A variable that says which slot is started, and that gets the same value for either.
    fn literal_slot(&self, target: OsSlot) -> Option<String> {
        let Some(SlotDetection::UbootEnv { var }) = &self.detection else {
            return None;
        };
        let wrong = |actions: &[SlotAction], slot: OsSlot| {
            let set = actions.iter().find_map(|action| match action {
                SlotAction::UbootEnv { set } => set.get(var),
                _ => None,
            })?;
            let value = self.filled_in(set, slot);
            (value != self.naming.name(slot)).then(|| {
                format!(
                    "the bundle sets {var} to `{}` for the slot {}; it should have `{{inactive_slot}}` there",
                    value.escape_debug(),
                    self.naming.name(slot)
                )
            })
        };
        wrong(&self.activate, target).or_else(|| wrong(&self.rollback, target.other()))
    }

    /// Whether the U-Boot environment will be written.
    fn sets_environment(&self) -> bool {
        let sets = |action: &SlotAction| {
            matches!(
                action,
                SlotAction::UbootEnv { .. }
                    | SlotAction::RaucUboot { .. }
                    | SlotAction::MenderUboot { .. }
            )
        };
        let lists = [&self.activate, &self.commit, &self.rollback];
        lists.into_iter().flatten().any(sets)
    }

    /// Every program that will be called.
    fn programs(&self) -> BTreeSet<PathBuf> {
        let tools = &self.paths.tools;
        let of_uboot = || vec![tools.fw_printenv.clone(), tools.fw_setenv.clone()];
        let mut all = BTreeSet::new();
        match &self.detection {
            Some(SlotDetection::UbootEnv { .. } | SlotDetection::MenderUboot { .. }) => {
                all.extend(of_uboot());
            }
            Some(SlotDetection::Command { command }) => all.extend(command.first().map(Into::into)),
            _ => {}
        }
        for action in [&self.activate, &self.commit, &self.rollback]
            .into_iter()
            .flatten()
        {
            match action {
                SlotAction::UbootEnv { .. }
                | SlotAction::RaucUboot { .. }
                | SlotAction::MenderUboot { .. } => all.extend(of_uboot()),
                SlotAction::Command { command } => all.extend(command.first().map(Into::into)),
                SlotAction::Efibootmgr { .. } => all.extend([tools.efibootmgr.clone()]),
                SlotAction::MbrSwitch { .. } | SlotAction::RpiTryboot { .. } => {}
            }
        }
        all
    }

    fn is_there(&self, program: &Path) -> bool {
        let directories = self.paths.os.programs.iter().cloned();
        let name = program.to_str();
        name.is_some_and(|name| avocado_fs::find_program(name, directories).is_some())
    }

    /// What the reboot needs besides.
    pub(super) fn reboot_argument(&self) -> Option<&'static str> {
        let tryboot = |action: &SlotAction| matches!(action, SlotAction::RpiTryboot { .. });
        self.activate.iter().any(tryboot).then_some(REBOOT_ARGUMENT)
    }
}

/// What stands for the name of the slot that an action is about.
const SLOT_PLACEHOLDERS: [&str; 2] = ["{inactive_slot}", "{previous_slot}"];

const NO_CHOICE: &str = "the bundle does not say how the boot loader is told to start the slot that runs while \
                         the other one is written: no action of `rollback` or `activate` has \
                         `{previous_slot}` or `{inactive_slot}`";

/// Whether what an action does hangs on the slot that it is about.
fn names_its_slot(action: &SlotAction) -> bool {
    let names = |text: &String| SLOT_PLACEHOLDERS.iter().any(|name| text.contains(name));
    match action {
        SlotAction::Command { command } => command.iter().any(names),
        SlotAction::UbootEnv { set } => set.values().any(names),
        _ => true,
    }
}

/// Whether a loader starts what this chooses once, and then what it started before.
fn is_tried_once(action: &SlotAction) -> bool {
    matches!(
        action,
        SlotAction::Efibootmgr { .. }
            | SlotAction::RpiTryboot { .. }
            | SlotAction::RaucUboot { .. }
            | SlotAction::MenderUboot { .. }
    )
}

/// What a program prints.
fn answer(command: &[String]) -> Result<String, FailureReason> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| FailureReason::from(OsUpdateError::Loader("no program is named".into())))?;
    tool::answer(Path::new(program), arguments)
}

fn failed(why: impl Into<String>) -> FailureReason {
    OsUpdateError::Loader(why.into()).into()
}
