//! How long an edit takes to a device: from a file of an overlay to the extension that a guest has
//! mounted, beside a file that is written where the server exports it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use avocado_testbed::nfs_guest::{self, NfsGuest, free_port};
use avocado_testbed::project::TestProject;

use crate::failure::Failure;
use crate::stats::Sample;

/// The target for half of the edits.
const TARGET: Duration = Duration::from_secs(2);

const YAML: &str = "\
default_target: qemux86-64
source_date_epoch: 1767225600
extensions:
  my-app:
    version: 1.0.0
    types: [sysext]
    overlay: overlay
";

/// The edited file, below the tree of the extension and in the guest.
const FILE: &str = "usr/share/my-app/a";

pub(crate) fn measure(directory: &Path, rounds: usize) -> Result<(), Failure> {
    println!("\n== hitl: an edit on the desk, seen in a guest, {rounds} edits");
    let place = directory.join("project");
    fs::create_dir_all(&place).map_err(Failure::system("make a directory"))?;
    let project = TestProject::new(&place, "http://127.0.0.1:1", &directory.join("keys"))?;
    project.write("avocado.yaml", YAML)?;
    project.write(&format!("overlay/{FILE}"), "image\n")?;
    project.avocado(&["ext", "image", "my-app"]).ok()?;
    let image = project.state().join("output/extensions/my-app-1.0.0.raw");
    let images = [("my-app-1.0.0.raw", image.as_path())];
    let guest = NfsGuest::boot(&directory.join("guest"), &nfs_guest::kernel()?, &images)?;
    let port = free_port()?;
    let _server = HitlServer::start(&project, port)?;
    guest.run("avocadoctl enable my-app-1.0.0 && avocadoctl merge");
    let said = guest.run(&format!(
        "avocadoctl hitl mount -s 10.0.2.2 -p {port} -e my-app; avocadoctl -o json ext status"
    ));
    if !said.contains("\"origin\": \"HITL\"") {
        return Err(Failure::Wrong(said));
    }
    // In the place of systemd, which would start it.
    guest.run("(avocadoctl hitl watch >/dev/null 2>&1 </dev/null &)");

    let exported = project.state().join(".work/hitl/export/my-app").join(FILE);
    let mut edits = Vec::new();
    let mut plain = Vec::new();
    for round in 0..rounds {
        let source = project.directory().join("overlay").join(FILE);
        edits.push(time(&guest, &source, &format!("edit {round}"))?);
        // Over what is exported, which the server leaves as it is until the sources change.
        plain.push(time(&guest, &exported, &format!("plain {round}"))?);
    }
    let edits: Sample = edits.into_iter().collect();
    let plain: Sample = plain.into_iter().collect();
    println!("an edit of an overlay                           {edits}");
    println!("a file where it is exported                     {plain}");
    let verdict = if edits.median() <= TARGET {
        "met"
    } else {
        "MISSED"
    };
    println!(
        "  the edit takes {:.1} times as long (target: p50 at most {} s, {verdict})",
        edits.ratio(&plain),
        TARGET.as_secs(),
    );
    Ok(())
}

/// From the write to the moment in which the guest answers that it sees it.
fn time(guest: &NfsGuest, file: &Path, text: &str) -> Result<Duration, Failure> {
    let began = Instant::now();
    fs::write(file, format!("{text}\n")).map_err(Failure::system("write a file"))?;
    let said = guest.run(&format!(
        "until grep -qx '{text}' /{FILE}; do :; done; echo seen"
    ));
    if said.lines().last() != Some("seen") {
        return Err(Failure::Wrong(format!(
            "the guest does not see {text}: {said}"
        )));
    }
    Ok(began.elapsed())
}

/// `avocado hitl server`, which ends with this.
struct HitlServer(Child);

impl HitlServer {
    fn start(project: &TestProject, port: u16) -> Result<Self, Failure> {
        let port = port.to_string();
        let mut command = project.command(&[
            "hitl",
            "server",
            "-e",
            "my-app",
            "--address",
            "127.0.0.1",
            "--port",
            &port,
            "--output",
            "json",
        ]);
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(Failure::system("start the server"))?;
        let output = child.stdout.take();
        let server = HitlServer(child);
        let mut lines = BufReader::new(output.ok_or_else(no_output)?).lines();
        let is_up = |line: std::io::Result<String>| {
            line.is_ok_and(|line| line.contains("\"event\":\"listening\""))
        };
        if !lines.any(is_up) {
            return Err(Failure::Wrong("the server ended".to_owned()));
        }
        // What it says has to go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }
}

fn no_output() -> Failure {
    Failure::Wrong("the server has no output".to_owned())
}

impl Drop for HitlServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
