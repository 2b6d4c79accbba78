use super::*;

mod random;

const SETTINGS: Settings = Settings {
    hibernate_after: Some(Duration::from_secs(60)),
    release_after: Some(Duration::from_secs(600)),
    silent: Some(Duration::from_secs(300)),
    containers: false,
};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A VM that runs, with nobody connected.
fn running(settings: Settings, start: Instant) -> Policy {
    let mut policy = Policy::new(settings, start);
    assert_eq!(policy.on(start, Fact::Ready), []);
    assert_eq!(policy.state(), State::Running);
    policy
}

fn hibernated(settings: Settings, start: Instant) -> Policy {
    let mut policy = running(settings, start);
    assert_eq!(policy.on(start, Fact::Paused), []);
    assert_eq!(policy.state(), State::Hibernated);
    policy
}

#[test]
fn an_idle_guest_is_paused_and_a_connection_wakes_it() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    assert_eq!(policy.deadline(), Some(t + secs(60)));
    assert_eq!(policy.on(t + secs(59), Fact::Timer), []);
    assert_eq!(policy.on(t + secs(60), Fact::Timer), [Action::Pause]);
    assert_eq!(policy.on(t + secs(60), Fact::Paused), []);
    let done = Fact::PauseDone { paused: true };
    assert_eq!(policy.on(t + secs(60), done), []);
    assert_eq!(
        (policy.state(), policy.reason()),
        (State::Hibernated, Reason::Idle)
    );

    let opened = Fact::Opened(Lane::Ssh);
    assert_eq!(policy.on(t + secs(90), opened), [Action::Resume]);
    assert_eq!(policy.on(t + secs(90), Fact::Resumed), []);
    let done = Fact::ResumeDone { running: true };
    assert_eq!(
        policy.on(t + secs(90), done),
        [Action::AfterWake, Action::Grant]
    );
    assert_eq!(policy.reason(), Reason::Connection(Lane::Ssh));
    assert_eq!(policy.open(), 1);
    policy.on(t + secs(95), Fact::Closed);
    assert_eq!(policy.deadline(), Some(t + secs(155)));
}

#[test]
fn a_connection_in_the_instant_of_pausing_wakes_it_again() {
    let t = Instant::now();
    let news = [
        (Fact::Opened(Lane::Docker), Reason::Connection(Lane::Docker)),
        (Fact::Wanted(Lane::Ssh), Reason::Connection(Lane::Ssh)),
        (Fact::Traffic(t + secs(60)), Reason::Traffic),
        (Fact::Asked(Request::Wake), Reason::Requested),
    ];
    for (news, reason) in news {
        let mut policy = running(SETTINGS, t);
        assert_eq!(policy.on(t + secs(60), Fact::Timer), [Action::Pause]);
        assert_eq!(policy.on(t + secs(60), news), []);
        let done = Fact::PauseDone { paused: true };
        assert_eq!(policy.on(t + secs(61), done), [Action::Resume], "{news:?}");
        assert_eq!((policy.state(), policy.reason()), (State::Waking, reason));
    }
}

#[test]
fn traffic_moves_the_deadline() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    policy.on(t + secs(60), Fact::Traffic(t + secs(50)));
    assert_eq!(policy.on(t + secs(60), Fact::Timer), []);
    assert_eq!(policy.deadline(), Some(t + secs(110)));
    // Older traffic than what is known changes nothing.
    policy.on(t + secs(60), Fact::Traffic(t + secs(40)));
    assert_eq!(policy.deadline(), Some(t + secs(110)));
}

#[test]
fn an_open_connection_keeps_a_working_guest_awake_and_an_idle_one_for_a_while() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    assert_eq!(policy.on(t, Fact::Opened(Lane::Ssh)), [Action::Grant]);
    for n in 1..20 {
        assert_eq!(policy.on(t + secs(60 * n), Fact::Timer), [Action::Look]);
        assert_eq!(policy.deadline(), None);
        assert_eq!(policy.on(t + secs(60 * n), Fact::Work { busy: true }), []);
    }
    let start = t + secs(60 * 19);
    let mut now;
    let slept = loop {
        now = policy.deadline().unwrap();
        assert_eq!(policy.on(now, Fact::Timer), [Action::Look]);
        if policy.on(now, Fact::Work { busy: false }) == [Action::Pause] {
            break now;
        }
    };
    assert_eq!(slept - start, secs(300));
    // Whoever wants to be heard on it wakes the guest.
    policy.on(now, Fact::PauseDone { paused: true });
    assert_eq!(policy.on(now, Fact::Wanted(Lane::Ssh)), [Action::Resume]);
    let done = policy.on(now, Fact::ResumeDone { running: true });
    assert_eq!(done, [Action::AfterWake, Action::Grant]);
    assert_eq!(policy.open(), 1, "it was open all the time");

    let mut forever = running(
        Settings {
            silent: None,
            ..SETTINGS
        },
        t,
    );
    forever.on(t, Fact::Opened(Lane::Ssh));
    assert_eq!(forever.deadline(), None);
    forever.on(t + secs(1), Fact::Closed);
    assert_eq!(forever.deadline(), Some(t + secs(61)));
}

#[test]
fn containers_count_if_they_should() {
    let t = Instant::now();
    let mut policy = running(
        Settings {
            containers: true,
            ..SETTINGS
        },
        t,
    );
    assert_eq!(policy.on(t + secs(60), Fact::Timer), [Action::Look]);
    assert_eq!(policy.on(t + secs(60), Fact::Work { busy: true }), []);
    assert_eq!(policy.deadline(), Some(t + secs(120)));
    assert_eq!(policy.on(t + secs(120), Fact::Timer), [Action::Look]);
    let idle = Fact::Work { busy: false };
    assert_eq!(policy.on(t + secs(120), idle), [Action::Pause]);
}

#[test]
fn zero_is_never() {
    let idle = crate::launch::Idle {
        hibernate_after_secs: 0,
        release_memory_after_secs: 0,
        silent_connection_secs: 0,
        containers_keep_awake: false,
    };
    let settings = Settings::new(&idle);
    let t = Instant::now();
    assert_eq!(running(settings, t).deadline(), None);
    assert_eq!(hibernated(settings, t).deadline(), None);
    let endless = crate::launch::Idle {
        hibernate_after_secs: u64::MAX,
        ..idle
    };
    assert_eq!(running(Settings::new(&endless), t).deadline(), None);
}

#[test]
fn what_others_do_to_qemu_is_taken_as_it_is() {
    let t = Instant::now();
    let mut policy = hibernated(SETTINGS, t);
    assert_eq!(policy.reason(), Reason::External);
    assert_eq!(policy.on(t, Fact::Resumed), [Action::AfterWake]);
    assert_eq!(
        (policy.state(), policy.reason()),
        (State::Running, Reason::External)
    );
    policy.on(t, Fact::Paused);
    assert_eq!(policy.on(t, Fact::Opened(Lane::Ssh)), [Action::Resume]);
}

#[test]
fn a_guest_that_cannot_be_woken_refuses_and_may_be_tried_again() {
    let t = Instant::now();
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t, Fact::Opened(Lane::Ssh));
    policy.on(t, Fact::Asked(Request::Wake));
    let failed = policy.on(t, Fact::ResumeDone { running: false });
    let denied = Action::Denied(Request::Wake, Refusal::NotWoken);
    assert_eq!(failed, [Action::Refuse(Refusal::NotWoken), denied]);
    assert_eq!(policy.open(), 0);
    assert_eq!(policy.on(t, Fact::Opened(Lane::Ssh)), [Action::Resume]);
}

#[test]
fn a_request_to_sleep_waits_for_a_quiet_moment() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    let ask = Fact::Asked(Request::Hibernate);
    assert_eq!(policy.on(t + secs(1), ask), [Action::Pause]);
    let paused = Fact::PauseDone { paused: true };
    let done = Action::Done(Request::Hibernate);
    assert_eq!(policy.on(t + secs(1), paused), [done]);
    assert_eq!(policy.on(t + secs(1), ask), [done]);

    let mut busy = running(SETTINGS, t);
    busy.on(t, Fact::Opened(Lane::Ssh));
    assert_eq!(busy.on(t, ask), []);
    let mut now;
    let answer = loop {
        now = busy.deadline().unwrap();
        busy.on(now, Fact::Traffic(now - QUIET / 2));
        let actions = busy.on(now, Fact::Timer);
        if !actions.is_empty() {
            break actions;
        }
    };
    let denied = Action::Denied(Request::Hibernate, Refusal::InUse);
    assert_eq!((answer, now - t), (vec![denied], QUIET_LIMIT));
}

#[test]
fn memory_is_released_and_comes_back() {
    let t = Instant::now();
    let mut policy = hibernated(SETTINGS, t);
    let late = policy.deadline().unwrap();
    assert_eq!(late, t + secs(600));
    assert_eq!(policy.on(late, Fact::Timer), [Action::Save]);
    // The save itself lets the guest run for a moment.
    assert_eq!(policy.on(late, Fact::Resumed), []);
    assert_eq!(policy.on(late, Fact::Paused), []);
    let saved = Fact::SaveDone {
        saved: true,
        paused: true,
    };
    assert_eq!(policy.on(late, saved), [Action::Quit]);
    assert_eq!(policy.on(late, Fact::Shutdown { by_guest: false }), []);
    assert_eq!(policy.on(late, Fact::Exited), []);
    assert_eq!(policy.on(late, Fact::QuitDone { saved: true }), []);
    assert_eq!(policy.state(), State::Released);
    assert_eq!(policy.on(late, Fact::Opened(Lane::Ssh)), [Action::Restore]);
    assert_eq!(
        policy.on(late, Fact::Restored),
        [Action::AfterWake, Action::Grant]
    );
}

#[test]
fn a_save_that_is_not_wanted_any_more_is_dropped() {
    let t = Instant::now();
    let saved = Fact::SaveDone {
        saved: true,
        paused: true,
    };
    let mut policy = hibernated(SETTINGS, t);
    assert_eq!(policy.on(t, Fact::Asked(Request::Release)), [Action::Save]);
    assert_eq!(policy.on(t, Fact::Opened(Lane::Ssh)), [Action::HurrySave]);
    let denied = Action::Denied(Request::Release, Refusal::NotSaved);
    assert_eq!(
        policy.on(t, saved),
        [Action::Discard, denied, Action::Resume]
    );

    // Too late: QEMU ends already.
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t, Fact::Asked(Request::Release));
    assert_eq!(policy.on(t, saved), [Action::Quit]);
    assert_eq!(policy.on(t, Fact::Opened(Lane::Ssh)), []);
    let done = Action::Done(Request::Release);
    assert_eq!(policy.on(t, Fact::QuitDone { saved: true }), []);
    assert_eq!(policy.on(t, Fact::Exited), [Action::Restore, done]);

    // A save that failed is not tried again by itself before the guest has run.
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t + secs(600), Fact::Timer);
    let failed = Fact::SaveDone {
        saved: false,
        paused: true,
    };
    assert_eq!(policy.on(t + secs(601), failed), [Action::Discard]);
    assert_eq!(
        (policy.state(), policy.deadline()),
        (State::Hibernated, None)
    );
    policy.on(t + secs(602), Fact::Resumed);
    policy.on(t + secs(603), Fact::Paused);
    assert_eq!(policy.deadline(), Some(t + secs(1203)));
}

#[test]
fn an_open_connection_keeps_the_memory() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    policy.on(t, Fact::Opened(Lane::Ssh));
    policy.on(t, Fact::Paused);
    assert_eq!(policy.deadline(), None);
    let denied = Action::Denied(Request::Release, Refusal::InUse);
    assert_eq!(policy.on(t, Fact::Asked(Request::Release)), [denied]);
    policy.on(t + secs(1000), Fact::Closed);
    assert_eq!(policy.deadline(), Some(t + secs(600)));
}

#[test]
fn stopping_sends_everybody_away_and_may_fail() {
    let t = Instant::now();
    let stop = Request::Stop { force: false };
    let mut policy = hibernated(SETTINGS, t);
    let shut = Action::ShutDown { force: false };
    assert_eq!(policy.on(t, Fact::Asked(stop)), [shut]);
    let refused = Action::Refuse(Refusal::Stopping);
    assert_eq!(policy.on(t, Fact::Opened(Lane::Ssh)), [refused]);
    let denied = Action::Denied(stop, Refusal::NotStopped);
    assert_eq!(policy.on(t, Fact::StopFailed), [denied]);
    assert_eq!(policy.on(t, Fact::Asked(stop)), [shut]);
    let force = Fact::Asked(Request::Stop { force: true });
    assert_eq!(policy.on(t, force), [Action::ShutDown { force: true }]);
    assert_eq!(policy.on(t, Fact::Exited), [Action::Done(stop)]);
    assert_eq!(policy.state(), State::Gone);
    assert_eq!(policy.on(t, Fact::Asked(stop)), [Action::Done(stop)]);
}

#[test]
fn a_stop_that_failed_leaves_a_start_under_way() {
    let t = Instant::now();
    let stop = Request::Stop { force: false };
    let mut policy = Policy::new(SETTINGS, t);
    let shut = Action::ShutDown { force: false };
    assert_eq!(policy.on(t, Fact::Asked(stop)), [shut]);
    let denied = Action::Denied(stop, Refusal::NotStopped);
    assert_eq!(policy.on(t, Fact::StopFailed), [denied]);
    assert_eq!((policy.state(), policy.is_up()), (State::Starting, false));
    policy.on(t, Fact::Ready);
    assert_eq!((policy.state(), policy.is_up()), (State::Running, true));
}

#[test]
fn a_guest_that_was_told_to_power_off_is_not_paused_on_the_way() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    policy.on(t, Fact::Asked(Request::Stop { force: false }));
    policy.on(t, Fact::StopFailed);
    assert_eq!((policy.state(), policy.deadline()), (State::Running, None));
    // Whoever uses it has another opinion.
    policy.on(t, Fact::Opened(Lane::Ssh));
    policy.on(t, Fact::Closed);
    assert!(policy.deadline().is_some());
}

#[test]
fn a_guest_that_ran_since_it_was_saved_is_not_released() {
    let t = Instant::now();
    let release = Fact::Asked(Request::Release);
    let saved = Fact::SaveDone {
        saved: true,
        paused: true,
    };
    // Somebody else lets it run before the save is told, or before QEMU ends.
    for late in [false, true] {
        let mut policy = hibernated(SETTINGS, t);
        assert_eq!(policy.on(t, release), [Action::Save]);
        if late {
            assert_eq!(policy.on(t, saved), [Action::Quit]);
        }
        policy.on(t, Fact::Resumed);
        let actions = match late {
            true => policy.on(t, Fact::QuitDone { saved: false }),
            false => policy.on(t, saved),
        };
        assert!(actions.contains(&Action::Discard), "{actions:?}");
        assert!(!actions.contains(&Action::Quit), "{actions:?}");
        assert_eq!((policy.state(), policy.paused()), (State::Running, false));
    }
}

#[test]
fn who_waits_for_memory_of_no_use_waits_for_the_boot() {
    let t = Instant::now();
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t, Fact::Asked(Request::Release));
    let saved = Fact::SaveDone {
        saved: true,
        paused: true,
    };
    policy.on(t, saved);
    policy.on(t, Fact::QuitDone { saved: true });
    policy.on(t, Fact::Exited);
    assert_eq!(policy.on(t, Fact::Opened(Lane::Ssh)), [Action::Restore]);
    assert_eq!(policy.on(t, Fact::Rebooted), []);
    assert_eq!((policy.state(), policy.is_up()), (State::Starting, false));
    assert_eq!(policy.on(t, Fact::Ready), [Action::Grant]);
}

#[test]
fn a_released_guest_is_brought_back_to_stop_well() {
    let t = Instant::now();
    let saved = Fact::SaveDone {
        saved: true,
        paused: true,
    };
    for force in [false, true] {
        let mut policy = hibernated(SETTINGS, t);
        policy.on(t, Fact::Asked(Request::Release));
        policy.on(t, saved);
        policy.on(t, Fact::Exited);
        policy.on(t, Fact::QuitDone { saved: true });
        let stop = Request::Stop { force };
        let actions = policy.on(t, Fact::Asked(stop));
        if force {
            assert_eq!(actions, [Action::Discard, Action::Done(stop)]);
            assert_eq!(policy.state(), State::Gone);
        } else {
            assert_eq!(actions, [Action::Restore]);
            let shut = Action::ShutDown { force };
            assert_eq!(policy.on(t, Fact::Restored), [Action::AfterWake, shut]);
        }
    }
}

#[test]
fn the_end_of_qemu_is_the_end() {
    let t = Instant::now();
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t, Fact::Opened(Lane::Ssh));
    assert_eq!(policy.on(t, Fact::Exited), [Action::Refuse(Refusal::Gone)]);
    assert_eq!(policy.state(), State::Gone);
    let refused = [Action::Refuse(Refusal::Gone)];
    assert_eq!(policy.on(t, Fact::Opened(Lane::Ssh)), refused);
}
