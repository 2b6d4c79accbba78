use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::Place;

/// A directory for PATH with this program as `docker`.
fn docker(place: &Place, text: &str) {
    let directory = place.path("bin");
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join("docker");
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_context_is_made_once_and_led_back() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let real = std::env::split_paths(&path).map(|directory| directory.join("docker"));
    let Some(real) = real.into_iter().find(|program| program.is_file()) else {
        avocado_test_support::skip("docker_context", "there is no docker here");
        return;
    };
    let place = Place::new();
    let ask = |args: &[&str]| {
        let mut command = std::process::Command::new(&real);
        command.env("HOME", place.path("home")).args(args);
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let host = || {
        let format = "{{.Endpoints.docker.Host}}";
        ask(&["context", "inspect", "--format", format, "avocado-vm"])
    };
    let expected = format!("unix://{}", place.vm("docker.sock").display());
    for changed in [true, false] {
        let said = place.json(&["docker-context"]);
        assert_eq!(said["changed"], changed, "{said}");
        assert_eq!(said["host"], "unix://[PLACE]/home/.avocado/vm/docker.sock");
        assert_eq!(host(), expected);
    }
    let mut named = place.command(&["docker-context"]);
    named.env("AVOCADO_VM_NAME", "web");
    let said = place.end(&mut named).ok().stderr;
    assert!(said.contains("the new context `avocado-vm-web`"), "{said}");
    for odd in ["a, \"b", "a=\"b,c", "a b:c"] {
        let mut elsewhere = place.command(&["docker-context"]);
        elsewhere.env("AVOCADO_VM_STATE_DIR", place.path(odd));
        let said = place.end(&mut elsewhere).ok().stderr;
        let start = "docker's context `avocado-vm` leads to the VM again";
        assert!(said.starts_with(start), "{said}");
        let there = place.path(odd).join("docker.sock");
        assert_eq!(host(), format!("unix://{}", there.display()));
    }
    place.run(&["docker-context"]).ok();
    assert_eq!(host(), expected);
    // What is in use stays in use.
    assert_eq!(ask(&["context", "show"]), "default");
}

/// A docker that knows one context, which leads to this host; `rm` of it ends with that code. It writes down what
/// it is asked.
fn pretend_docker(place: &Place, host: &str, rm: u8) {
    let log = place.path("docker asked");
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>'{}'\ncase $2 in inspect) echo '{host}' ;; rm) exit {rm} ;; esac\n",
        log.display()
    );
    docker(place, &script);
}

#[test]
fn the_context_of_another_vm_stays_with_it() {
    let place = Place::new();
    fs::create_dir_all(place.vm("")).unwrap();
    let host = format!("unix://{}", place.vm("docker.sock").display());
    pretend_docker(&place, &host, 0);
    let run = || {
        let mut command = place.command(&["docker-context"]);
        command.env("PATH", place.path("bin"));
        command.env("AVOCADO_VM_STATE_DIR", place.path("other"));
        place.end(&mut command)
    };
    insta::assert_snapshot!(run().failed(1).stderr, @r"
    error: docker's context `avocado-vm` is that of another VM, in [PLACE]/home/.avocado/vm
    hint: without a context: `export DOCKER_HOST=unix://[PLACE]/other/docker.sock`; or `docker context rm avocado-vm` first
    ");
    let asked = fs::read_to_string(place.path("docker asked")).unwrap();
    assert!(!asked.contains("update"), "{asked}");
    // Of a VM that is no more it is taken.
    fs::remove_dir_all(place.vm("")).unwrap();
    run().ok();
}

#[test]
fn the_context_of_a_vm_goes_with_it() {
    let place = Place::new();
    let delete = || {
        fs::create_dir_all(place.path("home/.avocado/vms/web")).unwrap();
        let mut command = place.command(&["delete", "web", "--yes"]);
        command.env("PATH", place.path("bin"));
        let said = place.end(&mut command).ok().stderr;
        let asked = fs::read_to_string(place.path("docker asked")).unwrap();
        fs::remove_file(place.path("docker asked")).unwrap();
        (said, asked.contains("context rm avocado-vm-web\n"))
    };
    let socket = place.path("home/.avocado/vms/web/docker.sock");
    pretend_docker(&place, &format!("unix://{}", socket.display()), 0);
    let (said, removed) = delete();
    assert!(removed && !said.contains("docker"), "{said}");
    // In use.
    pretend_docker(&place, &format!("unix://{}", socket.display()), 1);
    let (said, removed) = delete();
    let left =
        "docker has the context `avocado-vm-web` still: `docker context rm --force avocado-vm-web`";
    assert!(removed && said.contains(left), "{said}");
    // It leads elsewhere.
    pretend_docker(&place, "tcp://there", 0);
    let (said, removed) = delete();
    assert!(!removed && !said.contains("docker"), "{said}");
}

#[test]
fn what_docker_does_not_do_is_told_with_what_works() {
    let place = Place::new();
    fs::create_dir(place.path("bin")).unwrap();
    let run = || {
        let mut command = place.command(&["docker-context"]);
        command.env("PATH", place.path("bin"));
        place.end(&mut command).failed(1).stderr
    };
    insta::assert_snapshot!(run(), @r"
    error: there is no client of docker on this machine: no `docker` in PATH
    hint: install one: `docker-cli` or `docker.io` of Debian and Ubuntu, `docker-ce-cli` of docker.com, `docker` of Homebrew
    ");
    docker(&place, "#!/bin/sh\necho 'no such command' >&2\nexit 3\n");
    insta::assert_snapshot!(run(), @r"
    error: `[PLACE]/bin/docker context create avocado-vm` failed: no such command
    hint: without a context: `export DOCKER_HOST=unix://[PLACE]/home/.avocado/vm/docker.sock`
    ");
}

#[test]
fn a_start_says_how_docker_reaches_the_vm() {
    let place = Place::new();
    let mut status = place.json(&["status"]);
    status["running"] = json!(true);
    status["state"] = json!("running");
    status["docker_socket"] = json!(place.vm("docker.sock"));
    let _asked = place.pretend(&status);
    fs::create_dir(place.path("bin")).unwrap();
    let start = |args: &[&str]| {
        let mut command = place.command(args);
        command.env("PATH", place.path("bin"));
        place.end(&mut command).ok()
    };
    insta::assert_snapshot!(start(&["start"]).stderr, @r"
    the VM runs already
    docker: there is no client here, install one: `docker-cli` or `docker.io` of Debian and Ubuntu, `docker-ce-cli` of docker.com, `docker` of Homebrew; then `export DOCKER_HOST=unix://[PLACE]/home/.avocado/vm/docker.sock`
    ");
    docker(&place, "#!/bin/sh\nexit 1\n");
    insta::assert_snapshot!(start(&["start"]).stderr, @r"
    the VM runs already
    docker: `export DOCKER_HOST=unix://[PLACE]/home/.avocado/vm/docker.sock`, or once `avocado vm docker-context`
    ");
    let said = start(&["start", "--output", "json"]).documents();
    let host = "unix://[PLACE]/home/.avocado/vm/docker.sock";
    assert_eq!(said.last().unwrap()["docker_host"], host, "{said:?}");
}
