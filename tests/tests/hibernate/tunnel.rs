//! The tunnel to the guest's containers.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use avocado_vm::dir::StateFile;

use crate::harness::{LONG, SmallGuestVm, cannot_run};
use crate::processes::{kill, of_the_machine, processes_of, until_children, until_gone};

#[test]
fn the_tunnel_is_made_when_needed_and_replaced_when_dead() {
    if cannot_run("the_tunnel_is_made_when_needed_and_replaced_when_dead") {
        return;
    }
    let vm = SmallGuestVm::new();
    let status = vm.start_with_tunnels();
    let supervisor = status.supervisor_pid.unwrap();
    let machine = of_the_machine();
    until_children(supervisor, machine, "no client needs one yet");
    let socket = vm.dir.file(StateFile::Docker);
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
        until_children(supervisor, machine + 1, "the machine and the tunnel");
    }

    // One that cannot be made is told, and not counted for ever.
    let mut broken = vm.dir.file(StateFile::DockerInternal).into_os_string();
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
