//! Hardware in the loop, with the real server and a real client: a guest runs an extension as it is
//! in a project here. What it takes is printed (`--nocapture`), and nothing hangs on it.
#![allow(clippy::print_stderr)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use avocado_test_support::skip;
use avocado_testbed::nfs_guest::{self, NfsGuest, free_port};
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without};

const YAML: &str = "\
default_target: qemux86-64
supported_targets: [qemux86-64]
source_date_epoch: 1767225600
extensions:
  my-app:
    version: 1.0.0
    types: [sysext]
    overlay: overlay
";

/// A project with one extension, which needs no feed.
fn project(place: &Path) -> TestProject {
    let directory = place.join("a project");
    fs::create_dir_all(&directory).unwrap();
    let project = TestProject::new(&directory, "http://127.0.0.1:1", &place.join("keys")).unwrap();
    project.write("avocado.yaml", YAML).unwrap();
    project
        .write("overlay/usr/share/my-app/a", "image\n")
        .unwrap();
    project
}

/// `avocado hitl server`, killed at the end.
struct HitlServer(Child);

impl HitlServer {
    /// Starts it and waits until it listens.
    fn start(project: &TestProject, port: u16) -> Self {
        let mut command = Self::command(project, port);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listens = lines.any(|line| line.unwrap().contains("\"event\":\"listening\""));
        assert!(listens, "the server ended");
        // What it says has to go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        HitlServer(child)
    }

    fn command(project: &TestProject, port: u16) -> Command {
        let port = port.to_string();
        project.command(&[
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
        ])
    }

    fn signal(&self, process: u32, signal: &str) {
        let kill = ToolCall::new("kill").arg(format!("-{signal}"));
        kill.arg(process.to_string()).ok().unwrap();
    }

    /// The process that serves.
    fn ganesha(&self) -> u32 {
        let id = self.0.id().to_string();
        let found = ToolCall::new("pgrep").args(["-P", &id, "-x", "ganesha.nfsd"]);
        found.ok().unwrap().stdout.trim().parse().unwrap()
    }
}

impl Drop for HitlServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn cannot_run(name: &str) -> bool {
    let own = [
        TestNeed::Root,
        TestNeed::Tool("ganesha.nfsd"),
        TestNeed::Tool("pgrep"),
        TestNeed::StaticBinary("avocado"),
    ];
    skip_without(name, &[nfs_guest::needs(), own.into()].concat())
}

fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn served(project: &TestProject) -> PathBuf {
    project.state().join(".work/hitl")
}

#[test]
fn a_device_runs_an_extension_as_it_is_on_the_desk() {
    let name = "a_device_runs_an_extension_as_it_is_on_the_desk";
    if cannot_run(name) {
        return;
    }
    let kernel = match nfs_guest::kernel() {
        Ok(kernel) => kernel,
        Err(error) => return skip(name, error.to_string()),
    };
    let place = tempfile::tempdir().unwrap();
    let project = project(place.path());
    project.avocado(&["ext", "image", "my-app"]).ok().unwrap();
    let image = project.state().join("output/extensions/my-app-1.0.0.raw");
    let images = [("my-app-1.0.0.raw", image.as_path())];
    let guest = NfsGuest::boot(&place.path().join("guest"), &kernel, &images).unwrap();
    let merged = guest.run("avocadoctl enable my-app-1.0.0 && avocadoctl merge");
    assert_eq!(guest.run("cat /usr/share/my-app/a"), "image", "{merged}");

    let port = free_port().unwrap();
    let server = HitlServer::start(&project, port);
    let mount = format!("avocadoctl hitl mount -s 10.0.2.2 -p {port} -e my-app");
    let refused = guest.run(&format!("{mount} -e ../../evil; ls /run/avocado/hitl"));
    assert!(refused.contains("../../evil was not mounted"), "{refused}");
    let refused = guest.run(&format!("{mount} -e other; cat /usr/share/my-app/a"));
    assert!(refused.contains("other was not mounted"), "{refused}");
    assert!(refused.ends_with("image"), "{refused}");

    let said = guest.run(&format!("{mount}; avocadoctl -o json ext status"));
    assert!(said.contains("\"origin\": \"HITL\""), "{said}");
    // In the place of systemd, which would start it.
    let watch = "(avocadoctl hitl watch >>/run/watch.log 2>&1 </dev/null &)";
    guest.run(watch);
    remembers_for_a_second(&guest, &project);
    follows(&guest, &project);
    reaches_nothing_else(&guest, port);
    others_are_refused(&project, port);

    let said = guest.run("avocadoctl hitl unmount -e my-app; cat /usr/share/my-app/a");
    assert!(said.ends_with("image"), "{said}");
    nothing_is_left(&guest);

    // Killed, it takes its server along, and the device goes back by itself.
    let said = guest.run(&format!("{mount}; {watch}; cat /usr/share/my-app/a"));
    assert!(said.ends_with("after"), "{said}");
    let ganesha = server.ganesha();
    server.signal(server.0.id(), "KILL");
    until("the server to end", || {
        !Path::new(&format!("/proc/{ganesha}")).exists() || is_zombie(ganesha)
    });
    goes_back(&guest);

    // One that does not answer any more is as good as none.
    drop(server);
    assert!(served(&project).exists());
    let server = HitlServer::start(&project, port);
    guest.run(&format!("{mount}; {watch}"));
    server.signal(server.ganesha(), "STOP");
    goes_back(&guest);

    // Asked to end, it leaves nothing.
    server.signal(server.0.id(), "INT");
    until("its files to go", || !served(&project).exists());
    let waits = "grep -l '^State:.D' /proc/[0-9]*/status";
    let none = |said: &str| said.is_empty();
    guest.until("everything to go on", waits, none).unwrap();
}

fn is_zombie(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// What stands between an edit and the device beside the work itself: what the device's kernel and the
/// server remember, and for how long.
fn remembers_for_a_second(guest: &NfsGuest, project: &TestProject) {
    let mounts = guest.run("grep nfs4 /proc/mounts");
    let mount = mounts.lines().next().unwrap_or_default();
    let options: Vec<&str> = mount
        .split_whitespace()
        .nth(3)
        .unwrap()
        .split(',')
        .collect();
    for option in [
        "acregmin=0",
        "acregmax=1",
        "acdirmin=0",
        "acdirmax=1",
        "lookupcache=none",
    ] {
        assert!(options.contains(&option), "{option}: {mount}");
    }
    let mut expiry = Vec::new();
    for entry in fs::read_dir(served(project)).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        let lines = text.lines().map(str::trim);
        let found = lines.filter(|line| line.starts_with("Attr_Expiration_Time"));
        expiry.extend(found.map(str::to_owned));
    }
    assert_eq!(expiry, ["Attr_Expiration_Time = 0;"]);
}

/// What changes here is seen there: bytes, files that are new, also where they were looked for in
/// vain, programs, and files that are gone.
fn follows(guest: &NfsGuest, project: &TestProject) {
    let shown = "cat /usr/share/my-app/a /usr/share/my-app/b /usr/bin/my-app";
    let before = guest.run(shown);
    assert!(
        before.starts_with("image\n") && before.contains("No such file"),
        "{before}"
    );
    let sees = |what: &str, wanted: &str| {
        let began = Instant::now();
        guest.until(what, shown, |said| said == wanted).unwrap();
        eprintln!("{what}: seen after {:?}", began.elapsed());
    };
    project
        .write("overlay/usr/share/my-app/b", "new\n")
        .unwrap();
    project
        .write("overlay/usr/bin/my-app", "program\n")
        .unwrap();
    sees("new files", "image\nnew\nprogram");
    project
        .write("overlay/usr/share/my-app/a", "after\n")
        .unwrap();
    sees("an edit", "after\nnew\nprogram");
    project
        .write("overlay/usr/bin/my-app", "program 2\n")
        .unwrap();
    sees("another program", "after\nnew\nprogram 2");
    fs::remove_file(project.directory().join("overlay/usr/share/my-app/b")).unwrap();
    guest
        .until("a file to go", "ls /usr/share/my-app", |said| said == "a")
        .unwrap();
}

/// Only what was named is exported, and none of it can be changed.
fn reaches_nothing_else(guest: &NfsGuest, port: u16) {
    let options = format!("addr=10.0.2.2,port={port},vers=4.1,soft,timeo=20,retrans=2");
    let said = guest.run(&format!(
        "mkdir -p /run/x && mount -i -t nfs4 -o {options} 10.0.2.2:/ /run/x && ls -A /run/x; \
         touch /run/x/new /run/x/my-app/usr/new; ls /run/x/my-app/..; umount /run/x"
    ));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.first(), Some(&"my-app"), "{said}");
    assert_eq!(lines.last(), Some(&"my-app"), "{said}");
    assert_eq!(said.matches("touch: ").count(), 2, "{said}");
}

/// A port that is taken, and a second server of the same project.
fn others_are_refused(project: &TestProject, port: u16) {
    let refused = |project: &TestProject, wanted: &str| {
        let output = HitlServer::command(project, port).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(wanted), "{said}");
    };
    refused(
        project,
        "another `avocado hitl server` runs for this project and target",
    );
    let place = tempfile::tempdir().unwrap();
    let other = self::project(place.path());
    refused(&other, &format!("cannot listen at 127.0.0.1:{port}"));
    assert!(!served(&other).exists());
}

/// The device has its image again, and nothing of the server.
fn goes_back(guest: &NfsGuest) {
    let began = Instant::now();
    guest
        .until("the image to be back", "cat /usr/share/my-app/a", |said| {
            said == "image"
        })
        .unwrap();
    eprintln!("back to the image after {:?}", began.elapsed());
    nothing_is_left(guest);
}

fn nothing_is_left(guest: &NfsGuest) {
    let left = "ls -A /run/avocado/hitl; grep nfs4 /proc/mounts; cat /run/avocado/hitl.json; ps | grep [w]atch";
    let gone = |said: &str| {
        said.lines()
            .all(|line| line.ends_with("No such file or directory"))
    };
    guest.until("nothing to be left", left, gone).unwrap();
    let status = guest.run("avocadoctl -o json ext status");
    assert!(
        status.contains("\"origin\": \"Loop:my-app-1.0.0\""),
        "{status}"
    );
}
