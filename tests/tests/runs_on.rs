//! Steps on another machine, with a real one: a guest with an ssh server and the tools of a build, to
//! which the project comes over NFS. What it takes is printed (`--nocapture`), and nothing hangs on it.
#![allow(clippy::print_stderr)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use avocado_test_support::skip;
use avocado_testbed::nfs_guest;
use avocado_testbed::project::TestProject;
use avocado_testbed::remote_guest::{self, RemoteGuest};
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without};
use common::{Sandbox, cannot_build, feed};
use rustix::process::{Pid, Signal, kill_process};

/// How long the other machine may take to notice that this one is gone: 30 s without a word, and then
/// as long for its client of NFS, more than once.
const END: Duration = Duration::from_secs(300);

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

/// Says where it runs, and makes files of many bytes, with a hard link and modes. No symbolic link: the
/// server keeps no time of one (docs/runs-on.md).
const HOOK: &str = "\
#!/bin/sh
set -eu
cat /proc/sys/kernel/hostname >/opt/src/where
cd $AVOCADO_BUILD_EXT_SYSROOT/usr/share/my-app
seq 1 100000 >numbers
ln numbers again
chmod 640 numbers
chown 7:7 again
";

const BUILD: [&str; 5] = ["ext", "image", "my-app", "--runs-on", "root@builder"];

/// A project with one extension of many bytes, which needs no feed.
fn project(place: &Path) -> TestProject {
    let directory = place.join("a project");
    fs::create_dir_all(&directory).unwrap();
    let project = TestProject::new(&directory, "http://127.0.0.1:1", &place.join("keys")).unwrap();
    project.write("avocado.yaml", YAML).unwrap();
    // Nothing that could be packed.
    let mut state = 1_u64;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}\n")
    };
    for file in 0..2 {
        let text: String = (0..200_000).map(|_| number()).collect();
        let path = format!("overlay/usr/share/my-app/{file}");
        project.write(&path, &text).unwrap();
    }
    project
}

/// The same project with a way to the guest.
fn with_guest(project: TestProject, guest: &RemoteGuest) -> TestProject {
    let mut path = guest.bin().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path.push(":/usr/sbin:/sbin");
    project.with_env("PATH", path)
}

/// Another machine, and where it is here.
struct Machine {
    guest: RemoteGuest,
    _place: tempfile::TempDir,
}

/// Says why there is none. Its ports `forwarded` lead to those of this machine.
fn machine(name: &str, forwarded: &[u16]) -> Option<Machine> {
    let own = [TestNeed::Tool("pgrep")];
    if skip_without(name, &[remote_guest::needs(), own.into()].concat()) {
        return None;
    }
    let parts = nfs_guest::kernel().and_then(|kernel| Ok((kernel, remote_guest::system()?)));
    let (kernel, system) = match parts {
        Ok(parts) => parts,
        Err(error) => {
            skip(name, error.to_string());
            return None;
        }
    };
    let place = tempfile::tempdir().unwrap();
    let at = place.path().join("guest");
    let guest = RemoteGuest::boot(&at, &kernel, &system, forwarded).unwrap();
    Some(Machine {
        guest,
        _place: place,
    })
}

fn image(project: &TestProject) -> Vec<u8> {
    let path = "output/extensions/my-app-1.0.0.raw";
    fs::read(project.state().join(path)).unwrap()
}

/// Waits for the end of the command.
fn ended(child: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(begin.elapsed() < END, "the command goes on");
        std::thread::yield_now();
    }
}

/// What a command has started here that would outlive it: its server and its connection.
fn started_by(child: &Child) -> Vec<String> {
    let id = child.id().to_string();
    let found = ToolCall::new("pgrep").args(["-P", &id, "-x", "ganesha.nfsd|ssh"]);
    let found = found.ok().unwrap().stdout;
    found.lines().map(ToOwned::to_owned).collect()
}

/// Whether one of these processes goes on. One that has ended and was not waited for does not.
fn goes_on(process: &String) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

/// Whether a step has the project mounted there.
fn is_at_work(machine: &Machine) -> bool {
    let look = "grep -ls ' nfs4 ' /proc/[0-9]*/mountinfo";
    !machine.guest.guest().run(look).is_empty()
}

/// What of a run is there: processes of our program and of what it starts, and mounts. The kernel lists
/// every file system of NFS that is mounted for anybody.
fn left_there(machine: &Machine) -> String {
    let look = "ps -e -o args= | grep -E '[r]uns-on/|[m]ksquashfs'; \
                grep -hs ' nfs4 ' /proc/[0-9]*/mountinfo; tail -n +2 /proc/fs/nfsfs/volumes; echo end";
    machine.guest.guest().run(look)
}

/// Waits until nothing of a run is left there.
fn nothing_is_left_there(machine: &Machine) {
    let begin = Instant::now();
    loop {
        // It is asked again and again, also while something waits for the network.
        let found = left_there(machine);
        if found == "end" {
            eprintln!("nothing is left after {:?}", begin.elapsed());
            return;
        }
        assert!(begin.elapsed() < END, "{found}");
    }
}

/// A project whose extension a script makes a part of, with an SDK from the feed.
fn scripted() -> Sandbox {
    let sandbox = Sandbox::fresh();
    let project = &sandbox.project;
    let yaml = format!("{YAML}    post_build: hook\n");
    let yaml = format!("{yaml}distro: {{release: '2024', channel: edge}}\n");
    project.write("avocado.yaml", &yaml).unwrap();
    project.write("overlay/usr/share/my-app/a", "a\n").unwrap();
    project.write("hook", HOOK).unwrap();
    let script = project.directory().join("hook");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox
}

#[test]
fn what_is_made_there_is_what_would_be_made_here() {
    let name = "what_is_made_there_is_what_would_be_made_here";
    if cannot_build(name) {
        return;
    }
    let port = feed().url();
    let port = port.rsplit(':').next().unwrap().trim_end_matches('/');
    let Some(machine) = machine(name, &[port.parse().unwrap()]) else {
        return;
    };
    let (here, there) = (scripted(), scripted());
    let there = with_guest(there.project.clone(), &machine.guest);
    let build = ["ext", "image", "my-app"];
    let digests = |project: &TestProject, arguments: &[&str]| {
        let begin = Instant::now();
        let events = project.events(arguments).unwrap();
        eprintln!("{arguments:?}: {:?}", begin.elapsed());
        let made = events.artifacts().into_iter();
        let made: Vec<_> = made.map(|a| (a.kind, a.name, a.sha256)).collect();
        (made, events.complete()["ran"].as_u64().unwrap())
    };
    let (on_this, _) = digests(&here.project, &build);
    let (on_other, ran) = digests(&there, &BUILD);
    assert_eq!(on_this.len(), 1);
    assert_eq!(on_other, on_this);
    assert!(ran > 0);
    let place = |project: &TestProject| project.read("where").unwrap();
    assert_eq!(place(&there), "builder\n");
    assert_ne!(place(&here.project), "builder\n");
    // A script that writes among the sources runs once more in the next build, there as here.
    assert_eq!(digests(&there, &BUILD).0, on_this);
    assert_eq!(digests(&there, &BUILD), (on_this, 0));
    nothing_is_left_there(&machine);
}

#[test]
fn nothing_of_a_run_outlives_it_on_either_side() {
    let name = "nothing_of_a_run_outlives_it_on_either_side";
    let Some(machine) = machine(name, &[]) else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let here = project(&place.path().join("here"));
    here.avocado(&["ext", "image", "my-app"]).ok().unwrap();
    let there = with_guest(project(&place.path().join("there")), &machine.guest);

    for end in ["cut", "interrupt", "kill"] {
        let command = there.command(&BUILD);
        let mut child = common::interruptible(&command).spawn().unwrap();
        let begin = Instant::now();
        while !is_at_work(&machine) {
            assert_eq!(child.try_wait().unwrap(), None, "{end}: it has ended");
            assert!(begin.elapsed() < END, "{end}: nothing begins");
        }
        eprintln!("{end}: begun after {:?}", begin.elapsed());
        let found = left_there(&machine);
        assert!(found.contains("runs-on/"), "{found}");
        let started = started_by(&child);
        // The one that keeps the connection, and one for the step.
        assert!(started.len() >= 3, "{started:?}");
        let process = Pid::from_child(&child);
        let begin = Instant::now();
        let status = match end {
            "cut" => {
                machine.guest.cut(true).unwrap();
                let status = ended(&mut child);
                assert_eq!(status.code(), Some(1));
                status
            }
            "interrupt" => {
                kill_process(process, Signal::INT).unwrap();
                let status = ended(&mut child);
                assert_eq!(status.code(), Some(130));
                status
            }
            _ => {
                kill_process(process, Signal::KILL).unwrap();
                let status = ended(&mut child);
                assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
                status
            }
        };
        eprintln!("{end}: {status} after {:?}", begin.elapsed());
        // The kernel ends those of one that was killed.
        while started.iter().any(goes_on) {
            assert!(begin.elapsed() < END, "{end}: {started:?}");
        }
        nothing_is_left_there(&machine);
        machine.guest.cut(false).unwrap();
    }

    there.avocado(&BUILD).ok().unwrap();
    assert!(image(&here) == image(&there), "other bytes");
    assert_eq!(there.events(&BUILD).unwrap().complete()["ran"], 0);
    nothing_is_left_there(&machine);
}
