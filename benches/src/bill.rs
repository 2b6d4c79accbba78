//! `avocado scan` of 500 packages beside `jq` reading the same database, and `avocado sbom` beside
//! `sha512sum` of the same images.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use avocado_serve::ServeOptions;
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{ToolCall, cache_dir};
use serde_json::json;

use crate::failure::Failure;
use crate::nothing;
use crate::stats::Sample;

/// How many packages a bill has.
const PACKAGES: usize = 500;
/// How many source packages are in the database, and how many vulnerabilities each has: about as many
/// as Debian's tracker.
const SOURCES: (usize, usize) = (3500, 12);
const SCAN_LIMIT: Duration = Duration::from_secs(5);
const SBOM_LIMIT: Duration = Duration::from_secs(1);

pub(crate) fn measure(directory: &Path, rounds: usize) -> Result<(), Failure> {
    println!("\n== avocado scan and sbom, {rounds} rounds");
    let feed = SampleFeed::serve(ServeOptions::new(cache_dir().join("feed")))?;
    let keys = directory.join("keys");
    let project = nothing::project(&directory.join("project"), &feed, &keys, 20)?;
    scan(&project, rounds)?;
    sbom(&project, rounds)
}

fn scan(project: &TestProject, rounds: usize) -> Result<(), Failure> {
    project.write("bill.json", &bill())?;
    let database = database();
    let size = database.len();
    project.write("advisories/debian.json", &database)?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let scan = [
            "scan",
            "--sbom",
            "bill.json",
            "--db",
            "advisories",
            "--ecosystem",
            "Debian:13",
        ];
        let begin = Instant::now();
        let ended = project.avocado(&scan).run()?;
        ours.push(begin.elapsed());
        // Something is found.
        if ended.status.code() != Some(3) {
            return Err(Failure::Wrong(format!("the scan found nothing: {ended}")));
        }
        let read = ToolCall::new("jq").args(["length", "advisories/debian.json"]);
        peer.push(time(read.directory(project.directory()))?);
    }
    let what = format!(
        "scan of {PACKAGES} packages, {} MiB of advisories",
        size >> 20
    );
    tell(&what, ours, "jq", peer, SCAN_LIMIT);
    Ok(())
}

fn sbom(project: &TestProject, rounds: usize) -> Result<(), Failure> {
    project.avocado(&["build", "--no-var"]).ok()?;
    let images = images(&project.state())?;
    let (mut first, mut known, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        // What is known of the images.
        let inventories = project.state().join(".work/inventories");
        let _ = fs::remove_dir_all(inventories);
        first.push(time(project.avocado(&["sbom"]))?);
        known.push(time(project.avocado(&["sbom"]))?);
        peer.push(time(ToolCall::new("sha512sum").args(&images))?);
    }
    tell(
        "sbom, images read",
        first,
        "sha512sum",
        peer.clone(),
        SBOM_LIMIT,
    );
    tell("sbom, images known", known, "sha512sum", peer, SBOM_LIMIT);
    Ok(())
}

fn tell(what: &str, ours: Vec<Duration>, name: &str, peer: Vec<Duration>, limit: Duration) {
    let ours: Sample = ours.into_iter().collect();
    let peer: Sample = peer.into_iter().collect();
    let verdict = if ours.median() <= limit {
        "met"
    } else {
        "MISSED"
    };
    println!(
        "{what}: {ours}, {name} {peer}: {:.1} times ({verdict})",
        ours.ratio(&peer)
    );
}

/// Packages that Debian has as well.
fn bill() -> String {
    let package = |number: usize| {
        let name = format!("package-{number}");
        json!({
            "type": "library", "name": name, "version": "1.0-1",
            "purl": format!("pkg:deb/debian/{name}@1.0-1"),
        })
    };
    let packages: Vec<_> = (0..PACKAGES).map(package).collect();
    json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{
        "type": "firmware", "name": "rootfs",
        "properties": [{"name": "avocado:image", "value": "rootfs"}],
        "components": packages,
    }]})
    .to_string()
}

/// As Debian's tracker has them: most are mended, by one release and not yet by the next.
fn database() -> String {
    let mut text = String::from("{");
    let (sources, each) = SOURCES;
    for source in 0..sources {
        let _ = write!(
            text,
            "{}\"package-{source}\":{{",
            if source == 0 { "" } else { "," }
        );
        for entry in 0..each {
            let release = |fixed: &str| {
                json!({"status": "resolved", "repositories": {"trixie": "1.0-1", "bookworm": "0.9-1"},
                    "fixed_version": fixed, "urgency": "not yet assigned"})
            };
            let fixed = if entry == 0 { "1.0-2" } else { "0.9-1" };
            let advisory = json!({
                "description": "a text of the length that such texts have, about what goes wrong where \
                    input of a stranger is read without a look at its length, and what comes of it",
                "scope": "local",
                "releases": {"bookworm": release("0.9-1"), "trixie": release(fixed), "sid": release(fixed)},
            });
            let id = 10_000 + source * each + entry;
            let _ = write!(
                text,
                "{}\"CVE-2026-{id}\":{advisory}",
                if entry == 0 { "" } else { "," }
            );
        }
        text.push('}');
    }
    text.push('}');
    text
}

/// What a bill is read from.
fn images(state: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut images = Vec::new();
    for directory in ["output/extensions", "runtimes/dev"] {
        let listing =
            fs::read_dir(state.join(directory)).map_err(Failure::system("list images"))?;
        let files = listing.flatten().map(|entry| entry.path());
        images.extend(files.filter(|path| path.is_file()));
    }
    Ok(images)
}

fn time(call: ToolCall) -> Result<Duration, Failure> {
    let begin = Instant::now();
    call.ok()?;
    Ok(begin.elapsed())
}
