//! A build that finds everything in the cache of a team, beside `curl` of the same outputs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use avocado_serve::{FileServer, ServeOptions, UploadOptions};
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{ToolCall, cache_dir, source_root};

use crate::failure::Failure;
use crate::stats::Sample;

/// The target, as a multiple of the time of `curl`.
const TARGET: f64 = 1.2;

pub(crate) fn measure(directory: &Path, rounds: usize) -> Result<(), Failure> {
    println!("\n== a build from a warm cache, {rounds} rounds");
    let feed = SampleFeed::serve(ServeOptions::new(cache_dir().join("feed")))?;
    let root = directory.join("served");
    fs::create_dir_all(&root).map_err(Failure::system("make a directory"))?;
    let server = FileServer::start(ServeOptions {
        uploads: Some(UploadOptions::default()),
        ..ServeOptions::new(&root)
    })?;
    let url = feed.url();
    let project = |name: &str| -> Result<TestProject, Failure> {
        let project = TestProject::new(&directory.join(name), &url, &directory.join("keys"))?;
        Ok(project.with_env("HOME", directory.join("home")))
    };
    let copy = |from: &Path, name: &str| {
        let to = directory.join(name);
        ToolCall::new("cp").arg("-a").arg(from).arg(to).ok()
    };
    copy(&source_root().join("examples/hello"), "first")?;
    let first = project("first")?;
    first.avocado(&["clean"]).ok()?;
    let yaml = first.read("avocado.yaml")?;
    let cache = format!("\ncache: {{url: '{}', push: true}}\n", server.url());
    first.write("avocado.yaml", &(yaml + &cache))?;
    // Twice: the first one also locks what the second one goes by.
    build(&first)?;
    first.avocado(&["clean"]).ok()?;
    if build(&first)?.1 == 0 {
        return Err(Failure::Wrong("nothing came from the cache".to_owned()));
    }
    first.avocado(&["clean"]).ok()?;

    let blobs = fs::read_dir(root.join("cas")).map_err(Failure::system("read the cache"))?;
    let mut names: Vec<String> = blobs
        .flatten()
        .map(|blob| blob.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let fetched = directory.join("fetched");
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    let mut steps = 0;
    // Each in a place of its own, as on another machine: where files were just removed, some file systems look
    // for new ones far longer.
    for round in 0..rounds {
        let name = format!("round-{round}");
        copy(first.directory(), &name)?;
        let (time, from_cache) = build(&project(&name)?)?;
        ours.push(time);
        steps = from_cache;
        peer.push(curl(&server.url(), &names, &fetched)?);
    }
    let ours: Sample = ours.into_iter().collect();
    let peer: Sample = peer.into_iter().collect();
    println!("avocado build, {steps:>2} steps from the cache           {ours}");
    println!(
        "curl of {:>2} outputs                             {peer}",
        names.len()
    );
    let ratio = ours.ratio(&peer);
    let verdict = if ratio <= TARGET { "met" } else { "MISSED" };
    println!("  ours is {ratio:.2} of that (target: at most {TARGET:.1}, {verdict})");
    Ok(())
}

/// A build where nothing is: how long it took, and how many steps came from the cache.
fn build(project: &TestProject) -> Result<(Duration, u64), Failure> {
    let began = Instant::now();
    let events = project.events(&["build", "--no-var"])?;
    let time = began.elapsed();
    Ok((time, events.complete()["from_cache"].as_u64().unwrap_or(0)))
}

fn curl(url: &str, names: &[String], to: &Path) -> Result<Duration, Failure> {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).map_err(Failure::system("make a directory"))?;
    let mut call = ToolCall::new("curl").args(["--silent", "--show-error", "--fail"]);
    for name in names {
        call = call.arg("--output").arg(to.join(name));
        call = call.arg(format!("{url}/cas/{name}"));
    }
    let began = Instant::now();
    call.ok()?;
    Ok(began.elapsed())
}
