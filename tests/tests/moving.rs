//! A state that moves from one machine to another, as one file or through a pipe.

mod common;

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without, static_binary};
use common::{Sandbox, cannot_build, copy_clone_of, cp, feed};
use tempfile::TempDir;
use walkdir::WalkDir;

const TARGET: &str = "qemux86-64";

/// No user of the host.
const ORDINARY: &str = "64321";
/// Where what is published of the example's runtime is.
const PUBLISHED: &str = "output/runtimes/dev";
/// They are of who works on one machine. All others are files of packages.
const LOCKS: [&str; 3] = [
    "output/runtimes/dev/.repository.lock",
    ".work/hitl.lock",
    ".work/kernel.lock",
];

/// A machine with the same sources, lock and keys, and nothing that was built.
struct OtherMachine {
    directory: TempDir,
    project: TestProject,
}

impl OtherMachine {
    fn new(first: &Sandbox) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let place = directory.path().join("another/place");
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        copy_clone_of("hello", &place);
        let lock = first.project.directory().join("avocado.lock");
        fs::copy(lock, place.join("avocado.lock")).unwrap();
        let keys = directory.path().join("keys");
        cp(&first.directory.path().join("keys"), &keys);
        // The registry says where its files were, which not every user may read.
        let registry = keys.join("keys.json");
        let text = fs::read_to_string(&registry).unwrap();
        let was = Path::new(env!("CARGO_TARGET_TMPDIR")).join("built/keys");
        let moved = text.replace(was.to_str().unwrap(), keys.to_str().unwrap());
        assert_ne!(moved, text);
        fs::write(registry, moved).unwrap();
        let project = TestProject::new(&place, &feed().url(), &keys).unwrap();
        let home = directory.path().join("home");
        fs::create_dir(&home).unwrap();
        OtherMachine {
            project: project.with_env("HOME", &home),
            directory,
        }
    }

    /// The same for a user who is not root.
    fn of_ordinary_user(mut self) -> Self {
        let chown = ToolCall::new("chown").args(["-R", &format!("{ORDINARY}:{ORDINARY}")]);
        chown.arg(self.directory.path()).ok().unwrap();
        let program = static_binary("avocado").unwrap();
        let ids = [format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}")];
        let mut words = vec!["setpriv".to_owned()];
        words.extend(ids);
        words.push("--clear-groups".to_owned());
        words.push(program.to_str().unwrap().to_owned());
        self.project = self.project.with_program(words);
        self
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// What of a file counts beside its owner, which without root is always the user.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    path: PathBuf,
    mode: u32,
    size: u64,
    modified: (i64, i64),
    links: u64,
    target: Option<PathBuf>,
}

fn entries(root: &Path) -> Vec<Entry> {
    let walk = WalkDir::new(root).sort_by_file_name();
    let entries = walk.into_iter().map(|entry| {
        let entry = entry.unwrap();
        let found = entry.path().symlink_metadata().unwrap();
        Entry {
            path: entry.path().strip_prefix(root).unwrap().to_owned(),
            mode: found.mode(),
            size: if found.is_dir() { 0 } else { found.len() },
            modified: (found.mtime(), found.mtime_nsec()),
            links: if found.is_dir() { 0 } else { found.nlink() },
            target: fs::read_link(entry.path()).ok(),
        }
    });
    let is_left_out = |entry: &Entry| {
        let is_lock = LOCKS.iter().any(|lock| entry.path == Path::new(lock));
        is_lock || entry.path.starts_with(".work/cache")
    };
    entries.filter(|entry| !is_left_out(entry)).collect()
}

/// The same where a build has begun and ended, which makes the lock of a repository: the directory that
/// this is in has the time of it.
fn entries_after_build(root: &Path) -> Vec<Entry> {
    let mut entries = entries(root);
    let mut directories = entries.iter_mut();
    let with_lock = directories.find(|entry| entry.path == Path::new(PUBLISHED));
    with_lock.unwrap().modified = (0, 0);
    entries
}

/// Everything that is in the file, unpacked.
fn content(file: &Path) -> Vec<u8> {
    let mut archive = tar::Archive::new(File::open(file).unwrap());
    let mut all = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry
            .path()
            .unwrap()
            .extension()
            .is_some_and(|e| e == "zst")
        {
            let mut decoder = zstd::Decoder::new(entry).unwrap();
            decoder.read_to_end(&mut all).unwrap();
        } else {
            entry.read_to_end(&mut all).unwrap();
        }
    }
    all
}

fn has(content: &[u8], text: &[u8]) -> bool {
    content.windows(text.len()).any(|window| window == text)
}

#[test]
fn what_one_machine_built_is_up_to_date_on_another() {
    if cannot_build("what_one_machine_built_is_up_to_date_on_another") {
        return;
    }
    let first = Sandbox::built();
    let second = OtherMachine::new(&first);
    let file = second.file("state.avocado");
    let saved = first.project.events(&["save", file.to_str().unwrap()]);
    let saved = saved.unwrap().complete().clone();
    let sum = ToolCall::new("sha256sum").arg(&file).ok().unwrap().stdout;
    let digest = sum.split_whitespace().next().unwrap();
    assert_eq!(saved["sha256"], digest);
    assert_eq!(saved["targets"][0]["target"], TARGET);

    // No key that signs is in it, as it is or in any of the forms that a file has it in.
    let content = content(&file);
    assert!(has(&content, b"avocado"));
    let mut keys = 0;
    for key in WalkDir::new(first.directory.path().join("keys")) {
        let key = key.unwrap();
        if key.file_type().is_file() && key.path().extension().is_some_and(|e| e == "key") {
            let text = fs::read(key.path()).unwrap();
            let text = text.trim_ascii();
            keys += 1;
            assert!(!text.is_empty() && !has(&content, text), "{key:?}");
        }
    }
    assert!(keys > 0);

    second
        .project
        .avocado(&["load", file.to_str().unwrap(), "--sha256", digest])
        .ok()
        .unwrap();
    assert_eq!(
        entries(&second.project.state()),
        entries(&first.project.state())
    );
    let built = second.project.events(&["build"]).unwrap();
    assert_eq!(built.steps("success"), [""; 0]);
    assert!(built.steps("skipped").len() > 10);
    // It goes on from there: an edit runs what follows from it.
    let overlay = "overlay/hello-config/etc/hello/another";
    second.project.write(overlay, "another\n").unwrap();
    let ran = common::ran(&second.project, &["build"]);
    assert!(
        ran.iter().any(|step| step.starts_with("ext build")),
        "{ran:?}"
    );
    assert!(!ran.iter().any(|step| step.contains("install")), "{ran:?}");
}

#[test]
fn users_without_root_give_a_state_to_root_and_back() {
    let name = "users_without_root_give_a_state_to_root_and_back";
    if cannot_build(name) || skip_without(name, &[TestNeed::Tool("setpriv")]) {
        return;
    }
    let first = Sandbox::built();
    let second = OtherMachine::new(&first).of_ordinary_user();
    let third = OtherMachine::new(&first);
    let piped = |from: &TestProject, to: &TestProject| {
        let mut save = from.command(&["save", "-"]);
        let mut save = save.stdout(Stdio::piped()).spawn().unwrap();
        let mut load = to.command(&["load", "-"]);
        let load = load.stdin(save.stdout.take().unwrap()).status().unwrap();
        assert!(load.success() && save.wait().unwrap().success());
    };
    piped(&first.project, &second.project);
    let owners = WalkDir::new(second.project.state()).into_iter();
    let owners = owners.map(|entry| entry.unwrap().metadata().unwrap().uid().to_string());
    for owner in owners {
        assert_eq!(owner, ORDINARY);
    }
    // Not every user can make the image of the var partition.
    let build = ["build", "--no-var"];
    assert_eq!(common::ran(&second.project, &build), [""; 0]);
    piped(&second.project, &third.project);
    assert_eq!(
        entries_after_build(&third.project.state()),
        entries_after_build(&first.project.state())
    );
    assert_eq!(common::ran(&third.project, &["build"]), [""; 0]);
}

#[test]
fn a_save_that_is_stopped_leaves_nothing() {
    if cannot_build("a_save_that_is_stopped_leaves_nothing") {
        return;
    }
    let first = Sandbox::built();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("state.avocado");
    // A reader that goes away is a failure: what it has is of no use.
    let mut save = first.project.command(&["save", "-"]);
    let mut save = save.stdout(Stdio::piped()).spawn().unwrap();
    drop(save.stdout.take());
    assert!(!save.wait().unwrap().success());
    // As is a disk that is full.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut save = first.project.command(&["save", "-"]);
    assert!(!save.stdout(full).status().unwrap().success());
    let save = first.project.command(&["save", file.to_str().unwrap()]);
    let mut save = common::interruptible(&save).spawn().unwrap();
    let id = save.id().to_string();
    let _ = ToolCall::new("kill").args(["-INT", &id]).run();
    let ended = save.wait().unwrap();
    assert!(!ended.success() || file.exists());
    assert!(ended.success() || fs::read_dir(place.path()).unwrap().count() == 0);
    assert!(
        !first
            .project
            .directory()
            .join(".avocado/state/.moving")
            .exists()
    );
}
