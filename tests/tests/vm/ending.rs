//! Chapters in which the VM ends.

use std::fs;
use std::time::Duration;

use avocado_testbed::tools::ToolCall;

use crate::harness::{SOON, kill};
use crate::story::Story;

pub(crate) fn ended(story: &Story) {
    let status = story.asleep();
    kill(&status["pid"]);
    let status = story.vm.wait_for("stopped", SOON).unwrap();
    assert_eq!(status["running"], false);
    story.vm.gone(SOON).unwrap();
    let shell = story.vm.vm(&["shell", "--", "true"]).run().unwrap();
    assert!(!shell.status.success());
    assert!(shell.stderr.contains("avocado vm start"), "{shell}");
}

pub(crate) fn stubborn(story: &Story) {
    story.start();
    let (hold, mut session) = story.visit();
    // No process in the guest hears of it.
    session
        .ok("systemctl stop qemu-guest-agent && pkill -STOP -x systemd-logind")
        .unwrap();
    let output = story.vm.vm(&["stop", "--timeout", "4"]).run().unwrap();
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr.contains("--force"), "{output}");
    assert_eq!(story.status()["state"], "running");
    // Now it listens again; and what no process synced is not lost.
    session
        .ok("systemctl start qemu-guest-agent && pkill -CONT -x systemd-logind")
        .unwrap();
    session.ok("echo unsynced > /var/last-words").unwrap();
    drop((hold, session));
    story.vm.vm(&["stop"]).ok().unwrap();
}

/// What the guest left on its disk.
fn on_disk(story: &Story, name: &str) -> Option<String> {
    let disk = story.vm.file("var.btrfs");
    let check = ToolCall::new("btrfs")
        .args(["check", "--readonly"])
        .arg(&disk);
    check.limit(SOON).ok().unwrap();
    let place = story.vm.scratch().join("var");
    fs::create_dir_all(&place).unwrap();
    let mount = ToolCall::new("mount").args(["-o", "loop,ro"]).arg(&disk);
    mount.arg(&place).ok().unwrap();
    let text = fs::read_to_string(place.join(name));
    ToolCall::new("umount").arg(&place).ok().unwrap();
    text.ok()
}

pub(crate) fn stopped(story: &Story) {
    let status = story.status();
    assert_eq!(
        (&status["state"], &status["running"]),
        (&"stopped".into(), &false.into())
    );
    story.vm.gone(SOON).unwrap();
    story.hints.wait_for("vm.notify.stopped", 0, SOON).unwrap();
    assert_eq!(on_disk(story, "last-words").as_deref(), Some("unsynced\n"));
    // To stop what is stopped is no error.
    story.vm.vm(&["stop"]).ok().unwrap();
}

pub(crate) fn stopped_early(story: &Story) {
    std::thread::scope(|scope| {
        let start = scope.spawn(|| story.vm.vm(&["start"]).run().unwrap());
        story.vm.wait_for("starting", SOON).unwrap();
        // The image is verified first; now there is something to end.
        while story.status()["pid"].is_null() {
            std::thread::sleep(Duration::from_millis(50));
        }
        story.vm.vm(&["stop", "--force"]).ok().unwrap();
        let start = start.join().unwrap();
        assert!(!start.status.success(), "{start}");
        assert!(start.stderr.contains("stopped"), "{start}");
    });
    assert_eq!(story.status()["state"], "stopped");
    story.vm.gone(SOON).unwrap();
}

pub(crate) fn reset(story: &Story) {
    assert!(on_disk(story, "last-words").is_some());
    story.vm.vm(&["reset", "-y"]).ok().unwrap();
    assert_eq!(on_disk(story, "last-words"), None);
    assert_eq!(story.status()["state"], "stopped");
}

/// The power fails when the guest has just answered for the first time.
pub(crate) fn cut_off(story: &Story) {
    story.start();
    kill(&story.status()["pid"]);
    story.vm.wait_for("stopped", SOON).unwrap();
    story.start();
    story.vm.vm(&["shell", "--", "true"]).ok().unwrap();
    story.vm.vm(&["stop"]).ok().unwrap();
}
