use std::time::{Duration, Instant};

use super::clients::SIGN_GRACE;
use super::sleep_policy::{QUIET, QUIET_LIMIT};
use super::*;

mod random;
mod requests;
mod signs_of_life;

const SETTINGS: SleepSettings = SleepSettings {
    hibernate_after: Some(Duration::from_secs(60)),
    release_after: Some(Duration::from_secs(600)),
    silent: Some(Duration::from_secs(300)),
    containers: false,
};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A VM that runs, with no client connected.
fn running(settings: SleepSettings, start: Instant) -> SleepPolicy {
    let mut policy = SleepPolicy::new(settings, start);
    assert_eq!(policy.on(start, PolicyEvent::Ready), []);
    assert_eq!(policy.state(), PolicyState::Running);
    policy
}

fn hibernated(settings: SleepSettings, start: Instant) -> SleepPolicy {
    let mut policy = running(settings, start);
    assert_eq!(policy.on(start, PolicyEvent::Paused), []);
    assert_eq!(policy.state(), PolicyState::Hibernated);
    policy
}

#[test]
fn an_idle_guest_is_paused_and_a_connection_wakes_it() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    assert_eq!(policy.deadline(), Some(t + secs(60)));
    assert_eq!(policy.on(t + secs(59), PolicyEvent::DeadlinePassed), []);
    assert_eq!(
        policy.on(t + secs(60), PolicyEvent::DeadlinePassed),
        [PolicyAction::Pause]
    );
    assert_eq!(policy.on(t + secs(60), PolicyEvent::Paused), []);
    let done = PolicyEvent::PauseDone { paused: true };
    assert_eq!(policy.on(t + secs(60), done), []);
    assert_eq!(
        (policy.state(), policy.reason()),
        (PolicyState::Hibernated, StateReason::Idle)
    );

    let opened = PolicyEvent::LeaseRequested(CountedLane::Ssh);
    assert_eq!(policy.on(t + secs(90), opened), [PolicyAction::Resume]);
    assert_eq!(policy.on(t + secs(90), PolicyEvent::Resumed), []);
    let done = PolicyEvent::ResumeDone { running: true };
    assert_eq!(
        policy.on(t + secs(90), done),
        [PolicyAction::AfterWake, PolicyAction::Grant]
    );
    assert_eq!(policy.reason(), StateReason::Connection(CountedLane::Ssh));
    assert_eq!(policy.open_leases(), 1);
    policy.on(t + secs(95), PolicyEvent::LeaseDropped);
    assert_eq!(policy.deadline(), Some(t + secs(155)));
}

#[test]
fn a_connection_in_the_instant_of_pausing_wakes_it_again() {
    let t = Instant::now();
    let news = [
        (
            PolicyEvent::LeaseRequested(CountedLane::Docker),
            StateReason::Connection(CountedLane::Docker),
        ),
        (
            PolicyEvent::ClientSpoke(CountedLane::Ssh),
            StateReason::Connection(CountedLane::Ssh),
        ),
        (PolicyEvent::Traffic(t + secs(60)), StateReason::Traffic),
        (
            PolicyEvent::Requested(VmRequest::Wake),
            StateReason::Requested,
        ),
    ];
    for (news, reason) in news {
        let mut policy = running(SETTINGS, t);
        assert_eq!(
            policy.on(t + secs(60), PolicyEvent::DeadlinePassed),
            [PolicyAction::Pause]
        );
        assert_eq!(policy.on(t + secs(60), news), []);
        let done = PolicyEvent::PauseDone { paused: true };
        assert_eq!(
            policy.on(t + secs(61), done),
            [PolicyAction::Resume],
            "{news:?}"
        );
        assert_eq!(
            (policy.state(), policy.reason()),
            (PolicyState::Waking, reason)
        );
    }
}

#[test]
fn a_guest_that_reboots_is_waited_for_as_after_a_start() {
    let t = Instant::now();
    let opened = PolicyEvent::LeaseRequested(CountedLane::Ssh);
    let mut policy = running(SETTINGS, t);
    assert_eq!(policy.on(t, PolicyEvent::Reset), [PolicyAction::SetUp]);
    assert_eq!(
        (policy.state(), policy.reason()),
        (PolicyState::Starting, StateReason::Reboot)
    );
    assert!(!policy.has_answered());
    assert_eq!(policy.deadline(), None, "it does not sleep on the way");
    assert_eq!(policy.on(t, opened), [], "whoever comes waits");
    // Once more before it answered.
    assert_eq!(policy.on(t, PolicyEvent::Reset), [PolicyAction::SetUp]);
    assert_eq!(policy.on(t, PolicyEvent::Ready), [PolicyAction::Grant]);
    assert_eq!(policy.state(), PolicyState::Running);
    assert!(policy.has_answered());

    // While it was asleep: waited for as soon as it runs.
    let mut policy = hibernated(SETTINGS, t);
    assert_eq!(policy.on(t, PolicyEvent::Reset), []);
    assert_eq!(policy.state(), PolicyState::Hibernated);
    assert_eq!(policy.on(t, opened), [PolicyAction::Resume]);
    let woken = policy.on(t, PolicyEvent::ResumeDone { running: true });
    assert_eq!(woken, [PolicyAction::AfterWake, PolicyAction::SetUp]);
    assert_eq!(policy.on(t, PolicyEvent::Ready), [PolicyAction::Grant]);

    // A command that waits for it to sleep is told.
    let mut policy = running(SETTINGS, t);
    policy.on(t, PolicyEvent::Traffic(t + QUIET / 2));
    assert_eq!(
        policy.on(t, PolicyEvent::Requested(VmRequest::Hibernate)),
        []
    );
    let denied = PolicyAction::Denied(VmRequest::Hibernate, Refusal::Starting);
    assert_eq!(
        policy.on(t, PolicyEvent::Reset),
        [denied, PolicyAction::SetUp]
    );
}

#[test]
fn other_settings_count_at_once() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    let with = |hibernate_after, release_after| SleepSettings {
        hibernate_after,
        release_after,
        ..SETTINGS
    };
    policy.change_settings(with(None, None));
    assert_eq!(policy.deadline(), None);
    policy.change_settings(with(Some(secs(5)), Some(secs(7))));
    assert_eq!(policy.deadline(), Some(t + secs(5)));
    // Idle for longer than that already.
    let due = policy.on(t + secs(30), PolicyEvent::DeadlinePassed);
    assert_eq!(due, [PolicyAction::Pause]);
    policy.on(t + secs(30), PolicyEvent::PauseDone { paused: true });
    assert_eq!(policy.deadline(), Some(t + secs(37)));
    policy.change_settings(with(Some(secs(5)), None));
    assert_eq!(policy.deadline(), None);
}

#[test]
fn traffic_moves_the_deadline() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    policy.on(t + secs(60), PolicyEvent::Traffic(t + secs(50)));
    assert_eq!(policy.on(t + secs(60), PolicyEvent::DeadlinePassed), []);
    assert_eq!(policy.deadline(), Some(t + secs(110)));
    // Older traffic than what is known changes nothing.
    policy.on(t + secs(60), PolicyEvent::Traffic(t + secs(40)));
    assert_eq!(policy.deadline(), Some(t + secs(110)));
}

#[test]
fn an_open_connection_keeps_a_working_guest_awake_and_an_idle_one_for_a_while() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    assert_eq!(
        policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh)),
        [PolicyAction::Grant]
    );
    for n in 1..20 {
        assert_eq!(
            policy.on(t + secs(60 * n), PolicyEvent::DeadlinePassed),
            [PolicyAction::CheckWork]
        );
        assert_eq!(policy.deadline(), None);
        assert_eq!(
            policy.on(t + secs(60 * n), PolicyEvent::WorkChecked { busy: true }),
            []
        );
    }
    let start = t + secs(60 * 19);
    let mut now;
    let slept = loop {
        now = policy.deadline().unwrap();
        assert_eq!(
            policy.on(now, PolicyEvent::DeadlinePassed),
            [PolicyAction::CheckWork]
        );
        if policy.on(now, PolicyEvent::WorkChecked { busy: false }) == [PolicyAction::Pause] {
            break now;
        }
    };
    assert_eq!(slept - start, secs(300));
    // A client that speaks on it wakes the guest.
    policy.on(now, PolicyEvent::PauseDone { paused: true });
    assert_eq!(
        policy.on(now, PolicyEvent::ClientSpoke(CountedLane::Ssh)),
        [PolicyAction::Resume]
    );
    let done = policy.on(now, PolicyEvent::ResumeDone { running: true });
    assert_eq!(done, [PolicyAction::AfterWake, PolicyAction::Grant]);
    assert_eq!(policy.open_leases(), 1, "it was open all the time");

    let mut forever = running(
        SleepSettings {
            silent: None,
            ..SETTINGS
        },
        t,
    );
    forever.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh));
    assert_eq!(forever.deadline(), None);
    forever.on(t + secs(1), PolicyEvent::LeaseDropped);
    assert_eq!(forever.deadline(), Some(t + secs(61)));
}

#[test]
fn containers_count_if_they_should() {
    let t = Instant::now();
    let mut policy = running(
        SleepSettings {
            containers: true,
            ..SETTINGS
        },
        t,
    );
    assert_eq!(
        policy.on(t + secs(60), PolicyEvent::DeadlinePassed),
        [PolicyAction::CheckWork]
    );
    assert_eq!(
        policy.on(t + secs(60), PolicyEvent::WorkChecked { busy: true }),
        []
    );
    assert_eq!(policy.deadline(), Some(t + secs(120)));
    assert_eq!(
        policy.on(t + secs(120), PolicyEvent::DeadlinePassed),
        [PolicyAction::CheckWork]
    );
    let idle = PolicyEvent::WorkChecked { busy: false };
    assert_eq!(policy.on(t + secs(120), idle), [PolicyAction::Pause]);
}

#[test]
fn zero_is_never() {
    let idle = crate::launch::IdleSettings {
        hibernate_after_secs: 0,
        release_memory_after_secs: 0,
        silent_connection_secs: 0,
        containers_keep_awake: false,
    };
    let settings = SleepSettings::new(&idle);
    let t = Instant::now();
    assert_eq!(running(settings, t).deadline(), None);
    assert_eq!(hibernated(settings, t).deadline(), None);
    let endless = crate::launch::IdleSettings {
        hibernate_after_secs: u64::MAX,
        ..idle
    };
    assert_eq!(running(SleepSettings::new(&endless), t).deadline(), None);
}

#[test]
fn what_others_do_to_qemu_is_taken_as_it_is() {
    let t = Instant::now();
    let mut policy = hibernated(SETTINGS, t);
    assert_eq!(policy.reason(), StateReason::External);
    assert_eq!(
        policy.on(t, PolicyEvent::Resumed),
        [PolicyAction::AfterWake]
    );
    assert_eq!(
        (policy.state(), policy.reason()),
        (PolicyState::Running, StateReason::External)
    );
    policy.on(t, PolicyEvent::Paused);
    assert_eq!(
        policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh)),
        [PolicyAction::Resume]
    );
}

#[test]
fn a_guest_that_cannot_be_woken_refuses_and_may_be_tried_again() {
    let t = Instant::now();
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh));
    policy.on(t, PolicyEvent::Requested(VmRequest::Wake));
    let failed = policy.on(t, PolicyEvent::ResumeDone { running: false });
    let denied = PolicyAction::Denied(VmRequest::Wake, Refusal::NotWoken);
    assert_eq!(failed, [PolicyAction::Refuse(Refusal::NotWoken), denied]);
    assert_eq!(policy.open_leases(), 0);
    assert_eq!(
        policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh)),
        [PolicyAction::Resume]
    );
}

#[test]
fn memory_is_released_and_comes_back() {
    let t = Instant::now();
    let mut policy = hibernated(SETTINGS, t);
    let late = policy.deadline().unwrap();
    assert_eq!(late, t + secs(600));
    assert_eq!(
        policy.on(late, PolicyEvent::DeadlinePassed),
        [PolicyAction::Save]
    );
    // The save itself lets the guest run for a moment.
    assert_eq!(policy.on(late, PolicyEvent::Resumed), []);
    assert_eq!(policy.on(late, PolicyEvent::Paused), []);
    let saved = PolicyEvent::SaveDone {
        saved: true,
        paused: true,
    };
    assert_eq!(policy.on(late, saved), [PolicyAction::Quit]);
    assert_eq!(
        policy.on(late, PolicyEvent::Shutdown { by_guest: false }),
        []
    );
    assert_eq!(policy.on(late, PolicyEvent::Exited), []);
    assert_eq!(policy.on(late, PolicyEvent::QuitDone { saved: true }), []);
    assert_eq!(policy.state(), PolicyState::Released);
    assert_eq!(
        policy.on(late, PolicyEvent::LeaseRequested(CountedLane::Ssh)),
        [PolicyAction::Restore]
    );
    assert_eq!(
        policy.on(late, PolicyEvent::Restored),
        [PolicyAction::AfterWake, PolicyAction::Grant]
    );
}

#[test]
fn a_save_that_is_not_wanted_any_more_is_dropped() {
    let t = Instant::now();
    let saved = PolicyEvent::SaveDone {
        saved: true,
        paused: true,
    };
    let mut policy = hibernated(SETTINGS, t);
    assert_eq!(
        policy.on(t, PolicyEvent::Requested(VmRequest::Release)),
        [PolicyAction::Save]
    );
    assert_eq!(
        policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh)),
        [PolicyAction::CancelSave]
    );
    let denied = PolicyAction::Denied(VmRequest::Release, Refusal::NotSaved);
    assert_eq!(
        policy.on(t, saved),
        [PolicyAction::Discard, denied, PolicyAction::Resume]
    );

    // Too late: QEMU ends already.
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t, PolicyEvent::Requested(VmRequest::Release));
    assert_eq!(policy.on(t, saved), [PolicyAction::Quit]);
    assert_eq!(
        policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh)),
        []
    );
    let done = PolicyAction::Done(VmRequest::Release);
    assert_eq!(policy.on(t, PolicyEvent::QuitDone { saved: true }), []);
    assert_eq!(
        policy.on(t, PolicyEvent::Exited),
        [PolicyAction::Restore, done]
    );

    // A save that failed is not tried again by itself before the guest has run.
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t + secs(600), PolicyEvent::DeadlinePassed);
    let failed = PolicyEvent::SaveDone {
        saved: false,
        paused: true,
    };
    assert_eq!(policy.on(t + secs(601), failed), [PolicyAction::Discard]);
    assert_eq!(
        (policy.state(), policy.deadline()),
        (PolicyState::Hibernated, None)
    );
    policy.on(t + secs(602), PolicyEvent::Resumed);
    policy.on(t + secs(603), PolicyEvent::Paused);
    assert_eq!(policy.deadline(), Some(t + secs(1203)));
}

#[test]
fn an_open_connection_keeps_the_memory() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh));
    policy.on(t, PolicyEvent::Paused);
    assert_eq!(policy.deadline(), None);
    let denied = PolicyAction::Denied(VmRequest::Release, Refusal::InUse);
    assert_eq!(
        policy.on(t, PolicyEvent::Requested(VmRequest::Release)),
        [denied]
    );
    policy.on(t + secs(1000), PolicyEvent::LeaseDropped);
    assert_eq!(policy.deadline(), Some(t + secs(600)));
}

#[test]
fn stopping_sends_everybody_away_and_may_fail() {
    let t = Instant::now();
    let stop = VmRequest::Stop { force: false };
    let mut policy = hibernated(SETTINGS, t);
    let shut = PolicyAction::ShutDown { force: false };
    assert_eq!(policy.on(t, PolicyEvent::Requested(stop)), [shut]);
    let refused = PolicyAction::Refuse(Refusal::Stopping);
    assert_eq!(
        policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh)),
        [refused]
    );
    let denied = PolicyAction::Denied(stop, Refusal::NotStopped);
    assert_eq!(policy.on(t, PolicyEvent::StopFailed), [denied]);
    assert_eq!(policy.on(t, PolicyEvent::Requested(stop)), [shut]);
    let force = PolicyEvent::Requested(VmRequest::Stop { force: true });
    assert_eq!(
        policy.on(t, force),
        [PolicyAction::ShutDown { force: true }]
    );
    assert_eq!(
        policy.on(t, PolicyEvent::Exited),
        [PolicyAction::Done(stop)]
    );
    assert_eq!(policy.state(), PolicyState::Gone);
    assert_eq!(
        policy.on(t, PolicyEvent::Requested(stop)),
        [PolicyAction::Done(stop)]
    );
}

#[test]
fn a_stop_that_failed_leaves_a_start_under_way() {
    let t = Instant::now();
    let stop = VmRequest::Stop { force: false };
    let mut policy = SleepPolicy::new(SETTINGS, t);
    let shut = PolicyAction::ShutDown { force: false };
    assert_eq!(policy.on(t, PolicyEvent::Requested(stop)), [shut]);
    let denied = PolicyAction::Denied(stop, Refusal::NotStopped);
    assert_eq!(policy.on(t, PolicyEvent::StopFailed), [denied]);
    assert_eq!(
        (policy.state(), policy.has_answered()),
        (PolicyState::Starting, false)
    );
    policy.on(t, PolicyEvent::Ready);
    assert_eq!(
        (policy.state(), policy.has_answered()),
        (PolicyState::Running, true)
    );
}

#[test]
fn a_guest_that_was_told_to_power_off_is_not_paused_on_the_way() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    policy.on(t, PolicyEvent::Requested(VmRequest::Stop { force: false }));
    policy.on(t, PolicyEvent::StopFailed);
    assert_eq!(
        (policy.state(), policy.deadline()),
        (PolicyState::Running, None)
    );
    // A client that uses it takes that back.
    policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh));
    policy.on(t, PolicyEvent::LeaseDropped);
    assert!(policy.deadline().is_some());
}

#[test]
fn a_guest_that_ran_since_it_was_saved_is_not_released() {
    let t = Instant::now();
    let release = PolicyEvent::Requested(VmRequest::Release);
    let saved = PolicyEvent::SaveDone {
        saved: true,
        paused: true,
    };
    // Another client of QEMU lets it run before the save is told, or before QEMU ends.
    for late in [false, true] {
        let mut policy = hibernated(SETTINGS, t);
        assert_eq!(policy.on(t, release), [PolicyAction::Save]);
        if late {
            assert_eq!(policy.on(t, saved), [PolicyAction::Quit]);
        }
        policy.on(t, PolicyEvent::Resumed);
        let actions = if late {
            policy.on(t, PolicyEvent::QuitDone { saved: false })
        } else {
            policy.on(t, saved)
        };
        assert!(actions.contains(&PolicyAction::Discard), "{actions:?}");
        assert!(!actions.contains(&PolicyAction::Quit), "{actions:?}");
        assert_eq!(
            (policy.state(), policy.is_paused()),
            (PolicyState::Running, false)
        );
    }
}

#[test]
fn who_waits_for_memory_of_no_use_waits_for_the_boot() {
    let t = Instant::now();
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t, PolicyEvent::Requested(VmRequest::Release));
    let saved = PolicyEvent::SaveDone {
        saved: true,
        paused: true,
    };
    policy.on(t, saved);
    policy.on(t, PolicyEvent::QuitDone { saved: true });
    policy.on(t, PolicyEvent::Exited);
    assert_eq!(
        policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh)),
        [PolicyAction::Restore]
    );
    assert_eq!(policy.on(t, PolicyEvent::Rebooted), []);
    assert_eq!(
        (policy.state(), policy.has_answered()),
        (PolicyState::Starting, false)
    );
    assert_eq!(policy.on(t, PolicyEvent::Ready), [PolicyAction::Grant]);
}

#[test]
fn a_released_guest_is_brought_back_to_stop_well() {
    let t = Instant::now();
    let saved = PolicyEvent::SaveDone {
        saved: true,
        paused: true,
    };
    for force in [false, true] {
        let mut policy = hibernated(SETTINGS, t);
        policy.on(t, PolicyEvent::Requested(VmRequest::Release));
        policy.on(t, saved);
        policy.on(t, PolicyEvent::Exited);
        policy.on(t, PolicyEvent::QuitDone { saved: true });
        let stop = VmRequest::Stop { force };
        let actions = policy.on(t, PolicyEvent::Requested(stop));
        if force {
            assert_eq!(actions, [PolicyAction::Discard, PolicyAction::Done(stop)]);
            assert_eq!(policy.state(), PolicyState::Gone);
        } else {
            assert_eq!(actions, [PolicyAction::Restore]);
            let shut = PolicyAction::ShutDown { force };
            assert_eq!(
                policy.on(t, PolicyEvent::Restored),
                [PolicyAction::AfterWake, shut]
            );
        }
    }
}

#[test]
fn the_end_of_qemu_is_the_end() {
    let t = Instant::now();
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh));
    assert_eq!(
        policy.on(t, PolicyEvent::Exited),
        [PolicyAction::Refuse(Refusal::Gone)]
    );
    assert_eq!(policy.state(), PolicyState::Gone);
    let refused = [PolicyAction::Refuse(Refusal::Gone)];
    assert_eq!(
        policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh)),
        refused
    );
}
