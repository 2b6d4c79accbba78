//! Chapters in which the guest sleeps, is woken, or must not sleep.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use avocado_testbed::kernel;
use avocado_testbed::vm::http;
use avocado_testbed::vm::session::GuestSession;

use crate::harness::{Hold, SOON, assert_clock, boot_id, kill, words};
use crate::story::{IDLE, Story};

/// A container runs and a visitor is there: neither keeps it awake.
pub(crate) fn sleep(story: &Story) {
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

pub(crate) fn wake(story: &Story, session: &mut GuestSession) {
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

pub(crate) fn adopted(story: &Story, session: &mut GuestSession) {
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

pub(crate) fn kept_awake(story: &Story, container: &str) {
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
