//! The whole route on real parts: a project becomes images, a signed repository and a running
//! device, which updates itself from it and goes back.
// As the library.
#![cfg_attr(not(target_os = "linux"), no_main)]
#![cfg(target_os = "linux")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its user"
)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use avocado_testbed::cleanup;
use avocado_testbed::device::{DeviceOptions, TestDevice};
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::keys::SshKeys;
use avocado_testbed::project::{BuildArtifact, TestProject};
use avocado_testbed::tools::{ToolCall, cache_dir, source_root, static_binary};
use clap::Parser;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a restarted application may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How often it is asked.
const ASK: Duration = Duration::from_millis(50);

/// Where the application of the example listens.
const PORT: u16 = 8080;

/// Shows the whole route: build, run, update, go back.
#[derive(Parser)]
struct Arguments {
    /// How long the caller took to install the tools
    #[arg(long, default_value_t = 0, hide = true)]
    setup_seconds: u64,
    /// How long the caller took to build the programs
    #[arg(long, default_value_t = 0, hide = true)]
    build_seconds: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  caused by: {error}");
                cause = error.source();
            }
            println!("quickstart: failed");
            ExitCode::FAILURE
        }
    }
}

/// What took how long.
struct Parts(Vec<(String, Duration)>);

impl Parts {
    /// Does one part of the story under its title.
    fn part<T>(&mut self, title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n== {title}");
        let start = Instant::now();
        let result = work();
        self.0.push((title.to_owned(), start.elapsed()));
        result
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    cleanup::install()?;
    let seconds = |s| Duration::from_secs(s);
    let mut parts = Parts(vec![
        (
            "tools and compilers".into(),
            seconds(arguments.setup_seconds),
        ),
        ("the programs".into(), seconds(arguments.build_seconds)),
    ]);
    let place = cache_dir().join("quickstart");
    fs::create_dir_all(&place)?;

    let feed = parts.part("the sample feed: two snapshots of RPM packages", || {
        let directory = cache_dir().join("feed");
        let feed = SampleFeed::ensure(&directory, &static_binary("avocadoctl")?, &cache_dir())?;
        println!("   served at {}", feed.url());
        Ok(feed)
    })?;
    let keys = place.join("signing-keys");
    let example = source_root().join("examples/hello");
    // Copies, so that the work tree stays as it was cloned.
    let first = TestProject::new(&place.join("hello"), &feed.url(), &keys)?;
    let second = TestProject::new(&place.join("hello-next"), &feed.url(), &keys)?;
    forget_another_feed(&feed, &place, &[&first, &second])?;
    copy(&example, first.directory())?;

    parts.part(
        "avocado install: packages of snapshot one, as locked",
        || talk(&first, &["install"]),
    )?;
    parts.part("avocado build: runtime 1", || talk(&first, &["build"]))?;
    let one = artifacts(&first)?;

    let ssh = SshKeys::create(&place.join("ssh"))?;
    let device = parts.part("a device boots runtime 1", || {
        let rootfs = path_of(&one, "rootfs")?;
        let var = first.state().join("runtimes/dev/var-staging");
        let options = DeviceOptions::new(rootfs, var, place.join("device"), ssh);
        let device = TestDevice::boot(options)?;
        println!(
            "   systemd {}",
            device
                .exec(&["systemctl", "--version"])?
                .lines()
                .next()
                .unwrap_or("")
        );
        answers(&device, "hello 1.0.0 from libgreeting 1.0.0")?;
        Ok(device)
    })?;
    let before = device.pid1_start()?;

    parts.part(
        "a copy of the project: newer packages, another greeting",
        || change(&first, &second, &feed),
    )?;
    parts.part("avocado build: runtime 2", || talk(&second, &["build"]))?;
    let two = artifacts(&second)?;

    parts.part(
        "avocado deploy: the device fetches, verifies, stages, activates",
        || {
            let target = format!("root@{}", device.address());
            let options = device.ssh_options();
            let options: Vec<String> = options.iter().map(|o| format!("--ssh-arg={o}")).collect();
            let mut words = vec!["deploy", "-d", &target];
            words.extend(options.iter().map(String::as_str));
            talk(&second, &words)?;
            answers(&device, "hello 1.1.0 from libgreeting 1.1.0")?;
            answers(&device, GREETING)?;
            same_boot(&device, &before)
        },
    )?;

    parts.part("back to runtime 1", || {
        let id = runtime_id(&first)?;
        print!(
            "{}",
            device.ssh(&["avocadoctl", "runtime", "activate", &id])?
        );
        answers(&device, "hello 1.0.0 from libgreeting 1.0.0")?;
        same_boot(&device, &before)?;
        print!("{}", device.ssh(&["avocadoctl", "runtime", "list"])?);
        Ok(())
    })?;
    parts.part("the device shuts down", || Ok(device.shutdown()?))?;
    drop(feed);

    table("runtime 1", &one);
    table("runtime 2", &two);
    println!("\n{:<66} {:>9}", "PART", "TIME");
    for (title, time) in &parts.0 {
        println!("{title:<66} {:>7.1} s", time.as_secs_f64());
    }
    let total: Duration = parts.0.iter().map(|(_, time)| *time).sum();
    println!("{:<66} {:>7.1} s", "", total.as_secs_f64());
    println!("\nquickstart: ok");
    Ok(())
}

/// The greeting of the changed overlay.
const GREETING: &str = "Good evening from runtime 2.";

/// Packages of a feed that was built anew may have the same versions and other contents: the
/// snapshots of the sample are only as frozen as its sources.
fn forget_another_feed(feed: &SampleFeed, place: &Path, projects: &[&TestProject]) -> Result<()> {
    let id = fs::read_to_string(feed.directory().join("feed-id"))?;
    let known = place.join("feed-id");
    if fs::read_to_string(&known).is_ok_and(|old| old == id) {
        return Ok(());
    }
    for project in projects {
        if project.directory().exists() {
            fs::remove_dir_all(project.directory())?;
        }
    }
    Ok(fs::write(known, id)?)
}

/// Copies a project. What an earlier run left in the copy, the lock and the built state, stays,
/// so that nothing is made twice.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let own = [".avocado", "avocado.lock"].iter().any(|own| name == **own);
        if own && to.join(&name).exists() {
            continue;
        }
        ToolCall::new("cp")
            .arg("-a")
            .arg(from.join(&name))
            .arg(to)
            .ok()?;
    }
    Ok(())
}

/// Makes the copy, moves it to the newest snapshot and edits a file of its overlay.
fn change(from: &TestProject, to: &TestProject, feed: &SampleFeed) -> Result<()> {
    copy(from.directory(), to.directory())?;
    to.write(
        "overlay/hello-config/etc/hello/greeting",
        &format!("{GREETING}\n"),
    )?;
    let newest = feed
        .directory()
        .join("2024/edge/target/qemux86-64/snapshots-latest.json");
    let newest: serde_json::Value = serde_json::from_str(&fs::read_to_string(newest)?)?;
    let newest = newest["id"].as_str().unwrap_or_default();
    if to.read("avocado.lock")?.contains(&format!("\"{newest}\"")) {
        println!("   already at snapshot {newest}");
        return Ok(());
    }
    talk(to, &["update"])
}

/// Runs `avocado` where the user can see it.
fn talk(project: &TestProject, arguments: &[&str]) -> Result<()> {
    let status = project.command(arguments).status()?;
    if status.success() {
        return Ok(());
    }
    Err(format!("avocado {} ended with {status}", arguments.join(" ")).into())
}

fn artifacts(project: &TestProject) -> Result<Vec<BuildArtifact>> {
    let events = project.events(&["build"])?;
    let processes = &events.complete()["processes"];
    if *processes != 0 {
        return Err(format!("a build with nothing to do started {processes} processes").into());
    }
    Ok(events.artifacts())
}

fn path_of(artifacts: &[BuildArtifact], kind: &str) -> Result<PathBuf> {
    let found = artifacts.iter().find(|artifact| artifact.kind == kind);
    Ok(found
        .ok_or_else(|| format!("the build made no {kind}"))?
        .path
        .clone())
}

fn runtime_id(project: &TestProject) -> Result<String> {
    let manifest = project.state().join("output/runtimes/dev/manifest.json");
    let manifest: serde_json::Value = serde_json::from_str(&fs::read_to_string(manifest)?)?;
    Ok(manifest["id"].as_str().unwrap_or_default().to_owned())
}

/// Asks the application until it says `expected`: a service starts when systemd gets to it.
fn answers(device: &TestDevice, expected: &str) -> Result<()> {
    let deadline = Instant::now() + ANSWER;
    loop {
        let last = match device.http_get(PORT, "/") {
            Ok((_, text)) if text.contains(expected) => {
                println!(
                    "   the application answers: {}",
                    text.trim().replace('\n', " / ")
                );
                return Ok(());
            }
            Ok((status, text)) => format!("{status} {text}"),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(format!("the application does not say `{expected}`, but: {last}").into());
        }
        std::thread::sleep(ASK);
    }
}

fn same_boot(device: &TestDevice, before: &avocado_testbed::device::Pid1) -> Result<()> {
    if device.pid1_start()? != *before {
        return Err("PID 1 of the device restarted".into());
    }
    println!("   PID 1 has not restarted");
    Ok(())
}

fn table(title: &str, artifacts: &[BuildArtifact]) {
    println!(
        "\n{:<12} {:<20} {:>12}  SHA-256",
        title.to_uppercase(),
        "NAME",
        "BYTES"
    );
    for artifact in artifacts {
        println!(
            "{:<12} {:<20} {:>12}  {}",
            artifact.kind, artifact.name, artifact.size, artifact.sha256
        );
    }
}
