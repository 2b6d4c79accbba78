//! What goes wrong in a user's day: a bad file, a bad network, no space, an interruption. Each
//! gives an error that says where, loses nothing, and a rerun gets there.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use avocado_serve::{ServeOptions, TlsIdentity};
use avocado_test_server::{Fault, FaultRule, TestServer};
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, ToolCall, ToolOutput, skip_without, static_binary};
use common::{Sandbox, cannot_build, feed};
use rustix::process::{Pid, Signal};

/// The digests of what has to be equal everywhere.
fn digests(project: &TestProject) -> Vec<(String, String)> {
    let events = project.events(&["build"]).unwrap();
    let kinds = ["extension", "rootfs", "initramfs", "manifest"];
    let artifacts = events.artifacts().into_iter();
    let wanted = artifacts.filter(|a| kinds.contains(&a.kind.as_str()));
    wanted.map(|a| (a.name, a.sha256)).collect()
}

/// Runs a build that has to fail, and returns what it said.
fn fails(project: &TestProject, arguments: &[&str]) -> String {
    let output: ToolOutput = project.avocado(arguments).run().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(!output.stderr.contains("panicked"), "{output}");
    assert!(!output.stderr.contains("RUST_BACKTRACE"), "{output}");
    output.stderr
}

fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).unwrap() + 1
}

#[test]
fn a_bad_file_is_pointed_at() {
    if cannot_build("a_bad_file_is_pointed_at") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = &sandbox.project;
    let good = project.read("avocado.yaml").unwrap();
    // What is changed, into what, and what the error has to say beside the line.
    for (from, to, said) in [
        (
            "[hello, hello-config]",
            "[hello, helo-config]",
            "helo-config",
        ),
        ("version: 1.0.0", "version: [1]", "version"),
        (
            "filesystem: erofs-lz4",
            "filesystem: erofs-lz5",
            "erofs-lz5",
        ),
        ("types: [sysext]", "types: [sysex]", "sysex"),
        (
            "avocado-sdk-toolchain: \"*\"",
            "avocado-sdk-toolchain: \"{{ config.distro\"",
            "{{",
        ),
        (
            "{{ config.distro.release }}",
            "{{ config.distro.relase }}",
            "relase",
        ),
        (
            "overlay: overlay/hello-config",
            "overlay: overlay/gone",
            "overlay/gone",
        ),
        (
            "cli_requirement: \">=0.41.0\"",
            "cli_requirement: \">=99.0.0\"",
            "99.0.0",
        ),
        (
            "source_date_epoch: 1767225600",
            "source_date_epoch: soon",
            "soon",
        ),
        ("permissions: dev", "permissions: prod", "prod"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        project.write("avocado.yaml", &bad).unwrap();
        let error = fails(project, &["build"]);
        let place = format!("avocado.yaml:{}:", line_of(&bad, to));
        assert!(error.contains(&place), "{to}: no {place} in {error}");
        assert!(error.contains(said), "{to}: no {said} in {error}");
        // Its directory may be there: what only one step needs is missed when that is planned.
        let state = fs::read_dir(project.state()).into_iter().flatten();
        assert_eq!(state.count(), 0, "{to}: something was started");
    }
    project.write("avocado.yaml", "a: [1\nb: }").unwrap();
    assert!(fails(project, &["build"]).contains("avocado.yaml:"));
}

#[test]
fn an_unknown_key_is_a_warning_with_a_suggestion() {
    if cannot_build("an_unknown_key_is_a_warning_with_a_suggestion") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let yaml = project.read("avocado.yaml").unwrap();
    let typo = yaml.replacen(
        "    enable_services:",
        "    enable_servces: []\n    enable_services:",
        1,
    );
    project.write("avocado.yaml", &typo).unwrap();
    let output = project.avocado(&["build"]).ok().unwrap();
    let place = format!("avocado.yaml:{}:", line_of(&typo, "enable_servces"));
    for part in [
        "warning",
        place.as_str(),
        "enable_servces",
        "enable_services",
    ] {
        assert!(
            output.stderr.contains(part),
            "no {part} in {}",
            output.stderr
        );
    }
}

#[test]
fn an_unknown_package_keeps_dnfs_answer() {
    if cannot_build("an_unknown_package_keeps_dnfs_answer") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let yaml = project.read("avocado.yaml").unwrap();
    project
        .write(
            "avocado.yaml",
            &yaml.replace("hello-tools: \"*\"", "hello-toolz: \"*\""),
        )
        .unwrap();
    let error = fails(project, &["build"]);
    for part in [
        "ext install hello",
        "Unable to find a match: hello-toolz",
        "hint:",
    ] {
        assert!(error.contains(part), "no {part} in {error}");
    }
    project.write("avocado.yaml", &yaml).unwrap();
    project.avocado(&["build"]).ok().unwrap();
}

#[test]
fn an_unreachable_feed_is_named() {
    if cannot_build("an_unreachable_feed_is_named") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let away = sandbox
        .project
        .clone()
        .with_env("AVOCADO_REPO_URL", "http://127.0.0.1:9");
    let error = fails(&away, &["install"]);
    assert!(error.contains("http://127.0.0.1:9"), "{error}");
    assert!(error.contains("hint:"), "{error}");
    sandbox.project.avocado(&["install"]).ok().unwrap();
}

/// A feed of one's own to spoil, from the same files.
fn spoiled(path: &str, fault: Fault) -> TestServer {
    let server = TestServer::start(ServeOptions::new(feed().directory())).unwrap();
    server.faults().add(FaultRule::new(fault, path));
    server
}

#[test]
fn a_bad_network_is_survived() {
    if cannot_build("a_bad_network_is_survived") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let wanted = digests(&Sandbox::built().project);
    // dnf tries a few times by itself; these go on for longer than that.
    for (what, fault) in [
        ("*.rpm", Fault::Status(404)),
        ("*.rpm", Fault::Cut(1000)),
        ("repomd.xml", Fault::Status(500)),
        ("*primary.xml*", Fault::Corrupt(20)),
    ] {
        let server = spoiled(what, fault);
        let project = sandbox
            .project
            .clone()
            .with_env("AVOCADO_REPO_URL", server.url());
        let error = fails(&project, &["install"]);
        assert!(error.contains(&server.url()), "{fault:?}: {error}");
    }
    assert_eq!(digests(&sandbox.project), wanted);
}

#[test]
fn a_collected_snapshot_says_what_to_do() {
    if cannot_build("a_collected_snapshot_says_what_to_do") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = &sandbox.project;
    let lock = project.read("avocado.lock").unwrap();
    project
        .write(
            "avocado.lock",
            &lock.replace("20260101T000000Z", "20250101T000000Z"),
        )
        .unwrap();
    let error = fails(project, &["install"]);
    assert!(
        error.contains("20250101T000000Z") && error.contains("avocado update"),
        "{error}"
    );
    project.avocado(&["update"]).ok().unwrap();
    project.avocado(&["install"]).ok().unwrap();
    let lock = project.read("avocado.lock").unwrap();
    assert!(
        lock.contains("20260201T000000Z") && lock.contains("1.1.0"),
        "{lock}"
    );
}

#[test]
fn a_private_feed_with_a_ca_of_its_own() {
    if cannot_build("a_private_feed_with_a_ca_of_its_own") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let certificate = signed.cert.pem();
    let ca = sandbox.directory.path().join("ca.pem");
    fs::write(&ca, &certificate).unwrap();
    let mut options = ServeOptions::new(feed().directory());
    options.tls = Some(TlsIdentity {
        cert_pem: certificate.into(),
        key_pem: signed.signing_key.serialize_pem().into(),
    });
    let server = TestServer::start(options).unwrap();
    let project = sandbox
        .project
        .clone()
        .with_env("AVOCADO_REPO_URL", server.url());
    let error = fails(&project, &["install"]);
    assert!(error.contains(&server.url()), "{error}");
    project
        .clone()
        .with_env("AVOCADO_REPO_CA", &ca)
        .avocado(&["install"])
        .ok()
        .unwrap();
    project.avocado(&["clean"]).ok().unwrap();
    project
        .with_env("AVOCADO_REPO_INSECURE", "1")
        .avocado(&["install"])
        .ok()
        .unwrap();
}

#[test]
fn a_full_disk_loses_nothing() {
    if cannot_build("a_full_disk_loses_nothing") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = &sandbox.project;
    let wanted = digests(&Sandbox::built().project);
    let state = project.directory().join(".avocado");
    fs::create_dir(&state).unwrap();
    let mount = |options: &str| {
        ToolCall::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&state)
            .ok()
            .unwrap();
    };
    mount("size=60m");
    let error = fails(project, &["build"]);
    ToolCall::new("mount")
        .args(["-o", "remount,size=4g"])
        .arg(&state)
        .ok()
        .unwrap();
    let after = project.avocado(&["build"]).run();
    let same = after
        .as_ref()
        .is_ok_and(|o| o.status.success())
        .then(|| digests(project));
    ToolCall::new("umount").arg(&state).ok().unwrap();
    assert!(error.to_lowercase().contains("space"), "{error}");
    assert_eq!(same, Some(wanted), "{after:?}");
}

/// Everything that runs below a directory of ours.
fn processes_of(project: &TestProject) -> Vec<String> {
    let place = project.directory().to_string_lossy().into_owned();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| fs::read_dir(entry.path().join("ns")).is_ok())
        .filter_map(|entry| {
            let mounts = fs::read_to_string(entry.path().join("mountinfo")).ok()?;
            let command = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let is_ours = mounts.contains(&place) && mounts.contains("/opt/_avocado");
            is_ours.then_some(command)
        })
        .collect()
}

fn nothing_left(project: &TestProject) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !processes_of(project).is_empty() {
        assert!(
            Instant::now() < deadline,
            "still at work: {:?}",
            processes_of(project)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_interruption_at_any_moment_is_survived() {
    if cannot_build("an_interruption_at_any_moment_is_survived") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = &sandbox.project;
    let wanted = digests(&Sandbox::built().project);
    // Each interruption comes later than the one before, so that in the end every step was hit;
    // the last of them may find nothing left to interrupt.
    let mut pause = Duration::from_millis(20);
    let mut interrupted = 0;
    for round in 0..14 {
        let mut command = common::interruptible(&project.command(&["build"]));
        let said = sandbox.directory.path().join("said");
        command
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said).unwrap())
            .process_group(0);
        let mut child = command.spawn().unwrap();
        std::thread::sleep(pause);
        let pid = Pid::from_child(&child);
        let signal = if round % 2 == 0 {
            Signal::KILL
        } else {
            Signal::INT
        };
        // The whole group, as a terminal does; a kill is for the one process only.
        if signal == Signal::INT {
            let _ = rustix::process::kill_process_group(pid, signal);
        } else {
            let _ = rustix::process::kill_process(pid, signal);
        }
        let status = child.wait().unwrap();
        interrupted += u32::from(!status.success());
        let said = fs::read_to_string(&said).unwrap();
        // It was not stumbled over what the round before left, and an interruption is what the
        // user wished.
        match status.code() {
            None => assert_eq!(status.signal(), Some(signal.as_raw()), "{said}"),
            Some(0) => {}
            Some(code) => {
                assert_eq!((code, signal), (130, Signal::INT), "{said}");
                let failed = said.contains("failed") || said.contains("error:");
                assert!(!failed, "{said}");
            }
        }
        nothing_left(project);
        pause = pause * 3 / 2;
    }
    assert!(interrupted >= 5, "only {interrupted} runs were interrupted");
    assert_eq!(digests(project), wanted);
}

#[test]
fn a_killed_quickstart_leaves_nothing_running() {
    const NAME: &str = "a_killed_quickstart_leaves_nothing_running";
    let needs = [
        TestNeed::Root,
        TestNeed::StaticBinary("quickstart"),
        TestNeed::StaticBinary("avocadoctl"),
        TestNeed::Tool("setpriv"),
        TestNeed::Tool("unshare"),
    ];
    if skip_without(NAME, &needs) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    // In the place of the real one: says who it is, and goes on for longer than a user waits.
    let (started, program) = (
        place.path().join("started"),
        place.path().join("debootstrap"),
    );
    let script = format!(
        "#!/bin/sh\nreadlink /proc/self/ns/pid >{0}.new\nmv {0}.new {0}\nexec sleep 86397\n",
        started.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut child = Command::new(static_binary("quickstart").unwrap())
        .env("AVOCADO_CACHE_DIR", place.path().join("cache"))
        .env("PATH", format!("{}:{path}", place.path().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !started.exists() {
        let status = child.try_wait().unwrap();
        assert!(status.is_none() && Instant::now() < deadline, "{status:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let namespace = fs::read_to_string(&started).unwrap();
    let inside = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let namespaces = processes.filter_map(|p| fs::read_link(p.path().join("ns/pid")).ok());
        namespaces
            .filter(|n| n.to_str() == Some(namespace.trim()))
            .count()
    };
    assert_ne!(inside(), 0);
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while inside() > 0 {
        assert!(Instant::now() < deadline, "{} still run", inside());
        std::thread::sleep(Duration::from_millis(20));
    }
}
