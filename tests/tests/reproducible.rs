//! The same sources give the same bytes, whoever builds them, where, and how.

mod common;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::{BuildEvents, TestProject};
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without, source_root, static_binary};
use common::whole_project::{self, ProjectOutcome};
use common::{Sandbox, cannot_build};

/// `all` asks for every combination of circumstances: hours.
const EVERY: (&str, &str) = ("AVOCADO_TEST_CIRCUMSTANCES", "all");

/// What may differ between two builds of the same sources, each with its values. `./test` makes as
/// many builds as it takes for each pair of two values to meet in one.
const CIRCUMSTANCES: [(&str, &[&str]); 9] = [
    ("state", &["none", "cleaned", "edited and back"]),
    ("jobs", &["1", "2", "8"]),
    ("locale", &["C.UTF-8", "tr_TR.UTF-8", "C"]),
    ("user", &["root", "ordinary"]),
    ("directory", &["a", "it's \"b\" $HOME"]),
    ("zone", &["UTC", "Pacific/Auckland"]),
    ("umask", &["022", "077"]),
    ("home", &["home", "elsewhere"]),
    ("sources", &[".", "the sources/of it"]),
];

/// One value of each circumstance.
type Circumstances = [usize; CIRCUMSTANCES.len()];

/// What `./test` builds: each two values of circumstances meet in one of these, and fewer would not do.
const PAIRWISE: [Circumstances; 9] = [
    [0, 0, 0, 0, 0, 0, 0, 0, 0],
    [0, 1, 1, 0, 0, 0, 0, 1, 1],
    [0, 2, 2, 1, 1, 1, 1, 0, 0],
    [1, 0, 1, 1, 1, 1, 1, 0, 0],
    [1, 1, 2, 0, 0, 0, 1, 0, 1],
    [1, 2, 0, 0, 0, 1, 0, 1, 1],
    [2, 0, 2, 0, 1, 0, 0, 1, 1],
    [2, 1, 0, 1, 1, 1, 1, 1, 0],
    [2, 2, 1, 1, 0, 0, 0, 0, 1],
];

/// A number that is no user of the machine's.
const ORDINARY: &str = "65533";

fn every_combination() -> Vec<Circumstances> {
    let mut all = vec![[0; CIRCUMSTANCES.len()]];
    for (at, (_, values)) in CIRCUMSTANCES.iter().enumerate() {
        let with_each = |row: &Circumstances| {
            let mut row = *row;
            (0..values.len()).map(move |value| {
                row[at] = value;
                row
            })
        };
        all = all.iter().flat_map(with_each).collect();
    }
    all
}

/// The pairs of values that meet in a row.
fn pairs(row: &Circumstances) -> impl Iterator<Item = [(usize, usize); 2]> {
    let values = row.iter().copied().enumerate();
    let all = values.clone().flat_map(move |one| {
        let others = values.clone();
        others.map(move |other| [one, other])
    });
    all.filter(|[one, other]| one.0 < other.0)
}

fn told(row: &Circumstances) -> String {
    let values = CIRCUMSTANCES.iter().zip(row);
    let values = values.map(|((name, values), value)| format!("{name}: {}", values[*value]));
    values.collect::<Vec<_>>().join(", ")
}

/// What all builds share.
struct World<'w> {
    sandbox: &'w Sandbox,
    feed: SampleFeed,
    /// A copy of the program where every user can start it.
    program: PathBuf,
    locales: PathBuf,
}

impl<'w> World<'w> {
    fn new(sandbox: &'w Sandbox) -> Self {
        let place = sandbox.directory.path();
        fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
        let program = place.join("avocado");
        fs::copy(static_binary("avocado").unwrap(), &program).unwrap();
        let with_umask = source_root().join("tests/reproducible/with-umask");
        fs::copy(with_umask, place.join("with-umask")).unwrap();
        let locales = place.join("locales");
        fs::create_dir(&locales).unwrap();
        let made = ToolCall::new("localedef").args(["-i", "tr_TR", "-f", "UTF-8"]);
        made.arg(locales.join("tr_TR.UTF-8")).ok().unwrap();
        World {
            sandbox,
            feed: whole_project::feed_with_scriptlets(&place.join("feed")),
            program,
            locales,
        }
    }

    fn build(&self, number: usize, row: &Circumstances) -> ProjectOutcome {
        let value = |name: &str| {
            let at = CIRCUMSTANCES.iter().position(|(n, _)| *n == name).unwrap();
            CIRCUMSTANCES[at].1[row[at]]
        };
        let place = self.sandbox.directory.path().join(number.to_string());
        let directory = place.join(value("directory"));
        // Without a dot at the end.
        let sources = directory
            .join(value("sources"))
            .components()
            .collect::<PathBuf>();
        fs::create_dir_all(sources.parent().unwrap()).unwrap();
        write_sources(&directory, &sources, value("sources"));
        modes_of_a_clone(u32::from_str_radix(value("umask"), 8).unwrap(), &directory);
        let home = place.join(value("home"));
        let temporary = home.join("tmp");
        fs::create_dir_all(&temporary).unwrap();
        let keys = self.sandbox.directory.path().join("keys");
        fs::create_dir_all(&keys).unwrap();

        let mut program: Vec<OsString> = vec![
            "bash".into(),
            self.sandbox.directory.path().join("with-umask").into(),
            value("umask").into(),
        ];
        let is_root = value("user") == "root";
        let owner = if is_root { "0" } else { ORDINARY };
        let chown = ToolCall::new("chown").args(["-R", &format!("{owner}:{owner}")]);
        chown.arg(&place).arg(&keys).ok().unwrap();
        if !is_root {
            let ids = [format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}")];
            program.push("setpriv".into());
            program.extend(ids.map(Into::into));
            program.push("--clear-groups".into());
        }
        program.push(self.program.clone().into());
        let project = TestProject::new(&directory, &self.feed.url(), &keys).unwrap();
        let project = project
            .with_program(program)
            .with_env("AVOCADO_PARALLEL_TASKS", value("jobs"))
            .with_env("LC_ALL", value("locale"))
            .with_env("LANG", value("locale"))
            .with_env("LOCPATH", &self.locales)
            .with_env("TZ", value("zone"))
            .with_env("HOME", &home)
            .with_env("TMPDIR", &temporary);

        let build = || build(&project, is_root);
        match value("state") {
            "none" => {}
            "cleaned" => {
                build();
                project.avocado(&["clean"]).ok().unwrap();
            }
            _ => {
                build();
                let edited = edit(&sources);
                build();
                for (path, text) in edited {
                    fs::write(path, text).unwrap();
                }
            }
        }
        let events = build();
        let outcome = whole_project::outcome(&sources, &events);
        fs::remove_dir_all(&place).unwrap();
        outcome
    }
}

/// Builds everything. Not everyone can make the image of the var partition, but its content.
fn build(project: &TestProject, is_root: bool) -> BuildEvents {
    if is_root {
        return project.events(&["build"]).unwrap();
    }
    let events = project.events(&["build", "--no-var"]).unwrap();
    let var = project
        .avocado(&["build", "--output", "json"])
        .run()
        .unwrap();
    let failed = BuildEvents::parse(&var).unwrap().steps("failed");
    assert!(failed.is_empty() || failed == ["runtime var dev"], "{var}");
    events
}

/// The project, with its sources in another directory where `src_dir` says so.
fn write_sources(directory: &Path, sources: &Path, src_dir: &str) {
    whole_project::write(sources);
    if sources != directory {
        let yaml = sources.join("avocado.yaml");
        let text = fs::read_to_string(&yaml).unwrap();
        let moved = text.replacen("src_dir: .\n", &format!("src_dir: {src_dir}\n"), 1);
        assert_ne!(text, moved);
        fs::remove_file(yaml).unwrap();
        fs::write(directory.join("avocado.yaml"), moved).unwrap();
    }
}

/// Gives all files the modes that a clone gives them under that umask.
fn modes_of_a_clone(umask: u32, directory: &Path) {
    for entry in walkdir::WalkDir::new(directory) {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_symlink() {
            continue;
        }
        let executable = metadata.is_dir() || metadata.permissions().mode() & 0o100 != 0;
        let full = if executable { 0o777 } else { 0o666 };
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(full & !umask)).unwrap();
    }
}

/// Changes files of every part; answers what they were.
fn edit(sources: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = [
        "overlay/rootfs/usr/lib/probe/os",
        "overlay/initramfs/etc/probe",
        "overlay/app/usr/lib/probe/one",
        "overlay/config/etc/probe/app.conf",
        "hooks/app",
        "hooks/runtime",
        "seeds/deep/er",
    ];
    let files = files.map(|file| {
        let path = sources.join(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, [&before[..], b"\n# more\n"].concat()).unwrap();
        (path, before)
    });
    files.into()
}

#[test]
fn the_same_sources_give_the_same_bytes_in_all_circumstances() {
    const NAME: &str = "the_same_sources_give_the_same_bytes_in_all_circumstances";
    if cannot_build(NAME) || skip_without(NAME, &[TestNeed::Tool("localedef")]) {
        return;
    }
    let sandbox = Sandbox::fresh();
    let world = World::new(&sandbox);
    let asked = std::env::var(EVERY.0).ok();
    let rows = match asked.as_deref() {
        Some(every) if every == EVERY.1 => every_combination(),
        _ => PAIRWISE.to_vec(),
    };
    let mut first: Option<ProjectOutcome> = None;
    for (number, row) in rows.iter().enumerate() {
        let outcome = world.build(number, row);
        let first = first.get_or_insert_with(|| outcome.clone());
        let different = whole_project::differences(first, &outcome);
        let (one, other) = (told(&rows[0]), told(row));
        assert!(
            different.is_empty(),
            "{different:?} differ:\n  {one}\n  {other}"
        );
    }
}

#[test]
fn each_two_values_of_circumstances_meet() {
    let every = every_combination();
    let values = CIRCUMSTANCES.iter().map(|(_, values)| values.len());
    assert_eq!(every.len(), values.product::<usize>());
    let met: BTreeSet<_> = PAIRWISE.iter().flat_map(pairs).collect();
    assert!(every.iter().flat_map(pairs).all(|pair| met.contains(&pair)));
}
