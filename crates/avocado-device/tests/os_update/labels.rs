//! More than one disk with the labels of the slots: a card or a stick with the same image is never written.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::board::{self, Board, LABELS, PARTITION};
use crate::trouble::Programs;

/// Where the root of the running system is.
#[derive(Debug, Clone, Copy)]
enum Root {
    /// On a partition of the disk of the board.
    Partition,
    /// On a device that lies on one, as with dm-crypt or verity.
    Mapped,
    /// On a file system that has numbers of its own, as btrfs.
    OwnNumbers,
    /// On a partition of the other disk.
    Other,
    /// In memory, or on an overlay.
    Unknown,
    /// On a device without partitions, as a loop device.
    Whole,
}

impl Root {
    /// A list of mounts.
    fn mounts(self, board: &Board) -> String {
        let nodes = board.paths.os.device_nodes.display();
        let root = match self {
            Root::Partition => format!("4000:3 / / ro - squashfs {nodes}/rootfs-a ro"),
            Root::Mapped => "4001:0 / / ro - squashfs /dev/mapper/root ro".to_owned(),
            Root::OwnNumbers => format!("0:30 / / rw - btrfs {nodes}/rootfs-a rw"),
            Root::Other => format!("4002:3 / / ro - squashfs {nodes}/card/rootfs-a ro"),
            Root::Unknown => "0:31 / / rw - overlay overlay rw".to_owned(),
            Root::Whole => "7:0 / / ro - squashfs /dev/loop0 ro".to_owned(),
        };
        // A card that was mounted by hand is none of the system.
        format!(
            "25 1 0:5 / /proc rw shared:1 - proc proc rw\n26 1 {root}\n\
             27 26 4002:1 / /run/media/card rw - vfat {nodes}/card/boot-a rw\n"
        )
    }
}

/// A board with another disk that has partitions with these labels.
fn with_card(root: Root, labels: &[&str]) -> Programs {
    let mut on = Programs::new();
    let board = &mut on.board;
    fs::create_dir(board.at("nodes/card")).unwrap();
    for disk in ["own", "card/disk"] {
        fs::write(board.at("nodes").join(disk), "").unwrap();
    }
    board.put_block_device("card!disk", "4002:0", None);
    fs::write(
        board.at("sys/devices/card!disk/uevent"),
        "DEVNAME=card/disk\nDEVTYPE=disk\n",
    )
    .unwrap();
    for (number, label) in labels.iter().enumerate() {
        let node = format!("card/{label}");
        fs::write(board.partition(&node), vec![7; PARTITION]).unwrap();
        board.put_partition("card!disk", &node, &format!("4002:{}", number + 1), label);
    }
    board.put_block_device("loop0", "7:0", None);
    board.put_block_device("dm-0", "4001:0", None);
    let slaves = board.at("sys/devices/dm-0/slaves");
    fs::create_dir(&slaves).unwrap();
    symlink(
        board.at("sys/devices/own/rootfs-a"),
        slaves.join("rootfs-a"),
    )
    .unwrap();
    fs::write(&board.paths.os.mounts, root.mounts(board)).unwrap();
    on
}

fn on_card(board: &Board, label: &str) -> Vec<u8> {
    fs::read(board.partition(&format!("card/{label}"))).unwrap()
}

#[test]
fn a_label_is_taken_from_the_disk_of_the_running_system_or_the_stated_one() {
    for (root, stated, card) in [
        (Root::Partition, None, false),
        (Root::Mapped, None, false),
        (Root::OwnNumbers, None, false),
        (Root::Partition, Some("own"), false),
        (Root::Other, None, true),
        (Root::Other, Some("card/disk"), true),
        (Root::Unknown, Some("own"), false),
        (Root::Unknown, Some("card/disk"), true),
    ] {
        let on = with_card(root, &LABELS);
        let mut bundle = on.bundle("new");
        if let Some(device) = stated {
            let device = on.board.partition(device);
            bundle = bundle.with("/layout", json!({"device": device, "partitions": []}));
        }
        let manifest = on.board.add("1", &bundle);
        on.board.writes(&manifest);
        let written = board::rootfs("new");
        let own = fs::read(on.board.partition("rootfs-b")).unwrap();
        let other = on_card(&on.board, "rootfs-b");
        let (written_to, left) = if card { (other, own) } else { (own, other) };
        assert!(written_to.starts_with(&written), "{root:?} {stated:?}");
        assert!(!left.starts_with(&written), "{root:?} {stated:?}");
        for label in ["boot-a", "rootfs-a"] {
            assert!(on_card(&on.board, label).iter().all(|byte| *byte == 7));
        }
    }
}

#[test]
fn a_label_on_several_disks_with_no_way_to_tell_is_refused_before_the_first_write() {
    for (root, stated, labels) in [
        (Root::Unknown, None, &LABELS[..]),
        (Root::Unknown, Some("gone"), &LABELS),
        // The system runs from one disk, and the bundle states the other one.
        (Root::Partition, Some("card/disk"), &LABELS),
        (Root::Other, Some("own"), &LABELS),
        // A disk that has a label twice.
        (
            Root::Other,
            None,
            &["boot-b", "rootfs-b", "rootfs-a", "rootfs-b2"],
        ),
    ] {
        let on = with_card(root, labels);
        if labels != LABELS {
            let event = on.board.at("sys/devices/card!disk/card!rootfs-b2/uevent");
            fs::write(event, "DEVNAME=card/rootfs-b2\nPARTNAME=rootfs-b\n").unwrap();
        }
        let mut bundle = on.bundle("new");
        if let Some(device) = stated {
            let device = on.board.partition(device);
            bundle = bundle.with("/layout", json!({"device": device, "partitions": []}));
        }
        let manifest = on.board.add("1", &bundle);
        // What the pool remembers of the image is no write of the update.
        on.board.refuses(&manifest);
        let problems = on.board.refuses_before_writing(&manifest);
        let second = if labels == LABELS {
            "nodes/rootfs-b"
        } else {
            "card/rootfs-b2"
        };
        let told = problems
            .iter()
            .any(|p| p.contains("rootfs-b") && p.contains(second) && p.contains("card/rootfs-b"));
        assert!(told, "{root:?} {stated:?}: {problems:?}");
    }
}

#[test]
fn a_label_that_only_another_disk_has_is_refused_or_has_its_place_in_the_layout() {
    let on = with_card(Root::Partition, &LABELS);
    on.board.take_partition("rootfs-b");
    let manifest = on.board.add("1", &on.bundle("new"));
    on.board.refuses(&manifest);
    let problems = on.board.refuses_before_writing(&manifest);
    let why = "on no disk of the running system";
    let told = problems
        .iter()
        .any(|p| p.contains(why) && p.contains("card/rootfs-b"));
    assert!(told, "{problems:?}");
    // The disk of the system has no labels, and the card is not taken for it.
    let disk = on.board.at("disk");
    fs::write(&disk, vec![9; 1 << 20]).unwrap();
    let layout = json!({"device": disk, "partitions": [
        {"name": "rootfs-b", "offset": 4096, "offset_unit": "bytes", "size": 65536, "size_unit": "bytes"}]});
    let manifest = on.board.add("2", &on.bundle("new").with("/layout", layout));
    on.board.writes(&manifest);
    assert!(fs::read(&disk).unwrap()[4096..].starts_with(&board::rootfs("new")));
    assert!(on_card(&on.board, "rootfs-b").iter().all(|byte| *byte == 7));
}

#[test]
fn where_nothing_tells_what_runs_a_label_that_is_there_once_is_taken() {
    for root in [Root::Unknown, Root::Whole] {
        let on = with_card(root, &[]);
        let manifest = on.board.add("1", &on.bundle("new"));
        on.board.writes(&manifest);
        assert_eq!(on.board.build_in("rootfs-b"), "AVOCADO_OS_BUILD_ID=new\n");
    }
}

#[test]
fn what_was_plugged_in_is_never_taken_for_a_disk_of_the_system() {
    for root in [Root::Unknown, Root::Whole] {
        // The own disk has no labels, or is not there.
        let on = with_card(root, &LABELS);
        on.board.take_labels();
        fs::write(on.board.at("sys/devices/card!disk/removable"), "1\n").unwrap();
        let manifest = on.board.add("1", &on.bundle("new"));
        on.board.refuses(&manifest);
        let problems = on.board.refuses_before_writing(&manifest);
        let told = problems.iter().any(|p| p.contains("devpath"));
        assert!(told, "{problems:?}");
        // Stated it is.
        let device = on.board.partition("card/disk");
        let layout = json!({"device": device, "partitions": []});
        let manifest = on.board.add("2", &on.bundle("new").with("/layout", layout));
        on.board.writes(&manifest);
        assert!(on_card(&on.board, "rootfs-b").starts_with(&board::rootfs("new")));
    }
}

#[test]
fn a_file_in_the_place_of_a_node_is_refused() {
    let mut on = with_card(Root::Partition, &[]);
    on.board.paths.os.files_are_nodes = false;
    let manifest = on.board.add("1", &on.bundle("new"));
    on.board.refuses(&manifest);
    let problems = on.board.refuses_before_writing(&manifest);
    let told = problems.iter().all(|p| p.contains("is no block device"));
    assert!(told && !problems.is_empty(), "{problems:?}");
}
