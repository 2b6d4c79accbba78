//! `avocado build` with nothing to do, beside `git status` of the same project.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use avocado_serve::ServeOptions;
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{ToolCall, cache_dir};

use crate::failure::Failure;
use crate::stats::Sample;

/// How many extensions a project has, and how long it may take.
const PROJECTS: [(usize, Option<Duration>); 3] = [
    (1, None),
    (20, Some(Duration::from_millis(30))),
    (200, Some(Duration::from_millis(150))),
];

pub(crate) fn measure(directory: &Path, rounds: usize) -> Result<(), Failure> {
    println!("\n== avocado build with nothing to do, {rounds} rounds");
    let feed = SampleFeed::serve(ServeOptions::new(cache_dir().join("feed")))?;
    for (extensions, limit) in PROJECTS {
        let place = directory.join(extensions.to_string());
        let project = project(&place, &feed, &directory.join("keys"), extensions)?;
        project.avocado(&["build", "--no-var"]).ok()?;
        let complete = project.events(&["build", "--no-var"])?.complete().clone();
        if complete["ran"] != 0 || complete["processes"] != 0 {
            return Err(Failure::Wrong(format!("something ran: {complete}")));
        }
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(time(project.avocado(&["build", "--no-var"]))?);
            peer.push(time(git(&place, &["status", "--porcelain"]))?);
        }
        let ours: Sample = ours.into_iter().collect();
        let peer: Sample = peer.into_iter().collect();
        let verdict = match limit {
            Some(limit) if ours.median() <= limit => "met",
            Some(_) => "MISSED",
            None => "no target",
        };
        println!(
            "{extensions:>4} extensions  {:>7.1} ms, git status {:>6.1} ms: {:.1} times ({verdict})",
            ours.median().as_secs_f64() * 1e3,
            peer.median().as_secs_f64() * 1e3,
            ours.ratio(&peer),
        );
    }
    Ok(())
}

/// A project in which each extension has an overlay of a few files, and one runtime has them all.
pub(crate) fn project(
    place: &Path,
    feed: &SampleFeed,
    keys: &Path,
    extensions: usize,
) -> Result<TestProject, Failure> {
    std::fs::create_dir_all(place).map_err(Failure::system("make a project"))?;
    let project = TestProject::new(place, &feed.url(), keys)?;
    let mut yaml = "default_target: qemux86-64\n\
         distro: {release: '2024', channel: edge}\n\
         sdk: {packages: {avocado-sdk-toolchain: '*'}}\n\
         runtimes:\n  dev:\n    extensions:\n"
        .to_owned();
    let names: Vec<String> = (0..extensions).map(|n| format!("ext-{n}")).collect();
    for name in &names {
        let _ = writeln!(yaml, "      - {name}");
    }
    yaml += "extensions:\n";
    for name in &names {
        let _ = writeln!(
            yaml,
            "  {name}: {{version: 1.0.0, types: [sysext], overlay: overlay/{name}}}"
        );
        for file in ["one", "two", "three"] {
            project.write(&format!("overlay/{name}/usr/share/{name}/{file}"), file)?;
        }
    }
    project.write("avocado.yaml", &yaml)?;
    project.write(".gitignore", "/.avocado/\n")?;
    git(place, &["init", "--quiet"]).ok()?;
    git(place, &["add", "--all"]).ok()?;
    Ok(project)
}

fn git(place: &Path, arguments: &[&str]) -> ToolCall {
    ToolCall::new("git").args(arguments).directory(place)
}

fn time(call: ToolCall) -> Result<Duration, Failure> {
    let begin = Instant::now();
    call.ok()?;
    Ok(begin.elapsed())
}
