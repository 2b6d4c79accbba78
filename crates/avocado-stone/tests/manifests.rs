//! Stone manifests: what is read of one, and what is refused.

use std::collections::BTreeMap;
use std::error::Error as _;

use avocado_manifest::Digest;
use avocado_manifest::os_bundle::{OsBundleDescription, OsSlot, UpdateStrategy};
use avocado_stone::{BundleParts, BundledFile, FatVariant, StoneImage, StoneManifest};
use serde_json::{Value, json};

fn board() -> Value {
    json!({
        "runtime": {"platform": "qemux86-64", "architecture": "x86_64", "provision_default": "disk"},
        "storage_devices": {"disk": {
            "out": "disk.img",
            "images": {
                "boot": {
                    "out": "boot.img", "size": 64, "size_unit": "mebibytes",
                    "build_args": {
                        "type": "fat", "variant": "FAT16", "label": "BOOT",
                        "files": ["bzImage", {"in": "entry.conf", "out": "loader/entries/a.conf"}],
                        "files_append": ["splash.bmp"],
                    },
                },
                "rootfs": "rootfs.erofs",
            },
            "partitions": [
                {"name": "env", "offset": 1, "offset_unit": "mebibytes", "offset_redundant": 1.25,
                 "size": 128, "size_unit": "kibibytes"},
                {"name": "boot-a", "image": "boot", "offset": 2, "offset_unit": "mebibytes",
                 "size": 64, "size_unit": "mebibytes"},
                {"name": "boot-b", "image": "boot", "size": 64, "size_unit": "mebibytes"},
                {"name": "rootfs-a", "image": "rootfs", "size": 128, "size_unit": "mebibytes"},
                {"name": "rootfs-b", "size": 134_217_728},
                {"name": "var", "size": 0.5, "size_unit": "gibibytes", "expand": "true"},
            ],
        }},
        "provision": {"profiles": {"disk": {"script": "disk.sh", "requires": ["sfdisk"]}}},
        "update": {
            "slot_detection": {"type": "uboot-env", "var": "slot"},
            "os_artifacts": {
                "boot": {"slot_partitions": {"a": "boot-a", "b": "boot-b"}},
                "system": {"image_key": "rootfs", "slot_partitions": {"a": "rootfs-a", "b": "rootfs-b"}},
            },
            "activate": [{"type": "uboot-env", "set": {"slot": "{inactive_slot}"}}],
        },
    })
}

fn parse(board: &Value) -> Result<StoneManifest, String> {
    StoneManifest::parse(board.to_string().as_bytes()).map_err(|error| {
        let source = error.source().map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    })
}

fn parts() -> BundleParts {
    let file = |name: &str, size| BundledFile {
        file: name.parse().unwrap(),
        sha256: Digest::of(name.as_bytes()),
        size,
    };
    BundleParts {
        os_build_id: "os-1".into(),
        initramfs_build_id: Some("initramfs-1".into()),
        artifacts: BTreeMap::from([
            ("boot".to_owned(), file("boot.img", 64 << 20)),
            ("system".to_owned(), file("rootfs.erofs", 4096)),
        ]),
    }
}

#[test]
fn a_disk_is_laid_out_as_it_is_stated() {
    let manifest = parse(&board()).unwrap();
    let disk = &manifest.storage_devices["disk"];
    let layout = disk.layout("disk").unwrap();
    let places: Vec<(&str, u64, u64, bool)> = layout
        .partitions
        .iter()
        .map(|p| {
            (
                p.name.as_ref().unwrap().as_str(),
                p.offset >> 20,
                p.size >> 10,
                p.expand,
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            ("env", 1, 128, false),
            ("boot-a", 2, 64 << 10, false),
            ("boot-b", 66, 64 << 10, false),
            ("rootfs-a", 130, 128 << 10, false),
            ("rootfs-b", 258, 128 << 10, false),
            ("var", 386, 512 << 10, true),
        ]
    );
    let Some(StoneImage::Made(boot)) = manifest.image("boot") else {
        panic!("no image is made");
    };
    assert_eq!(boot.build_args.variant, FatVariant::Fat16);
    assert_eq!(boot.size("boot").unwrap(), 64 << 20);
    let files: Vec<_> = boot
        .files()
        .map(|f| (f.source(), f.destination()))
        .collect();
    assert_eq!(
        files,
        [
            ("bzImage", "bzImage"),
            ("entry.conf", "loader/entries/a.conf"),
            ("splash.bmp", "splash.bmp"),
        ]
    );
}

#[test]
fn a_disk_without_offsets_begins_behind_its_table() {
    let mut board = board();
    board["storage_devices"]["disk"]["partitions"] = json!([
        {"name": "boot-a", "size": 512}, {"name": "boot-b", "size": 1024},
        {"name": "rootfs-a", "size": 512}, {"name": "rootfs-b", "size": 512},
    ]);
    let manifest = parse(&board).unwrap();
    let layout = manifest.storage_devices["disk"].layout("disk").unwrap();
    let offsets: Vec<u64> = layout.partitions.iter().map(|p| p.offset).collect();
    let first = 1 << 20;
    assert_eq!(offsets, [first, first + 512, first + 1536, first + 2048]);
}

#[test]
fn a_bundle_says_what_the_manifest_says() {
    let manifest = parse(&board()).unwrap();
    let bundle = manifest.bundle(&parts()).unwrap();
    assert_eq!(bundle.platform.as_str(), "qemux86-64");
    assert_eq!(bundle.os_build_id.as_deref(), Some("os-1"));
    assert_eq!(bundle.verify.as_ref().unwrap().expected, "os-1");
    assert_eq!(
        bundle.verify_initramfs.as_ref().unwrap().expected,
        "initramfs-1"
    );
    let update = bundle.update.as_ref().unwrap();
    assert_eq!(update.strategy, UpdateStrategy::UbootAb);
    let targets: Vec<_> = update
        .artifacts
        .iter()
        .map(|a| {
            (
                a.name.as_str(),
                a.archive_path(),
                a.partitions.get(OsSlot::Second).as_str(),
            )
        })
        .collect();
    assert_eq!(
        targets,
        [
            ("boot", "images/boot.img".to_owned(), "boot-b"),
            ("system", "images/rootfs.erofs".to_owned(), "rootfs-b"),
        ]
    );
    // By their labels, for nothing says at which place a device has the disk.
    assert_eq!(bundle.layout, None);
    let read = OsBundleDescription::parse(&bundle.to_json().unwrap()).unwrap();
    assert_eq!(read, bundle);

    let mut board = board();
    board["storage_devices"]["disk"]["devpath"] = "/dev/mmcblk0".into();
    let bundle = parse(&board).unwrap().bundle(&parts()).unwrap();
    let layout = bundle.layout.unwrap();
    assert_eq!(layout.device.as_deref(), Some("/dev/mmcblk0"));
    assert_eq!(layout.partitions.len(), 6);
}

/// An absent list is not one without actions: a device then does what the board's kind needs.
#[test]
fn what_the_manifest_does_not_say_the_bundle_does_not_say() {
    for lists in [json!({}), json!({"rollback": [], "commit": []})] {
        let mut board = board();
        for (name, list) in lists.as_object().unwrap() {
            board["update"][name] = list.clone();
        }
        let bundle = parse(&board).unwrap().bundle(&parts()).unwrap();
        let read = OsBundleDescription::parse(&bundle.to_json().unwrap()).unwrap();
        let update = read.update.unwrap();
        assert_eq!((update.rollback, update.commit), (None, None), "{lists}");
    }
}

#[test]
fn only_what_an_update_follows_from_is_content_of_it() {
    let content = |board: &Value| parse(board).unwrap().update_content().unwrap();
    let board = board();
    let first = content(&board);
    assert!(first.is_some());
    for (at, value, is_content) in [
        ("/provision/profiles/disk/script", json!("other.sh"), false),
        ("/storage_devices/disk/out", json!("other.img"), false),
        (
            "/storage_devices/disk/images/boot/build_args/label",
            json!("OTHER"),
            true,
        ),
        (
            "/storage_devices/disk/images/boot/build_args/files/0",
            json!("Image"),
            true,
        ),
        (
            "/update/activate/0/set/slot",
            json!("x{inactive_slot}"),
            true,
        ),
        ("/runtime/platform", json!("other"), true),
    ] {
        let mut other = board.clone();
        *other.pointer_mut(at).unwrap() = value;
        assert_eq!(content(&other) != first, is_content, "{at}");
    }
    let mut without = board;
    without.as_object_mut().unwrap().remove("update");
    assert_eq!(content(&without), None);
}

#[test]
fn what_cannot_become_a_bundle_is_told() {
    let bundle = |board: &Value, parts: &BundleParts| {
        let error = parse(board).unwrap().bundle(parts).unwrap_err();
        let source = error.source().map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    };
    let mut large = parts();
    large.artifacts.get_mut("boot").unwrap().size = (64 << 20) + 1;
    let said = bundle(&board(), &large);
    assert!(
        said.contains("67108865 bytes, and the partition `boot-a` has 67108864"),
        "{said}"
    );
    let mut missing = parts();
    missing.artifacts.remove("system");
    let said = bundle(&board(), &missing);
    assert!(said.contains("update.os_artifacts.system"), "{said}");
    for (at, value, word) in [
        (
            "/update/slot_detection",
            json!({"type": "oracle"}),
            "slot_detection",
        ),
        ("/update/activate", json!([{"type": "pray"}]), "activate"),
        ("/runtime/platform", json!("../x"), "platform"),
    ] {
        let mut board = board();
        *board.pointer_mut(at).unwrap() = value;
        let said = bundle(&board, &parts());
        assert!(said.contains(word), "{at}: {said}");
    }
}

#[test]
fn what_contradicts_itself_is_refused_at_its_field() {
    let disk = "/storage_devices/disk";
    for (at, value, field, word) in [
        ("/runtime", json!([]), "runtime", ""),
        (
            &format!("{disk}/images/boot/build_args/files/1/out"),
            json!("BZIMAGE"),
            "boot.build_args.files",
            "two files go to `BZIMAGE`",
        ),
        (
            &format!("{disk}/images/boot/build_args/label"),
            json!("A-LONGER-NAME"),
            "boot.build_args.label",
            "no name of a FAT volume",
        ),
        (
            "/runtime/provision_default",
            json!("usb"),
            "provision_default",
            "no profile `usb`",
        ),
        (
            &format!("{disk}/block_size"),
            json!(500),
            "disk",
            "block_size",
        ),
        (
            &format!("{disk}/partitions/0/size"),
            json!(0),
            "partitions[0]",
            "needs a size",
        ),
        (
            &format!("{disk}/partitions/0/size"),
            json!("1"),
            "partitions[0].size",
            "",
        ),
        (
            &format!("{disk}/partitions/0/size_unit"),
            json!("parsecs"),
            "disk",
            "parsecs",
        ),
        (
            &format!("{disk}/partitions/0/offset"),
            json!(0),
            "partitions[0]",
            "partition table",
        ),
        (
            &format!("{disk}/partitions/1/offset"),
            json!(1),
            "partitions",
            "over another",
        ),
        (
            &format!("{disk}/partitions/1/offset"),
            json!(-1),
            "disk",
            "",
        ),
        (
            &format!("{disk}/partitions/1/size"),
            json!(1e300),
            "disk",
            "",
        ),
        (
            &format!("{disk}/partitions/1/name"),
            json!("env"),
            "disk",
            "env",
        ),
        (
            &format!("{disk}/partitions/1/name"),
            json!("../env"),
            "name",
            "",
        ),
        (
            &format!("{disk}/partitions/1/image"),
            json!("none"),
            "partitions[1].image",
            "`none`",
        ),
        (
            &format!("{disk}/partitions/1/expand"),
            json!(true),
            "partitions[1]",
            "last partition",
        ),
        (
            &format!("{disk}/partitions/1/expand"),
            json!("perhaps"),
            "expand",
            "",
        ),
        (
            &format!("{disk}/partitions/4/size"),
            json!(513),
            "partitions[4]",
            "block size",
        ),
        (
            &format!("{disk}/images/rootfs"),
            json!("../rootfs"),
            "images.rootfs",
            "`..`",
        ),
        (
            &format!("{disk}/images/rootfs"),
            json!("/etc/passwd"),
            "images.rootfs",
            "path",
        ),
        (
            &format!("{disk}/images/boot/build_args/type"),
            json!("ext4"),
            "type",
            "`fat`",
        ),
        (
            &format!("{disk}/images/boot/build_args/files/0"),
            json!("a/../b"),
            "files",
            "path",
        ),
        (
            &format!("{disk}/images/boot/size"),
            json!(0),
            "boot.size",
            "none",
        ),
        (
            "/update/os_artifacts/boot/image_key",
            json!("x"),
            "boot.image_key",
            "`x`",
        ),
        (
            "/update/os_artifacts/boot/slot_partitions/a",
            json!("x"),
            "slot_partitions.a",
            "`x`",
        ),
        (
            "/update/os_artifacts/boot/slot_partitions",
            json!({"a": "boot-a"}),
            "boot",
            "two slots",
        ),
    ] {
        let mut board = board();
        match board.pointer_mut(at) {
            Some(place) => *place = value.clone(),
            None => {
                let (parent, key) = at.rsplit_once('/').unwrap();
                board.pointer_mut(parent).unwrap()[key] = value.clone();
            }
        }
        let said = parse(&board)
            .err()
            .unwrap_or_else(|| panic!("{at} {value} is taken"));
        assert!(
            said.contains(field) && said.contains(word),
            "{at} {value}: {said}"
        );
    }
    for text in ["", "{", "[]", "{} {}", "{\"runtime\": 1}"] {
        assert!(StoneManifest::parse(text.as_bytes()).is_err(), "{text}");
    }
}
