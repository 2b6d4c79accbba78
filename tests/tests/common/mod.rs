//! What the tests of a build share: one feed, one project that is built once, and copies of it.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::path::Path;
use std::sync::OnceLock;

use avocado_testbed::feed::Feed;
use avocado_testbed::project::Project;
use avocado_testbed::tools::{Call, Need, cache_dir, skip, source_root, static_binary};
use tempfile::TempDir;

/// Whether the machine cannot run a build; says so.
pub(crate) fn cannot_build(name: &str) -> bool {
    skip(
        name,
        &[
            Need::Root,
            Need::StaticBinary("avocado"),
            Need::StaticBinary("avocadoctl"),
            Need::Tool("dnf"),
            Need::Tool("rpmbuild"),
            Need::Tool("createrepo_c"),
            Need::Tool("debootstrap"),
            Need::Tool("mksquashfs"),
            Need::Tool("mkfs.erofs"),
            Need::Tool("mkfs.btrfs"),
        ],
    )
}

/// The sample feed, for the life of the test program.
pub(crate) fn feed() -> &'static Feed {
    static FEED: OnceLock<Feed> = OnceLock::new();
    FEED.get_or_init(|| {
        let avocadoctl = static_binary("avocadoctl").unwrap();
        Feed::ensure(&cache_dir().join("feed"), &avocadoctl, &cache_dir()).unwrap()
    })
}

/// A directory that is removed at the end, with a project in it.
pub(crate) struct Sandbox {
    pub(crate) directory: TempDir,
    pub(crate) project: Project,
}

impl Sandbox {
    fn new(copy: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("hello");
        copy(&place);
        let keys = directory.path().join("keys");
        let project = Project::new(&place, &feed().url(), &keys).unwrap();
        Sandbox { directory, project }
    }

    /// The example, as it is in a fresh clone.
    pub(crate) fn fresh() -> Self {
        Sandbox::new(|place| {
            let example = source_root().join("examples/hello");
            cp(&example, place);
            let state = place.join(".avocado");
            if state.exists() {
                std::fs::remove_dir_all(state).unwrap();
            }
        })
    }

    /// The example with everything built, and its signing keys.
    pub(crate) fn built() -> Self {
        static BUILT: OnceLock<Sandbox> = OnceLock::new();
        let built = BUILT.get_or_init(|| {
            let sandbox = Sandbox::fresh();
            sandbox.project.avocado(&["build"]).ok().unwrap();
            sandbox
        });
        let sandbox = Sandbox::new(|place| cp(built.project.directory(), place));
        cp(
            &built.directory.path().join("keys"),
            &sandbox.directory.path().join("keys"),
        );
        sandbox
    }
}

fn cp(from: &Path, to: &Path) {
    Call::new("cp").arg("-a").arg(from).arg(to).ok().unwrap();
}
