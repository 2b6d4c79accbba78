use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::FileType;
use tar::{Builder, EntryType, Header};
use walkdir::WalkDir;

use super::{ArchivedDevices, PackedAmount, pack, unpack};
use crate::trees::{Tree, attributes};

/// Everything of a tree that counts.
fn told(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut links = HashMap::new();
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry = entry.unwrap();
        let relative = entry.path().strip_prefix(root).unwrap();
        let m = entry.metadata().unwrap();
        let content = if m.is_file() {
            format!(
                "{:?}",
                avocado_manifest::Digest::of(&fs::read(entry.path()).unwrap())
            )
        } else {
            format!("{:?}", fs::read_link(entry.path()).ok())
        };
        let first = links.entry(m.ino()).or_insert_with(|| relative.to_owned());
        let is_again = *first != relative;
        lines.push(format!(
            "{relative:?} {:o} {}.{} {:?} {content} {}{:?}",
            m.mode(),
            m.mtime(),
            m.mtime_nsec(),
            attributes(entry.path(), &m).unwrap(),
            if is_again { "= " } else { "" },
            is_again.then_some(first),
        ));
    }
    lines
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("from");
    let tree = Tree::fresh(&from).unwrap();
    let long = "a-long-name-".repeat(12);
    tree.write("usr/bin/tool", "tool", 0o4755).unwrap();
    tree.write(format!("usr/{long}/{long}"), "long", 0o600)
        .unwrap();
    tree.write("usr/empty", "", 0o644).unwrap();
    tree.hard_link("usr/bin/tool", "usr/bin/again").unwrap();
    tree.symlink("../../out/of/it", "usr/link").unwrap();
    tree.symlink(&long, format!("usr/link-{long}")).unwrap();
    tree.make_node("usr/pipe", FileType::Fifo, 0o620, 0)
        .unwrap();
    rustix::fs::setxattr(
        from.join("usr/empty"),
        "user.note",
        b"\n=\0",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let sparse = File::create(from.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    (&sparse).write_all(b"begins").unwrap();
    let name = std::ffi::OsString::from_vec(b"no-utf8-\xff".to_vec());
    fs::write(from.join(&name), "x").unwrap();
    tree.set_precise_time("usr/empty", (1_000, 42)).unwrap();
    tree.set_precise_time("usr/link", (-5, 7)).unwrap();
    fs::set_permissions(from.join("usr/bin"), Permissions::from_mode(0o1711)).unwrap();
    tree.set_precise_time("usr/bin", (2_000, 0)).unwrap();
    tree.set_precise_time("", (3_000, 1)).unwrap();

    let mut archive = Vec::new();
    let amount = pack(&from, &[], ArchivedDevices::Refused, &mut archive).unwrap();
    assert_eq!(amount.files, 5);
    assert!(amount.disk_bytes < 1 << 20, "{amount:?}");
    let length = amount.bytes;
    assert_eq!(length, 4 + 4 + 1 + (3 << 20));
    let mut again = Vec::new();
    pack(&from, &[], ArchivedDevices::Refused, &mut again).unwrap();
    assert!(archive == again);
    let to = Tree::fresh(&place.path().join("to")).unwrap();
    unpack(&archive[..], &to, length, ArchivedDevices::Refused).unwrap();
    assert_eq!(told(to.path()), told(&from));
    let blocks = fs::metadata(to.path().join("sparse")).unwrap().blocks();
    assert!(blocks < 64, "{blocks}");
    let less = Tree::fresh(&place.path().join("less")).unwrap();
    unpack(&archive[..], &less, length - 1, ArchivedDevices::Refused).unwrap_err();
    let whole = Tree::fresh(&place.path().join("whole")).unwrap();
    unpack(&archive[..], &whole, amount, ArchivedDevices::Refused).unwrap();
    assert_eq!(amount.entries, told(&from).len() as u64);
    // Each bound by itself.
    type Field = fn(&mut PackedAmount) -> &mut u64;
    let fields: [Field; 4] = [
        |amount| &mut amount.entries,
        |amount| &mut amount.bytes,
        |amount| &mut amount.disk_bytes,
        |amount| &mut amount.attribute_bytes,
    ];
    for (number, field) in fields.into_iter().enumerate() {
        let mut less = amount;
        *field(&mut less) -= 1;
        let tree = Tree::fresh(&place.path().join(format!("less-{number}"))).unwrap();
        let error = unpack(&archive[..], &tree, less, ArchivedDevices::Refused).unwrap_err();
        let error = avocado_events::chain(&error);
        assert!(
            error.contains("more in it than it should"),
            "{number}: {error}"
        );
    }
    let cut = Tree::fresh(&place.path().join("cut")).unwrap();
    unpack(
        &archive[..archive.len() / 2],
        &cut,
        length,
        ArchivedDevices::Refused,
    )
    .unwrap_err();
}

/// An entry as a stranger writes it: the library would refuse to.
struct ForeignEntry {
    path: &'static str,
    kind: EntryType,
    link: &'static str,
    device: (u32, u32),
    content: Vec<u8>,
}

fn entry(path: &'static str, kind: EntryType) -> ForeignEntry {
    ForeignEntry {
        path,
        kind,
        link: "",
        device: (0, 0),
        content: Vec::new(),
    }
}

fn directory(path: &'static str) -> ForeignEntry {
    entry(path, EntryType::Directory)
}

fn file(path: &'static str) -> ForeignEntry {
    ForeignEntry {
        content: b"x".to_vec(),
        ..entry(path, EntryType::Regular)
    }
}

fn link(path: &'static str, kind: EntryType, link: &'static str) -> ForeignEntry {
    ForeignEntry {
        link,
        ..entry(path, kind)
    }
}

fn archive_of(entries: &[ForeignEntry]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(entry.content.len() as u64);
        header.set_device_major(entry.device.0).unwrap();
        header.set_device_minor(entry.device.1).unwrap();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        gnu.linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_cksum();
        builder.append(&header, &entry.content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// One thing wrong in each, behind what is good.
#[test]
fn what_a_stranger_packed_stays_in_its_tree_or_is_refused() {
    use EntryType::{Block, Char, Fifo, GNUSparse, Link, Regular, Symlink, XGlobalHeader, XHeader};
    let device = |path, kind, device| ForeignEntry {
        device,
        ..entry(path, kind)
    };
    let note = |content: &[u8]| ForeignEntry {
        content: content.to_vec(),
        ..entry("note", XHeader)
    };
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        note(format!("{}{rest}", rest.len() + 2).as_bytes())
    };
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    let cases: Vec<(&str, Vec<ForeignEntry>, Option<&str>)> = vec![
        ("good", vec![file("tree/y")], None),
        ("a whiteout", vec![device("tree/w", Char, (0, 0))], None),
        ("a pipe", vec![entry("tree/p", Fifo)], None),
        (
            "a link out of it, which leads where the tree is the root directory",
            vec![link("tree/y", Symlink, "/etc")],
            None,
        ),
        (
            "another name",
            vec![file("tree/y"), link("tree/z", Link, "tree/y")],
            None,
        ),
        (
            "above",
            vec![file("tree/../../outside/x")],
            Some("path out of it"),
        ),
        ("absolute", vec![file("/tree/y")], Some("path out of it")),
        ("beside", vec![file("x")], Some("path out of it")),
        ("the tree again", vec![directory("tree")], Some("twice")),
        ("a file as the tree", vec![file("tree")], Some("twice")),
        (
            "a file twice",
            vec![file("tree/y"), file("tree/y")],
            Some("has y twice"),
        ),
        (
            "a link, and a file behind it",
            vec![link("tree/y", Symlink, "../../outside"), file("tree/y/x")],
            Some("has y/x in no directory of its own"),
        ),
        (
            "a link in the place of a directory",
            vec![
                directory("tree/y"),
                link("tree/y", Symlink, "../../outside"),
                file("tree/y/x"),
            ],
            Some("has y twice"),
        ),
        (
            "a file through a link within it",
            vec![link("tree/y", Symlink, "a"), file("tree/y/x")],
            Some("has y/x in no directory of its own"),
        ),
        (
            "a name of a file of the host",
            vec![link("tree/y", Link, "/etc/passwd")],
            Some("link out of it"),
        ),
        (
            "a name of a file above",
            vec![link("tree/y", Link, "tree/../../outside/kept")],
            Some("link out of it"),
        ),
        (
            "a name of what is behind a link",
            vec![
                link("tree/y", Symlink, "../../outside"),
                link("tree/z", Link, "tree/y/kept"),
            ],
            Some("cannot create"),
        ),
        (
            "a link to nothing",
            vec![entry("tree/y", Link)],
            Some("link"),
        ),
        (
            "a disk",
            vec![device("tree/y", Block, (8, 0))],
            Some("has a device in it: y"),
        ),
        (
            "the memory",
            vec![device("tree/y", Char, (1, 1))],
            Some("has a device in it: y"),
        ),
        (
            "more than it should",
            vec![ForeignEntry {
                content: vec![b'x'; 5000],
                ..entry("tree/y", Regular)
            }],
            Some("more in it than it should"),
        ),
        (
            "a sparse file",
            vec![entry("tree/y", GNUSparse)],
            Some("no archive of ours"),
        ),
        (
            "a note for all",
            vec![entry("tree/y", XGlobalHeader)],
            Some("no archive of ours"),
        ),
        (
            "a note without an end",
            vec![note(&vec![b'x'; (1 << 20) + 1])],
            Some("more of an entry"),
        ),
        (
            "another length",
            vec![record("size", "512"), file("tree/y")],
            Some("length beside its header"),
        ),
        (
            "a path beside the header",
            vec![record("path", "../outside/kept"), file("tree/y")],
            Some("path out of it"),
        ),
        (
            "attributes that no image has",
            vec![
                // trusted.x
                record("AVOCADO.attributes", "dHJ1c3RlZC54:eA=="),
                file("tree/y"),
            ],
            Some("extended attributes"),
        ),
    ];
    for (name, more, refusal) in cases {
        let mut entries = vec![directory("tree"), directory("tree/a")];
        entries.extend(more);
        let tree = Tree::fresh(&place.path().join("t/tree")).unwrap();
        let archive = archive_of(&entries);
        let done = unpack(&archive[..], &tree, 4096, ArchivedDevices::Refused);
        match (refusal, done) {
            (None, done) => done.expect(name),
            (Some(refusal), done) => {
                let error = avocado_events::chain(&done.expect_err(name));
                assert!(error.contains(refusal), "{name}: {error}");
            }
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "{name}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{name}");
        let kept = fs::metadata(outside.join("kept")).unwrap();
        assert_eq!((kept.nlink(), kept.len()), (1, 4), "{name}");
    }
}

#[test]
fn what_is_no_archive_or_an_empty_one_makes_no_tree() {
    let place = tempfile::tempdir().unwrap();
    for bytes in [b"x".repeat(2048), vec![0; 1024], Vec::new()] {
        let tree = Tree::fresh(&place.path().join("tree")).unwrap();
        unpack(&bytes[..], &tree, 4096, ArchivedDevices::Refused).unwrap_err();
    }
}

#[test]
fn what_is_left_out_is_not_in_it() {
    let place = tempfile::tempdir().unwrap();
    let from = Tree::fresh(&place.path().join("from")).unwrap();
    for path in ["a/b/c", "a/d", "e"] {
        from.write(path, "", 0o644).unwrap();
    }
    let mut archive = Vec::new();
    let out = [Path::new("a/b"), Path::new("e"), Path::new("none")];
    let amount = pack(from.path(), &out, ArchivedDevices::Kept, &mut archive).unwrap();
    assert_eq!(amount.files, 1);
    let to = Tree::fresh(&place.path().join("to")).unwrap();
    unpack(&archive[..], &to, 0, ArchivedDevices::Kept).unwrap();
    assert!(to.has("a/d") && !to.has("a/b") && !to.has("e"));
}
