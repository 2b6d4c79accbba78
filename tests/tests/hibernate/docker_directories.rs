//! Directories of this machine that clients of docker want in containers.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use avocado_vm::control;
use avocado_vm::dir::StateFile;

use crate::harness::{LONG, SmallGuestVm, cannot_run};

/// What asks for a container with this directory.
fn create(source: &Path) -> String {
    let body = format!(
        r#"{{"HostConfig":{{"Binds":["{}:/m"]}}}}"#,
        source.display()
    );
    let length = body.len();
    format!("POST /v1.41/containers/create HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// What a lane answers to it. What is at the end of the tunnel repeats what it hears.
fn ask(vm: &SmallGuestVm, lane: StateFile, source: &Path) -> String {
    let mut client = UnixStream::connect(vm.dir.file(lane)).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.write_all(create(source).as_bytes()).unwrap();
    let mut said = String::new();
    while !said.ends_with('}') || said.matches('{').count() != said.matches('}').count() {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    said
}

#[test]
fn a_directory_of_the_workspace_arrives_and_others_are_refused() {
    if cannot_run("a_directory_of_the_workspace_arrives_and_others_are_refused") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    let workspace = vm.place.path().canonicalize().unwrap().join("ws");
    fs::create_dir_all(workspace.join("a")).unwrap();
    vm.launch.workspace = Some(workspace.clone());
    vm.start_with_tunnels();
    let there = create(Path::new("/run/workspace/a"));
    let outside = vm.place.path().join("other");
    for lane in [StateFile::Docker, StateFile::DockerStream] {
        assert_eq!(ask(&vm, lane, &workspace.join("a")), there, "{}", vm.log());
        let said = ask(&vm, lane, &outside);
        assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
        assert!(said.contains(&*outside.to_string_lossy()), "{said}");
        assert!(said.contains("--workspace DIR"), "{said}");
    }
    assert!(
        vm.log().contains("refused: the VM cannot see"),
        "{}",
        vm.log()
    );

    // Also for a guest that sleeps, and one that has to mount it again.
    let quiet = || vm.until("the end of all connections", |s| s.connections.counted == 0);
    quiet();
    vm.hibernate();
    let again = || ask(&vm, StateFile::Docker, &workspace.join("a"));
    assert_eq!(again(), there, "{}", vm.log());
    quiet();
    control::release(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
    assert_eq!(again(), there, "{}", vm.log());
    vm.stop();
}

#[test]
fn a_guest_without_workspace_gets_no_directory() {
    if cannot_run("a_guest_without_workspace_gets_no_directory") {
        return;
    }
    let mut vm = SmallGuestVm::new();
    vm.start_with_tunnels();
    let place = vm.place.path().to_owned();
    let said = ask(&vm, StateFile::Docker, &place);
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    assert!(said.contains("shares no directory"), "{said}");
    vm.stop();

    // It was to have one, and has not.
    let words = Some("unshared".to_owned());
    vm.launch.cmdline_extra = words;
    vm.launch.workspace = Some(place.canonicalize().unwrap());
    fs::remove_dir_all(vm.place.path().join("bin")).unwrap();
    vm.start_with_tunnels();
    let said = ask(&vm, StateFile::Docker, &place);
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    assert!(said.contains("has not got its workspace"), "{said}");
    let device = Path::new("/dev/null");
    assert_eq!(ask(&vm, StateFile::Docker, device), create(device));
    vm.stop();
}
