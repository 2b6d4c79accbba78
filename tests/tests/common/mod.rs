//! What the tests of a build share: one feed, one project that is built once, and copies of it.

#![allow(dead_code, reason = "each test program uses some of it")]

pub(crate) mod authority;
pub(crate) mod device;
pub(crate) mod os_update;
pub(crate) mod whole_project;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{
    TestNeed, ToolCall, cache_dir, skip_without, source_root, static_binary,
};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// What no path should need to be quoted for.
pub(crate) const AWKWARD: &str = "it's \"a\" $(touch pwned) `touch pwned` $HOME; & \\ *";

/// Whether the machine cannot run a build; says so.
pub(crate) fn cannot_build(name: &str) -> bool {
    skip_without(
        name,
        &[
            TestNeed::Root,
            TestNeed::StaticBinary("avocado"),
            TestNeed::StaticBinary("avocadoctl"),
            TestNeed::Tool("dnf"),
            TestNeed::Tool("rpmbuild"),
            TestNeed::Tool("createrepo_c"),
            TestNeed::Tool("debootstrap"),
            TestNeed::Tool("mksquashfs"),
            TestNeed::Tool("mkfs.erofs"),
            TestNeed::Tool("mkfs.btrfs"),
        ],
    )
}

/// Whether the machine cannot build the example that compiles; says so.
pub(crate) fn cannot_compile(name: &str) -> bool {
    cannot_build(name) || skip_without(name, &[TestNeed::Tool("gcc"), TestNeed::Tool("git")])
}

/// The steps that ran.
pub(crate) fn ran(project: &TestProject, arguments: &[&str]) -> Vec<String> {
    project.events(arguments).unwrap().steps("success")
}

/// Runs avocado at a terminal, as `script` makes one; with TERM as it is here.
pub(crate) fn at_terminal(project: &TestProject, arguments: &[&str]) -> Output {
    let command = project.command(arguments);
    let quoted = |word: &OsStr| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''"));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = words.map(quoted).collect();
    let mut at_terminal = Command::new("script");
    at_terminal.args(["-qec", &line.join(" "), "/dev/null"]);
    for (name, value) in command.get_envs() {
        at_terminal.env(name, value.unwrap_or_default());
    }
    at_terminal
        .current_dir(project.directory())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The same command, started as from a terminal. What runs in a shell's background ignores Ctrl-C
/// from the start, and so does all that it starts.
pub(crate) fn interruptible(command: &Command) -> Command {
    let mut wrapped = Command::new("env");
    wrapped
        .arg("--default-signal=INT")
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(command.get_current_dir().unwrap());
    wrapped
}

/// The sample feed, for the life of the test program.
pub(crate) fn feed() -> &'static SampleFeed {
    static FEED: OnceLock<SampleFeed> = OnceLock::new();
    FEED.get_or_init(|| {
        let avocadoctl = static_binary("avocadoctl").unwrap();
        SampleFeed::ensure(&cache_dir().join("feed"), &avocadoctl, &cache_dir()).unwrap()
    })
}

/// A directory that is removed at the end, with a project in it.
pub(crate) struct Sandbox {
    pub(crate) directory: TempDir,
    pub(crate) project: TestProject,
}

impl Sandbox {
    fn new(copy: impl FnOnce(&Path)) -> Self {
        Sandbox::at("hello", copy)
    }

    fn at(name: &str, copy: impl FnOnce(&Path)) -> Self {
        Sandbox::with_feed(feed(), name, copy)
    }

    fn with_feed(feed: &SampleFeed, name: &str, copy: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join(name);
        copy(&place);
        let keys = directory.path().join("keys");
        let project = TestProject::new(&place, &feed.url(), &keys).unwrap();
        Sandbox { directory, project }
    }

    /// The example, as it is in a fresh clone, with the packages of another feed.
    pub(crate) fn fresh_with(feed: &SampleFeed) -> Self {
        Sandbox::with_feed(feed, "hello", copy_example)
    }

    /// The example, as it is in a fresh clone.
    pub(crate) fn fresh() -> Self {
        Sandbox::new(copy_example)
    }

    /// Another one of the examples, as it is in a fresh clone.
    pub(crate) fn example(example: &str) -> Self {
        Sandbox::example_at(example, example)
    }

    /// The same in a directory of that name.
    pub(crate) fn example_at(example: &str, name: &str) -> Self {
        Sandbox::at(name, |place| copy_clone_of(example, place))
    }

    /// The example with everything built, and its signing keys.
    pub(crate) fn built() -> Self {
        let built = built_once();
        let sandbox = Sandbox::new(|place| cp(&built.join("hello"), place));
        cp(&built.join("keys"), &sandbox.directory.path().join("keys"));
        sandbox
    }
}

/// The lock file of the example, with everything in it that a build locks.
pub(crate) fn whole_lock() -> PathBuf {
    built_once().join("hello/avocado.lock")
}

fn built_once() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build_once)
}

/// Builds the example in cargo's directory for test data, where the next test program finds it
/// again: for as long as program and feed are the same, it has nothing to do.
fn build_once() -> PathBuf {
    let program = static_binary("avocado").unwrap().metadata().unwrap();
    let id = fs::read_to_string(feed().directory().join("feed-id")).unwrap();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("built");
    // The registry of keys names their files by absolute paths, so another place starts anew.
    let key = format!(
        "{} {} {} {}",
        id.trim(),
        program.len(),
        program.mtime(),
        place.display()
    );
    fs::create_dir_all(&place).unwrap();
    let lock = File::create(place.join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let (known, hello, keys) = (place.join("key"), place.join("hello"), place.join("keys"));
    if fs::read_to_string(&known).ok().as_ref() != Some(&key) {
        let _ = fs::remove_dir_all(&hello);
        let _ = fs::remove_dir_all(&keys);
        copy_example(&hello);
        fs::write(&known, key).unwrap();
    }
    let project = TestProject::new(&hello, &feed().url(), &keys).unwrap();
    project.avocado(&["build"]).ok().unwrap();
    place
}

fn copy_example(place: &Path) {
    copy_clone_of("hello", place);
}

pub(crate) fn copy_clone_of(example: &str, place: &Path) {
    cp(&source_root().join("examples").join(example), place);
    let state = place.join(".avocado");
    if state.exists() {
        fs::remove_dir_all(state).unwrap();
    }
}

pub(crate) fn cp(from: &Path, to: &Path) {
    ToolCall::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .ok()
        .unwrap();
}
