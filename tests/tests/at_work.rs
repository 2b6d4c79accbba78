//! Commands that end at any moment, and several that work on one project at once. What they leave is
//! what was there before or what they were to make, and the next one gets on with it.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::{BuildEvents, LIMIT, TestProject};
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without};
use common::whole_project::{self, ProjectOutcome};
use common::{Sandbox, cannot_build};
use rustix::process::Signal;

/// Where a process is ended: before it would change what is on disk.
const CHANGES: &str = "/^(rename|link|unlink|mkdir|rmdir|symlink|fsync|fdatasync|ftruncate)";

/// The whole project, and an extension from a repository and one from the feed.
struct Worked {
    sandbox: Sandbox,
    feed: SampleFeed,
}

impl Worked {
    fn new() -> Self {
        let sandbox = Sandbox::fresh();
        let place = sandbox.directory.path();
        let feed = whole_project::feed_with_scriptlets(&place.join("feed"));
        let far = place.join("far");
        fs::create_dir_all(far.join("files/usr/share")).unwrap();
        fs::write(far.join("files/usr/share/far"), "far").unwrap();
        let yaml = "extensions: {far: {version: 1.0.0, types: [sysext], overlay: files}}\n";
        fs::write(far.join("avocado.yaml"), yaml).unwrap();
        for arguments in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["add", "--all"],
            &["commit", "--quiet", "--message", "x"],
        ] {
            let git = ToolCall::new("git").arg("-C").arg(&far);
            let git = git.args(["-c", "user.name=t", "-c", "user.email=t@t"]);
            git.args(arguments).ok().unwrap();
        }
        Worked { sandbox, feed }
    }

    /// A project of these sources, with nothing built.
    fn project(&self, name: &str) -> TestProject {
        let directory = self.sandbox.directory.path();
        let place = directory.join(name);
        whole_project::write(&place);
        let keys = directory.join("keys");
        let project = TestProject::new(&place, &self.feed.url(), &keys).unwrap();
        let far = directory.join("far");
        let sources = format!(
            "extensions:\n  far: {{source: {{type: git, url: 'file://{}', ref: main}}}}\n  \
             avocado-ext-motd: {{source: {{type: package, version: '*'}}}}\n",
            far.display()
        );
        let yaml = project.read("avocado.yaml").unwrap();
        let yaml = yaml.replacen("extensions:\n", &sources, 1);
        let all = "[app, config, far, avocado-ext-motd]";
        let yaml = yaml.replacen("[app, config]", all, 1);
        project.write("avocado.yaml", &yaml).unwrap();
        project
    }
}

/// What a project has when everything was done: what was built, and the packages of its sources.
fn everything(project: &TestProject) -> (ProjectOutcome, BTreeMap<PathBuf, Vec<u8>>) {
    let events = project.events(&["build"]).unwrap();
    let place = project.directory();
    project.avocado(&PACKAGE).ok().unwrap();
    (whole_project::outcome(place, &events), packages(place))
}

const PACKAGE: [&str; 5] = ["ext", "package", "app", "--out-dir", "out"];

/// The packages that are where the user asked for them.
fn packages(place: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(place.join("out")).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let packages = paths.filter(|path| path.extension().is_some_and(|e| e == "rpm"));
    let name = |path: &PathBuf| path.file_name().unwrap().into();
    packages
        .map(|path| (name(&path), fs::read(&path).unwrap()))
        .collect()
}

fn cannot_work(name: &str) -> bool {
    let needs = ["git", "strace"].map(TestNeed::Tool);
    cannot_build(name) || skip_without(name, &needs)
}

#[test]
fn a_command_may_be_killed_before_each_change_that_it_makes() {
    if cannot_work("a_command_may_be_killed_before_each_change_that_it_makes") {
        return;
    }
    let worked = Worked::new();
    let wanted = everything(&worked.project("whole"));
    let project = worked.project("killed");
    let sources = |project: &TestProject| {
        let names = ["avocado.yaml", "hooks/app", "overlay/app/usr/lib/probe/one"];
        names.map(|name| project.read(name).unwrap())
    };
    let before = sources(&project);
    // Each with how fast the moments come apart: what runs dnf makes thousands of changes.
    for (arguments, growth) in [
        (&["fetch"][..], 4),
        (&PACKAGE, 8),
        (&["install"], 1),
        (&["runtime", "build", "dev"], 1),
        (&["build"], 1),
    ] {
        let (mut at, mut kills) = (1, 0);
        loop {
            let call = killed_at(&project, arguments, at);
            let ended = call.run().unwrap();
            // The process that was killed, or a tool of it.
            let is_killed = ended.status.signal() == Some(Signal::KILL.as_raw());
            let fell = is_killed || ended.status.code() == Some(1);
            assert!(
                fell || ended.status.success(),
                "{arguments:?} at {at}: {ended}"
            );
            assert_eq!(sources(&project), before, "{arguments:?} at {at}");
            for (name, package) in packages(project.directory()) {
                assert!(
                    wanted.1[&name] == package,
                    "{arguments:?} at {at}: a torn {name:?}"
                );
            }
            if ended.status.success() {
                break;
            }
            kills += 1;
            at += 1 + at / growth;
        }
        assert!(kills > 0, "{arguments:?} was never killed");
        project.avocado(arguments).ok().unwrap();
    }
    assert!(
        everything(&project) == wanted,
        "what was killed made another result"
    );
}

/// A run of `avocado` in which each process is killed before the change of that number.
fn killed_at(project: &TestProject, arguments: &[&str], at: usize) -> ToolCall {
    let [trace, inject] = ["trace=", "inject="].map(|what| format!("{what}{CHANGES}"));
    let inject = format!("{inject}:signal=KILL:when={at}");
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"];
    let program = avocado_testbed::tools::static_binary("avocado").unwrap();
    let words = strace
        .into_iter()
        .chain([trace.as_str(), "-e", inject.as_str()]);
    let words = words.map(Into::into).chain([program.into_os_string()]);
    project.clone().with_program(words).avocado(arguments)
}

#[test]
fn commands_at_once_take_turns() {
    if cannot_work("commands_at_once_take_turns") {
        return;
    }
    let worked = Worked::new();
    let wanted = everything(&worked.project("whole"));
    let project = worked.project("crowded");
    let (commands, project) = (
        [
            &["build"][..],
            &["install"],
            &PACKAGE,
            &["fetch"],
            &["runtime", "build", "dev"],
            &["build"],
            &["prune"],
            &["ext", "image", "app"],
        ],
        &project,
    );
    // Each may have to wait for all others.
    let limit = LIMIT * u32::try_from(commands.len()).unwrap();
    let said = std::thread::scope(|scope| {
        let started = commands.map(|arguments| {
            scope.spawn(move || {
                let call = project.avocado(arguments).args(["--output", "json"]);
                call.limit(limit).ok().unwrap()
            })
        });
        started.map(|command| command.join().unwrap())
    });
    // No two did the same work: who came later found it done.
    let images = said.iter().flat_map(|said| {
        let steps = BuildEvents::parse(said).unwrap().steps("success");
        steps.into_iter().filter(|step| step == "ext image app")
    });
    assert_eq!(images.count(), 1);
    assert!(
        everything(project) == wanted,
        "what was made at once is another result"
    );
}
