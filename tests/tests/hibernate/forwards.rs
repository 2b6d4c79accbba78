//! Ports of the guest that are reached from the host.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use avocado_vm::dir::StateFile;
use avocado_vm::status::VmState;

use crate::harness::{LONG, SmallGuestVm, cannot_run};
use crate::peers::free_port;
use crate::processes::{kill, processes_of, until_gone};

/// A VM whose guest has containers.
fn with_docker() -> SmallGuestVm {
    let mut vm = SmallGuestVm::new();
    vm.launch.cmdline_extra = Some("docker".to_owned());
    vm.launch.forward_published = true;
    vm.dir.create().unwrap();
    let mut socket = vm.dir.file(StateFile::DockerInternal).into_os_string();
    socket.push(".guest");
    fs::write(socket, "").unwrap();
    vm
}

/// Asks docker for something, as a client of it does.
fn docker(vm: &SmallGuestVm, line: &str) {
    let mut client = UnixStream::connect(vm.dir.file(StateFile::Docker)).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    let request = format!("{line} HTTP/1.0\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 OK"), "{line}: {answer}");
}

fn published(vm: &SmallGuestVm, container: &str) -> bool {
    let forwards = vm.status().forwards;
    let mut of = forwards.iter().filter_map(|f| f.container.as_deref());
    of.any(|name| name == container)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn talk(vm: &SmallGuestVm, stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    let mut heard = vec![0; text.len()];
    if let Err(error) = stream.read_exact(&mut heard) {
        panic!("{text}: {error}\n{}", vm.log());
    }
    assert_eq!(heard, text.as_bytes());
}

/// The other side still speaks when this one has ended, and ends then.
fn end(mut stream: TcpStream) {
    stream.write_all(b"the last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "the last words");
}

#[test]
fn a_published_port_is_reached_wakes_the_guest_and_goes_with_its_container() {
    if cannot_run("a_published_port_is_reached_wakes_the_guest_and_goes_with_its_container") {
        return;
    }
    let vm = with_docker();
    let status = vm.start_with_tunnels();
    let (supervisor, machine) = (status.supervisor_pid.unwrap(), status.pid);
    let port = free_port();
    docker(&vm, &format!("POST /start/web/0.0.0.0/{port}"));
    let status = vm.until("the forward", |s| !s.forwards.is_empty());
    let forward = &status.forwards[0];
    assert_eq!(forward.container.as_deref(), Some("web"));
    assert_eq!(forward.guest_port, port);
    assert_eq!(forward.addresses[0], format!("127.0.0.1:{port}"));
    let mut open = connect(port);
    talk(&vm, &mut open, "hello");
    end(connect(port));
    vm.until("one connection", |s| s.connections.counted == 1);

    // A connection, and bytes on one that is open, wake it.
    for new in [true, false] {
        vm.hibernate();
        assert_eq!(vm.status().forwards.len(), 1);
        if new {
            end(connect(port));
        } else {
            talk(&vm, &mut open, "wake up");
        }
        assert_eq!(vm.status().last_wake.unwrap().reason, "forward");
    }
    drop(open);

    // One on the guest's loopback address, and one whose port is taken here.
    let local = free_port();
    docker(&vm, &format!("POST /start/local/127.0.0.1/{local}"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    docker(&vm, &format!("POST /start/late/0.0.0.0/{number}"));
    let what = format!("port {number} of container late is not forwarded: 127.0.0.1:{number}");
    let told = |problem: &Option<String>| problem.as_ref().is_some_and(|p| p.contains(&what));
    vm.until("the problem", |s| told(&s.problem));
    assert!(vm.log().contains(&what), "{}", vm.log());
    end(connect(local));
    drop(taken);

    // The tunnel is replaced when it is dead, also under a port.
    let others = [Some(supervisor), machine];
    let mut all = processes_of(vm.dir.root()).into_iter();
    let tunnel = all.find(|pid| !others.contains(&Some(*pid))).unwrap();
    kill(tunnel, rustix::process::Signal::KILL);
    until_gone(tunnel);
    end(connect(local));
    // With it comes another list, by which the port is free.
    vm.until("no problem", |s| s.problem.is_none());
    end(connect(number));

    // Also where it takes no orders any more, because the socket for them is gone.
    fs::remove_file(vm.dir.file(StateFile::TunnelControl)).unwrap();
    let other = free_port();
    docker(&vm, &format!("POST /start/other/0.0.0.0/{other}"));
    vm.until("the other forward", |_| published(&vm, "other"));
    end(connect(other));
    docker(&vm, "POST /stop/other");
    vm.until("its end", |_| !published(&vm, "other"));

    // It goes with its container; a connection that is open goes on.
    let mut open = connect(port);
    talk(&vm, &mut open, "hello");
    docker(&vm, "POST /stop/web");
    vm.until("the end of the forward", |_| !published(&vm, "web"));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    talk(&vm, &mut open, "still there");
    end(open);
    assert!(published(&vm, "local") && published(&vm, "late"));

    // Following docker keeps nothing awake.
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    assert_eq!(vm.status().connections.infra, 0);
    vm.hibernate();
    assert_eq!(vm.status().state, VmState::Hibernated);

    // A supervisor that takes over a guest that sleeps knows what is published.
    kill(supervisor, rustix::process::Signal::KILL);
    until_gone(supervisor);
    vm.start_with_tunnels();
    vm.until("the forwards", |s| s.forwards.len() == 2);
    assert_eq!(vm.status().state, VmState::Hibernated);
    end(connect(local));
    assert_eq!(vm.status().last_wake.unwrap().reason, "forward");
    vm.stop();
}

#[test]
fn a_command_has_ports_of_the_guest_for_as_long_as_it_runs() {
    if cannot_run("a_command_has_ports_of_the_guest_for_as_long_as_it_runs") {
        return;
    }
    let mut vm = with_docker();
    // Nothing but what the command asks for.
    vm.launch.forward_published = false;
    vm.start_with_tunnels();
    let (guest, here) = (free_port(), free_port());
    docker(&vm, &format!("POST /start/web/127.0.0.1/{guest}"));
    vm.until("the end of all connections", |s| s.connections.counted == 0);
    vm.hibernate();
    let command = |words: &[String]| {
        let mut command = Command::new(&vm.program);
        command
            .args(["vm", "forward"])
            .args(words)
            .env("AVOCADO_VM_STATE_DIR", vm.dir.root())
            .stdin(Stdio::null());
        command
    };
    let wanted = [format!("{here}:{guest}"), free_port().to_string()];
    let mut forward = command(&wanted).spawn().unwrap();
    let status = vm.until("the forwards", |s| s.forwards.len() == 2);
    // The command alone wakes nothing.
    assert_eq!(status.state, VmState::Hibernated);
    assert_eq!(status.forwards[0].command, Some(forward.id()));
    let mut open = connect(here);
    talk(&vm, &mut open, "hello");
    assert_eq!(vm.status().last_wake.unwrap().reason, "forward");
    let second = command(&wanted[..1]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("is taken"), "{said}");

    kill(forward.id(), rustix::process::Signal::KILL);
    forward.wait().unwrap();
    vm.until("their end", |s| s.forwards.is_empty());
    assert!(TcpStream::connect(("127.0.0.1", here)).is_err());
    talk(&vm, &mut open, "still there");
    end(open);

    // The end of the VM is told.
    let mut forward = command(&wanted).spawn().unwrap();
    vm.until("the forwards", |s| s.forwards.len() == 2);
    vm.stop();
    assert_eq!(forward.wait().unwrap().code(), Some(1));
}
