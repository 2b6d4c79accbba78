//! The entry of a slot in the boot menu, which is made again where the firmware dropped it.
//!
//! One that was made is in no order yet: a cut leaves an entry that nothing starts, and that the next run finds by
//! its label.

use std::path::Path;

use avocado_manifest::os_bundle::{BootEntry, BootPartition};

use super::super::failed;
use super::load_option::LoadOption;
use super::variables;
use crate::error::FailureReason;
use crate::os_update::disk::{BlockDevices, NumberedPartition};
use crate::paths::DevicePaths;
use crate::tool;

/// An entry of the boot menu, as a bundle tells of it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct SlotEntry<'a> {
    pub(in super::super) paths: &'a DevicePaths,
    /// How it is named.
    pub(in super::super) entry: &'a BootEntry,
    /// The partition that systemd-boot is started from in this slot, where that is how slots are known.
    pub(in super::super) stated: Option<&'a BootPartition>,
    /// The disk that the layout states.
    pub(in super::super) disk: Option<&'a Path>,
}

/// What is needed to make an entry.
struct NewEntry<'a> {
    label: &'a str,
    partition: NumberedPartition,
    /// The GUID of the partition, where it is known.
    uuid: Option<String>,
    loader: String,
}

impl SlotEntry<'_> {
    /// What will be done to it. None: nothing, it is there.
    pub(in super::super) fn check(&self) -> Result<Option<String>, FailureReason> {
        if let Some((number, option)) = self.find()? {
            let label = &option.label;
            let made = format!(
                "the entry Boot{number:04X} (`{label}`) of the firmware's boot menu is not active: it is made so"
            );
            return Ok((!option.is_active).then_some(made));
        }
        let new = self.new_entry()?;
        Ok(Some(format!(
            "the firmware's boot menu has no entry `{}`: it is made again, for {} on partition {} of {}",
            new.label,
            new.loader,
            new.partition.number,
            new.partition.disk.display()
        )))
    }

    /// Its number. It is made if there is none, and made active if it is not.
    pub(in super::super) fn ensure(&self) -> Result<u16, FailureReason> {
        if let Some((number, option)) = self.find()? {
            if !option.is_active {
                activate(self.paths, number)?;
            }
            return Ok(number);
        }
        let new = self.new_entry()?;
        let number = free_number(self.paths)?;
        new.make(self.paths, number)?;
        let made = variables::entry(self.paths, number)?;
        let why = match made {
            None => format!("the firmware did not keep the entry `{}`", new.label),
            Some(made) if made.label != new.label => format!(
                "the entry `{}` has the label `{}` after it was made",
                new.label, made.label
            ),
            Some(made) if new.uuid.is_some() && made.partition != new.uuid => format!(
                "the entry `{}` is for the partition {} after it was made, and {} is that of the slot",
                new.label,
                made.partition.as_deref().unwrap_or("of no GUID"),
                new.uuid.as_deref().unwrap_or_default(),
            ),
            Some(_) => return Ok(number),
        };
        // Else each try would leave another one.
        let _ = delete(self.paths, number);
        Err(failed(why))
    }

    /// Every entry that starts this slot, as far as that is known.
    pub(super) fn numbers(&self) -> Result<Vec<u16>, FailureReason> {
        if let BootEntry::Number(number) = self.entry {
            return Ok(vec![*number]);
        }
        let uuid = self.stated_uuid();
        let named = self.named()?.into_iter();
        let own = named.filter(|(_, option)| !is_elsewhere(option, uuid.as_deref()));
        Ok(own.map(|(number, _)| number).collect())
    }

    /// It, and its number. None: there is none, and it may be made.
    fn find(&self) -> Result<Option<(u16, LoadOption)>, FailureReason> {
        let uuid = self.stated_uuid();
        let named = self.named()?;
        let is_own = |(_, option): &&(u16, LoadOption)| !is_elsewhere(option, uuid.as_deref());
        let own: Vec<_> = named.iter().filter(is_own).cloned().collect();
        match (own.as_slice(), named.first(), self.entry) {
            ([_, ..], ..) => self.choose(own).map(Some),
            ([], Some((number, option)), _) => Err(failed(format!(
                "the entry Boot{number:04X} (`{}`) of the firmware's boot menu starts from the partition {}, and the \
                 slot has {}: that of another disk; without it (`efibootmgr --bootnum {number:04X} --delete-bootnum`) \
                 one that is named by a label is made again",
                option.label,
                option.partition.as_deref().unwrap_or_default(),
                uuid.unwrap_or_default(),
            ))),
            ([], None, BootEntry::Label(_)) => Ok(None),
            ([], None, BootEntry::Number(number)) => Err(failed(format!(
                "the firmware's boot menu has no entry Boot{number:04X}, and one that the bundle names by its number is \
                 not made again: name it by its label"
            ))),
        }
    }

    /// One of several, none of which is known to start from elsewhere. Two programs that made it at the same time
    /// may have made the same, or found the loader under two names. The order does not tell: what is about to be
    /// written has left it.
    fn choose(&self, own: Vec<(u16, LoadOption)>) -> Result<(u16, LoadOption), FailureReason> {
        let mut tells: Vec<Vec<(u16, LoadOption)>> = vec![own.clone()];
        if self.stated.is_some() {
            let current = variables::boot_current(self.paths)?;
            let loader = loader(self.paths).ok();
            let with = |is: &dyn Fn(&(u16, LoadOption)) -> bool| {
                own.iter().filter(|own| is(own)).cloned().collect()
            };
            tells.extend([
                with(&|(number, _)| current == Some(*number)),
                with(&|(_, option)| loader.is_some() && option.file == loader),
            ]);
        }
        for mut same in tells {
            same.sort_by_key(|(number, option)| (!option.is_active, *number));
            if let Some((number, option)) = same.first()
                && same.iter().all(|(_, other)| other.starts_as(option))
            {
                return Ok((*number, option.clone()));
            }
        }
        let label = own.into_iter().next().map(|(_, option)| option.label);
        Err(failed(format!(
            "the firmware's boot menu has more than one entry `{}`, and they differ",
            label.unwrap_or_default()
        )))
    }

    /// Every entry with this name, whatever it starts.
    fn named(&self) -> Result<Vec<(u16, LoadOption)>, FailureReason> {
        match self.entry {
            BootEntry::Number(number) => {
                let found = variables::entry(self.paths, *number)?;
                Ok(found.map(|option| (*number, option)).into_iter().collect())
            }
            BootEntry::Label(label) => {
                let mut all = variables::entries(self.paths)?;
                all.retain(|(_, option)| option.label == *label);
                Ok(all)
            }
        }
    }

    /// The GUID of the partition that systemd-boot is started from in this slot, where it is known.
    fn stated_uuid(&self) -> Option<String> {
        match self.stated? {
            BootPartition::Uuid(uuid) => Some(uuid.clone()),
            BootPartition::Device(path) => BlockDevices::uuid(self.paths, Path::new(path)),
        }
    }

    /// What is needed to make it.
    fn new_entry(&self) -> Result<NewEntry<'_>, FailureReason> {
        let BootEntry::Label(label) = self.entry else {
            return Err(failed("an entry that has no label cannot be made"));
        };
        let found = self.partition().and_then(|partition| {
            let of_node = BlockDevices::uuid(self.paths, &partition.node);
            let uuid = match (self.stated_uuid(), of_node) {
                (Some(stated), Some(found)) if stated != found => {
                    return Err(failed(format!(
                        "{} is the partition {found}, and the slot has {stated}",
                        partition.node.display()
                    )));
                }
                (stated, found) => stated.or(found),
            };
            // Partitions of an MBR have none.
            let is_guid =
                |uuid: &String| uuid.len() == "00000000-0000-0000-0000-000000000000".len();
            Ok(NewEntry {
                label,
                partition,
                uuid: uuid.filter(is_guid),
                loader: loader(self.paths)?,
            })
        });
        found.map_err(|reason| {
            failed(format!(
                "the firmware's boot menu has no entry `{label}`, and it cannot be made again: {}",
                avocado_events::chain(&reason)
            ))
        })
    }

    /// The partition that it starts from. Only `sdboot-efi` shows that the loader is there: the system that runs was
    /// started from the one that is stated for its slot.
    fn partition(&self) -> Result<NumberedPartition, FailureReason> {
        let node = match self.stated {
            Some(BootPartition::Uuid(uuid)) => self.paths.os.partition_uuids.join(uuid),
            Some(BootPartition::Device(path)) => path.into(),
            None => {
                return Err(failed(
                    "only `slot_detection` of `sdboot-efi` says which partition it starts from; make it with efibootmgr",
                ));
            }
        };
        let devices = BlockDevices::read(self.paths)?;
        let found = devices.numbered_partition(&node, self.disk)?;
        found.ok_or_else(|| {
            failed(format!(
                "its partition ({}) is on no disk of the running system",
                node.display()
            ))
        })
    }
}

impl NewEntry<'_> {
    fn make(&self, paths: &DevicePaths, number: u16) -> Result<(), FailureReason> {
        let (number, partition) = (format!("{number:04X}"), self.partition.number.to_string());
        let disk = self.partition.disk.to_str();
        let disk = disk.ok_or_else(|| failed("the name of the disk is no text"))?;
        let arguments = [
            ["--bootnum", &number],
            ["--disk", disk],
            ["--part", &partition],
            ["--label", self.label],
            ["--loader", &self.loader],
        ];
        let all = [&["--quiet", "--create-only"], arguments.as_flattened()].concat();
        tool::must(&paths.tools.efibootmgr, &all).map(drop)
    }
}

/// Whether an entry is known to start from another partition than this one.
fn is_elsewhere(option: &LoadOption, uuid: Option<&str>) -> bool {
    let partition = option.partition.as_deref();
    partition.zip(uuid).is_some_and(|(of, slot)| of != slot)
}

/// The lowest number that no entry has, and that nothing names as one to be started: the slot of an entry that is
/// made may be about to be written.
fn free_number(paths: &DevicePaths) -> Result<u16, FailureReason> {
    let mut taken = variables::boot_order(paths)?;
    taken.extend(variables::boot_next(paths)?);
    taken.extend(variables::entry_numbers(paths)?);
    let free = (0..=u16::MAX).find(|number| !taken.contains(number));
    free.ok_or_else(|| failed("the firmware's boot menu has no number left"))
}

/// Firmware passes over an entry that is not active.
fn activate(paths: &DevicePaths, number: u16) -> Result<(), FailureReason> {
    let name = format!("{number:04X}");
    let arguments = ["--quiet", "--bootnum", &name, "--active"];
    tool::must(&paths.tools.efibootmgr, &arguments)?;
    let now = variables::entry(paths, number)?;
    if now.is_some_and(|entry| entry.is_active) {
        return Ok(());
    }
    Err(failed(format!(
        "the entry Boot{name} is not active after it was made so"
    )))
}

fn delete(paths: &DevicePaths, number: u16) -> Result<(), FailureReason> {
    let number = format!("{number:04X}");
    let arguments = ["--quiet", "--bootnum", &number, "--delete-bootnum"];
    tool::must(&paths.tools.efibootmgr, &arguments).map(drop)
}

/// The loader that the running system was started with. That of the entry which was started goes first: before
/// systemd-boot it may have been another one (shim).
fn loader(paths: &DevicePaths) -> Result<String, FailureReason> {
    let partition = variables::loader_partition(paths)?;
    let current = match variables::boot_current(paths)? {
        Some(number) => variables::entry(paths, number)?,
        None => None,
    };
    let current = current.filter(|current| !is_elsewhere(current, partition.as_deref()));
    if let Some(current) = current
        && let Some(file) = current.file.filter(|file| is_loader(file))
    {
        if current.has_data {
            return Err(failed(format!(
                "the entry that was started (`{}`) has data for {file}, and what the other slot needs is not known; make \
                 it with efibootmgr",
                current.label
            )));
        }
        return Ok(file);
    }
    if let Some(file) = variables::loader_file(paths)?.filter(|file| is_loader(file)) {
        return Ok(file);
    }
    let machine = rustix::system::uname();
    let machine = machine.machine().to_string_lossy();
    removable(&machine).map(str::to_owned).ok_or_else(|| {
        failed(format!(
            "it is not known which loader the firmware starts on {machine}"
        ))
    })
}

/// Whether a text is the path of a program of the firmware.
fn is_loader(file: &str) -> bool {
    let is_program = file.to_ascii_lowercase().ends_with(".efi");
    is_program && file.starts_with('\\') && !file.contains(|c: char| c.is_control() || c == '/')
}

/// What firmware starts from a disk that it has no entry for.
fn removable(machine: &str) -> Option<&'static str> {
    Some(match machine {
        "x86_64" => r"\EFI\BOOT\BOOTX64.EFI",
        "aarch64" => r"\EFI\BOOT\BOOTAA64.EFI",
        "i686" => r"\EFI\BOOT\BOOTIA32.EFI",
        "riscv64" => r"\EFI\BOOT\BOOTRISCV64.EFI",
        machine if machine.starts_with("arm") => r"\EFI\BOOT\BOOTARM.EFI",
        _ => return None,
    })
}
