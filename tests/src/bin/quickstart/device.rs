//! An application and its configuration are updated on a device that goes on running.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use avocado_testbed::device::{DeviceOptions, Pid1, TestDevice};
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::keys::SshKeys;
use avocado_testbed::project::{BuildArtifact, TestProject};
use avocado_testbed::tools::source_root;

use crate::Result;
use crate::story::{Parts, Place, copy, talk};

/// How long a restarted application may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How often it is asked.
const ASK: Duration = Duration::from_millis(50);

/// Where the application of the example listens.
const PORT: u16 = 8080;

/// The greeting of the changed overlay.
const GREETING: &str = "Good evening from runtime 2.";

pub(crate) fn run(parts: &mut Parts) -> Result<()> {
    let place = Place::new(parts)?;
    let example = source_root().join("examples/hello");
    // Copies, so that the work tree stays as it was cloned.
    let first = place.project("hello")?;
    let second = place.project("hello-next")?;
    copy(&example, first.directory())?;

    parts.part(
        "avocado install: packages of snapshot one, as locked",
        || talk(&first, &["install"]),
    )?;
    parts.part("avocado build: runtime 1", || talk(&first, &["build"]))?;
    let one = artifacts(&first)?;

    let ssh = SshKeys::create(&place.at("ssh"))?;
    let device = parts.part("a device boots runtime 1", || {
        let rootfs = path_of(&one, "rootfs")?;
        let var = first.state().join("runtimes/dev/var-staging");
        let options = DeviceOptions::new(rootfs, var, place.at("device"), ssh);
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
        || change(&first, &second, &place.feed),
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
        let id = first.built()?;
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

    table("runtime 1", &one);
    table("runtime 2", &two);
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

fn same_boot(device: &TestDevice, before: &Pid1) -> Result<()> {
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
