use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{Disk, Op, Recorder};
use crate::recorded::{self, RecordedFile};
use crate::{Durability, WriteOptions};

/// Contents of a file; none where it is missing.
type Contents = BTreeSet<Option<Vec<u8>>>;

/// Everything that can be left after each step of what `work` does to a directory that `before`
/// filled, and after the last: the content of the file `name`.
fn left_of(name: &str, before: impl Fn(&Path), work: impl Fn(&Path)) -> (Contents, Contents) {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    fs::create_dir(&base).unwrap();
    before(&base);
    let mut disk = Disk::of(&base);
    let ((), ops) = Recorder::new(&base).run(|| work(&base));
    let states = |disk: &Disk| {
        let mut seen = BTreeSet::new();
        disk.crash(usize::MAX, &mut || 0, |state| {
            let place = dir.path().join("state");
            fs::create_dir(&place).unwrap();
            state.restore(&place);
            seen.insert(fs::read(place.join(name)).ok());
            fs::remove_dir_all(&place).unwrap();
        });
        seen
    };
    let mut all = states(&disk);
    for op in &ops {
        disk.apply(op);
        all.extend(states(&disk));
    }
    (all, states(&disk))
}

fn contents(all: &Contents) -> Vec<Option<&str>> {
    all.iter()
        .map(|bytes| bytes.as_deref().map(|b| std::str::from_utf8(b).unwrap()))
        .collect()
}

#[test]
fn a_write_leaves_the_old_bytes_or_the_new_and_lasts() {
    let (all, last) = left_of(
        "a",
        |base| fs::write(base.join("a"), "old").unwrap(),
        |base| crate::write(&base.join("a"), b"new!").unwrap(),
    );
    assert_eq!(contents(&all), [Some("new!"), Some("old")]);
    assert_eq!(contents(&last), [Some("new!")]);
}

#[test]
fn without_a_sync_a_power_cut_may_leave_anything() {
    let (all, last) = left_of(
        "a",
        |base| fs::write(base.join("a"), "old").unwrap(),
        |base| {
            let options = WriteOptions::new().durability(Durability::None);
            options.write(&base.join("a"), b"new!").unwrap();
        },
    );
    let expected = [
        Some(""),
        Some("\0\0\0\0"),
        Some("ne"),
        Some("new!"),
        Some("old"),
    ];
    assert_eq!(contents(&all), expected);
    assert_eq!(contents(&last), expected);
}

#[test]
fn what_is_written_over_may_come_in_parts() {
    let old = [b'a'; 2048];
    let (all, last) = left_of(
        "a",
        |base| fs::write(base.join("a"), old).unwrap(),
        |base| {
            let file = RecordedFile::open(&base.join("a")).unwrap();
            file.write_at(512, &[b'b'; 1024]).unwrap();
        },
    );
    assert_eq!(all, last);
    let shapes: BTreeSet<String> = all
        .iter()
        .map(|bytes| {
            let blocks = bytes.as_ref().unwrap().chunks(512);
            blocks.map(|b| b[0] as char).collect()
        })
        .collect();
    assert_eq!(
        shapes,
        ["aaaa", "aaba", "abaa", "abba"].map(Into::into).into()
    );
}

#[test]
fn a_device_elsewhere_is_recorded_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (base, device) = (dir.path().join("base"), dir.path().join("disk"));
    fs::create_dir(&base).unwrap();
    fs::write(&device, "0123").unwrap();
    let link = dir.path().join("by-label");
    recorded::symlink(&device, &link).unwrap();
    let mut disk = Disk::of(&base).with(&link, "root-b");
    let ((), ops) = Recorder::new(&base).alias(&link, "root-b").run(|| {
        let device = RecordedFile::open_device(&link).unwrap();
        device.write_at(1, b"xy").unwrap();
        device.sync().unwrap();
    });
    assert_eq!(
        ops,
        [
            Op::WriteAt("root-b".into(), 1, b"xy".into()),
            Op::Sync("root-b".into())
        ]
    );
    for op in &ops {
        disk.apply(op);
    }
    let mut states = 0;
    disk.crash(100, &mut || 0, |state| {
        states += 1;
        assert!(state.describe().contains("root-b 4 \"0xy3\""));
    });
    assert_eq!(states, 1);
}

#[test]
fn two_names_of_one_file_and_one_less_after_it() {
    let (_, last) = left_of(
        "b",
        |base| fs::write(base.join("a"), "bytes").unwrap(),
        |base| {
            let (a, b) = (base.join("a"), base.join("b"));
            crate::link_or_copy(&a, &b, ".new").unwrap();
            crate::link_or_copy(&a, &b, ".new").unwrap();
            recorded::unlink(&a).unwrap();
            crate::sync_directory(base).unwrap();
        },
    );
    assert_eq!(contents(&last), [Some("bytes")]);
}

#[test]
fn nothing_is_done_after_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "old").unwrap();
    let write = || crate::write(&path, b"new");
    let (result, whole) = Recorder::new(dir.path()).run(write);
    result.unwrap();
    for limit in 0..whole.len() {
        fs::write(&path, "old").unwrap();
        let (result, ops) = Recorder::new(dir.path()).limit(limit).run(write);
        assert_eq!(
            result.unwrap_err().source.to_string(),
            "killed",
            "after {limit}"
        );
        assert_eq!(ops.len(), limit);
        // The name of the temporary file differs, and the number of the file.
        let kind = |op: &Op| std::mem::discriminant(op);
        assert!(ops.iter().map(kind).eq(whole[..limit].iter().map(kind)));
    }
}
