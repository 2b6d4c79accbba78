//! What each writer makes of trees that are not simple, read back by other programs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use avocado_events::{Event, Silent};
use avocado_project::Filesystem;
use walkdir::WalkDir;

use crate::layout::Layout;
use crate::step_context::StepContext;
use crate::trees::{self, CopyModes, Tree, TreeFeatures};

const EPOCH: u64 = 1_234_567;
const FILESYSTEMS: [Filesystem; 3] = [Filesystem::Squashfs, Filesystem::ErofsLz4, Filesystem::Cpio];

fn context(state: &Path) -> StepContext<'static> {
    StepContext {
        search_path: "/usr/bin:/bin".into(),
        target: "t".parse().unwrap(),
        layout: Layout::new(state, &"t".parse().unwrap()),
        host_layout: Layout::new(state, &"t".parse().unwrap()),
        epoch: EPOCH,
        modes: CopyModes::Keep,
        sink: &Silent,
        loop_mounts: None,
    }
}

/// Those of a tree whose times are as they came.
fn unsettled() -> TreeFeatures {
    TreeFeatures {
        has_other_times: true,
        ..TreeFeatures::default()
    }
}

/// The image of a tree, unpacked again.
fn through(
    filesystem: Filesystem,
    root: &Path,
    features: &TreeFeatures,
    left_out: &[PathBuf],
) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    super::write(
        &context(dir.path()),
        filesystem,
        root,
        features,
        &image,
        left_out,
    )
    .unwrap();
    let out = dir.path().join("out");
    let mut tool = match filesystem {
        Filesystem::Squashfs => {
            let mut tool = Command::new("unsquashfs");
            tool.args(["-no-progress", "-quiet", "-xattrs", "-dest"])
                .arg(&out)
                .arg(&image);
            tool
        }
        Filesystem::Cpio => {
            fs::create_dir(&out).unwrap();
            let mut tool = Command::new("cpio");
            tool.args(["--extract", "--quiet", "--preserve-modification-time"])
                .current_dir(&out)
                .stdin(File::open(&image).unwrap());
            tool
        }
        _ => {
            let mut extract = OsString::from("--extract=");
            extract.push(&out);
            let mut tool = Command::new("fsck.erofs");
            tool.arg(extract).arg(&image);
            tool
        }
    };
    let status = tool.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{filesystem:?}");
    (dir, out)
}

/// What is where, byte for byte: the content of a file, the target of a link.
fn content(root: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let entries = WalkDir::new(root)
        .min_depth(1)
        .into_iter()
        .map(Result::unwrap);
    entries
        .map(|entry| {
            let path = entry.path();
            let kind = entry.file_type();
            let content = if kind.is_symlink() {
                fs::read_link(path).unwrap().into_os_string().into_vec()
            } else if kind.is_file() {
                fs::read(path).unwrap()
            } else {
                Vec::new()
            };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
            (name.to_vec(), content)
        })
        .collect()
}

/// A name for each byte that one can have.
fn names() -> Vec<OsString> {
    let bytes = (1..=255_u8).filter(|byte| *byte != b'/');
    let mut names: Vec<_> = bytes
        .clone()
        .map(|byte| OsString::from_vec(vec![b'n', byte]))
        .collect();
    let alone = bytes.filter(|byte| *byte != b'.');
    names.extend(alone.map(|byte| OsString::from_vec(vec![byte])));
    let more: [&[u8]; 6] = [
        b"-e",
        b"...",
        b"... x",
        b"TRAILER!!!",
        b"a b\n'c\"$(d)`e`\\",
        b"[!a]*?{b,c}",
    ];
    names.extend(more.map(|name| OsStr::from_bytes(name).to_owned()));
    names
}

#[test]
fn names_are_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fs::create_dir_all(root.join("out")).unwrap();
    for name in names() {
        fs::write(root.join(&name), name.as_bytes()).unwrap();
    }
    for (at, name) in names().into_iter().enumerate() {
        symlink(&name, root.join(format!("out/{at}"))).unwrap();
    }
    let whole = content(&root);
    for filesystem in FILESYSTEMS {
        let (_dir, out) = through(filesystem, &root, &unsettled(), &[]);
        assert!(content(&out) == whole, "{filesystem:?}");
    }
}

#[test]
fn what_is_left_out_is_that_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fs::create_dir_all(&root).unwrap();
    let mut left_out = Vec::new();
    for (at, name) in names().into_iter().enumerate() {
        let parent = Path::new("var").join(&name);
        fs::create_dir_all(root.join(&parent)).unwrap();
        let path = parent.join(&name);
        fs::write(root.join(&path), "out").unwrap();
        // Another name of the same file is another file.
        fs::hard_link(root.join(&path), root.join(format!("kept{at}"))).unwrap();
        left_out.push(path);
    }
    // A pattern would match these too.
    for name in ["var/*/kept", "var/?/kept", "var/[/kept"] {
        fs::write(root.join(name), "").unwrap();
    }
    let mut expected = content(&root);
    for path in &left_out {
        expected.remove(path.as_os_str().as_bytes()).unwrap();
    }
    for filesystem in FILESYSTEMS {
        let (_dir, out) = through(filesystem, &root, &unsettled(), &left_out);
        let found = content(&out);
        assert!(
            found == expected,
            "{filesystem:?}: {:?}",
            expected
                .keys()
                .filter(|k| !found.contains_key(*k))
                .chain(found.keys().filter(|k| !expected.contains_key(*k)))
                .map(|n| String::from_utf8_lossy(n))
                .collect::<Vec<_>>()
        );
        assert_eq!(fs::metadata(out.join("kept0")).unwrap().nlink(), 1);
    }
}

/// The image of an overlay, as a build makes it.
fn image_of_overlay(filesystem: Filesystem, fill: impl FnOnce(&Path)) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let overlay = dir.path().join("overlay");
    fs::create_dir(&overlay).unwrap();
    fill(&overlay);
    let tree = Tree::fresh(&dir.path().join("tree")).unwrap();
    trees::copy(&overlay, &tree, Path::new(""), CopyModes::Checkout(0o644)).unwrap();
    let features = trees::settle(&tree, None, EPOCH).unwrap();
    let image = dir.path().join("image");
    let context = context(dir.path());
    super::write(&context, filesystem, tree.path(), &features, &image, &[]).unwrap();
    fs::read(image).unwrap()
}

#[test]
fn an_author_with_hard_links_and_holes_and_a_clone_have_the_same_image() {
    let name = |directory: &Path, name: &str| directory.join(name);
    for filesystem in FILESYSTEMS {
        let author = image_of_overlay(filesystem, |overlay| {
            fs::write(name(overlay, "a"), "twice").unwrap();
            fs::hard_link(name(overlay, "a"), name(overlay, "b")).unwrap();
            let holes = File::create(name(overlay, "holes")).unwrap();
            holes.set_len(1 << 20).unwrap();
        });
        let clone = image_of_overlay(filesystem, |overlay| {
            fs::write(name(overlay, "a"), "twice").unwrap();
            fs::write(name(overlay, "b"), "twice").unwrap();
            fs::write(name(overlay, "holes"), vec![0; 1 << 20]).unwrap();
        });
        assert!(author == clone, "{filesystem:?}");
    }
}

#[test]
fn files_have_the_times_that_packages_give_them_and_the_rest_has_the_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let packages = Tree::fresh(&dir.path().join("packages")).unwrap();
    packages.write("usr/packaged", "1", 0o644).unwrap();
    packages.set_time("usr/packaged", 1_000_000).unwrap();
    let root = Tree::fresh(&dir.path().join("root")).unwrap();
    trees::copy(packages.path(), &root, Path::new(""), CopyModes::Keep).unwrap();
    root.write("usr/written", "2", 0o644).unwrap();
    let features = trees::settle(&root, Some(packages.path()), EPOCH).unwrap();
    assert!(features.has_other_times);
    for filesystem in FILESYSTEMS {
        let (_dir, out) = through(filesystem, root.path(), &features, &[]);
        let time = |name: &str| fs::metadata(out.join(name)).unwrap().mtime();
        assert_eq!(time("usr/packaged"), 1_000_000, "{filesystem:?}");
        assert_eq!(time("usr/written"), EPOCH as i64, "{filesystem:?}");
        // cpio unpacks into directories without giving them their times again.
        if filesystem != Filesystem::Cpio {
            assert_eq!(time("usr"), EPOCH as i64, "{filesystem:?}");
        }
    }
}

#[test]
fn an_image_holds_extended_attributes_or_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = Tree::fresh(&dir.path().join("tree")).unwrap();
    root.write("d/f", "", 0o644).unwrap();
    let image = dir.path().join("image");
    let write = |filesystem| {
        let features = trees::settle(&root, None, EPOCH).unwrap();
        let told = Mutex::new(Vec::new());
        let sink = |event: Event| told.lock().unwrap().push(event.message);
        let context = StepContext {
            sink: &sink,
            ..context(dir.path())
        };
        super::write(&context, filesystem, root.path(), &features, &image, &[]).unwrap();
        (fs::read(&image).unwrap(), told.into_inner().unwrap())
    };
    let before = FILESYSTEMS.map(|filesystem| write(filesystem).0);
    trees::set_attribute(&root.shown("d/f"), "user.note", b"the value of a note").unwrap();
    for (filesystem, before) in FILESYSTEMS.into_iter().zip(before) {
        let (after, told) = write(filesystem);
        if filesystem == Filesystem::Cpio {
            let expected = "a cpio image holds no extended attributes and file capabilities, \
                            which are lost: /d/f";
            assert_eq!((told, after == before), (vec![expected.to_owned()], true));
            continue;
        }
        assert_eq!(told, [""; 0], "{filesystem:?}");
        let has = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|w| w == text);
        if filesystem == Filesystem::Squashfs {
            let features = trees::settle(&root, None, EPOCH).unwrap();
            let (_dir, out) = through(filesystem, root.path(), &features, &[]);
            let file = out.join("d/f");
            let attributes = trees::attributes(&file, &fs::metadata(&file).unwrap()).unwrap();
            assert_eq!(attributes.len(), 1);
        } else {
            // Its tools of that time read none back.
            assert!(has(&after, b"the value of a note") && !has(&before, b"the value"));
        }
    }
    // All or none: what hangs on the machine would come along.
    let features = TreeFeatures {
        other_attribute: Some(("d".into(), "security.selinux".into())),
        ..trees::settle(&root, None, EPOCH).unwrap()
    };
    let context = context(dir.path());
    let squashfs = Filesystem::Squashfs;
    let written = super::write(&context, squashfs, root.path(), &features, &image, &[]);
    let error = written.unwrap_err().to_string();
    let expected = "gives /d the attribute `security.selinux`, ";
    assert!(error.contains(expected), "{error}");
}
