use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::Place;

#[test]
fn a_stopped_vm_says_so_and_leaves_nothing() {
    let place = Place::new();
    insta::assert_snapshot!(place.run(&["status"]).ok().stdout, @r"
    state      stopped
    state dir  [PLACE]/home/.avocado/vm
    ");
    let status = place.json(&["status"]);
    assert_eq!(status["version"], 1);
    assert_eq!(status["running"], false);
    assert_eq!(status["state"], "stopped");
    assert_eq!(status["paused"], false);
    assert!(!place.path("home").exists(), "who only looks makes nothing");

    let stopped = place.run(&["stop"]).ok();
    assert_eq!(stopped.stderr, "the VM was not running\n");
    let mut command = place.command(&["status"]);
    command.env("AVOCADO_VM_STATE_DIR", place.path("elsewhere"));
    let shown = place.end(&mut command).ok().stdout;
    assert!(shown.contains("[PLACE]/elsewhere"), "{shown}");
}

#[test]
fn stale_files_are_not_believed() {
    let place = Place::new();
    fs::create_dir_all(place.vm("")).unwrap();
    // Our own process is alive, and is no VM.
    let pid = std::process::id();
    for name in ["qemu.pid", "supervisor.pid"] {
        fs::write(place.vm(name), pid.to_string()).unwrap();
    }
    fs::write(place.vm("ssh-port"), "2222").unwrap();
    fs::write(
        place.vm("lock"),
        format!(r#"{{"pid":{pid},"started":"x","doing":"y"}}"#),
    )
    .unwrap();
    assert_eq!(place.json(&["status"])["state"], "stopped");
    place.run(&["stop"]).ok();
}

#[test]
fn no_image_and_a_bad_image() {
    let place = Place::new();
    insta::assert_snapshot!(place.run(&["start"]).failed(1).stderr, @r"
    error: there is no image for the VM
    hint: `avocado vm update` installs one; --vm-source or AVOCADO_VM_DIR names one that was built here
    ");
    fs::create_dir(place.path("empty")).unwrap();
    insta::assert_snapshot!(place.run(&["start", "--vm-source", "empty"]).failed(1).stderr, @r"
    error: [PLACE]/empty holds no VM image: there is no manifest.json
    hint: `avocado vm update` fetches one; --vm-source or AVOCADO_VM_DIR names one that was built here
    ");
    let nowhere = place
        .run(&["start", "--vm-source", "nowhere"])
        .failed(1)
        .stderr;
    assert!(
        nowhere.starts_with("error: cannot use nowhere\n"),
        "{nowhere}"
    );

    place.image("image", "1");
    fs::write(place.path("image/rootfs.img"), "rootfs of 2").unwrap();
    let mut command = place.command(&["start"]);
    command.env("AVOCADO_VM_DIR", "image");
    let shown = place.end(&mut command).failed(1).stderr;
    let damaged = "error: [PLACE]/image/rootfs.img is damaged: its SHA-256 is ";
    assert!(shown.contains(damaged), "{shown}");
    assert_eq!(place.json(&["status"])["state"], "stopped");
    assert!(!place.vm("var.btrfs").exists());
}

#[test]
fn a_path_that_is_too_long_for_sockets() {
    let place = Place::new();
    place.image("image", "1");
    let mut command = place.command(&["start", "--vm-source", "image"]);
    command.env("AVOCADO_VM_STATE_DIR", place.path(&"d".repeat(100)));
    let shown = place.end(&mut command).failed(1).stderr;
    assert!(shown.contains("sockets in it allow"), "{shown}");
    assert!(
        shown.contains(
            "\nhint: set AVOCADO_VM_STATE_DIR to a shorter path, or choose a shorter --name\n"
        ),
        "{shown}"
    );
}

#[test]
fn a_copy_is_between_this_machine_and_the_guest() {
    let place = Place::new();
    insta::assert_snapshot!(place.run(&["cp", "a", "b"]).failed(2).stderr, @r"
    error: no path of the copy is in the guest
    hint: sources on one side, destination on the other: `guest:PATH` is in the guest
    ");
    let both = place.run(&["cp", "guest:a", "guest:b"]).failed(2).stderr;
    assert!(
        both.contains("both sides of the copy are in the guest"),
        "{both}"
    );
    place.run(&["cp", "guest:a"]).failed(2);
    insta::assert_snapshot!(place.run(&["cp", "-r", "", "guest:b"]).failed(2).stderr, @r"
    error: a path of the copy is empty
    hint: is a variable set that the shell put there? `.` is this directory
    ");
    let stopped = place.run(&["cp", "a", "guest:b"]).failed(1).stderr;
    assert!(stopped.contains("`avocado vm start`"), "{stopped}");
}

#[test]
fn what_needs_a_running_vm_says_so() {
    let place = Place::new();
    insta::assert_snapshot!(place.run(&["shell"]).failed(1).stderr, @r"
    error: the VM is not running
    hint: start it with `avocado vm start`
    ");
    for command in ["hibernate", "wake", "keep-awake"] {
        let refused = place.run(&[command]).failed(1).stderr;
        assert!(refused.contains("the VM is not running"), "{refused}");
    }
    let mut unstarted = vec!["keep-awake", "--while", "touch", "made"];
    place.run(&unstarted).failed(1);
    assert!(
        !place.path("made").exists(),
        "the command was started all the same"
    );
    unstarted.splice(1..1, ["--for", "1h"]);
    place.run(&unstarted).failed(2);
    place.run(&["keep-awake", "--for", "soon"]).failed(2);
    insta::assert_snapshot!(place.run(&["logs"]).failed(1).stderr, @r"
    error: there is no log of the guest's console: [PLACE]/home/.avocado/vm/serial.log is not there
    hint: start the VM with `avocado vm start`
    ");
    place.run(&["logs", "--supervisor", "--qemu"]).failed(2);
    place.run(&["start", "--cpus", "0"]).failed(2);
    place.run(&["start", "--var-size", "big"]).failed(2);
    place.run(&["start", "--dns", "home"]).failed(2);
}

#[test]
fn two_lanes_have_two_ports() {
    let place = Place::new();
    let start = ["start", "--ssh-port", "2222", "--infra-port", "2222"];
    insta::assert_snapshot!(place.run(&start).failed(2).stderr, @r"
    error: --ssh-port and --infra-port are both 2222
    hint: choose a port of its own for each
    ");
}

#[test]
fn a_port_is_not_that_of_a_remembered_lane() {
    let place = Place::new();
    fs::create_dir_all(place.vm("")).unwrap();
    let mut launch = place.record(&json!(null))["launch"].clone();
    launch["infra_port"] = json!(2223);
    fs::write(place.vm("launch.json"), launch.to_string()).unwrap();
    insta::assert_snapshot!(place.run(&["start", "--ssh-port", "2223"]).failed(2).stderr, @r"
    error: --ssh-port is 2223, and so is the infra port of the last start
    hint: choose a port of its own for each
    ");
    let forget = ["start", "--ssh-port", "2223", "--forget"];
    let said = place.run(&forget).failed(1).stderr;
    assert!(said.contains("there is no image"), "{said}");
}

#[test]
fn what_cannot_be_started_again_is_not_stopped() {
    let place = Place::new();
    let asked = place.pretend_to_run();
    let said = place.run(&["restart"]).failed(1).stderr;
    assert!(said.contains("there is no image"), "{said}");
    assert_eq!(asked.try_iter().count(), 0);
}

#[test]
fn values_with_which_the_vm_does_not_start_are_not_kept() {
    let place = Place::new();
    place.image("image", "1");
    fs::write(place.path("image/rootfs.img"), "damaged").unwrap();
    let start = ["start", "--vm-source", "image", "--cpus", "1000"];
    let refused = place.run(&start).failed(1).stderr;
    assert!(refused.contains("rootfs.img is damaged"), "{refused}");
    assert!(!place.vm("config.yaml").exists());
}

/// A supervisor as far as `vm start` needs it on a VM that runs: it tells the status.
#[test]
#[cfg(unix)]
fn options_that_come_too_late_are_named() {
    let place = Place::new();
    let _asked = place.pretend_to_run();
    insta::assert_snapshot!(place.run(&["start"]).ok().stderr, @"the VM runs already");
    let ignored = [
        "start",
        "--ssh-port",
        "2222",
        "--vm-source",
        "x",
        "--idle-hibernate-secs",
        "9",
        "--dns",
        "192.0.2.1",
        "--foreground",
        "--cpus",
        "6",
    ];
    insta::assert_snapshot!(place.run(&ignored).ok().stderr, @r"
    warning: the VM runs already, and these options have no effect: --vm-source, --ssh-port, --dns, --idle-hibernate-secs, --foreground; they count only at a start after `avocado vm stop`
    the new values count from the next start
    the VM runs already
    ");
    let kept = place.run(&["config", "get", "runtime.cpus"]).ok().stdout;
    assert_eq!(kept, "6\n");

    let mut launch = place.record(&json!(null))["launch"].clone();
    launch["idle"]["hibernate_after_secs"] = json!(60);
    fs::write(place.vm("launch.json"), launch.to_string()).unwrap();
    let mut command = place.command(&["start"]);
    command
        .env("AVOCADO_VM_IDLE_HIBERNATE_SECS", "9")
        .env("AVOCADO_VM_DIR", place.path("image"))
        .env("AVOCADO_VM_WORKSPACE", place.path("elsewhere"));
    insta::assert_snapshot!(place.end(&mut command).ok().stderr, @r"
    warning: the VM runs already, with other values than these variables have: AVOCADO_VM_WORKSPACE, AVOCADO_VM_IDLE_HIBERNATE_SECS; `avocado vm restart` takes them
    the VM runs already
    ");
}

#[test]
#[cfg(unix)]
fn a_vm_without_supervisor_has_no_shell() {
    let place = Place::new();
    let dir = avocado_vm::dir::StateDir::new(place.vm(""));
    // The lock tells who we are.
    let lock = avocado_vm::lock::VmLock::take(&dir, "avocado vm test").unwrap();
    let holder = serde_json::from_slice(&fs::read(place.vm("lock")).unwrap()).unwrap();
    drop(lock);
    let record = place.record(&holder);
    fs::write(place.vm("machine.json"), record.to_string()).unwrap();
    assert_eq!(place.json(&["status"])["state"], "unsupervised");
    insta::assert_snapshot!(place.run(&["shell"]).failed(1).stderr, @r"
    error: the VM has lost its supervisor
    hint: `avocado vm start` takes the VM over
    ");
}

#[test]
fn logs_are_data() {
    let place = Place::new();
    fs::create_dir_all(place.vm("")).unwrap();
    fs::write(place.vm("serial.log"), "one\r\n\u{1b}[31mtwo").unwrap();
    fs::write(place.vm("supervisor.log"), "woke\n").unwrap();
    // Not on a terminal: as they are.
    assert_eq!(place.run(&["logs"]).ok().stdout, "one\r\n\u{1b}[31mtwo");
    assert_eq!(place.run(&["logs", "--supervisor"]).ok().stdout, "woke\n");
    let json = place.run(&["logs", "--output", "json"]).ok();
    assert_eq!(json.documents()[0], json!({"event": "log", "line": "one"}));
}

#[test]
#[cfg(unix)]
fn logs_are_followed_over_a_new_start() {
    use std::io::{BufRead, BufReader};
    let place = Place::new();
    fs::create_dir_all(place.vm("")).unwrap();
    fs::write(place.vm("serial.log"), "one\n").unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_avocado"))
        .args(["vm", "logs", "-f"])
        .env("HOME", place.path("home"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "one");
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(place.vm("serial.log"))
        .unwrap();
    std::io::Write::write_all(&mut log, b"two\n").unwrap();
    assert_eq!(next(), "two");
    fs::write(place.path("new"), "three\n").unwrap();
    fs::rename(place.path("new"), place.vm("serial.log")).unwrap();
    assert_eq!(next(), "three");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn reset_asks_for_the_word() {
    let place = Place::new();
    place.image("image", "1");
    fs::create_dir_all(place.vm("")).unwrap();
    fs::write(place.vm("var.btrfs"), "mine").unwrap();
    fs::write(place.vm("saved.json"), "{}").unwrap();
    fs::write(place.vm("known_hosts"), "x").unwrap();
    let reset = |args: &[&str], typed: &str| {
        let mut command = place.command(&["reset"]);
        command
            .args(args)
            .env("AVOCADO_VM_DIR", "image")
            .write_stdin(typed);
        place.end(&mut command)
    };
    for typed in ["", "yes\n", "RESET\n", "y\n"] {
        let refused = reset(&[], typed).failed(1).stderr;
        assert!(!refused.contains("memory"), "{refused}");
        assert!(
            refused.ends_with("error: nothing was changed\nhint: -y does not ask\n"),
            "{refused}"
        );
    }
    assert_eq!(fs::read(place.vm("var.btrfs")).unwrap(), b"mine");
    for (args, typed) in [(&[][..], "reset\n"), (&["-y"], "")] {
        fs::write(place.vm("var.btrfs"), "mine").unwrap();
        reset(args, typed).ok();
        assert_eq!(fs::metadata(place.vm("var.btrfs")).unwrap().len(), 50 << 30);
        let mut head = [0; 8];
        let mut file = fs::File::open(place.vm("var.btrfs")).unwrap();
        std::io::Read::read_exact(&mut file, &mut head).unwrap();
        assert_eq!(&head, b"var of 1");
        assert!(!place.vm("saved.json").exists());
        assert_eq!(fs::read(place.vm("known_hosts")).unwrap(), b"");
    }
}

#[test]
fn a_saved_memory_is_not_lost_without_a_word() {
    let place = Place::new();
    place.image("image", "1");
    let memory = ["machine.json", "saved.json", "saved-memory"];
    let is_there = || memory.map(|name| place.vm(name).exists());
    place.save_memory();
    for args in [
        &["rebuild", "--vm-source", "image"][..],
        &["rebuild", "--vm-source", "image", "--reset-data"],
    ] {
        let refused = place.run(args).failed(1).stderr;
        let refused = &refused[refused.find("error: ").unwrap()..];
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused, @r"
            error: the guest's memory is saved, and fits only the image that it was saved from
            hint: `avocado vm stop` shuts the guest down properly first; `avocado vm stop --force` gives its memory up
            ");
        }
        assert_eq!(is_there(), [true; 3]);
        assert!(!place.vm("artifact-dir").exists());
    }
    place.run(&["stop", "--force"]).ok();
    assert_eq!(is_there(), [false; 3]);
    place.run(&["rebuild", "--vm-source", "image"]).ok();

    place.save_memory();
    let mut reset = place.command(&["reset"]);
    let asked = place.end(reset.write_stdin("no\n")).failed(1).stderr;
    insta::assert_snapshot!(asked, @r"
    everything in the guest's /var is lost: containers, logs, what you installed.
    The guest's saved memory is lost too: its programs do not go on.
    Type `reset` to go on: error: nothing was changed
    hint: -y does not ask
    ");
    assert_eq!(is_there(), [true; 3]);
    place.run(&["reset", "-y"]).ok();
    assert_eq!(is_there(), [false; 3]);
}

#[test]
fn rebuild_takes_an_image_that_is_whole() {
    let place = Place::new();
    place.run(&["rebuild"]).failed(2);
    place.image("image", "1");
    place.run(&["rebuild", "--vm-source", "image"]).ok();
    let pointer = fs::read_to_string(place.vm("artifact-dir")).unwrap();
    assert_eq!(
        pointer.trim_end(),
        place
            .path("image")
            .canonicalize()
            .unwrap()
            .to_str()
            .unwrap()
    );
    assert!(!place.vm("var.btrfs").exists());
    place
        .run(&["rebuild", "--vm-source", "image", "--reset-data"])
        .ok();
    assert!(place.vm("var.btrfs").exists());
    fs::write(place.path("image/kernel.img"), "kernel of 2").unwrap();
    let shown = place
        .run(&["rebuild", "--vm-source", "image"])
        .failed(1)
        .stderr;
    assert!(shown.contains("kernel.img is damaged"), "{shown}");
}

#[test]
#[cfg(unix)]
fn who_has_the_lock_is_named() {
    let place = Place::new();
    place.image("image", "1");
    let dir = avocado_vm::dir::StateDir::new(place.vm(""));
    let lock = avocado_vm::lock::VmLock::take(&dir, "avocado vm test").unwrap();
    let shown = place
        .run(&["rebuild", "--vm-source", "image"])
        .failed(1)
        .stderr;
    let pid = std::process::id();
    assert_eq!(
        shown
            .lines()
            .find(|line| line.starts_with("error: "))
            .unwrap(),
        format!(
            "error: the VM in [PLACE]/home/.avocado/vm is in use by `avocado vm test` (process {pid})"
        )
    );
    let shown = place
        .run(&["start", "--vm-source", "image"])
        .failed(1)
        .stderr;
    assert!(shown.contains("`avocado vm test`"), "{shown}");
    drop(lock);
    place.run(&["rebuild", "--vm-source", "image"]).ok();
}
