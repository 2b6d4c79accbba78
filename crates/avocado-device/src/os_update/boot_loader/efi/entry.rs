//! The entry of a slot in the boot menu, which is made again where the firmware dropped it.
//!
//! One that was made is in no order yet: a cut leaves an entry that nothing starts, and that the next run finds by
//! its label.

use std::path::Path;

use avocado_manifest::Name;
use avocado_manifest::os_bundle::{BootEntry, BootPartition};

use super::super::failed;
use super::load_option::LoadOption;
use super::variables;
use crate::error::FailureReason;
use crate::os_update::disk::{BlockDevices, LabelledPlace, NumberedPartition};
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
    /// The partition of the artifact `boot`.
    pub(in super::super) boot: Option<&'a Name>,
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
    /// What will be made. None: it is there.
    pub(in super::super) fn check(&self) -> Result<Option<String>, FailureReason> {
        if self.find()?.is_some() {
            return Ok(None);
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

    /// Its number. It is made if there is none.
    pub(in super::super) fn ensure(&self) -> Result<u16, FailureReason> {
        if let Some(number) = self.find()? {
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

    /// Its number. None: there is none, and it may be made.
    fn find(&self) -> Result<Option<u16>, FailureReason> {
        let uuid = self.stated_uuid();
        let named = self.named()?;
        let is_own = |(_, option): &&(u16, LoadOption)| !is_elsewhere(option, uuid.as_deref());
        let mut own = named.iter().filter(is_own);
        match (own.next(), named.first(), self.entry) {
            // Two programs that made it at the same time made the same.
            (Some((number, option)), ..) if own.all(|(_, other)| other.starts_as(option)) => {
                Ok(Some(*number))
            }
            (Some((_, option)), ..) => Err(failed(format!(
                "the firmware's boot menu has more than one entry `{}`, and they differ",
                option.label
            ))),
            (None, Some((number, option)), _) => Err(failed(format!(
                "the entry Boot{number:04X} (`{}`) of the firmware's boot menu starts from the partition {}, and the \
                 slot has {}: that of another disk; without it (`efibootmgr --bootnum {number:04X} --delete-bootnum`) \
                 one that is named by a label is made again",
                option.label,
                option.partition.as_deref().unwrap_or_default(),
                uuid.unwrap_or_default(),
            ))),
            (None, None, BootEntry::Label(_)) => Ok(None),
            (None, None, BootEntry::Number(number)) => Err(failed(format!(
                "the firmware's boot menu has no entry Boot{number:04X}, and one that the bundle names by its number is \
                 not made again: name it by its label"
            ))),
        }
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

    /// The partition that it starts from: the stated one, or else that of the artifact `boot`.
    fn partition(&self) -> Result<NumberedPartition, FailureReason> {
        let devices = BlockDevices::read(self.paths)?;
        let node = match self.stated {
            Some(BootPartition::Uuid(uuid)) => Some(self.paths.os.partition_uuids.join(uuid)),
            Some(BootPartition::Device(path)) => Some(path.into()),
            None => None,
        };
        if let Some(node) = &node
            && let Some(found) = devices.numbered_partition(node, self.disk)?
        {
            return Ok(found);
        }
        if let Some(name) = self.boot
            && let LabelledPlace::Here(node) = devices.labelled(name, self.disk)?
            && let Some(found) = devices.numbered_partition(&node, self.disk)?
        {
            return Ok(found);
        }
        let places: Vec<_> = node.iter().map(|node| node.display().to_string()).collect();
        let labels = self.boot.iter().map(|name| format!("the label {name}"));
        let places = places.into_iter().chain(labels).collect::<Vec<_>>();
        Err(failed(match places.as_slice() {
            [] => "the bundle does not say which partition it is for (`sdboot-efi`, or an artifact `boot`)".into(),
            places => format!(
                "its partition ({}) is on no disk of the running system",
                places.join(", ")
            ),
        }))
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
    let entries = variables::entries(paths)?.into_iter();
    taken.extend(entries.map(|(number, _)| number));
    let free = (0..=u16::MAX).find(|number| !taken.contains(number));
    free.ok_or_else(|| failed("the firmware's boot menu has no number left"))
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
    let current = variables::boot_current(paths)?;
    let current = current.filter(|current| !is_elsewhere(current, partition.as_deref()));
    let current = current.and_then(|current| current.file);
    if let Some(file) = current.filter(|file| is_loader(file)) {
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
