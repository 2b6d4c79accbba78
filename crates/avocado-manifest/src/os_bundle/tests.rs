use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const UUIDS: [&str; 2] = [
    "4D21B016-B534-45C2-A9FB-5C16E091FD2D",
    "4d21b016-b534-45c2-a9fb-5c16e091fd2e",
];

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn parse(bundle: &Value) -> Result<OsBundleDescription, OsBundleError> {
    OsBundleDescription::parse(bundle.to_string().as_bytes())
}

/// As `stone` writes one.
fn stone() -> Value {
    json!({
        "format_version": 1, "platform": "qemux86-64", "architecture": "x86_64",
        "os_build_id": "os1", "initramfs_build_id": "init1",
        "update": {
            "strategy": "uboot-ab",
            "slot_detection": {"type": "uboot-env", "var": "avocado_boot_slot"},
            "artifacts": [
                {"name": "boot", "file": "images/boot.img", "sha256": DIGEST, "size": 7,
                 "slot_targets": {"a": {"partition": "boot-a"}, "b": {"partition": "boot-b"}}},
                {"name": "rootfs", "file": "images/rootfs.img", "sha256": DIGEST, "size": 9,
                 "slot_targets": {"a": {"partition": "rootfs-a"}, "b": {"partition": "rootfs-b"}}},
            ],
            "activate": [{"type": "uboot-env", "set": {"avocado_boot_slot": "{inactive_slot}"}}],
            "rollback": [{"type": "uboot-env", "set": {"avocado_boot_slot": "{previous_slot}"}}],
        },
        "layout": {"device": "/dev/vda", "block_size": 512, "partitions": [
            {"name": "boot-a", "offset": 1_048_576, "offset_unit": "bytes", "size": 64,
             "size_unit": "mebibytes"},
            {"size": 1.5, "size_unit": "kibibytes", "offset": 68_157_440, "offset_unit": "bytes"},
            {"name": "var", "size": 16, "size_unit": "megabytes", "expand": "true"},
        ]},
        "verify": {"type": "os-release", "field": "AVOCADO_OS_BUILD_ID", "expected": "os1"},
        "verify_initramfs": {"type": "os-release", "field": "AVOCADO_OS_BUILD_ID",
                             "path": "/etc/os-release-initrd", "expected": "init1"},
    })
}

/// As the published documentation of the format has one.
fn documented() -> Value {
    json!({
        "format_version": 1, "platform": "jetson-orin-nano", "architecture": "aarch64",
        "os_build_id": "os1",
        "update": {
            "strategy": "a-b",
            "slot_detection": {"type": "sdboot-efi", "partitions": {
                "a": "/dev/disk/by-partlabel/esp-a", "b": "/dev/disk/by-partlabel/esp-b"}},
            "artifacts": [{"name": "rootfs", "file": "rootfs.img", "sha256": DIGEST,
                "slot_targets": {"a": {"partition": "APP"}, "b": {"partition": "APP_b"}}}],
            "activate": [
                {"type": "efibootmgr", "slot_entries": {"a": "0001", "b": "Boot000a"}},
                {"type": "mbr-switch", "devpath": "/dev/mmcblk0",
                 "slot_layouts": {"a": ["layout-a.json"], "b": ["layout-b.json"]}},
                {"type": "command", "command": ["/usr/bin/set-boot-slot", "b"]},
            ],
        },
        "verify_initramfs": {"type": "os-release", "field": "AVOCADO_INITRAMFS_BUILD_ID",
                             "expected": "init1"},
        "layout": {"device": "/dev/mmcblk0", "partitions": [
            {"name": "x", "offset": 4, "offset_unit": "MiB", "size": 8, "size_unit": "sectors"}]},
    })
}

#[test]
fn what_stone_writes_is_read() {
    let bundle = parse(&stone()).unwrap();
    let update = bundle.update.as_ref().unwrap();
    assert_eq!(update.strategy, UpdateStrategy::UbootAb);
    assert_eq!(update.artifacts[1].file, name("rootfs.img"));
    assert_eq!(update.artifacts[1].archive_path(), "images/rootfs.img");
    assert_eq!(
        *update.artifacts[1].partitions.get(OsSlot::Second),
        name("rootfs-b")
    );
    assert_eq!(update.commit, None);
    let layout = bundle.layout.as_ref().unwrap();
    let places: Vec<_> = layout
        .partitions
        .iter()
        .map(|p| (p.offset, p.size, p.expand))
        .collect();
    let boot = 64 << 20;
    assert_eq!(
        places,
        [
            (1 << 20, boot, false),
            ((1 << 20) + boot, 1536, false),
            ((1 << 20) + boot + 1536, 16_000_000, true),
        ]
    );
    assert_eq!(
        bundle.verify_initramfs.unwrap().path.as_deref(),
        Some("/etc/os-release-initrd")
    );
}

#[test]
fn what_the_documentation_has_is_read() {
    let bundle = parse(&documented()).unwrap();
    let update = bundle.update.as_ref().unwrap();
    assert_eq!(update.strategy, UpdateStrategy::UbootAb);
    let SlotDetection::SdbootEfi { partitions } = &update.slot_detection else {
        panic!("{update:?}");
    };
    let device = BootPartition::Device("/dev/disk/by-partlabel/esp-b".into());
    assert_eq!(partitions.second, device);
    let SlotAction::Efibootmgr { slot_entries } = &update.activate[0] else {
        panic!("{update:?}");
    };
    assert_eq!(slot_entries.first, BootEntry::Number(1));
    assert_eq!(slot_entries.second, BootEntry::Number(10));
    let layout = bundle.layout.unwrap();
    assert_eq!(
        (layout.partitions[0].offset, layout.partitions[0].size),
        (4 << 20, 4096)
    );
    assert_eq!(bundle.verify, None);
    let check = bundle.verify_initramfs.unwrap();
    assert_eq!(check.field, "AVOCADO_INITRAMFS_BUILD_ID");
}

#[test]
fn shapes_of_their_own_are_read() {
    let mut bundle = stone();
    let update = &mut bundle["update"];
    // By UUID, in any case.
    update["slot_detection"] =
        json!({"type": "sdboot-efi", "partitions": {UUIDS[0]: "b", UUIDS[1]: "a"}});
    // One action need not be in a list.
    update["activate"] =
        json!({"type": "efibootmgr", "slot_entries": {"a": "boot-a", "b": "boot-b"}});
    update["commit"] = json!([
        {"type": "rpi-tryboot", "boot_partitions": {"a": 1, "b": 2}},
        {"type": "rauc-uboot", "bootnames": {"a": "A", "b": "B"}},
        {"type": "mender-uboot", "partitions": {"a": 2, "b": 3}},
    ]);
    let update = parse(&bundle).unwrap().update.unwrap();
    let SlotDetection::SdbootEfi { partitions } = &update.slot_detection else {
        panic!("{update:?}");
    };
    assert_eq!(
        partitions.second,
        BootPartition::Uuid(UUIDS[0].to_lowercase())
    );
    assert_eq!(update.activate.len(), 1);
    assert_eq!(update.commit.unwrap().len(), 3);
    // Slots that are digits.
    let tegra = bundle_with(&["update", "strategy"], json!("tegra-ab"));
    assert!(refused(&tegra).contains("the slot `0` is missing"));
    // What is only about a build has no update, and an empty id is none.
    let told = json!({"format_version": 1, "platform": "p", "architecture": "x", "os_build_id": "",
                      "of_a_later_writer": [1]});
    let told = parse(&told).unwrap();
    assert_eq!((told.os_build_id, told.update), (None, None));
}

/// A good bundle with one thing that is different.
fn bundle_with(path: &[&str], value: Value) -> Value {
    let mut bundle = stone();
    let mut at = &mut bundle;
    for key in path {
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[*key],
        };
    }
    *at = value;
    bundle
}

fn refused(bundle: &Value) -> String {
    parse(bundle).unwrap_err();
    let error = OsBundleDescription::from_json(bundle.clone()).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error} {}", source.unwrap_or_default())
}

#[test]
fn hostile_bundles_are_refused_by_the_name_of_the_field() {
    let artifact = ["update", "artifacts", "0"];
    let partition = ["layout", "partitions", "0"];
    let activate = ["update", "activate"];
    let long = "x".repeat(256);
    #[rustfmt::skip]
    let table: &[(&[&str], Value, &str)] = &[
        (&["format_version"], json!(2), "version 2"),
        (&["format_version"], json!("1"), "format_version"),
        (&["platform"], json!("../x"), "platform"),
        (&["architecture"], json!(""), "architecture"),
        (&["os_build_id"], json!(long), "os_build_id"),
        (&["os_build_id"], json!("a\nb"), "os_build_id"),
        (&["initramfs_build_id"], json!("\u{1b}[31m"), "initramfs_build_id"),
        (&["update", "strategy"], json!("x-ab"), "update.strategy"),
        (&["update", "slot_detection"], json!({"type": "guess"}), "update.slot_detection"),
        (&["update", "slot_detection"], json!({"type": "uboot-env", "var": "a=b"}), "update.slot_detection"),
        (&["update", "slot_detection"], json!({"type": "command", "command": []}), "update.slot_detection.command"),
        (&["update", "slot_detection"], json!({"type": "command", "command": ["a\0b"]}), "update.slot_detection.command"),
        (&["update", "slot_detection"], json!({"type": "sdboot-efi", "partitions": {}}), "update.slot_detection.partitions"),
        (&["update", "slot_detection"], json!({"type": "sdboot-efi", "partitions": {"x": "a"}}), "neither a UUID nor a slot"),
        (&["update", "slot_detection"], json!({"type": "sdboot-efi", "partitions": {UUIDS[0]: "a", UUIDS[1]: "a"}}), "two partitions"),
        (&["update", "slot_detection"], json!({"type": "sdboot-efi", "partitions": {"a": "/dev/x", "b": "/dev/x"}}), "both slots have the same"),
        (&["update", "slot_detection"], json!({"type": "sdboot-efi", "partitions": {"a": "/dev/x", "b": "/dev/../x"}}), "no path of a device"),
        (&["update", "slot_detection"], json!({"type": "rpi-tryboot", "boot_partitions": {"a": 0, "b": 2}}), "counted from 1"),
        (&[artifact[0], artifact[1], artifact[2], "file"], json!("images/../../etc/passwd"), "update.artifacts[0].file"),
        (&[artifact[0], artifact[1], artifact[2], "file"], json!("other/boot.img"), "update.artifacts[0].file"),
        (&[artifact[0], artifact[1], artifact[2], "file"], json!("/boot.img"), "update.artifacts[0].file"),
        (&[artifact[0], artifact[1], artifact[2], "sha256"], json!("0"), "update.artifacts[0].sha256"),
        (&[artifact[0], artifact[1], artifact[2], "size"], json!(-1), "update.artifacts[0].size"),
        (&[artifact[0], artifact[1], artifact[2], "name"], json!("rootfs"), "two have the name rootfs"),
        (&[artifact[0], artifact[1], artifact[2], "slot_targets"], json!({"a": {"partition": "x"}}), "`b` is missing"),
        (&[artifact[0], artifact[1], artifact[2], "slot_targets", "c"], json!({"partition": "x"}), "`c` is no slot"),
        (&[artifact[0], artifact[1], artifact[2], "slot_targets", "a", "partition"], json!("../sda"), "update.artifacts[0].slot_targets.a.partition"),
        (&[artifact[0], artifact[1], artifact[2], "slot_targets", "a", "partition"], json!("boot-b"), "belongs to both slots"),
        (&[artifact[0], artifact[1], artifact[2], "slot_targets", "a", "partition"], json!("rootfs-a"), "two have the partition rootfs-a"),
        (&[artifact[0], artifact[1], artifact[2], "slot_targets", "a", "partition"], json!("rootfs-b"), "belongs to both slots"),
        (&activate, json!([{"type": "uboot-env", "set": {}}]), "update.activate[0].set"),
        (&activate, json!([{"type": "uboot-env", "set": {"x": "1\nbootcmd=evil"}}]), "update.activate[0].set"),
        (&activate, json!([{"type": "uboot-env", "set": {"x y": "1"}}]), "update.activate"),
        (&activate, json!([{"type": "format-disk"}]), "update.activate"),
        (&activate, json!([{"type": "command", "command": [""]}]), "update.activate[0].command"),
        (&activate, json!([{"type": "mbr-switch", "devpath": "mmcblk0", "slot_layouts": {"a": ["x"], "b": ["y"]}}]), "update.activate[0].devpath"),
        (&activate, json!([{"type": "mbr-switch", "devpath": "/dev/x", "slot_layouts": {"a": [], "b": ["y"]}}]), "1 to 4"),
        (&activate, json!([{"type": "mbr-switch", "devpath": "/dev/x", "slot_layouts": {"a": ["x", "x"], "b": ["y"]}}]), "two have the partition x"),
        (&activate, json!([{"type": "efibootmgr", "slot_entries": {"a": "", "b": "y"}}]), "no name"),
        (&activate, json!([{"type": "efibootmgr", "slot_entries": {"a": "1234", "b": "Boot1234"}}]), "both slots"),
        (&["update", "rollback"], json!([{"type": "x"}]), "action 0"),
        (&["update", "commit"], json!([{"type": "command", "command": []}]), "update.commit[0].command"),
        (&["layout", "device"], json!("vda"), "layout.device"),
        (&["layout", "block_size"], json!(500), "layout.block_size"),
        (&[partition[0], partition[1], partition[2], "name"], json!("a/b"), "layout.partitions[0].name"),
        (&[partition[0], partition[1], partition[2], "name"], json!("var"), "two have the name var"),
        (&[partition[0], partition[1], partition[2], "size"], json!(-1), "layout.partitions[0].size"),
        (&[partition[0], partition[1], partition[2], "size"], json!(1e300), "layout.partitions[0].size"),
        (&[partition[0], partition[1], partition[2], "size"], json!(u64::MAX), "layout.partitions[0].size"),
        (&[partition[0], partition[1], partition[2], "offset"], json!(u64::MAX), "beyond any disk"),
        (&[partition[0], partition[1], partition[2], "size_unit"], json!("cubits"), "layout.partitions[0].size_unit"),
        (&[partition[0], partition[1], partition[2], "expand"], json!("maybe"), "layout.partitions[0].expand"),
        (&["verify", "type"], json!("trust-me"), "verify.type"),
        (&["verify", "expected"], json!(""), "verify"),
        (&["verify_initramfs", "field"], json!("a\u{7}"), "verify_initramfs"),
    ];
    for (path, value, expected) in table {
        let bundle = bundle_with(path, value.clone());
        assert_ne!(bundle, stone(), "{path:?}");
        let error = refused(&bundle);
        assert!(error.contains(expected), "{path:?}: {error}");
    }
}

#[test]
fn what_is_no_bundle_is_refused() {
    let large = vec![b' '; LARGEST_OS_BUNDLE_DESCRIPTION + 1];
    let good = stone().to_string();
    let twice = format!("{good}{good}");
    for bad in [
        b"".as_slice(),
        b"[]",
        b"{",
        b"null",
        b"\xff",
        &large,
        twice.as_bytes(),
    ] {
        assert!(OsBundleDescription::parse(bad).is_err());
    }
    let many = vec![json!({"type": "command", "command": ["x"]}); 129];
    let error = refused(&bundle_with(&["update", "activate"], json!(many)));
    assert!(error.contains("update.activate"), "{error}");
}

#[test]
fn actions_are_kept_outside_of_a_bundle() {
    let update = parse(&documented()).unwrap().update.unwrap();
    let naming = update.strategy.naming();
    let kept = SlotAction::list_to_json(&update.activate, naming).unwrap();
    let again = SlotAction::list_from_json(&kept, naming).unwrap();
    assert_eq!(again, update.activate);
    assert!(SlotAction::list_from_json(&json!([{"type": "x"}]), naming).is_err());
    assert_eq!(
        SlotNaming::of("1"),
        Some((SlotNaming::Digits, OsSlot::Second))
    );
    assert_eq!(SlotNaming::of("r"), None);
}

fn names() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9_][a-zA-Z0-9._+~-]{0,12}".prop_map(|text| name(&text))
}

fn texts() -> impl Strategy<Value = String> {
    "\\PC{1,20}".prop_filter("no control characters", |text| {
        !text.chars().any(char::is_control)
    })
}

fn devices() -> impl Strategy<Value = String> {
    "/dev/[a-z0-9]{1,8}"
}

fn pairs<T: std::fmt::Debug + PartialEq>(
    one: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = BySlot<T>> {
    (one.clone(), one)
        .prop_filter("two", |(first, second)| first != second)
        .prop_map(|(first, second)| BySlot { first, second })
}

fn boot_partition_pairs() -> impl Strategy<Value = BySlot<BootPartition>> {
    let uuids = any::<u128>()
        .prop_map(|bits| BootPartition::Uuid(uuid::Uuid::from_u128(bits).hyphenated().to_string()));
    prop_oneof![
        pairs(devices().prop_map(BootPartition::Device).boxed()),
        pairs(uuids.boxed())
    ]
}

fn detections() -> impl Strategy<Value = SlotDetection> {
    prop_oneof![
        names().prop_map(|var| SlotDetection::UbootEnv { var }),
        prop::collection::vec(texts(), 1..4).prop_map(|command| SlotDetection::Command { command }),
        boot_partition_pairs().prop_map(|partitions| SlotDetection::SdbootEfi { partitions }),
        pairs(1_u32..9).prop_map(|boot_partitions| SlotDetection::RpiTryboot { boot_partitions }),
        pairs(names().boxed()).prop_map(|bootnames| SlotDetection::RaucUboot { bootnames }),
        pairs(1_u32..9).prop_map(|partitions| SlotDetection::MenderUboot { partitions }),
    ]
}

fn actions() -> impl Strategy<Value = SlotAction> {
    let entries = prop_oneof![
        any::<u16>().prop_map(BootEntry::Number),
        "boot-[a-z ]{1,9}".prop_map(BootEntry::Label),
    ];
    let layouts =
        prop::collection::btree_set(names(), 1..4).prop_map(|set| set.into_iter().collect());
    prop_oneof![
        prop::collection::btree_map(names(), texts(), 1..4)
            .prop_map(|set| SlotAction::UbootEnv { set }),
        prop::collection::vec(texts(), 1..4).prop_map(|command| SlotAction::Command { command }),
        (devices(), pairs(layouts.boxed())).prop_map(|(devpath, slot_layouts)| {
            SlotAction::MbrSwitch {
                devpath,
                slot_layouts,
            }
        }),
        pairs(entries.boxed()).prop_map(|slot_entries| SlotAction::Efibootmgr { slot_entries }),
        (prop::option::of(devices()), pairs(1_u32..9)).prop_map(|(devpath, boot_partitions)| {
            SlotAction::RpiTryboot {
                devpath,
                boot_partitions,
            }
        }),
        pairs(names().boxed()).prop_map(|bootnames| SlotAction::RaucUboot { bootnames }),
        pairs(1_u32..9).prop_map(|partitions| SlotAction::MenderUboot { partitions }),
    ]
}

fn artifacts() -> impl Strategy<Value = Vec<OsArtifact>> {
    let one = (any::<u32>(), prop::option::of(any::<u64>()));
    prop::collection::btree_map(names(), one, 0..4).prop_map(|all| {
        let entries = all.into_iter().enumerate();
        let artifact = |(number, (name, (bytes, size)))| OsArtifact {
            name,
            file: format!("{number}.img").parse().unwrap(),
            sha256: Digest::of(&u32::to_le_bytes(bytes)),
            size,
            partitions: BySlot {
                first: format!("a{number}").parse().unwrap(),
                second: format!("b{number}").parse().unwrap(),
            },
        };
        entries.map(artifact).collect()
    })
}

fn layouts() -> impl Strategy<Value = DiskLayout> {
    let places = prop::collection::vec((0_u64..1 << 40, 0_u64..1 << 40, any::<bool>()), 0..5);
    (prop::option::of(devices()), places).prop_map(|(device, places)| DiskLayout {
        device,
        block_size: Some(512),
        partitions: (0..)
            .zip(places)
            .map(|(number, (offset, size, expand))| LayoutPartition {
                name: (number % 2 == 0).then(|| name(&format!("p{number}"))),
                offset,
                size,
                expand,
            })
            .collect(),
    })
}

fn bundles() -> impl Strategy<Value = OsBundleDescription> {
    let strategy = prop::sample::select(vec![
        "uboot-ab",
        "sdboot-ab",
        "mbr-ab",
        "gpt-ab",
        "tegra-ab",
        "rpi-tryboot",
    ]);
    let list = |least| prop::collection::vec(actions(), least..4);
    // One without actions is the same as none.
    let stated = || prop::option::of(list(1));
    let lists = (list(0), stated(), stated());
    let update = (strategy, detections(), artifacts(), lists).prop_map(
        |(strategy, slot_detection, artifacts, (activate, rollback, commit))| OsBundleUpdate {
            strategy: UpdateStrategy::named(strategy).unwrap(),
            slot_detection,
            artifacts,
            activate,
            rollback,
            commit,
        },
    );
    let ids = (prop::option::of(texts()), prop::option::of(texts()));
    let rest = (prop::option::of(update), prop::option::of(layouts()));
    (names(), names(), ids, rest).prop_map(
        |(platform, architecture, (os_build_id, initramfs_build_id), (update, layout))| {
            OsBundleDescription {
                platform,
                architecture,
                verify: os_build_id.as_deref().map(ReleaseCheck::of_build),
                verify_initramfs: initramfs_build_id.as_deref().map(ReleaseCheck::of_build),
                os_build_id,
                initramfs_build_id,
                update,
                layout,
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(bundle in bundles()) {
        let json = bundle.to_json().unwrap();
        prop_assert_eq!(OsBundleDescription::parse(&json).unwrap(), bundle);
    }

    #[test]
    fn any_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = OsBundleDescription::parse(&bytes);
    }

    /// One value of a good bundle becomes any other.
    #[test]
    fn any_change_is_an_answer(at in 0_usize..200, value in prop::sample::select(vec![
        json!(null), json!(-1), json!(1e99), json!(""), json!("../x"), json!([]), json!({}), json!(true),
    ])) {
        let mut bundle = stone();
        change(&mut bundle, &mut { at }, &value);
        if let Ok(read) = parse(&bundle) {
            prop_assert_eq!(parse(&serde_json::from_slice(&read.to_json().unwrap()).unwrap()).unwrap(), read);
        }
    }
}

/// Replaces the value number `at`, counted from the outside.
fn change(value: &mut Value, at: &mut usize, by: &Value) {
    let children: Vec<&mut Value> = match value {
        Value::Object(fields) => fields.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        if *at == 0 {
            *child = by.clone();
            return;
        }
        *at -= 1;
        change(child, at, by);
    }
}

#[test]
fn a_partition_is_a_place_of_its_own_that_fits() {
    const SECTOR: u64 = DISK_SECTOR;
    let at = |offset, size, expand| LayoutPartition {
        name: Some(format!("p{offset}").parse().unwrap()),
        offset: offset * SECTOR,
        size: size * SECTOR,
        expand,
    };
    let layout = |partitions| DiskLayout {
        device: None,
        block_size: None,
        partitions,
    };
    let apart = layout(vec![at(1, 5, false), at(6, 5, false), at(11, 1, true)]);
    let ranges = |length: u64| {
        let range = |p: &LayoutPartition| apart.range(p, length).map(|r| (r.start, r.end));
        apart.partitions.iter().map(range).collect::<Vec<_>>()
    };
    let place = |start, end| Ok((start * SECTOR, end * SECTOR));
    let first = [place(1, 6), place(6, 11)];
    assert_eq!(
        ranges(20 * SECTOR + 511),
        [&first[..], &[place(11, 20)]].concat()
    );
    let beyond = |length| Err(LayoutFault::BeyondDisk(length));
    let short = 12 * SECTOR - 1;
    assert_eq!(ranges(short), [&first[..], &[beyond(short)]].concat());
    assert_eq!(
        ranges(SECTOR),
        [beyond(SECTOR), beyond(SECTOR), beyond(SECTOR)]
    );

    let over = |offset: u64| LayoutFault::Overlap(Some(format!("p{offset}").parse().unwrap()));
    for (partition, block, fault) in [
        (at(0, 5, false), SECTOR, LayoutFault::OverTable),
        (at(0, 5, true), SECTOR, LayoutFault::OverTable),
        (at(30, 0, false), SECTOR, LayoutFault::Empty),
        (
            at(9, 8, false),
            8 * SECTOR,
            LayoutFault::Unaligned(8 * SECTOR),
        ),
        (
            at(32, 7, false),
            8 * SECTOR,
            LayoutFault::Unaligned(8 * SECTOR),
        ),
        (at(29, 1, false), SECTOR, over(20)),
        (at(29, 9, false), SECTOR, over(20)),
        (at(21, 1, true), SECTOR, over(20)),
        (at(2, 1, true), SECTOR, over(20)),
    ] {
        let layout = layout(vec![partition, at(20, 10, false)]);
        assert_eq!(layout.check(&layout.partitions[0], block), Err(fault));
    }
    // One that begins behind another that expands, and each of two in the same place.
    let grown = layout(vec![at(1, 1, true), at(40, 1, false)]);
    assert_eq!(grown.check(&grown.partitions[1], SECTOR), Err(over(1)));
}
