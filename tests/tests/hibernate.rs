//! The supervisor of a VM with a real QEMU and a small guest: sleeping and waking at random
//! moments, kills in every state, and what others do meanwhile.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use avocado_events::Silent;
use avocado_testbed::small_guest;
use avocado_testbed::tools::{Need, binary, skip};
use avocado_vm::control;
use avocado_vm::dir::{File, StateDir};
use avocado_vm::launch::{Idle, Launch};
use avocado_vm::status::{State, Status};
use avocado_vm::supervisor::Error;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Long enough for anything on a busy machine; nothing waits for it to pass.
const LONG: Duration = Duration::from_secs(60);

fn cannot_run(name: &str) -> bool {
    let mut needs = small_guest::needs();
    needs.push(Need::Binary("avocado"));
    skip(name, &needs)
}

/// The image, made once.
fn image() -> &'static Path {
    static IMAGE: OnceLock<TempDir> = OnceLock::new();
    let made = IMAGE.get_or_init(|| {
        let place = tempfile::tempdir().unwrap();
        small_guest::image(place.path()).unwrap();
        place
    });
    made.path()
}

/// A state directory and what it starts. One at a time: emulation takes all processors.
struct Vm {
    launch: Launch,
    dir: StateDir,
    program: PathBuf,
    place: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Vm {
    /// One that sleeps only when it is asked to.
    fn new() -> Vm {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tempfile::tempdir().unwrap();
        Vm {
            launch: Launch {
                image: image().to_owned(),
                cpus: 1,
                memory_mib: 96,
                var_size: 0,
                ssh_port: None,
                infra_port: None,
                docker_stream: true,
                cmdline_extra: None,
                workspace: None,
                dns: Vec::new(),
                dns_search: Vec::new(),
                idle: Idle {
                    hibernate_after_secs: 0,
                    ..Idle::default()
                },
                qemu: None,
                accelerator: Some("tcg".to_owned()),
                device_tree: None,
                notify: None,
                ready_timeout_secs: 120,
            },
            dir: StateDir::new(place.path().join("vm")),
            program: binary("avocado").unwrap(),
            place,
            _turn: turn,
        }
    }

    fn try_start(&self) -> Result<Status, Error> {
        control::start(&self.program, &self.dir, &self.launch, &Silent)
    }

    fn start(&self) -> Status {
        self.try_start().unwrap_or_else(|error| self.fail(&error))
    }

    /// Starts it so that `ssh` is the program that only pretends.
    fn start_with_tunnels(&self) -> Status {
        let programs = self.place.path().join("bin");
        fs::create_dir(&programs).unwrap();
        small_guest::ssh(&programs).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let path = std::iter::once(programs).chain(std::env::split_paths(&path));
        self.dir.create().unwrap();
        let mut child = Command::new(&self.program)
            .args(["vm", "supervise", "--dir"])
            .arg(self.dir.root())
            .env("PATH", std::env::join_paths(path).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let launch = serde_json::to_vec(&self.launch).unwrap();
        child.stdin.take().unwrap().write_all(&launch).unwrap();
        let mut said = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(
            said.lines().last().unwrap().starts_with("{\"ready\":"),
            "{said}"
        );
        std::thread::spawn(move || child.wait());
        self.status()
    }

    fn fail(&self, error: &Error) -> ! {
        let log = self.log();
        panic!("{error}\n{error:?}\n--- log\n{log}")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.file(File::SupervisorLog)).unwrap_or_default()
    }

    fn status(&self) -> Status {
        control::status(&self.dir).unwrap_or_else(|error| self.fail(&error))
    }

    fn hibernate(&self) {
        control::hibernate(&self.dir).unwrap_or_else(|error| self.fail(&error));
    }

    fn stop(&self) {
        let stopped = control::stop(&self.program, &self.dir, false, LONG);
        assert!(stopped.unwrap_or_else(|error| self.fail(&error)));
        self.nothing_left();
    }

    /// Waits until the status is as it should be.
    fn until(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + LONG;
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "{what} never came: {status:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the log has this, and gives it.
    fn until_log(&self, text: &str) -> String {
        let deadline = Instant::now() + LONG;
        loop {
            let log = self.log();
            if log.contains(text) {
                return log;
            }
            assert!(Instant::now() < deadline, "{text} never came:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A connection to the user's port, and its banner.
    fn connect(&self) -> Client {
        let port: u16 = self.dir.read_line(File::SshPort).unwrap().parse().unwrap();
        Client::connect(port).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// No process, no socket, no file that says that there is a VM.
    fn nothing_left(&self) {
        let left: Vec<String> = fs::read_dir(self.dir.root())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| {
                [".sock", ".pid", "-port", ".internal"]
                    .iter()
                    .any(|end| name.ends_with(end))
                    || name == "machine.json"
                    || name.starts_with("saved")
                    || name.starts_with('.')
            })
            .collect();
        assert_eq!(left, Vec::<String>::new(), "{}", self.log());
        let status = self.status();
        assert_eq!((status.state, status.running), (State::Stopped, false));
        // The supervisor lets go of everything just before its own end.
        let deadline = Instant::now() + LONG;
        loop {
            let processes = processes_of(self.dir.root());
            if processes.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{processes:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        for pid in processes_of(self.dir.root()) {
            kill(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Processes whose command line names the directory: QEMU, supervisor, tunnel.
fn processes_of(directory: &Path) -> Vec<u32> {
    let name = directory.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&name) {
            found.push(pid);
        }
    }
    found
}

fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Waits until a process is gone; a zombie is.
fn until_gone(pid: u32) {
    let deadline = Instant::now() + LONG;
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

/// Children of a process, zombies among them.
fn children(pid: u32) -> Vec<String> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().map(str::to_owned));
    }
    all
}

/// A client of the small guest's service.
struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    /// Which boot of the guest answered, and the number of this connection.
    boot: String,
    count: u64,
}

impl Client {
    fn connect(port: u16) -> std::io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(LONG))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut banner = String::new();
        reader.read_line(&mut banner)?;
        let words: Vec<&str> = banner.split_whitespace().collect();
        match words[..] {
            ["SSH-2.0-small", boot, count] => Ok(Client {
                boot: boot.to_owned(),
                count: count.parse().unwrap(),
                stream,
                reader,
            }),
            _ => Err(std::io::Error::other(format!("no banner but {banner:?}"))),
        }
    }

    /// Says something and hears it again.
    fn talk(&mut self, text: &str) {
        self.stream
            .write_all(format!("{text}\n").as_bytes())
            .unwrap();
        let mut heard = String::new();
        self.reader.read_line(&mut heard).unwrap();
        assert_eq!(heard.trim_end(), text);
    }
}

/// Numbers that only look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[test]
fn it_sleeps_and_wakes_at_random_moments_and_misses_nobody() {
    if cannot_run("it_sleeps_and_wakes_at_random_moments_and_misses_nobody") {
        return;
    }
    let cycles: u64 = match std::env::var("AVOCADO_HIBERNATE_CYCLES") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 40,
    };
    let vm = Vm::new();
    let started = vm.start();
    let supervisor = started.supervisor_pid.unwrap();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut kept: Vec<Client> = Vec::new();
    let mut denied = 0;
    for cycle in 0..cycles {
        let delay = Duration::from_micros(dice.below(160_000));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| control::hibernate(&vm.dir));
            std::thread::sleep(delay);
            match dice.below(6) {
                // A new connection.
                0 | 1 => vm.connect().talk(&format!("cycle {cycle}")),
                // Several at once.
                2 => {
                    let talk = || vm.connect().talk("together");
                    let all: Vec<_> = (0..3).map(|_| scope.spawn(talk)).collect();
                    all.into_iter().for_each(|one| one.join().unwrap());
                }
                // One that stays, silent for a while.
                3 => kept.push(vm.connect()),
                // An old one has something to say.
                4 if !kept.is_empty() => {
                    let which = dice.below(kept.len() as u64) as usize;
                    kept[which].talk(&format!("again {cycle}"));
                }
                // An old one leaves, or half of it: the guest then closes.
                5 if !kept.is_empty() => {
                    let mut client = kept.swap_remove(0);
                    if dice.below(2) == 0 {
                        client.stream.shutdown(Shutdown::Write).unwrap();
                        let mut rest = String::new();
                        client.reader.read_to_string(&mut rest).unwrap();
                        assert_eq!(rest, "");
                    }
                }
                // It sleeps undisturbed, and is woken by request.
                _ => {
                    sleeper
                        .join()
                        .unwrap()
                        .unwrap_or_else(|error| vm.fail(&error));
                    control::wake(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
                    return;
                }
            }
            match sleeper.join().unwrap() {
                Ok(()) => {}
                Err(Error::Refused(_)) => denied += 1,
                Err(error) => vm.fail(&error),
            }
        });
    }
    for mut client in kept {
        client.talk("goodbye");
    }
    let status = vm.until("the end of all connections", |s| s.connections.counted == 0);
    assert_eq!((status.problem, status.connections.infra), (None, 0));
    assert_eq!(children(supervisor).len(), 1, "QEMU alone is its child");
    let log = vm.log();
    let slept = log.matches("hibernated (requested)").count() as u64;
    let woken = log.matches(" waking (").count() as u64;
    assert!(
        slept >= cycles / 2,
        "slept {slept} times of {cycles}, denied {denied}\n{log}"
    );
    assert!(woken + 1 >= slept, "{woken} wakes, {slept} sleeps");
    vm.stop();
}

#[test]
fn a_killed_supervisor_is_replaced_in_every_state_and_the_guest_goes_on() {
    if cannot_run("a_killed_supervisor_is_replaced_in_every_state_and_the_guest_goes_on") {
        return;
    }
    let vm = Vm::new();
    let first = vm.start();
    let boot = vm.connect().boot;
    // (what it did when it was killed, what the next one finds)
    let mut last = first.clone();
    for asleep in [false, true] {
        if asleep {
            vm.hibernate();
        }
        kill(last.supervisor_pid.unwrap(), rustix::process::Signal::KILL);
        until_gone(last.supervisor_pid.unwrap());
        let alone = vm.status();
        assert_eq!((alone.state, alone.running), (State::Unsupervised, true));
        assert_eq!((alone.pid, alone.paused), (first.pid, None));

        last = vm.start();
        let found = if asleep {
            State::Hibernated
        } else {
            State::Running
        };
        assert_eq!((last.pid, last.state), (first.pid, found), "{}", vm.log());
        assert_eq!(vm.status().paused, Some(asleep));
        let mut client = vm.connect();
        client.talk("still there");
        assert_eq!(client.boot, boot);
    }
    vm.until("the end of all connections", |s| s.connections.counted == 0);

    // In the middle of a start: at worst the guest boots anew, but never twice at once.
    vm.stop();
    for delay in [0, 30, 120, 400, 1500] {
        let killed = std::thread::scope(|scope| {
            let start = scope.spawn(|| vm.try_start());
            let deadline = Instant::now() + LONG;
            let pid = loop {
                // The file of the one before is still there.
                let pid = vm.dir.read_line(File::SupervisorPid);
                let pid = pid.map(|pid| pid.parse().unwrap());
                if let Some(pid) = pid.filter(|pid| is_alive(*pid)) {
                    break pid;
                }
                assert!(Instant::now() < deadline, "no supervisor\n{}", vm.log());
                std::thread::yield_now();
            };
            std::thread::sleep(Duration::from_millis(delay));
            kill(pid, rustix::process::Signal::KILL);
            until_gone(pid);
            start.join().unwrap().is_err()
        });
        assert!(killed, "{}", vm.log());
        vm.status();
    }
    last = vm.start();
    vm.connect().talk("after all");
    let qemus = processes_of(vm.dir.root());
    let qemus = qemus
        .iter()
        .filter(|pid| Some(**pid) != last.supervisor_pid);
    assert_eq!(qemus.copied().collect::<Vec<_>>(), [last.pid.unwrap()]);
    vm.until("the end of all connections", |s| s.connections.counted == 0);

    // Stopping works without one as well.
    vm.hibernate();
    kill(last.supervisor_pid.unwrap(), rustix::process::Signal::KILL);
    until_gone(last.supervisor_pid.unwrap());
    vm.stop();
    until_gone(last.pid.unwrap());

    // And a start that is stopped leaves nothing.
    for delay in [0, 100, 1000] {
        std::thread::scope(|scope| {
            let start = scope.spawn(|| vm.try_start());
            let deadline = Instant::now() + LONG;
            while !vm.dir.file(File::Supervisor).exists() {
                assert!(Instant::now() < deadline, "no supervisor\n{}", vm.log());
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(delay));
            let stopped = control::stop(&vm.program, &vm.dir, true, LONG);
            assert!(stopped.unwrap_or_else(|error| vm.fail(&error)));
            let error = start.join().unwrap().unwrap_err();
            assert!(error.to_string().contains("stopped"), "{error}");
        });
        vm.nothing_left();
    }
}

#[test]
fn the_tunnel_is_made_when_needed_and_replaced_when_dead() {
    if cannot_run("the_tunnel_is_made_when_needed_and_replaced_when_dead") {
        return;
    }
    let vm = Vm::new();
    let status = vm.start_with_tunnels();
    let supervisor = status.supervisor_pid.unwrap();
    assert_eq!(children(supervisor).len(), 1, "nobody needs one yet");
    let socket = vm.dir.file(File::Docker);
    let talk = |text: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(format!("{text}\n").as_bytes()).unwrap();
        let mut heard = String::new();
        BufReader::new(&stream).read_line(&mut heard).unwrap();
        heard.trim_end().to_owned()
    };
    assert_eq!(talk("hello"), "hello");
    let tunnel = |name: &str| -> u32 {
        let others = [status.pid, Some(supervisor)];
        let all = processes_of(vm.dir.root());
        let mut all = all.into_iter().filter(|pid| !others.contains(&Some(*pid)));
        all.next().unwrap_or_else(|| panic!("no tunnel {name}"))
    };
    let first = tunnel("at first");
    // It is kept while the guest sleeps, and a connection to it wakes the guest.
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    vm.hibernate();
    assert_eq!(talk("wake up"), "wake up");
    assert_eq!(vm.status().last_wake.unwrap().reason, "docker");
    assert_eq!(tunnel("after a pause"), first);

    // Killed: also while the guest sleeps.
    for asleep in [false, true] {
        let before = tunnel("before");
        vm.until("the end of all connections", |s| s.connections.counted == 0);
        if asleep {
            vm.hibernate();
        }
        kill(before, rustix::process::Signal::KILL);
        until_gone(before);
        assert_eq!(talk("again"), "again");
        assert_ne!(tunnel("after the kill"), before);
        assert_eq!(children(supervisor).len(), 2, "QEMU and the tunnel");
    }

    // One that cannot be made is told, and not counted for ever.
    let mut broken = vm.dir.file(File::DockerInternal).into_os_string();
    broken.push(".broken");
    fs::write(&broken, "").unwrap();
    let last = tunnel("before it is broken");
    kill(last, rustix::process::Signal::KILL);
    until_gone(last);
    let begin = Instant::now();
    assert_eq!(talk("hello"), "HTTP/1.1 503 Service Unavailable");
    assert!(begin.elapsed() < Duration::from_secs(20), "noticed at once");
    assert!(vm.log().contains("broken on purpose"), "{}", vm.log());
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    vm.hibernate();
    fs::remove_file(&broken).unwrap();
    assert_eq!(talk("mended"), "mended");

    // The tunnel of a killed supervisor goes with it.
    let orphan = tunnel("of the first supervisor");
    kill(supervisor, rustix::process::Signal::KILL);
    until_gone(supervisor);
    vm.start();
    until_gone(orphan);
    vm.stop();
}

#[test]
fn the_end_of_qemu_is_the_end_of_its_supervisor() {
    if cannot_run("the_end_of_qemu_is_the_end_of_its_supervisor") {
        return;
    }
    for (asleep, end) in [(false, "quit"), (true, "kill"), (true, "signal")] {
        let vm = Vm::new();
        let status = vm.start();
        let mut client = vm.connect();
        if asleep {
            vm.hibernate();
        }
        let pid = status.pid.unwrap();
        match end {
            "quit" => Qmp::connect(&vm.dir).tell("quit"),
            "kill" => kill(pid, rustix::process::Signal::KILL),
            // A signal to the supervisor is a request to stop: the guest powers off.
            _ => kill(
                status.supervisor_pid.unwrap(),
                rustix::process::Signal::TERM,
            ),
        }
        until_gone(pid);
        until_gone(status.supervisor_pid.unwrap());
        vm.nothing_left();
        let mut rest = String::new();
        // Closed or reset, but not held.
        let _ = client.reader.read_to_string(&mut rest);
        assert_eq!(rest, "");
    }
}

#[test]
fn released_memory_comes_back_and_only_where_it_belongs() {
    if cannot_run("released_memory_comes_back_and_only_where_it_belongs") {
        return;
    }
    let mut vm = Vm::new();
    vm.launch.infra_port = Some(free_port());
    let first = vm.start();
    let client = vm.connect();
    let (boot, count) = (client.boot.clone(), client.count);
    let denied = control::release(&vm.dir).unwrap_err();
    assert!(denied.to_string().contains("in use"), "{denied}");
    drop(client);
    vm.until("the end of all connections", |s| s.connections.counted == 0);

    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    let status = vm.status();
    assert_eq!(
        (status.state, status.pid, status.paused),
        (State::Released, None, Some(true))
    );
    assert!(!is_alive(first.pid.unwrap()));
    assert!(refused(vm.launch.infra_port.unwrap()).contains("hibernated"));
    assert_eq!(
        vm.status().state,
        State::Released,
        "the infrastructure lane wakes nobody"
    );
    let mut client = vm.connect();
    client.talk("back");
    assert_eq!(
        (client.boot.as_str(), client.count),
        (boot.as_str(), count + 1)
    );
    drop(client);
    assert!(!vm.dir.file(File::Saved).exists() && !vm.dir.file(File::SavedMemory).exists());

    // A save that fails is told, and nothing is lost.
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    fs::create_dir(vm.dir.file(File::SavedMemory)).unwrap();
    let error = control::release(&vm.dir).unwrap_err();
    assert!(format!("{error:?}").contains("saved-memory"), "{error:?}");
    let status = vm.status();
    assert_eq!(
        (status.state, status.paused),
        (State::Hibernated, Some(true))
    );
    assert!(status.problem.unwrap().contains("not released"));
    fs::remove_dir(vm.dir.file(File::SavedMemory)).unwrap();
    assert_eq!(vm.connect().boot, boot);

    // A supervisor that is killed on the way.
    for delay in [0, 10, 20, 40, 80, 160] {
        vm.until("the end of all connections", |s| s.connections.counted == 0);
        let supervisor = vm.status().supervisor_pid.unwrap();
        std::thread::scope(|scope| {
            let release = scope.spawn(|| control::release(&vm.dir));
            std::thread::sleep(Duration::from_millis(delay));
            kill(supervisor, rustix::process::Signal::KILL);
            until_gone(supervisor);
            let _ = release.join().unwrap();
        });
        vm.start();
        let mut client = vm.connect();
        client.talk(&format!("after {delay} ms"));
        assert_eq!(client.boot, boot, "{}", vm.log());
    }
    let count = vm.connect().count;

    // Also for another supervisor.
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    let supervisor = vm.status().supervisor_pid.unwrap();
    kill(supervisor, rustix::process::Signal::KILL);
    until_gone(supervisor);
    let status = vm.status();
    assert_eq!(
        (status.state, status.reason.as_deref()),
        (State::Stopped, Some("saved"))
    );
    vm.start();
    let client = vm.connect();
    assert_eq!(
        (client.boot.as_str(), client.count),
        (boot.as_str(), count + 1)
    );
    drop(client);

    // A disk that changed meanwhile: what was saved is void.
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    let disk = fs::OpenOptions::new()
        .append(true)
        .open(vm.dir.file(File::Var))
        .unwrap();
    (&disk).write_all(&[0; 512]).unwrap();
    let client = vm.connect();
    assert_ne!(client.boot, boot);
    assert!(vm.log().contains("has changed"), "{}", vm.log());
    drop(client);

    // Whoever stops a released VM gets a guest that powered off.
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    vm.stop();
    assert!(vm.log().contains("ended (requested)"), "{}", vm.log());
}

#[test]
fn what_others_do_is_noticed_and_only_counted_lanes_wake() {
    if cannot_run("what_others_do_is_noticed_and_only_counted_lanes_wake") {
        return;
    }
    let mut vm = Vm::new();
    vm.launch.infra_port = Some(free_port());
    vm.launch.idle.hibernate_after_secs = 1;
    vm.launch.idle.silent_connection_secs = 2;
    let desktop = Desktop::listen(&mut vm);
    let status = vm.start();
    assert_eq!(desktop.next(), ("vm.notify.starting".to_owned(), json!({})));
    let (method, params) = desktop.next();
    assert_eq!(method, "vm.notify.running");
    assert_eq!(
        params,
        json!({ "pid": status.pid, "ssh_port": status.ports.ssh })
    );

    // It falls asleep by itself, although a client is there and silent.
    let mut client = vm.connect();
    let asleep = vm.until("sleep", |s| s.state == State::Hibernated);
    assert_eq!(asleep.reason.as_deref(), Some("idle"));
    assert_eq!((asleep.paused, asleep.connections.counted), (Some(true), 1));
    let used = asleep.cpu_ms;
    // Nobody wakes it by the lanes that must not.
    let infra = vm.launch.infra_port.unwrap();
    assert!(refused(infra).contains("hibernated"));
    let mut stream = UnixStream::connect(vm.dir.file(File::DockerStream)).unwrap();
    stream
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"message\""),
        "{answer}"
    );
    let status = vm.status();
    assert_eq!(
        (status.state, status.cpu_ms),
        (State::Hibernated, used),
        "not a tick"
    );
    // What the client has to say does.
    client.talk("hello");
    let status = vm.status();
    assert_eq!(status.last_wake.unwrap().reason, "ssh");
    assert_eq!(desktop.next().0, "vm.notify.woke");

    // Others hold QMP, pause the guest and let it go on.
    let mut qmp = Qmp::connect(&vm.dir);
    qmp.tell("stop");
    let paused = vm.until("the foreign pause", |s| s.state == State::Hibernated);
    assert_eq!(
        (paused.reason.as_deref(), paused.paused),
        (Some("external"), Some(true))
    );
    qmp.tell("cont");
    let status = vm.until("the foreign wake", |s| s.state == State::Running);
    assert_eq!(status.reason.as_deref(), Some("external"));
    qmp.tell("stop");
    vm.until("the foreign pause", |s| s.state == State::Hibernated);
    vm.connect().talk("woken although QMP is held");
    let log = vm.until_log("the guest's clock is set; it is wrong by ");
    let wrong: i64 = log
        .rsplit_once("wrong by ")
        .unwrap()
        .1
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(wrong.abs() <= 100, "{log}");

    // The infrastructure lane works while it is awake, and does not keep it so.
    vm.connect().talk("awake");
    let mut infra = Client::connect(infra).unwrap();
    infra.talk("telemetry");
    assert_eq!(vm.status().connections.infra, 1);
    drop(client);
    vm.until("sleep", |s| s.state == State::Hibernated);
    drop(qmp);
    control::wake(&vm.dir).unwrap();
    vm.stop();
    let said: Vec<String> = desktop.rest();
    assert_eq!(said.last().map(String::as_str), Some("vm.notify.stopped"));
    assert!(said.contains(&"vm.notify.stopping".to_owned()), "{said:?}");
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    if cannot_run("a_start_that_fails_says_why_and_leaves_nothing") {
        return;
    }
    let mut vm = Vm::new();
    // Somebody has the port: this test.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    vm.launch.ssh_port = Some(taken.local_addr().unwrap().port());
    let error = vm.try_start().unwrap_err();
    let me = format!("(process {})", std::process::id());
    assert!(
        error.to_string().contains("is taken by ") && error.to_string().ends_with(&me),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("--ssh-port"));
    vm.nothing_left();
    vm.launch.ssh_port = None;

    // QEMU does not even start.
    vm.launch.memory_mib = 1 << 30;
    let begin = Instant::now();
    let error = vm.try_start().unwrap_err();
    assert!(error.to_string().contains("QEMU ended"), "{error}");
    assert!(
        begin.elapsed() < LONG / 2,
        "an early end is noticed at once"
    );
    vm.nothing_left();
    vm.launch.memory_mib = 96;

    // The guest never answers.
    vm.launch.cmdline_extra = Some("rdinit=/bin/true panic=0".to_owned());
    vm.launch.ready_timeout_secs = 5;
    let error = vm.try_start().unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("did not answer") && text.contains("its last lines"),
        "{text}"
    );
    vm.nothing_left();
    vm.launch.cmdline_extra = None;
    vm.launch.ready_timeout_secs = 120;

    // Two at once, and the files of a QEMU whose process id belongs to somebody else by now.
    fs::write(vm.dir.file(File::QemuPid), std::process::id().to_string()).unwrap();
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| vm.try_start());
        (vm.try_start(), other.join().unwrap())
    });
    let (good, bad): (Vec<_>, Vec<_>) = [one, other].into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (1, 1), "{good:?} {bad:?}");
    let why = bad.into_iter().next().unwrap().unwrap_err();
    assert!(why.to_string().contains("in use by"), "{why}");
    vm.connect().talk("one of them");

    // A third finds it running, and changes nothing.
    assert!(
        vm.try_start()
            .unwrap_err()
            .to_string()
            .contains("in use by")
    );
    vm.connect().talk("still");
    vm.stop();
}

#[test]
fn a_guest_that_does_not_hear_is_ended_only_by_force() {
    if cannot_run("a_guest_that_does_not_hear_is_ended_only_by_force") {
        return;
    }
    let mut vm = Vm::new();
    vm.launch.cmdline_extra = Some("deaf".to_owned());
    let status = vm.start();
    vm.hibernate();
    let limit = Duration::from_secs(2);
    let error = control::stop(&vm.program, &vm.dir, false, limit).unwrap_err();
    assert!(error.hint().unwrap().contains("--force"), "{error}");
    vm.connect().talk("still managed");
    // Not even QEMU answers.
    kill(status.pid.unwrap(), rustix::process::Signal::STOP);
    let hung = vm.status();
    assert_eq!((hung.running, hung.paused), (true, None));
    assert!(control::stop(&vm.program, &vm.dir, true, LONG).unwrap());
    vm.nothing_left();
    until_gone(status.supervisor_pid.unwrap());
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// What somebody hears who connects there and is sent away.
fn refused(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A client of the QMP socket that is for everybody.
struct Qmp {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Qmp {
    fn connect(dir: &StateDir) -> Qmp {
        let stream = UnixStream::connect(dir.file(File::Qmp)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        let mut qmp = Qmp { stream, reader };
        qmp.tell("qmp_capabilities");
        qmp
    }

    fn tell(&mut self, command: &str) {
        let line = json!({ "execute": command }).to_string();
        self.stream.write_all(line.as_bytes()).unwrap();
        loop {
            let mut line = String::new();
            assert!(
                self.reader.read_line(&mut line).unwrap() > 0,
                "no answer to {command}"
            );
            let answer: Value = serde_json::from_str(&line).unwrap();
            if answer.get("return").is_some() {
                return;
            }
            assert!(answer.get("error").is_none(), "{answer}");
        }
    }
}

/// The desktop application: hears hints.
struct Desktop {
    hints: std::sync::mpsc::Receiver<(String, Value)>,
}

impl Desktop {
    /// Listens where the launch of `vm` says from now on.
    fn listen(vm: &mut Vm) -> Desktop {
        let path = vm.place.path().join("desktop.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        vm.launch.notify = Some(path);
        let (sender, hints) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let hint: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(hint["id"], 1);
                let _ = stream.write_all(b"{\"result\":null,\"id\":1}\n");
                let method = hint["method"].as_str().unwrap().to_owned();
                if sender.send((method, hint["params"].clone())).is_err() {
                    return;
                }
            }
        });
        Desktop { hints }
    }

    fn next(&self) -> (String, Value) {
        self.hints.recv_timeout(LONG).unwrap()
    }

    fn rest(&self) -> Vec<String> {
        self.hints.try_iter().map(|(method, _)| method).collect()
    }
}
