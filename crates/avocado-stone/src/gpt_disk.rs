//! The disk of a target as a table of partitions (GPT) with images in them.

use std::collections::BTreeSet;

use avocado_manifest::{Digest, Name};

use crate::error::StoneError;
use crate::manifest::{PartitionSpec, StorageDevice};

/// The unit of a partition table, in bytes. Disks with larger blocks are not made.
const SECTOR_SIZE: u64 = 512;

/// What is kept free behind the last partition, in bytes: the second copy of the table is there, and
/// partitioning tools keep whole MiB.
const END: u64 = 1 << 20;

/// The start of a disk that the table takes, in sectors: a protective MBR, the header and 128 entries.
const TABLE_SECTORS: u64 = 34;

/// How many partitions a table has at most.
const MOST_PARTITIONS: usize = 128;

/// How long the name of a partition can be, in units of UTF-16.
const LONGEST_NAME: usize = 36;

/// The type of a partition that states none: Linux file system data.
const LINUX_DATA: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";

/// A disk with a GPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptDisk {
    /// The file that its image is.
    pub file: Name,
    /// In bytes.
    pub size: u64,
    /// The identifier of its table, in upper case.
    pub guid: String,
    /// In the order of the disk.
    pub partitions: Vec<GptPartition>,
}

/// A place on such a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptPartition {
    /// Its label. One without is not in the table: something else uses it.
    pub name: Option<Name>,
    /// The image that it starts with; the rest of it is zero.
    pub image: Option<String>,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
    /// Its type, in upper case.
    pub type_guid: String,
    /// In upper case.
    pub guid: String,
    /// Whether it is to take the rest of a larger disk.
    pub expands: bool,
}

impl StorageDevice {
    /// The disk, as its image is made. `name` is what its manifest calls it, for the target `platform`:
    /// identifiers that it does not state follow from these names and those of the partitions, so that
    /// they are the same in each build.
    ///
    /// # Errors
    /// Where its partitions cannot be, or only the target's own tools could make it.
    pub fn gpt(&self, name: &str, platform: &str) -> Result<GptDisk, StoneError> {
        let at = format!("storage_devices.{name}");
        if let Some(arguments) = &self.build_args {
            let kind = arguments.get("type").and_then(|kind| kind.as_str());
            let why = format!(
                "images of the type `{}` are made by the target's own tools: install the package with \
                 `avocado-provision-{platform}` into the SDK, or leave `build_args` out for a disk with a GPT",
                kind.unwrap_or("unknown").escape_debug()
            );
            return Err(StoneError::invalid(format!("{at}.build_args"), why));
        }
        if let Some(size) = self
            .block_size
            .filter(|size| u64::from(*size) != SECTOR_SIZE)
        {
            let why =
                format!("images are made of disks with blocks of {SECTOR_SIZE} bytes, not {size}");
            return Err(StoneError::invalid(format!("{at}.block_size"), why));
        }
        let layout = self.layout(&at)?;
        if layout.partitions.is_empty() {
            return Err(StoneError::invalid(
                format!("{at}.partitions"),
                "there are none",
            ));
        }
        let stated = self.out.clone().unwrap_or_else(|| format!("{name}.img"));
        let file = stated.parse().map_err(|e: avocado_manifest::NameError| {
            StoneError::invalid(format!("{at}.out"), e.to_string())
        })?;
        let derived = |what: &str| derived_guid(&[platform, name, what]);
        let guid = match &self.uuid {
            Some(uuid) => guid(&format!("{at}.uuid"), uuid)?,
            None => derived("disk"),
        };
        let mut partitions = Vec::new();
        let mut known = BTreeSet::from([guid.clone()]);
        for (index, (spec, place)) in self.partitions.iter().zip(&layout.partitions).enumerate() {
            let at = format!("{at}.partitions[{index}]");
            check(&at, spec, place.offset)?;
            let partition = GptPartition {
                name: place.name.clone(),
                image: spec.image.clone(),
                offset: place.offset,
                size: place.size,
                type_guid: match &spec.partition_type {
                    Some(stated) => guid_of_type(&at, stated)?,
                    None => LINUX_DATA.to_owned(),
                },
                guid: match &spec.partition_uuid {
                    Some(uuid) => self::guid(&format!("{at}.partition_uuid"), uuid)?,
                    None => derived(&format!("partition {index} {:?}", spec.name)),
                },
                expands: place.expand,
            };
            if !known.insert(partition.guid.clone()) {
                let why = format!(
                    "the disk or another partition has {} as well",
                    partition.guid
                );
                return Err(StoneError::invalid(format!("{at}.partition_uuid"), why));
            }
            partitions.push(partition);
        }
        let named = partitions.iter().filter(|p| p.name.is_some()).count();
        if named > MOST_PARTITIONS {
            let why =
                format!("a GPT has {MOST_PARTITIONS} partitions at most, and these are {named}");
            return Err(StoneError::invalid(format!("{at}.partitions"), why));
        }
        let ends = partitions.iter().map(|p| p.offset.saturating_add(p.size));
        let end = ends.max().unwrap_or_default();
        let size = end
            .checked_next_multiple_of(END)
            .and_then(|end| end.checked_add(END));
        let size = size.filter(|size| i64::try_from(*size).is_ok());
        let size = size.ok_or_else(|| {
            StoneError::invalid(
                format!("{at}.partitions"),
                "no disk is as large as these are together",
            )
        })?;
        Ok(GptDisk {
            file,
            size,
            guid,
            partitions,
        })
    }
}

impl GptDisk {
    /// The table, as a script for `sfdisk`.
    pub fn table(&self) -> String {
        let mut script = format!(
            "label: gpt\nlabel-id: {}\nunit: sectors\nsector-size: {SECTOR_SIZE}\nfirst-lba: {TABLE_SECTORS}\n\n",
            self.guid
        );
        for partition in &self.partitions {
            let Some(name) = &partition.name else {
                continue;
            };
            // As published: what grows a partition on the device looks for this bit of its own.
            let attributes = if partition.expands {
                ", attrs=\"GUID:56\""
            } else {
                ""
            };
            script += &format!(
                "start={}, size={}, type={}, uuid={}, name=\"{name}\"{attributes}\n",
                partition.offset / SECTOR_SIZE,
                partition.size / SECTOR_SIZE,
                partition.type_guid,
                partition.guid,
            );
        }
        script
    }
}

fn check(at: &str, spec: &PartitionSpec, offset: u64) -> Result<(), StoneError> {
    if spec.offset_redundant.is_some() {
        let why = "a second copy of an image is written by the target's own tools only";
        return Err(StoneError::invalid(format!("{at}.offset_redundant"), why));
    }
    if offset < TABLE_SECTORS * SECTOR_SIZE {
        let why = format!(
            "it would lie over the partition table, which has the first {} bytes",
            TABLE_SECTORS * SECTOR_SIZE
        );
        return Err(StoneError::invalid(format!("{at}.offset"), why));
    }
    let length = spec
        .name
        .as_ref()
        .map_or(0, |name| name.encode_utf16().count());
    if length > LONGEST_NAME {
        let why = format!("the name of a partition has {LONGEST_NAME} characters at most");
        return Err(StoneError::invalid(format!("{at}.name"), why));
    }
    Ok(())
}

fn guid_of_type(at: &str, stated: &str) -> Result<String, StoneError> {
    let field = format!("{at}.partition_type");
    guid(&field, stated).map_err(|_| {
        let why = format!(
            "`{}` is no GUID: disks with an MBR are made by the target's own tools only",
            stated.escape_debug()
        );
        StoneError::invalid(field, why)
    })
}

/// A GUID as it is written in a table.
fn guid(field: &str, stated: &str) -> Result<String, StoneError> {
    let groups: Vec<&str> = stated.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let digits = |group: &&str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
    if lengths == [8, 4, 4, 4, 12] && groups.iter().all(digits) {
        return Ok(stated.to_ascii_uppercase());
    }
    let why = format!("`{}` is no GUID", stated.escape_debug());
    Err(StoneError::invalid(field, why))
}

/// The GUID of what these names say, in the form of version 8 (RFC 9562).
fn derived_guid(names: &[&str]) -> String {
    let digest = Digest::of(names.join("\n").as_bytes())
        .to_string()
        .to_ascii_uppercase();
    let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-8{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 15),
        part(15, 18),
        part(18, 30)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn device() -> Value {
        json!({
            "out": "disk.img",
            "images": {"boot": "boot.img", "var": "var.img"},
            "partitions": [
                {"name": "boot-a", "image": "boot", "size": 4, "size_unit": "mebibytes",
                 "partition_type": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
                 "partition_uuid": "11111111-2222-3333-4444-555555555555"},
                {"size": 1, "size_unit": "mebibytes"},
                {"name": "var", "image": "var", "size": 512, "expand": true},
            ],
        })
    }

    fn gpt(device: &Value) -> Result<GptDisk, StoneError> {
        let device: StorageDevice = serde_json::from_value(device.clone()).unwrap();
        device.gpt("disk", "board")
    }

    #[test]
    fn a_table_says_what_the_manifest_says() {
        let disk = gpt(&device()).unwrap();
        assert_eq!(disk.file.as_str(), "disk.img");
        assert_eq!(disk.size, 8 << 20);
        let table = disk.table();
        let lines: Vec<&str> = table
            .lines()
            .filter(|line| line.starts_with("start="))
            .collect();
        let [boot, var] = lines[..] else {
            panic!("{table}")
        };
        assert_eq!(
            boot,
            "start=2048, size=8192, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, \
             uuid=11111111-2222-3333-4444-555555555555, name=\"boot-a\""
        );
        assert!(
            var.starts_with("start=12288, size=1, type=0FC63DAF-"),
            "{var}"
        );
        assert!(var.ends_with("name=\"var\", attrs=\"GUID:56\""), "{var}");
        assert_eq!(
            gpt(&device()).unwrap(),
            disk,
            "what is derived is the same again"
        );
        let guids = disk.partitions.iter().map(|p| &p.guid);
        let guids: BTreeSet<&String> = guids.chain([&disk.guid]).collect();
        assert_eq!(guids.len(), 4);
        for text in guids {
            assert_eq!(super::guid("", text).unwrap(), *text);
        }
    }

    #[test]
    fn what_no_image_is_made_of_is_refused_at_its_field() {
        type Change = fn(&mut Value);
        let changes: [(Change, &str); 9] = [
            (
                |d| d["build_args"] = json!({"type": "fwup"}),
                "storage_devices.disk.build_args",
            ),
            (
                |d| d["block_size"] = json!(4096),
                "storage_devices.disk.block_size",
            ),
            (
                |d| d["partitions"] = json!([]),
                "storage_devices.disk.partitions",
            ),
            (
                |d| d["out"] = json!("../disk.img"),
                "storage_devices.disk.out",
            ),
            (|d| d["uuid"] = json!("disk"), "storage_devices.disk.uuid"),
            (
                |d| d["partitions"][0]["partition_type"] = json!("0xc"),
                "storage_devices.disk.partitions[0].partition_type",
            ),
            (
                |d| d["partitions"][0]["offset"] = json!(512),
                "storage_devices.disk.partitions[0].offset",
            ),
            (
                |d| d["partitions"][0]["name"] = json!("a".repeat(37)),
                "storage_devices.disk.partitions[0].name",
            ),
            (
                |d| {
                    d["partitions"][2]["partition_uuid"] =
                        d["partitions"][0]["partition_uuid"].clone()
                },
                "storage_devices.disk.partitions[2].partition_uuid",
            ),
        ];
        for (change, field) in changes {
            let mut wrong = device();
            change(&mut wrong);
            let error = gpt(&wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{field}`")), "{error}");
        }
    }
}
