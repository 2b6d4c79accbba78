//! What commands ask for: when it is done, refused and forgotten.

use super::*;

#[test]
fn a_request_to_sleep_waits_for_a_quiet_moment() {
    let t = Instant::now();
    let mut policy = running(SETTINGS, t);
    let ask = PolicyEvent::Requested(VmRequest::Hibernate);
    assert_eq!(policy.on(t + secs(1), ask), [PolicyAction::Pause]);
    let paused = PolicyEvent::PauseDone { paused: true };
    let done = PolicyAction::Done(VmRequest::Hibernate);
    assert_eq!(policy.on(t + secs(1), paused), [done]);
    assert_eq!(policy.on(t + secs(1), ask), [done]);

    let mut busy = running(SETTINGS, t);
    busy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh));
    assert_eq!(busy.on(t, ask), []);
    let mut now;
    let answer = loop {
        now = busy.deadline().unwrap();
        busy.on(now, PolicyEvent::Traffic(now - QUIET / 2));
        let actions = busy.on(now, PolicyEvent::DeadlinePassed);
        if !actions.is_empty() {
            break actions;
        }
    };
    let denied = PolicyAction::Denied(VmRequest::Hibernate, Refusal::InUse);
    assert_eq!((answer, now - t), (vec![denied], QUIET_LIMIT));
}

#[test]
fn a_command_keeps_the_guest_awake_until_it_ends() {
    let t = Instant::now();
    let denied = |request| PolicyAction::Denied(request, Refusal::KeptAwake);
    let mut policy = running(SETTINGS, t);
    policy.on(t, PolicyEvent::KeepAwakeBegun);
    policy.on(t, PolicyEvent::KeepAwakeBegun);
    assert_eq!((policy.keep_awakes(), policy.deadline()), (2, None));
    assert_eq!(policy.on(t + secs(99), PolicyEvent::DeadlinePassed), []);
    for request in [VmRequest::Hibernate, VmRequest::Release] {
        let asked = policy.on(t + secs(99), PolicyEvent::Requested(request));
        assert_eq!(asked, [denied(request)]);
    }
    policy.on(t + secs(100), PolicyEvent::KeepAwakeEnded);
    assert_eq!(policy.deadline(), None);
    policy.on(t + secs(100), PolicyEvent::KeepAwakeEnded);
    assert_eq!(policy.deadline(), Some(t + secs(160)));

    // It begins while another command waits for a quiet moment, or while the work is looked at.
    let mut policy = running(SETTINGS, t);
    policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh));
    policy.on(t, PolicyEvent::Requested(VmRequest::Hibernate));
    assert_eq!(
        policy.on(t, PolicyEvent::KeepAwakeBegun),
        [denied(VmRequest::Hibernate)]
    );
    policy.on(t, PolicyEvent::KeepAwakeEnded);
    assert_eq!(
        policy.on(t + secs(300), PolicyEvent::DeadlinePassed),
        [PolicyAction::CheckWork]
    );
    policy.on(t + secs(300), PolicyEvent::KeepAwakeBegun);
    let idle = PolicyEvent::WorkChecked { busy: false };
    assert_eq!(policy.on(t + secs(300), idle), []);

    // It wakes a guest that sleeps or falls asleep, and memory that is kept for it stays.
    let wake = PolicyEvent::Requested(VmRequest::Wake);
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t, PolicyEvent::KeepAwakeBegun);
    assert_eq!(policy.deadline(), None);
    assert_eq!(policy.on(t, wake), [PolicyAction::Resume]);
    let mut policy = running(SETTINGS, t);
    policy.on(t + secs(60), PolicyEvent::DeadlinePassed);
    policy.on(t + secs(60), PolicyEvent::KeepAwakeBegun);
    assert_eq!(policy.on(t + secs(60), wake), []);
    let paused = policy.on(t + secs(61), PolicyEvent::PauseDone { paused: true });
    assert_eq!(paused, [PolicyAction::Resume]);
}

#[test]
fn what_nobody_waits_for_any_more_is_not_done() {
    let t = Instant::now();
    let paused = PolicyEvent::PauseDone { paused: true };
    let asked = |request| PolicyEvent::Requested(request);
    let stop = VmRequest::Stop { force: false };
    let pausing = || {
        let mut policy = running(SETTINGS, t);
        policy.on(t + secs(60), PolicyEvent::DeadlinePassed);
        policy
    };
    let now = t + secs(61);
    for (request, kept, expected) in [
        (
            stop,
            &[stop][..],
            &[PolicyAction::ShutDown { force: false }][..],
        ),
        (stop, &[], &[]),
        (VmRequest::Wake, &[VmRequest::Wake], &[PolicyAction::Resume]),
        (VmRequest::Wake, &[], &[]),
        (
            VmRequest::Release,
            &[VmRequest::Release],
            &[PolicyAction::Save],
        ),
        (VmRequest::Release, &[], &[]),
    ] {
        let mut policy = pausing();
        policy.on(now, asked(request));
        policy.keep_requests(kept, false);
        assert_eq!(policy.on(now, paused), expected, "{request:?} {kept:?}");
    }
    // Who wanted it without asking the guest has left; another one still wants it to stop.
    let mut policy = pausing();
    policy.on(now, asked(stop));
    policy.on(now, asked(VmRequest::Stop { force: true }));
    policy.keep_requests(&[stop], false);
    let shut_down = PolicyAction::ShutDown { force: false };
    assert_eq!(policy.on(now, paused), [shut_down]);
    // A signal waits for no answer.
    let mut policy = pausing();
    policy.on(now, asked(stop));
    policy.keep_requests(&[], true);
    assert!(policy.is_stop_requested());
    let shut_down = PolicyAction::ShutDown { force: false };
    assert_eq!(policy.on(now, paused), [shut_down]);
    assert!(!policy.is_stop_requested());
    // It waits for a quiet moment.
    let mut policy = running(SETTINGS, t);
    policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh));
    policy.on(t, asked(VmRequest::Hibernate));
    assert!(policy.is_sleep_requested());
    policy.keep_requests(&[VmRequest::Wake], false);
    assert!(!policy.is_sleep_requested());
}
