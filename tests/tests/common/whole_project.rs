//! A small project with all that images are made of: packages with scriptlets, overlays, hooks,
//! accounts. Its files are in `tests/whole_project`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use avocado_manifest::Digest;
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::BuildEvents;
use avocado_testbed::tools::source_root;
use serde_json::Value;

use super::{cp, feed};

/// What has to be the same for the same sources: names, each with a digest.
pub(crate) type ProjectOutcome = BTreeMap<String, String>;

/// The sample feed and the packages that have scriptlets, in `place`.
pub(crate) fn feed_with_scriptlets(place: &Path) -> SampleFeed {
    let specs = source_root().join("tests/scriptlets");
    let feed = feed().with_packages(place, &specs, "target/qemux86-64", &[]);
    feed.unwrap()
}

/// Puts the project's files into `place`, as a clone has them.
pub(crate) fn write(place: &Path) {
    cp(&source_root().join("tests/whole_project"), place);
}

/// What a build left that said `events`, of the sources in a directory: every image but that of var, the tree of
/// var, the manifest and the lock.
pub(crate) fn outcome(sources: &Path, events: &BuildEvents) -> ProjectOutcome {
    let mut outcome = ProjectOutcome::new();
    for artifact in events.artifacts() {
        // The image of var has identifiers of its own, and a repository the times of its metadata.
        if ["var", "repository"].contains(&artifact.kind.as_str()) {
            continue;
        }
        let digest = digest(&artifact.path);
        assert_eq!(digest, artifact.sha256, "{}", artifact.path.display());
        outcome.insert(format!("{} {}", artifact.kind, artifact.name), digest);
    }
    let state = sources.join(".avocado/state/qemux86-64");
    outcome.extend(tree(&state.join("runtimes/dev/var-staging")));
    for name in ["root.json", "1.root.json"] {
        let path = Path::new("lib/avocado/metadata").join(name);
        let root = timeless_root(&state.join("runtimes/dev/var-staging").join(&path));
        outcome.insert(format!("var {path:?}"), root);
    }
    outcome.insert("lock".into(), digest(&sources.join("avocado.lock")));
    outcome
}

/// The root metadata that devices trust. It is made once for each state, by the clock: it says until
/// when it holds.
fn timeless_root(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut root: Value = serde_json::from_slice(&text).unwrap();
    assert!(root["signed"]["expires"].take().is_string(), "{root}");
    for signature in root["signatures"].as_array_mut().unwrap() {
        assert!(signature["sig"].take().is_string(), "{signature}");
    }
    root.to_string()
}

/// What is in a tree, with modes.
fn tree(root: &Path) -> ProjectOutcome {
    let entries = walkdir::WalkDir::new(root).min_depth(1).into_iter();
    let entries = entries.map(|entry| {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap();
        let metadata = entry.metadata().unwrap();
        let mode = metadata.permissions().mode();
        let content = if metadata.is_file() {
            digest(entry.path())
        } else if metadata.is_symlink() {
            format!("{:?}", fs::read_link(entry.path()).unwrap())
        } else {
            String::new()
        };
        (format!("var {path:?}"), format!("{mode:o} {content}"))
    });
    entries.collect()
}

fn digest(path: &Path) -> String {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (digest, _) = Digest::of_reader(file).unwrap();
    digest.to_string()
}

/// The names of what differs.
pub(crate) fn differences(one: &ProjectOutcome, other: &ProjectOutcome) -> BTreeSet<String> {
    let names = one.keys().chain(other.keys());
    let different = names.filter(|name| one.get(*name) != other.get(*name));
    different.cloned().collect()
}
