//! Chapters in which the guest's memory goes back to the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use avocado_testbed::tools::{ToolCall, find};
use avocado_testbed::vm::session::GuestSession;
use serde_json::Value;

use crate::harness::{assert_clock, assert_sound, boot_id, kill};
use crate::story::{Story, warnings};

/// Answers with the path of a file that was synced before.
pub(crate) fn released(story: &Story, container: &str) -> String {
    let count = "cat /run/count";
    let (hold, mut session) = story.visit();
    session
        .ok("setsid bash -c 'while :; do echo $((++n)) > /run/new; mv /run/new /run/count; sleep 0.2; done' < /dev/null > /dev/null 2>&1 &")
        .unwrap();
    let boot = boot_id(&mut session);
    session.ok("echo synced > /var/synced; sync").unwrap();
    session.ok("echo unsynced > /var/unsynced").unwrap();
    let measured = measured(&mut session);
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
    assert_eq!(register(&mut session), measured);
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

/// A register of the TPM that is zero after each boot. None: there is no TPM.
fn register(session: &mut GuestSession) -> Option<String> {
    find("swtpm")?;
    let read = session.ok("cat /sys/class/tpm/tpm0/pcr-sha256/16");
    Some(read.unwrap())
}

/// The same, after something was measured into it.
fn measured(session: &mut GuestSession) -> Option<String> {
    let before = register(session)?;
    assert_eq!(before, "0".repeat(64));
    // TPM2_PCR_Extend (TPM 2.0, part 3): PCR 16, an empty password, one SHA-256 digest.
    let command = concat!(
        "8002000000410000018200000010",
        "00000009400000090000000000",
        "00000001000b",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    );
    let bytes: Vec<String> = command
        .as_bytes()
        .chunks(2)
        .map(|pair| format!("\\x{}", String::from_utf8_lossy(pair)))
        .collect();
    let line = format!("printf '{}' > /dev/tpm0", bytes.concat());
    session.ok(&line).unwrap();
    let after = register(session);
    assert_ne!(after, Some(before));
    after
}

/// The disk is not what it was when the memory was saved.
pub(crate) fn refused(story: &Story, synced: &str) {
    let boot = {
        let (_hold, mut session) = story.visit();
        boot_id(&mut session)
    };
    story.asleep();
    let before = story.release();
    kill(&before["supervisor_pid"]);
    // The user does not have to say again what the guest was started with.
    let options = ["--infra-port", &story.infra_port, "--docker-socket-stream"];
    let said = warnings(&story.vm.start(&options).unwrap());
    assert!(
        !said.iter().any(|text| text.contains("boots anew")),
        "{said:?}"
    );
    {
        let (_hold, mut session) = story.visit();
        assert_eq!(boot_id(&mut session), boot);
        session
            .ok("until mountpoint -q /run/workspace; do sleep 0.1; done")
            .unwrap();
    }
    story.asleep();
    let before = story.release();
    kill(&before["supervisor_pid"]);
    let status = story.status();
    let saved = status["problem"].as_str().unwrap_or_default();
    assert!(saved.contains("its memory is saved"), "{status:#}");
    assert_eq!(status["running"], false);
    ToolCall::new("touch")
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
