//! A build that finds everything in the cache of a team, beside `curl` of the same outputs: in a network
//! namespace, over a link to it that is as fast as this machine, or as those that machines have.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use avocado_serve::{FileServer, ServeOptions, UploadOptions};
use avocado_testbed::claim::HostClaim;
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{ToolCall, cache_dir, source_root, static_binary};

use crate::failure::Failure;
use crate::stats::Sample;

/// The target, as a multiple of the time of `curl`.
const TARGET: f64 = 1.2;

/// How fast the link is, as `tc` names it.
const RATES: [Option<&str>; 3] = [Some("100mbit"), Some("1gbit"), None];

pub(crate) fn measure(directory: &Path, rounds: usize) -> Result<(), Failure> {
    println!("\n== a build from a warm cache, {rounds} rounds");
    let claim = HostClaim::take(&directory.join("claim"))?;
    let address = SocketAddr::from((claim.network().host(), 0));
    let feed = SampleFeed::serve(ServeOptions {
        address,
        ..ServeOptions::new(cache_dir().join("feed"))
    })?;
    let root = directory.join("served");
    fs::create_dir_all(&root).map_err(Failure::system("make a directory"))?;
    let server = FileServer::start(ServeOptions {
        address,
        uploads: Some(UploadOptions::default()),
        ..ServeOptions::new(&root)
    })?;
    let machine = SecondMachine {
        namespace: claim.name(),
        directory,
        feed: feed.url(),
    };
    machine.copy(&source_root().join("examples/hello"), "first")?;
    let first = machine.project("first")?;
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
    let (mut names, mut size) = (Vec::new(), 0);
    for blob in blobs.flatten() {
        names.push(blob.file_name().to_string_lossy().into_owned());
        size += blob.metadata().map_or(0, |metadata| metadata.len());
    }
    names.sort();
    for rate in RATES {
        machine.set_rate(rate)?;
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        let mut steps = 0;
        // Each in a place of its own, as on another machine: where files were just removed, some file
        // systems look for new ones far longer.
        for round in 0..rounds {
            let name = format!("{}-{round}", rate.unwrap_or("all"));
            machine.copy(first.directory(), &name)?;
            let (time, from_cache) = build(&machine.project(&name)?)?;
            ours.push(time);
            steps = from_cache;
            peer.push(machine.curl(&server.url(), &names)?);
        }
        let ours: Sample = ours.into_iter().collect();
        let peer: Sample = peer.into_iter().collect();
        let mebibytes = size >> 20;
        println!("{}", rate.unwrap_or("as fast as this machine"));
        println!("  avocado build, {steps:>2} steps from the cache           {ours}");
        println!(
            "  curl of {:>2} outputs, {mebibytes} MiB                     {peer}",
            names.len()
        );
        let ratio = ours.ratio(&peer);
        let verdict = if ratio <= TARGET { "met" } else { "MISSED" };
        println!("  ours is {ratio:.2} of that (target: at most {TARGET:.1}, {verdict})");
    }
    Ok(())
}

/// The machine whose builds find everything made.
struct SecondMachine<'a> {
    /// The namespace of its network; the end of its link here is called so as well.
    namespace: &'a str,
    directory: &'a Path,
    feed: String,
}

impl SecondMachine<'_> {
    fn set_rate(&self, rate: Option<&str>) -> Result<(), Failure> {
        let queue = ["qdisc", "replace", "dev", self.namespace, "root"];
        let tc = ToolCall::new("tc").args(queue);
        match rate {
            Some(rate) => tc.args(["tbf", "burst", "256kb", "latency", "50ms", "rate", rate]),
            None => tc.arg("noqueue"),
        }
        .ok()?;
        Ok(())
    }

    /// What starts a program there.
    fn words(&self, program: impl Into<OsString>) -> [OsString; 5] {
        let [ip, netns, exec] = ["ip", "netns", "exec"].map(OsString::from);
        [ip, netns, exec, self.namespace.into(), program.into()]
    }

    fn project(&self, name: &str) -> Result<TestProject, Failure> {
        let keys = self.directory.join("keys");
        let project = TestProject::new(&self.directory.join(name), &self.feed, &keys)?;
        let project = project.with_program(self.words(static_binary("avocado")?));
        Ok(project.with_env("HOME", self.directory.join("home")))
    }

    fn copy(&self, from: &Path, name: &str) -> Result<(), Failure> {
        let to = self.directory.join(name);
        ToolCall::new("cp").arg("-a").arg(from).arg(to).ok()?;
        Ok(())
    }

    fn curl(&self, url: &str, names: &[String]) -> Result<Duration, Failure> {
        let to = self.directory.join("fetched");
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(&to).map_err(Failure::system("make a directory"))?;
        let [program, words @ ..] = self.words("curl");
        let mut call = ToolCall::new(program).args(words);
        call = call.args(["--silent", "--show-error", "--fail"]);
        for name in names {
            call = call.arg("--output").arg(to.join(name));
            call = call.arg(format!("{url}/cas/{name}"));
        }
        let began = Instant::now();
        call.ok()?;
        Ok(began.elapsed())
    }
}

/// A build where nothing is: how long it took, and how many steps came from the cache.
fn build(project: &TestProject) -> Result<(Duration, u64), Failure> {
    let began = Instant::now();
    let events = project.events(&["build", "--no-var"])?;
    let time = began.elapsed();
    Ok((time, events.complete()["from_cache"].as_u64().unwrap_or(0)))
}
