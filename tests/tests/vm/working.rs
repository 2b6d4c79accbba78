//! Chapters in which the guest is awake and works.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::harness::SOON;
use crate::story::{Story, warnings};

pub(crate) fn start(story: &Story) {
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

pub(crate) fn shell(story: &Story) {
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
pub(crate) fn containers(story: &Story) -> String {
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

/// What a container reads and writes in the workspace is here.
fn containers_in_workspace(story: &Story) {
    let line = "/bin/busybox cat /m/note; /bin/busybox echo from a container > /m/made/answer";
    let new = format!("{}:/m/made", story.workspace.join("made").display());
    let whole = format!("{}:/m", story.workspace.display());
    let visitor = story
        .engine
        .start_with(&[&whole, &new], &["sh", "-c", line])
        .unwrap();
    let (code, said) = story.engine.wait(&visitor).unwrap();
    assert_eq!((code, said.trim()), (0, "from the host"));
    story.engine.remove(&visitor).unwrap();
    let answer = fs::read_to_string(story.workspace.join("made/answer")).unwrap();
    assert_eq!(answer, "from a container\n");

    let elsewhere = format!("{}:/m", story.vm.scratch().display());
    let refused = story
        .engine
        .start_with(&[&elsewhere], &["true"])
        .unwrap_err();
    let refused = format!("{refused:?}");
    assert!(refused.contains("the VM cannot see"), "{refused}");
}

pub(crate) fn workspace(story: &Story) {
    fs::write(story.workspace.join("note"), "from the host").unwrap();
    let (hold, mut session) = story.visit();
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
    drop((hold, session));
    containers_in_workspace(story);
}
