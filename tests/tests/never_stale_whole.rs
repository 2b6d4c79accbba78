//! Never stale, of the whole project: whatever changes in it, a build makes of it what one makes that
//! starts with nothing, elsewhere.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::{BuildEvents, TestProject};
use avocado_testbed::tools::ToolOutput;
use common::whole_project::{self, ProjectOutcome};
use common::{Sandbox, cannot_build, cp};

/// How many changes `./test` makes, and the variable that asks for more.
const CHANGES: (usize, &str) = (14, "AVOCADO_TEST_CHANGES");

/// What is done to a project, on top of what was done before.
enum WholeChange {
    /// Text of a file, and what takes its place.
    Text(&'static str, &'static str, &'static str),
    /// More at the end of a file.
    More(&'static str),
    /// A file that comes, or goes where it is.
    Toggle(&'static str),
    /// Other arguments of `build`.
    Arguments(&'static [&'static str]),
}
use WholeChange::{Arguments, More, Text, Toggle};

const YAML: &str = "avocado.yaml";
const LOCK: &str = "avocado.lock";

/// One of each kind comes before a second of any, so that a part of them is of all kinds.
const ALL: [WholeChange; 34] = [
    Text(
        YAML,
        "packages: {with-links: \"*\", in-order: \"*\"}",
        "packages: {with-links: \"*\"}",
    ),
    Text(YAML, "uid: 2000", "uid: 2001"),
    More("overlay/rootfs/usr/lib/probe/os"),
    More("hooks/app"),
    Text(LOCK, "\"small\": \"1.1", "\"small\": \"1.0"),
    Text(YAML, "[app, config]", "[config, app]"),
    Text(YAML, "1767225600", "1767225601"),
    Arguments(&["--no-scripts"]),
    Text(
        YAML,
        "packages: {in-order: \"*\"}",
        "packages: {in-order: \"*\", small: \"*\"}",
    ),
    Text(YAML, "[config, app]", "[config, {app: {enabled: false}}]"),
    More("seeds/deep/er"),
    Arguments(&[]),
    Text(YAML, "password: \"\"", "password: \"*\""),
    Text(
        YAML,
        "filesystem: erofs-lz4\n  packages",
        "filesystem: squashfs\n  packages",
    ),
    Toggle("overlay/initramfs/etc/new"),
    More("hooks/runtime"),
    Text(YAML, "{small: \"*\", with-links: \"*\"}", "{small: \"*\"}"),
    Text(YAML, "[config, {app: {enabled: false}}]", "[app]"),
    Text(YAML, "gid: 2200", "gid: 2300"),
    Toggle("overlay/rootfs/etc/probe/probe.conf"),
    Text(
        YAML,
        "release: \"2024\", channel: edge",
        "release: \"2024\", channel: edge, repo: {}",
    ),
    Text(YAML, "    types: [sysext]", "    types: [sysext, confext]"),
    Text(YAML, "groups: [others]", "groups: []"),
    Text(YAML, "preprocess: [\"*.conf\"]", "mode: opaque"),
    Text(YAML, "dest: lib/seeds", "dest: lib/other"),
    Text(YAML, "initramfs:\n", "initramfs:\n  filesystem: cpio.lz4\n"),
    Text(
        YAML,
        "[app]\n    packages: {avocado-runtime: \"*\"}",
        "[app, config]\n    packages: {}",
    ),
    Text(YAML, "    post_build: hooks/runtime\n", ""),
    Text(
        YAML,
        "packages: {with-links: \"*\"}",
        "packages: {with-links: \"*\", in-order: \"*\"}",
    ),
    Text(YAML, "  permissions: dev\n\ninitramfs", "\ninitramfs"),
    Text(YAML, "  overlay: overlay/initramfs\n", ""),
    Text(YAML, "1767225601", "1767225600"),
    Text(LOCK, "\"small\": \"1.0", "\"small\": \"1.1"),
    Text(YAML, "    var_files: [var/lib/probe]\n", ""),
];

/// Changes after each of which nothing can be built until the next undoes it.
const REFUSED: [WholeChange; 4] = [
    Text("hooks/app", "set -e\n", "set -e\nexit 7\n"),
    Text("hooks/app", "set -e\nexit 7\n", "set -e\n"),
    Text(YAML, "dest: lib/", "dest: ../lib/"),
    Text(YAML, "dest: ../lib/", "dest: lib/"),
];

/// A project and how it is built.
struct Probed<'p> {
    feed: &'p SampleFeed,
    keys: PathBuf,
    arguments: &'static [&'static str],
    /// How many steps run at a time.
    parallel: &'static str,
}

impl Probed<'_> {
    /// Builds what is in `place`.
    fn build(&self, place: &Path) -> ToolOutput {
        let project = TestProject::new(place, &self.feed.url(), &self.keys).unwrap();
        // Of two steps that fail it is always the same one that is told.
        let project = project.with_env("AVOCADO_PARALLEL_TASKS", self.parallel);
        let call = project.avocado(&["build", "--output", "json"]);
        call.args(self.arguments).run().unwrap()
    }

    /// Builds what is in `place`, which can be built.
    fn outcome(&self, place: &Path, change: &str) -> ProjectOutcome {
        let said = self.build(place);
        assert!(said.status.success(), "{change}: {said}");
        whole_project::outcome(place, &BuildEvents::parse(&said).unwrap())
    }

    /// What programs are told of why what is in `place` cannot be built, wherever that is.
    fn refusal(&self, place: &Path, change: &str) -> String {
        let said = self.build(place);
        assert!(!said.status.success(), "{change}: {said}");
        let events = BuildEvents::parse(&said).unwrap();
        let error = events.of("error").last();
        let error = error.unwrap_or_else(|| panic!("{change}: no word of why: {said}"));
        error.to_string().replace(place.to_str().unwrap(), "")
    }

    /// Makes a change, and says which.
    fn change(&mut self, place: &Path, change: &WholeChange) -> String {
        match change {
            Text(file, from, to) => {
                let path = place.join(file);
                let before = fs::read_to_string(&path).unwrap();
                let after = before.replace(from, to);
                assert_ne!(before, after, "{from:?} is not in {file}:\n{before}");
                fs::write(path, after).unwrap();
                format!("{file}: {from:?} is {to:?}")
            }
            More(file) => {
                let path = place.join(file);
                let mut text = fs::read(&path).unwrap();
                text.extend(b"\n# more\n");
                fs::write(path, text).unwrap();
                format!("{file} has more text")
            }
            Toggle(file) => {
                let path = place.join(file);
                if path.exists() {
                    fs::remove_file(path).unwrap();
                } else {
                    fs::write(path, "new\n").unwrap();
                }
                format!("{file} comes or goes")
            }
            Arguments(arguments) => {
                self.arguments = arguments;
                format!("arguments: {arguments:?}")
            }
        }
    }
}

/// What of a project is no state.
fn copy_sources(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != ".avocado" {
            cp(&entry.path(), &to.join(entry.file_name()));
        }
    }
}

#[test]
fn after_each_change_of_the_whole_project_a_build_makes_what_one_from_nothing_makes() {
    const NAME: &str =
        "after_each_change_of_the_whole_project_a_build_makes_what_one_from_nothing_makes";
    if cannot_build(NAME) {
        return;
    }
    let sandbox = Sandbox::fresh();
    let directory = sandbox.directory.path();
    let feed = whole_project::feed_with_scriptlets(&directory.join("feed"));
    let (place, other) = (directory.join("whole"), directory.join("from-nothing"));
    whole_project::write(&place);
    let mut probed = Probed {
        feed: &feed,
        keys: directory.join("keys"),
        arguments: &[],
        parallel: "2",
    };
    let mut before = probed.outcome(&place, "nothing");
    let wanted = std::env::var(CHANGES.1).map(|count| count.parse().unwrap());
    let wanted = wanted.unwrap_or(CHANGES.0).min(ALL.len());
    let mut others = 0;
    for change in &ALL[..wanted] {
        let change = probed.change(&place, change);
        copy_sources(&place, &other);
        let incremental = probed.outcome(&place, &change);
        let from_nothing = probed.outcome(&other, &change);
        fs::remove_dir_all(&other).unwrap();
        let different = whole_project::differences(&incremental, &from_nothing);
        assert!(different.is_empty(), "{change}: {different:?} are stale");
        others += usize::from(incremental != before);
        before = incremental;
    }
    // What cannot be built is refused for the same reason, and leaves nothing that would be taken for
    // what is built afterwards.
    probed.parallel = "1";
    let mut refused = 0;
    for [change, undoing] in REFUSED.as_chunks().0 {
        let change = probed.change(&place, change);
        copy_sources(&place, &other);
        let incremental = probed.refusal(&place, &change);
        assert_eq!(incremental, probed.refusal(&other, &change), "{change}");
        fs::remove_dir_all(&other).unwrap();
        refused += 1;
        let undone = probed.change(&place, undoing);
        let after = probed.outcome(&place, &undone);
        let different = whole_project::differences(&before, &after);
        assert!(different.is_empty(), "{undone}: {different:?} are stale");
    }
    // Each other change is of something that is in an image, or in the lock.
    assert!(
        others * 4 >= wanted * 3 && refused * 2 == REFUSED.len(),
        "{others} of {wanted} made another result, and {refused} more were refused"
    );
}
