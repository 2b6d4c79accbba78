//! A system that runs on trial: its health decides.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use avocado_device::{DeviceError, FailureReason, OsUpdateError, PendingUpdate, TrialEnd};
use avocado_events::Silent;
use avocado_manifest::Manifest;
use serde_json::Value;

use crate::common::Events;
use crate::namespace::with_own_mounts;
use crate::trouble::Programs;

const BEGINS: &str = "--no-block start -- avocado-commit.service";
const BOOT: &str = "start -- multi-user.target boot-complete.target";

/// A board with the service that asks for the health of a system, an update to which is written and
/// was started, and its runtime.
fn started() -> (Programs, Manifest, Manifest) {
    let mut on = Programs::new();
    on.board.has_systemd("");
    let old = on.board.add("1", &on.bundle("old"));
    fs::write(on.board.at("initramfs-build-id"), "init-old").unwrap();
    on.board
        .device()
        .activate(old.id.as_str(), &Silent)
        .unwrap();
    let new = on.board.add("2", &on.bundle("new"));
    on.board.writes(&new);
    on.starts("b");
    on.told();
    on.board.asked();
    (on, old, new)
}

fn marker(on: &Programs) -> Value {
    let text = fs::read(on.board.paths.base.join("pending-update.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn why_not(on: &Programs) -> String {
    let error = on.board.device().end_trial(&Silent).unwrap_err();
    assert!(matches!(error, DeviceError::Trial(_)), "{error:?}");
    avocado_events::chain(&error)
}

fn is_on_trial(error: &DeviceError) -> bool {
    let is = |reason: &FailureReason| match reason {
        FailureReason::OsUpdate(error) => matches!(**error, OsUpdateError::OnTrial),
        _ => false,
    };
    match error {
        DeviceError::Update { source, .. } => is(source),
        DeviceError::Store(source) => is(source),
        _ => false,
    }
}

#[test]
fn a_system_on_trial_is_committed_when_it_is_well() {
    let (mut on, old, new) = started();
    on.board.device().merge(&Silent).unwrap();
    assert_eq!(on.board.asked(), BEGINS);
    // Nothing is decided, however often it is merged.
    for boots in [1, 1] {
        assert_eq!(on.told(), "");
        assert_eq!(on.board.active().as_deref(), Some("1"));
        assert_eq!(marker(&on)["trial"]["boots"], boots);
        let status = on.board.device().status().unwrap();
        assert_eq!(
            status.trial_waits_for.as_deref(),
            Some("avocado-commit.service")
        );
        assert_eq!(status.failed_update, None);
        on.board.device().refresh(&Silent).unwrap();
        assert_eq!(on.board.asked(), BEGINS);
    }
    assert!(
        on.board
            .device()
            .inspect(Some(new.id.as_str()))
            .unwrap()
            .on_trial
    );
    assert!(
        !on.board
            .device()
            .inspect(Some(old.id.as_str()))
            .unwrap()
            .on_trial
    );
    // Whatever would choose a slot has to wait.
    for runtime in [&old, &new] {
        let error = on.board.device().activate(runtime.id.as_str(), &Silent);
        assert!(is_on_trial(&error.unwrap_err()));
    }
    let error = on.board.device().remove(new.id.as_str(), &Silent);
    assert!(is_on_trial(&error.unwrap_err()));
    assert_eq!(on.told(), "");
    on.board.asked();
    // Those of one directory by name, and no others than programs.
    let log = on.board.at("checks");
    for check in [
        "health.d/20-b",
        "health.d/10-a",
        "required.d/00",
        "wanted.d/00",
        "health.d/.hidden",
    ] {
        on.board
            .check(check, &format!("echo {check} >>{}", log.display()));
    }
    fs::create_dir(on.board.at("health.d/directory")).unwrap();
    fs::write(on.board.at("health.d/README"), "not one").unwrap();
    let events = Events::default();
    assert_eq!(
        on.board.device().end_trial(&events).unwrap(),
        TrialEnd::Committed
    );
    let warnings = events.warnings().join("\n");
    assert!(
        warnings.contains("health.d/README is no program"),
        "{warnings}"
    );
    assert!(!warnings.contains("directory"), "{warnings}");
    let asked = fs::read_to_string(&log).unwrap();
    assert_eq!(
        asked.lines().collect::<Vec<_>>(),
        [
            "health.d/10-a",
            "health.d/20-b",
            "required.d/00",
            "wanted.d/00"
        ]
    );
    assert_eq!(on.board.asked(), BOOT);
    assert_eq!(on.told(), "keep b");
    assert_eq!(on.board.active().as_deref(), Some("2"));
    assert!(!on.board.waits());
    assert_eq!(on.board.device().status().unwrap().trial_waits_for, None);
    // And stays so: nothing of it is asked for again.
    for _ in 0..10 {
        on.starts("b");
        on.board.device().refresh(&Silent).unwrap();
        let again = on.board.device().end_trial(&Silent).unwrap();
        assert_eq!(again, TrialEnd::NothingOnTrial);
        assert_eq!((on.told().as_str(), on.board.asked().as_str()), ("", ""));
        assert_eq!(on.board.active().as_deref(), Some("2"));
    }
}

#[test]
fn a_system_that_is_not_well_goes_back_with_the_reason() {
    for what in ["fails", "never ends", "does not boot"] {
        let (mut on, _, new) = started();
        on.board.device().merge(&Silent).unwrap();
        on.board.asked();
        let pid = on.board.at("pid");
        let expected = match what {
            "fails" => {
                on.board
                    .check("required.d/net", "seq 5000; echo no network >&2; exit 3");
                vec!["required.d/net failed (exit status: 3)", "no network"]
            }
            "never ends" => {
                on.board.config.health_deadline = Duration::from_secs(1);
                let body = format!("echo $$ >{}; echo waits; exec sleep 1000", pid.display());
                on.board.check("health.d/hangs", &body);
                vec![
                    "health.d/hangs had not ended when the 1 seconds",
                    "health_deadline_secs",
                    "waits",
                ]
            }
            _ => {
                on.board
                    .has_systemd("'start -- '*) echo a dependency failed >&2; exit 1;;");
                on.board.check("health.d/never-asked", "exit 3");
                vec![
                    "boot-complete.target failed (exit status: 1)",
                    "a dependency failed",
                ]
            }
        };
        let why = why_not(&on);
        let told = on.board.device().status().unwrap().failed_update.unwrap();
        assert_eq!(told.runtime_id, Some(new.id.clone()));
        for part in expected {
            assert!(why.contains(part), "{what}: {why}");
            assert!(told.why.contains(part), "{what}: {}", told.why);
        }
        assert_eq!(on.told(), "back a", "{what}");
        assert!(!on.board.waits());
        assert!(on.board.asked().ends_with("reboot --no-block"), "{what}");
        if what == "never ends" {
            let pid = fs::read_to_string(&pid).unwrap();
            assert!(
                !Path::new("/proc").join(pid.trim()).exists(),
                "it runs still"
            );
        }
        // It runs still, and its runtime would fit.
        let error = on.board.device().activate(new.id.as_str(), &Silent);
        let error = avocado_events::chain(&error.unwrap_err());
        assert!(error.contains("reboot it first"), "{error}");
        on.starts("a");
        on.board.device().merge(&Silent).unwrap();
        assert_eq!(on.board.active().as_deref(), Some("1"), "{what}");
        assert_eq!(on.board.asked(), "", "{what}");
    }
}

#[test]
fn what_is_only_wanted_is_told_and_keeps_nothing_back() {
    let (on, ..) = started();
    on.board.device().merge(&Silent).unwrap();
    let log = on.board.at("checks");
    on.board.check("wanted.d/10-fails", "exit 3");
    on.board.check(
        "wanted.d/20-asked",
        &format!("echo asked >{}", log.display()),
    );
    let events = Events::default();
    assert_eq!(
        on.board.device().end_trial(&events).unwrap(),
        TrialEnd::Committed
    );
    let warnings = events.warnings().join("\n");
    assert!(
        warnings.contains("wanted.d/10-fails failed (exit status: 3)"),
        "{warnings}"
    );
    assert!(log.exists());
    assert_eq!(on.board.active().as_deref(), Some("2"));
}

/// As `/etc` is while extensions are merged into it.
#[test]
fn a_check_is_run_from_where_no_program_may_be_started() {
    let test = "health::a_check_is_run_from_where_no_program_may_be_started";
    with_own_mounts(test, &["mount"], || {
        let (on, ..) = started();
        on.board.device().merge(&Silent).unwrap();
        let log = on.board.at("checks");
        let checks = on.board.at("health.d");
        fs::create_dir(&checks).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "noexec", "none"])
            .arg(&checks)
            .status();
        assert!(mount.unwrap().success());
        let check = on
            .board
            .check("health.d/10-it", &format!("echo $0 >{}", log.display()));
        assert!(Command::new(&check).status().is_err(), "it can be started");
        on.board
            .check("health.d/20-fails", "echo no network; exit 3");
        let why = why_not(&on);
        assert!(
            why.contains("health.d/20-fails failed (exit status: 3): no network"),
            "{why}"
        );
        let called = fs::read_to_string(&log).unwrap();
        assert_eq!(called.trim(), check.to_str().unwrap());
    });
}

/// What a shutdown ends says nothing of the system.
#[test]
fn a_shutdown_decides_nothing() {
    let (mut on, ..) = started();
    on.board.device().merge(&Silent).unwrap();
    on.board.check("health.d/ended", "kill -TERM $$");
    on.board
        .has_systemd("is-system-running) echo stopping; exit 1;;");
    on.board.asked();
    let why = why_not(&on);
    assert!(why.contains("is shut down"), "{why}");
    assert_eq!((on.told().as_str(), on.board.asked().as_str()), ("", BOOT));
    assert!(on.board.waits());
    // The next boot of it is on trial as well.
    on.starts("b");
    on.board.has_systemd("");
    on.board.device().merge(&Silent).unwrap();
    assert_eq!(marker(&on)["trial"]["boots"], 2);
    on.board.check("health.d/ended", "exit 0");
    assert_eq!(
        on.board.device().end_trial(&Silent).unwrap(),
        TrialEnd::Committed
    );
}

/// The boot loader would start it for ever.
#[test]
fn boots_that_never_show_their_health_are_counted() {
    let (mut on, ..) = started();
    for boots in 1..=3 {
        on.board.device().merge(&Silent).unwrap();
        assert_eq!(marker(&on)["trial"]["boots"], boots);
        assert_eq!(
            (on.told().as_str(), on.board.asked().as_str()),
            ("", BEGINS)
        );
        on.starts("b");
    }
    on.board.device().merge(&Silent).unwrap();
    assert!(!on.board.waits());
    assert_eq!(
        (on.told().as_str(), on.board.asked().as_str()),
        ("back a", "reboot --no-block")
    );
    let told = on.board.device().status().unwrap().failed_update.unwrap();
    assert!(
        told.why.contains("3 boots of it were on trial"),
        "{}",
        told.why
    );
    assert_eq!(on.board.active().as_deref(), Some("1"));
}

#[test]
fn a_system_without_the_service_is_committed_by_its_merge() {
    let (mut on, ..) = started();
    on.board.has_systemd("is-enabled*) exit 1;;");
    on.board.device().merge(&Silent).unwrap();
    assert_eq!(on.board.active().as_deref(), Some("2"));
    assert_eq!(
        (on.told().as_str(), on.board.asked().as_str()),
        ("keep b", "")
    );
    assert!(!on.board.waits());
    assert_eq!(
        on.board.device().end_trial(&Silent).unwrap(),
        TrialEnd::NothingOnTrial
    );
}

/// It is well, and the boot loader cannot be told so: the next merge has it asked for again.
#[test]
fn a_loader_that_cannot_be_told_leaves_a_system_on_trial() {
    let (on, ..) = started();
    on.board.device().merge(&Silent).unwrap();
    on.fails("keep");
    let why = why_not(&on);
    assert!(why.contains("set keep b failed"), "{why}");
    assert!(on.board.waits());
    assert_eq!(on.board.active().as_deref(), Some("1"));
    let status = on.board.device().status().unwrap();
    assert!(
        status
            .failed_update
            .unwrap()
            .why
            .contains("set keep b failed")
    );
    on.fails("nothing");
    on.board.asked();
    on.board.device().merge(&Silent).unwrap();
    assert_eq!(on.board.asked(), BEGINS);
    assert_eq!(
        on.board.device().end_trial(&Silent).unwrap(),
        TrialEnd::Committed
    );
    assert_eq!(on.board.active().as_deref(), Some("2"));
    assert_eq!(on.board.device().status().unwrap().failed_update, None);
}

#[test]
fn the_marker_of_a_trial_is_read_as_it_is_written() {
    let (on, ..) = started();
    on.board.device().merge(&Silent).unwrap();
    let pending: PendingUpdate = serde_json::from_value(marker(&on)).unwrap();
    let trial = pending.trial.clone().unwrap();
    let boot = fs::read_to_string(&on.board.paths.os.boot_id).unwrap();
    assert_eq!(
        (trial.boots, trial.boot_id.as_deref()),
        (1, Some(boot.trim()))
    );
    // What older agents know is there still.
    assert!(pending.verify.is_some() && pending.rollback.is_some() && pending.bundle.is_some());
    assert_eq!(pending.previous_slot.as_deref(), Some("a"));
}

/// What the boot loader's programs go by, links to partitions say, is made after the first merge of a boot.
#[test]
fn what_the_merge_of_a_boot_cannot_settle_is_settled_later_in_it() {
    for (fails_to, runs) in [("ask", "b"), ("ask", "a"), ("back", "a")] {
        let what = format!("{fails_to}, {runs} runs");
        let (mut on, ..) = started();
        on.starts(runs);
        let ask = |on: &Programs, body: &str| drop(on.board.program("get", body));
        let answer = format!("cat {}", on.board.at("slot").display());
        if fails_to == "ask" {
            ask(&on, "exit 1");
        } else {
            on.fails(fails_to);
        }
        on.board.device().merge(&Silent).unwrap();
        assert_eq!(on.board.asked(), BEGINS, "{what}");
        assert_eq!(on.board.active().as_deref(), Some("1"), "{what}");
        // Nor can it when that is started.
        let end = on.board.device().end_trial(&Silent).unwrap();
        assert_eq!(end, TrialEnd::Unsettled, "{what}");
        assert!(on.board.waits(), "{what}");
        assert_eq!(on.board.asked(), format!("{BOOT}, {BEGINS}"), "{what}");

        ask(&on, &answer);
        on.fails("nothing");
        on.told();
        let end = on.board.device().end_trial(&Silent).unwrap();
        assert!(!on.board.waits(), "{what}");
        let (expected, told, active) = if runs == "b" {
            (TrialEnd::Committed, "keep b", "2")
        } else {
            (TrialEnd::NothingOnTrial, "back a", "1")
        };
        assert_eq!(end, expected, "{what}");
        assert_eq!(on.told(), told, "{what}");
        assert_eq!(on.board.active().as_deref(), Some(active), "{what}");
        let failed = on.board.device().status().unwrap().failed_update;
        assert_eq!(failed.is_some(), runs == "a", "{what}");
    }
}

/// The time of a boot in which it was not settled is not that of its health.
#[test]
fn what_is_settled_late_has_the_whole_deadline_for_its_health() {
    let (mut on, ..) = started();
    let (slot, waited) = (on.board.at("slot"), on.board.at("waited"));
    let (slot, waited) = (slot.display(), waited.display());
    on.board
        .program("get", &format!("test -e {waited} && cat {slot}"));
    on.board.device().merge(&Silent).unwrap();
    // The boot takes longer than the deadline once, and then has come to its end.
    on.board.has_systemd(&format!(
        "'start -- '*) test -e {waited} || {{ touch {waited}; exec sleep 1000; }};;"
    ));
    on.board.config.health_deadline = Duration::from_secs(1);
    assert_eq!(
        on.board.device().end_trial(&Silent).unwrap(),
        TrialEnd::Committed
    );
}

/// It decides nothing, and asking again would not help: no unit fails for it.
#[test]
fn a_marker_that_tells_nothing_is_not_asked_about_again() {
    let (on, ..) = started();
    let path = on.board.paths.base.join("pending-update.json");
    fs::write(&path, "{").unwrap();
    on.board.device().merge(&Silent).unwrap();
    assert!(!on.board.asked().contains(BEGINS));
    assert_eq!(
        on.board.device().end_trial(&Silent).unwrap(),
        TrialEnd::Unsettled
    );
}
