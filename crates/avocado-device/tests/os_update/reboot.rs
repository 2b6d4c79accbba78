//! When a device reboots by itself.

use std::fs;

use avocado_device::{Activation, Cancel, RebootPolicy, RuntimeSource};
use avocado_events::Silent;

use crate::board;
use crate::board::{Board, TestBundle};
use crate::common::{Events, manifest_file};

#[test]
fn the_device_reboots_when_the_configuration_wants_it() {
    for (policy, after_writing, after_failing) in [
        (RebootPolicy::Never, "", ""),
        (RebootPolicy::Rollback, "", "reboot --no-block\n"),
        (
            RebootPolicy::Now,
            "reboot --no-block\n",
            "reboot --no-block\n",
        ),
        (at("03:00"), "", "reboot --no-block\n"),
    ] {
        let Some(mut board) = board("the_device_reboots_when_the_configuration_wants_it") else {
            return;
        };
        board.config.reboot = policy.clone();
        board.knows_times("*");
        let log = board.at("systemctl.log");
        fs::create_dir(&board.paths.systemd).unwrap();
        let line = format!("case $1 in reboot) echo \"$@\" >>{} ;; esac", log.display());
        board.paths.tools.systemctl = board.program("systemctl", &line);
        let asked = || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let _ = fs::remove_file(&log);
            said
        };
        let manifest = board.add("1", &TestBundle::new("new"));
        board.writes(&manifest);
        assert_eq!(asked(), after_writing, "{policy:?}");
        board.starts("b");
        fs::write(&board.paths.os_release[0], "AVOCADO_OS_BUILD_ID=third\n").unwrap();
        board.device().merge(&Silent).unwrap();
        assert_eq!(asked(), after_failing, "{policy:?}");
        // Once: what it runs then has no update that could fail.
        board.device().merge(&Silent).unwrap();
        board.starts("a");
        board.device().merge(&Silent).unwrap();
        assert_eq!(asked(), "", "{policy:?}");
    }
}

fn at(time: &str) -> RebootPolicy {
    RebootPolicy::At(time.parse().unwrap())
}

#[test]
fn the_device_reboots_at_a_time_where_an_update_waits_for_it() {
    let Some(mut board) = board("the_device_reboots_at_a_time_where_an_update_waits_for_it") else {
        return;
    };
    board.has_systemd("is-enabled*) exit 1 ;;");
    board.knows_times("'Sun *-*-* 02:30'");
    board.config.reboot = at("Sun *-*-* 02:30");
    fs::write(board.at("initramfs-build-id"), "init-old").unwrap();
    let mine = board.add("1", &TestBundle::new("old"));
    board.device().activate(mine.id.as_str(), &Silent).unwrap();
    board.asked();
    let directory = board.paths.systemd.clone();
    let units = || {
        let entries = fs::read_dir(&directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let unit = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let time = |board: &Board| board.device().status().unwrap().reboots_at;
    let both = ["avocado-reboot.service", "avocado-reboot.timer"];

    let new = board.add("2", &TestBundle::new("new"));
    board.writes(&new);
    assert_eq!(units(), both);
    assert_eq!(board.asked(), "--no-block restart -- avocado-reboot.timer");
    let timer = unit(both[1]);
    assert!(timer.contains("\nOnCalendar=Sun *-*-* 02:30\n"), "{timer}");
    assert!(!timer.contains("Persistent"), "{timer}");
    let marker = board.paths.base.join("pending-update.json");
    let service = unit(both[0]);
    let condition = format!("\nConditionPathExists={}\n", marker.display());
    assert!(service.contains(&condition), "{service}");
    assert!(
        service.ends_with("/systemctl reboot --no-block\n"),
        "{service}"
    );
    assert_eq!(time(&board).as_deref(), Some("Sun *-*-* 02:30"));

    // Another runtime is chosen, one that needs no reboot.
    let given_up = "stop -- avocado-reboot.timer";
    board.device().activate(mine.id.as_str(), &Silent).unwrap();
    assert_eq!(units(), [""; 0]);
    assert!(board.asked().ends_with(given_up));
    assert_eq!(time(&board), None);
    board.writes(&new);
    board.device().remove(new.id.as_str(), &Silent).unwrap();
    assert_eq!(units(), [""; 0]);

    // The device is started by something else before: nothing of it is left then, and what an update has come
    // to does not leave anything either.
    let new = board.add("2", &TestBundle::new("new"));
    board.writes(&new);
    assert_eq!(units(), both);
    board.starts("b");
    assert_eq!(time(&board), None, "another boot");
    board.device().merge(&Silent).unwrap();
    assert_eq!(board.active().as_deref(), Some("2"));
    assert_eq!(units(), [""; 0]);
}

#[test]
fn a_time_that_cannot_be_is_refused_before_the_first_write() {
    let Some(mut board) = board("a_time_that_cannot_be_is_refused_before_the_first_write") else {
        return;
    };
    board.has_systemd("");
    board.knows_times("03:00");
    let manifest = board.add("1", &TestBundle::new("new"));
    for (time, why) in [
        ("25:00", "does not take for a time"),
        ("2020-01-01", "no such time any more"),
    ] {
        board.config.reboot = at(time);
        let _ = board.device().activate(manifest.id.as_str(), &Silent);
        board.asked();
        let problems = board.refuses_before_writing(&manifest);
        assert!(
            problems.iter().any(|p| p.contains(why) && p.contains(time)),
            "{problems:?}"
        );
        let file = manifest_file(board.dir.path(), &manifest);
        let source = RuntimeSource::Manifest(&file);
        let plan = board.device().plan(source, &Cancel::new(), &Silent);
        assert_eq!(plan.unwrap().os_update.unwrap().problems, problems);
    }
}

#[test]
fn what_keeps_a_device_from_rebooting_at_a_time_is_told_and_keeps_no_update() {
    let test = "what_keeps_a_device_from_rebooting_at_a_time_is_told_and_keeps_no_update";
    for (systemd, answers, why) in [
        (false, "", "systemd does not run"),
        (
            true,
            "*restart*) echo bad unit file >&2; exit 1 ;;",
            "bad unit file",
        ),
        (
            true,
            "daemon-reload) echo not now >&2; exit 1 ;;",
            "not now",
        ),
    ] {
        let Some(mut board) = board(test) else {
            return;
        };
        board.paths.tools.systemd_analyze = board.at("nothing");
        board.config.reboot = at("03:00");
        if systemd {
            board.has_systemd(answers);
        }
        let manifest = board.add("1", &TestBundle::new("new"));
        let events = Events::default();
        let activated = board.device().activate(manifest.id.as_str(), &events);
        assert!(
            matches!(activated, Ok(Activation::RebootRequired { .. })),
            "{why}"
        );
        assert!(board.waits());
        let told: Vec<_> = events.take().into_iter().map(|e| e.message).collect();
        let tells = |parts: &[&str]| {
            told.iter()
                .any(|m| parts.iter().all(|part| m.contains(part)))
        };
        assert!(
            tells(&["does not reboot by itself at `03:00`", why]),
            "{told:?}"
        );
        assert!(tells(&["was not looked at", "03:00"]), "{told:?}");
        assert!(!board.paths.systemd.join("avocado-reboot.timer").exists());
        assert_eq!(board.device().status().unwrap().reboots_at, None);
    }
}
