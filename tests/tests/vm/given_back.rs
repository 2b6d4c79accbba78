//! What is deleted in a real guest takes no place on the host after it was trimmed.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::harness::{assert_clock, image, lock_qemu};
use crate::story::Story;

/// What is written, in MiB.
const WRITTEN: u64 = 48;

#[test]
fn a_deleted_file_gives_its_blocks_back_when_the_vm_stops() {
    let name = "a_deleted_file_gives_its_blocks_back_when_the_vm_stops";
    let Some(image) = image(name) else { return };
    let _lock = lock_qemu();
    let story = Story::new(&image);
    // It is told when it trims: not while it sleeps.
    story.configure("idle.hibernate_after_secs", "0");
    story.start();
    let disk = story.vm.file("var.btrfs");
    let used = || fs::metadata(&disk).unwrap().blocks() / 2048;
    let shell = |line: &str| story.vm.vm(&["shell", "--", line]).ok().unwrap();

    let (_hold, mut session) = story.visit();
    assert_clock(&mut session);
    drop((_hold, session));
    let before = used();
    shell(&format!(
        "head -c {WRITTEN}M /dev/urandom >/var/large && sync /var/large"
    ));
    let full = used();
    assert!(full >= before + WRITTEN, "{before} MiB, then {full} MiB");
    shell("rm /var/large && sync");
    story.vm.vm(&["stop"]).ok().unwrap();
    let log = story.vm.log("supervisor.log");
    assert!(log.contains("the guest's disks are trimmed"), "{log}");
    let after = used();
    assert!(
        after + WRITTEN / 2 < full,
        "{full} MiB, then {after} MiB\n{log}"
    );
    println!("           {before} MiB, with the file {full} MiB, without it {after} MiB");
}
