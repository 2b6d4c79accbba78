//! Chapters in which the guest's memory goes back to the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use avocado_testbed::tools::Call;
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
pub(crate) fn refused(story: &Story, synced: &str) {
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
