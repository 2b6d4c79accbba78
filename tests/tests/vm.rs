//! The development VM with a real guest: an image that `avocado build` made from the sample feed,
//! in a real QEMU, driven by the static `avocado`.
//!
//! A boot is slow where the guest is emulated. So there is one long story, and what needs no guest
//! is beside it.
#![allow(missing_docs)]
#![allow(clippy::print_stdout, reason = "the runner shows it when a test fails")]

mod common;

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use avocado_testbed::kernel;
use avocado_testbed::project::Events;
use avocado_testbed::tools::{Call, Need, skip};
use avocado_testbed::vm::Vm;
use avocado_testbed::vm::docker::Engine;
use avocado_testbed::vm::http;
use avocado_testbed::vm::notify::Hints;
use avocado_testbed::vm::session::Session;
use avocado_testbed::vm_image::VmImage;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

/// The guest falls asleep after so many seconds without activity.
const IDLE: u64 = 3;
/// For everything that takes as long as the machine is busy. Nothing depends on the value.
const SOON: Duration = Duration::from_secs(90);

/// Two emulated guests at once would both be slow.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The image, if this machine can make and run one.
fn image(test: &str) -> Option<PathBuf> {
    let needs = [
        Need::Tool("qemu-system-x86_64"),
        Need::Tool("ssh"),
        Need::Tool("ssh-keygen"),
        Need::Tool("btrfs"),
    ];
    if skip(test, &needs) || common::cannot_build(test) {
        return None;
    }
    static IMAGE: OnceLock<VmImage> = OnceLock::new();
    let image = IMAGE.get_or_init(|| VmImage::ensure().unwrap());
    Some(image.directory().to_owned())
}

/// Says where the story is.
fn chapter(name: &str) {
    static START: Mutex<Option<Instant>> = Mutex::new(None);
    let mut start = START.lock().unwrap_or_else(PoisonError::into_inner);
    let start = start.get_or_insert_with(Instant::now);
    println!("{:7.1} s  {name}", start.elapsed().as_secs_f64());
}

/// Ends a process, and waits until it has ended.
fn kill(id: &Value) {
    let id = Pid::from_raw(i32::try_from(id.as_u64().unwrap()).unwrap()).unwrap();
    let process = pidfd_open(id, PidfdFlags::empty()).unwrap();
    kill_process(id, Signal::KILL).unwrap();
    let limit = Timespec::try_from(SOON).unwrap();
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1);
}

/// What a listener says by itself.
fn words(port: &Value) -> String {
    let port = u16::try_from(port.as_u64().unwrap()).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A connection that is counted: it wakes the guest, and keeps it awake while it is open.
struct Hold {
    _stream: TcpStream,
}

impl Hold {
    fn new(vm: &Vm) -> Self {
        let port = vm.status().unwrap()["ports"]["ssh"].as_u64().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut start = [0; 4];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"SSH-");
        Hold { _stream: stream }
    }
}

/// The value of the guest that changes with each boot.
fn boot_id(session: &mut Session) -> String {
    session.ok("cat /proc/sys/kernel/random/boot_id").unwrap()
}

/// The clock is set soon after a wake. Until then it is behind by as long as the guest slept.
fn assert_clock(session: &mut Session) {
    let deadline = Instant::now() + SOON;
    loop {
        let clocks = session.clocks(5).unwrap();
        let (error, unknown) = (clocks.error(), clocks.uncertainty());
        if error + unknown <= Duration::from_millis(100) {
            println!("           clock: {error:?} wrong, known to {unknown:?}");
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{error:?} wrong, known to {unknown:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The file systems of the guest have nothing to complain about.
fn assert_sound(session: &mut Session) {
    let stats = session.ok("btrfs device stats /var").unwrap();
    let counts: Vec<_> = stats
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert!(
        counts.len() >= 5 && counts.iter().all(|n| *n == "0"),
        "{stats}"
    );
    let said = session.ok("dmesg").unwrap();
    let bad = |line: &&str| {
        ["error", "corrupt", "bad tree"]
            .iter()
            .any(|word| line.to_lowercase().contains(word))
            && ["btrfs", "erofs", "ext4", "i/o error"]
                .iter()
                .any(|word| line.to_lowercase().contains(word))
    };
    let bad: Vec<_> = said.lines().filter(bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

fn warnings(events: &Events) -> Vec<String> {
    let text = |event: &Value| event["message"].as_str().unwrap_or_default().to_owned();
    events.of("warning").map(text).collect()
}

/// A port that is free now.
fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// A VM whose guest sleeps soon.
struct Story {
    vm: Vm,
    hints: Hints,
    image: String,
    infra_port: String,
    workspace: PathBuf,
    engine: Engine,
}

impl Story {
    fn new(image: &Path) -> Self {
        let vm = Vm::new().unwrap();
        let socket = vm.scratch().join("desktop.sock");
        let hints = Hints::listen(&socket).unwrap();
        let vm = vm.with_env("AVOCADO_DESKTOP_SOCKET", socket);
        let workspace = vm.scratch().join("workspace");
        fs::create_dir(&workspace).unwrap();
        let engine = Engine::new(vm.file("docker.sock"));
        let story = Story {
            vm,
            hints,
            image: image.display().to_string(),
            infra_port: free_port(),
            workspace,
            engine,
        };
        story.configure("idle.hibernate_after_secs", &IDLE.to_string());
        story
    }

    fn configure(&self, key: &str, value: &str) {
        self.vm.vm(&["config", "set", key, value]).ok().unwrap();
    }

    fn start(&self) -> Events {
        let workspace = self.workspace.display().to_string();
        let options = [
            ["--vm-source", &self.image],
            ["--workspace", &workspace],
            ["--infra-port", &self.infra_port],
            ["--memory-mib", "768"],
            ["--cpus", "2"],
            ["--var-size", "2G"],
        ];
        let mut arguments = options.concat();
        arguments.push("--docker-socket-stream");
        self.vm.start(&arguments).unwrap()
    }

    fn status(&self) -> Value {
        self.vm.status().unwrap()
    }

    fn asleep(&self) -> Value {
        self.vm.wait_for("hibernated", SOON).unwrap()
    }

    /// A shell that does not count, in a guest that is awake.
    fn visit(&self) -> (Hold, Session) {
        let hold = Hold::new(&self.vm);
        (hold, self.vm.session("infra_ssh").unwrap())
    }

    fn release(&self) -> Value {
        let answer = self.vm.ask("release").unwrap();
        assert!(
            answer.get("result").is_some(),
            "{answer}\n{}",
            self.vm.log("supervisor.log")
        );
        self.vm.wait_for("released", SOON).unwrap()
    }
}

#[test]
fn a_guest_sleeps_and_wakes_and_nothing_is_lost() {
    let name = "a_guest_sleeps_and_wakes_and_nothing_is_lost";
    let Some(image) = image(name) else { return };
    let _turn = turn();
    let story = Story::new(&image);

    chapter("the first start");
    start(&story);
    chapter("commands");
    shell(&story);
    chapter("containers");
    let container = containers(&story);
    chapter("the workspace");
    workspace(&story);
    chapter("asleep");
    let (hold, mut session) = story.visit();
    drop(hold);
    sleep(&story);
    chapter("awake again");
    wake(&story, &mut session);
    chapter("the supervisor is killed");
    adopted(&story, &mut session);
    drop(session);
    chapter("the memory is released");
    let synced = released(&story, &container);
    chapter("saved memory that does not fit");
    refused(&story, &synced);
    chapter("containers keep awake, if asked");
    kept_awake(&story, &container);
    chapter("QEMU is killed");
    ended(&story);
    chapter("a guest that does not stop, and one that does");
    stubborn(&story);
    chapter("stopped");
    stopped(&story);
    chapter("stopped while it starts");
    stopped_early(&story);
    chapter("reset");
    reset(&story);
    chapter("the end");
}

fn start(story: &Story) {
    let events = story.start();
    let status = &events.complete()["status"];
    assert_eq!(status["state"], "running", "{status:#}");
    assert!(!events.steps("success").is_empty());
    assert_eq!(warnings(&events), [""; 0]);

    let status = story.status();
    assert_eq!(status["version"], 1);
    assert_eq!(status["running"], true);
    assert_eq!(status["paused"], false, "{status:#}");
    assert_eq!(status["platform"], "avocado-qemux86-64");
    assert_eq!(status["architecture"], "x86_64");
    assert_eq!(status["ports"]["infra_ssh"].to_string(), story.infra_port);
    for number in ["pid", "supervisor_pid", "cpu_ms", "memory_bytes"] {
        assert!(status[number].as_u64() > Some(0), "{number}: {status:#}");
    }
    // An accelerator that is there and does not work is found out, and that is said.
    let emulated = events.of("info").any(|event| {
        let message = event["message"].as_str().unwrap_or_default();
        message.contains("the guest is emulated")
    });
    assert_eq!(status["accelerator"], if emulated { "tcg" } else { "kvm" });
    assert!(
        story.hints.count("vm.notify.starting") >= 1,
        "{:?}",
        story.hints.all()
    );
    story.hints.wait_for("vm.notify.running", 0, SOON).unwrap();

    // Everything is its user's alone.
    let mut looked = 0;
    for entry in fs::read_dir(story.vm.dir()).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is {mode:o}", entry.path().display());
        looked += 1;
    }
    assert!(looked > 15, "{looked} files");

    // A second start changes nothing.
    let again = story.start();
    assert_eq!(again.complete()["status"]["pid"], status["pid"]);
    assert_eq!(
        again.complete()["status"]["supervisor_pid"],
        status["supervisor_pid"]
    );
}

fn shell(story: &Story) {
    let shell = |command: &[&str]| {
        let mut line = vec!["shell", "--"];
        line.extend(command);
        story.vm.vm(&line).run().unwrap()
    };
    assert_eq!(shell(&["uname", "-sm"]).stdout, "Linux x86_64\n");
    assert_eq!(shell(&["exit 7"]).status.code(), Some(7));
    assert_eq!(
        shell(&["printf", "%s|", "a b", "$HOME"]).stdout,
        "a b|$HOME|"
    );
}

/// Through docker.sock. Answers with a container that runs on.
fn containers(story: &Story) -> String {
    let engine = &story.engine;
    let version = engine.ask("GET", "/version", None).unwrap().json();
    assert!(version["ApiVersion"].is_string(), "{version}");
    engine.import(story.vm.scratch()).unwrap();
    let hello = engine.start(&["echo", "hello from inside"]).unwrap();
    let (code, said) = engine.wait(&hello).unwrap();
    assert_eq!((code, said.trim()), (0, "hello from inside"));
    engine.remove(&hello).unwrap();
    let detached = engine.start(&["sleep", "100000"]).unwrap();
    assert_eq!(engine.running().unwrap(), 1);
    let docker = story.status()["docker_socket"].as_str().map(PathBuf::from);
    assert_eq!(docker, Some(story.vm.file("docker.sock")));
    detached
}

fn workspace(story: &Story) {
    fs::write(story.workspace.join("note"), "from the host").unwrap();
    let (_hold, mut session) = story.visit();
    let read = session.ok("cat /run/workspace/note").unwrap();
    assert_eq!(read, "from the host");
    session
        .ok("echo from the guest > /run/workspace/answer")
        .unwrap();
    let answer = fs::read_to_string(story.workspace.join("answer")).unwrap();
    assert_eq!(answer, "from the guest\n");
    // A visitor is proxied and not counted.
    let connections = &story.status()["connections"];
    assert_eq!(
        (&connections["counted"], &connections["infra"]),
        (&1.into(), &1.into())
    );
}

/// A container runs and a visitor is there: neither keeps it awake.
fn sleep(story: &Story) {
    let status = story.asleep();
    assert_eq!(status["paused"], true);
    assert_eq!(status["reason"], "idle");
    assert_eq!(status["connections"]["counted"], 0);
    assert_eq!(status["connections"]["infra"], 1);
    let human = story.vm.vm(&["status"]).ok().unwrap().stdout;
    assert!(
        human.contains("hibernated — wakes on next ssh/docker call"),
        "{human}"
    );

    let qemu = u32::try_from(status["pid"].as_u64().unwrap()).unwrap();
    let before = kernel::work(qemu).unwrap();
    // As long as it takes to see what ticks; and the guest's clock falls behind meanwhile.
    std::thread::sleep(Duration::from_secs(3));
    let after = kernel::work(qemu).unwrap();
    let used = after.cpu - before.cpu;
    assert!(
        used < Duration::from_millis(10),
        "{used:?} of a processor while paused"
    );

    // The infrastructure's lanes say that it sleeps, and leave it alone.
    let said = words(&status["ports"]["infra_ssh"]);
    assert!(
        said.contains("hibernated") && said.lines().count() == 1,
        "{said:?}"
    );
    let stream = story.vm.file("docker-stream.sock");
    let answer = http::request(&stream, "GET", "/version", None).unwrap();
    assert_eq!(answer.status, 503);
    let message = answer.json()["message"].to_string();
    assert!(message.contains("hibernated"), "{message}");
    let still = story.status();
    assert_eq!(still["state"], "hibernated");
    assert_eq!(still["since"], status["since"]);
}

fn wake(story: &Story, session: &mut Session) {
    let woke = story.hints.count("vm.notify.woke");
    story.engine.ask("GET", "/version", None).unwrap();
    let _hold = Hold::new(&story.vm);
    let status = story.status();
    assert_eq!(status["state"], "running");
    assert_eq!(status["last_wake"]["reason"], "docker", "{status:#}");
    // The visitor's connection was kept over the pause.
    assert_clock(session);
    story.hints.wait_for("vm.notify.woke", woke, SOON).unwrap();
    assert_eq!(story.engine.running().unwrap(), 1);
    // The other docker socket works while the guest is awake.
    let stream = story.vm.file("docker-stream.sock");
    let answer = http::request(&stream, "GET", "/version", None).unwrap();
    assert_eq!(answer.status, 200);
}

fn adopted(story: &Story, session: &mut Session) {
    let boot = {
        let _hold = Hold::new(&story.vm);
        boot_id(session)
    };
    let before = story.asleep();
    kill(&before["supervisor_pid"]);
    let status = story.status();
    assert_eq!(status["state"], "unsupervised", "{status:#}");
    assert_eq!(
        (&status["running"], &status["pid"]),
        (&true.into(), &before["pid"])
    );
    let refused = UnixStream::connect(story.vm.file("docker.sock")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(session.ends_within(SOON), "a client is left hanging");

    let events = story.start();
    let after = &events.complete()["status"];
    assert_eq!(after["pid"], before["pid"], "{after:#}");
    assert_ne!(after["supervisor_pid"], before["supervisor_pid"]);
    let (_hold, mut session) = story.visit();
    assert_eq!(boot_id(&mut session), boot);
    assert_clock(&mut session);
    assert_eq!(story.engine.running().unwrap(), 1);
}

/// Answers with the path of a file that was synced before.
fn released(story: &Story, container: &str) -> String {
    let count = "cat /run/count";
    let (hold, mut session) = story.visit();
    session
        .ok("setsid bash -c 'while :; do echo $((++n)) > /run/new; mv /run/new /run/count; sleep 0.2; done' < /dev/null > /dev/null 2>&1 &")
        .unwrap();
    let boot = boot_id(&mut session);
    session.ok("echo synced > /var/synced; sync").unwrap();
    session.ok("echo unsynced > /var/unsynced").unwrap();
    session
        .ok("while ! [ -e /run/count ]; do sleep 0.1; done")
        .unwrap();
    let first: u64 = session.ok(count).unwrap().parse().unwrap();
    drop((hold, session));

    story.asleep();
    let status = story.release();
    assert_eq!(
        (&status["pid"], &status["memory_bytes"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&status["paused"], &status["running"]),
        (&true.into(), &true.into())
    );
    let left = story.vm.processes();
    assert_eq!(left.len(), 1, "only the supervisor is left: {left:?}");
    let saved = fs::metadata(story.vm.file("saved-memory")).unwrap();
    assert_eq!(saved.permissions().mode() & 0o777, 0o600);
    assert!(story.vm.file("saved.json").exists());

    // A command wakes it; and whatever ran, runs.
    let output = story.vm.vm(&["shell", "--", count]).ok().unwrap();
    let second: u64 = output.stdout.trim().parse().unwrap();
    assert!(second >= first, "{first} {second}");
    let (_hold, mut session) = story.visit();
    assert!(!story.vm.file("saved.json").exists());
    assert_eq!(boot_id(&mut session), boot);
    session
        .ok(&format!(
            "while [ $({count}) -le {second} ]; do sleep 0.1; done"
        ))
        .unwrap();
    assert_eq!(session.ok("cat /var/unsynced").unwrap(), "unsynced");
    assert_clock(&mut session);
    // It is mounted again soon after.
    session
        .ok("until mountpoint -q /run/workspace; do sleep 0.1; done")
        .unwrap();
    assert_eq!(
        session.ok("cat /run/workspace/note").unwrap(),
        "from the host"
    );
    let containers = story
        .engine
        .ask("GET", "/v1.41/containers/json", None)
        .unwrap();
    assert!(
        containers.text().contains(container),
        "{}",
        containers.text()
    );
    assert_sound(&mut session);
    "/var/synced".to_owned()
}

/// The disk is not what it was when the memory was saved.
fn refused(story: &Story, synced: &str) {
    let boot = {
        let (_hold, mut session) = story.visit();
        boot_id(&mut session)
    };
    story.asleep();
    let before = story.release();
    kill(&before["supervisor_pid"]);
    let status = story.status();
    let saved = status["problem"].as_str().unwrap_or_default();
    assert!(saved.contains("its memory is saved"), "{status:#}");
    assert_eq!(status["running"], false);
    Call::new("touch")
        .arg(story.vm.file("var.btrfs"))
        .ok()
        .unwrap();

    story.configure("idle.containers_keep_awake", "true");
    let events = story.start();
    let said = warnings(&events);
    let told = |text: &String| text.contains("boots anew") && text.contains("var.btrfs");
    assert!(said.iter().any(told), "{said:?}");
    assert_eq!(events.complete()["status"]["state"], "running");
    assert!(!story.vm.file("saved.json").exists());
    let (_hold, mut session) = story.visit();
    assert_ne!(boot_id(&mut session), boot);
    assert_eq!(session.ok(&format!("cat {synced}")).unwrap(), "synced");
    assert_sound(&mut session);
}

fn kept_awake(story: &Story, container: &str) {
    story
        .engine
        .ask(
            "POST",
            &format!("/v1.41/containers/{container}/start"),
            None,
        )
        .unwrap();
    // To see that nothing happens takes time.
    let end = Instant::now() + Duration::from_secs(3 * IDLE);
    while Instant::now() < end {
        assert_eq!(story.status()["state"], "running");
        std::thread::sleep(Duration::from_millis(500));
    }
    story.engine.remove(container).unwrap();
    story.asleep();
}

fn ended(story: &Story) {
    let status = story.asleep();
    kill(&status["pid"]);
    let status = story.vm.wait_for("stopped", SOON).unwrap();
    assert_eq!(status["running"], false);
    story.vm.gone(SOON).unwrap();
    let shell = story.vm.vm(&["shell", "--", "true"]).run().unwrap();
    assert!(!shell.status.success());
    assert!(shell.stderr.contains("avocado vm start"), "{shell}");
}

fn stubborn(story: &Story) {
    story.start();
    let (hold, mut session) = story.visit();
    // Nobody in the guest hears of it.
    session
        .ok("systemctl stop qemu-guest-agent && pkill -STOP -x systemd-logind")
        .unwrap();
    let output = story.vm.vm(&["stop", "--timeout", "4"]).run().unwrap();
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr.contains("--force"), "{output}");
    assert_eq!(story.status()["state"], "running");
    // Now it listens again; and what nobody synced is not lost.
    session
        .ok("systemctl start qemu-guest-agent && pkill -CONT -x systemd-logind")
        .unwrap();
    session.ok("echo unsynced > /var/last-words").unwrap();
    drop((hold, session));
    story.vm.vm(&["stop"]).ok().unwrap();
}

/// What the guest left on its disk.
fn on_disk(story: &Story, name: &str) -> Option<String> {
    let disk = story.vm.file("var.btrfs");
    let check = Call::new("btrfs").args(["check", "--readonly"]).arg(&disk);
    check.limit(SOON).ok().unwrap();
    let place = story.vm.scratch().join("var");
    fs::create_dir_all(&place).unwrap();
    let mount = Call::new("mount").args(["-o", "loop,ro"]).arg(&disk);
    mount.arg(&place).ok().unwrap();
    let text = fs::read_to_string(place.join(name));
    Call::new("umount").arg(&place).ok().unwrap();
    text.ok()
}

fn stopped(story: &Story) {
    let status = story.status();
    assert_eq!(
        (&status["state"], &status["running"]),
        (&"stopped".into(), &false.into())
    );
    story.vm.gone(SOON).unwrap();
    story.hints.wait_for("vm.notify.stopped", 0, SOON).unwrap();
    assert_eq!(on_disk(story, "last-words").as_deref(), Some("unsynced\n"));
    // To stop what is stopped is no error.
    story.vm.vm(&["stop"]).ok().unwrap();
}

fn stopped_early(story: &Story) {
    std::thread::scope(|scope| {
        let start = scope.spawn(|| story.vm.vm(&["start"]).run().unwrap());
        story.vm.wait_for("starting", SOON).unwrap();
        // The image is verified first; now there is something to end.
        while story.status()["pid"].is_null() {
            std::thread::sleep(Duration::from_millis(50));
        }
        story.vm.vm(&["stop", "--force"]).ok().unwrap();
        let start = start.join().unwrap();
        assert!(!start.status.success(), "{start}");
        assert!(start.stderr.contains("stopped"), "{start}");
    });
    assert_eq!(story.status()["state"], "stopped");
    story.vm.gone(SOON).unwrap();
}

fn reset(story: &Story) {
    assert!(on_disk(story, "last-words").is_some());
    story.vm.vm(&["reset", "-y"]).ok().unwrap();
    assert_eq!(on_disk(story, "last-words"), None);
    assert_eq!(story.status()["state"], "stopped");
}

#[test]
fn a_full_disk_is_told_and_nothing_is_half() {
    let name = "a_full_disk_is_told_and_nothing_is_half";
    let Some(image) = image(name) else { return };
    let _turn = turn();
    let vm = Vm::new().unwrap();
    fs::create_dir(vm.dir()).unwrap();
    let mount = Call::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"]);
    mount.arg(vm.dir()).ok().unwrap();
    let source = image.display().to_string();
    let output = vm.vm(&["start", "--vm-source", &source]).run().unwrap();
    assert!(!output.status.success());
    for part in ["no space left", "var.btrfs", "free some space"] {
        assert!(output.stderr.contains(part), "{part} is not in {output}");
    }
    vm.gone(SOON).unwrap();
    assert_eq!(vm.status().unwrap()["state"], "stopped");
    let names = fs::read_dir(vm.dir()).unwrap().flatten();
    let disks: Vec<_> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("var.btrfs"))
        .collect();
    assert_eq!(disks, [""; 0]);
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_left() {
    let name = "a_port_that_is_taken_is_named_and_nothing_is_left";
    let Some(image) = image(name) else { return };
    let _turn = turn();
    let vm = Vm::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let source = image.display().to_string();
    let output = vm.vm(&["start", "--vm-source", &source, "--ssh-port", &port]);
    let output = output.run().unwrap();
    assert!(!output.status.success());
    assert!(output.stderr.contains(&format!("port {port}")), "{output}");
    assert!(output.stderr.contains("--ssh-port"), "{output}");
    vm.gone(SOON).unwrap();
    assert_eq!(vm.status().unwrap()["state"], "stopped");
}

#[test]
fn without_an_image_it_says_how_to_get_one() {
    let name = "without_an_image_it_says_how_to_get_one";
    if skip(name, &[Need::StaticBinary("avocado")]) {
        return;
    }
    let vm = Vm::new().unwrap();
    let output = vm.vm(&["start"]).run().unwrap();
    assert!(!output.status.success());
    for part in ["no image", "avocado vm update", "--vm-source"] {
        assert!(output.stderr.contains(part), "{part} is not in {output}");
    }
    let status = vm.status().unwrap();
    assert_eq!(
        (&status["state"], &status["running"]),
        (&"stopped".into(), &false.into())
    );
    assert_eq!(status["paused"], false);
}
