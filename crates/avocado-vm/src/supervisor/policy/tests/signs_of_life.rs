//! Signs of life of clients that have nothing to say.

use super::*;

#[test]
fn signs_of_life_are_answered_and_do_not_count() {
    let t = Instant::now();
    let idle = PolicyEvent::WorkChecked { busy: false };
    let paused = PolicyEvent::PauseDone { paused: true };
    let resumed = PolicyEvent::ResumeDone { running: true };
    let mut policy = running(SETTINGS, t);
    policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Ssh));
    for n in 1..=10 {
        policy.on(t + secs(30 * n), PolicyEvent::SignOfLife(t + secs(30 * n)));
    }
    // The last one has time to be answered.
    let due = t + secs(300) + SIGN_GRACE;
    policy.on(t + secs(300), PolicyEvent::DeadlinePassed);
    assert_eq!(policy.on(t + secs(300), idle), []);
    assert_eq!(policy.deadline(), Some(due));
    policy.on(due, PolicyEvent::DeadlinePassed);
    assert_eq!(policy.on(due, idle), [PolicyAction::Pause]);
    policy.on(due, paused);

    // The next one wakes the guest, for no longer than it takes.
    let sign = PolicyEvent::SignSpoken(CountedLane::Ssh);
    let now = t + secs(330);
    assert_eq!(policy.on(now, sign), [PolicyAction::Resume]);
    let granted = [PolicyAction::AfterWake, PolicyAction::Grant];
    assert_eq!(policy.on(now, resumed), granted);
    assert_eq!(policy.deadline(), Some(now + SIGN_GRACE));
    let now = now + SIGN_GRACE;
    policy.on(now, PolicyEvent::DeadlinePassed);
    assert_eq!(policy.on(now, idle), [PolicyAction::Pause]);
    // One in the instant of pausing is answered as well.
    policy.on(now, PolicyEvent::SignOfLife(now));
    assert_eq!(policy.on(now, paused), [PolicyAction::Resume]);
    policy.on(now, resumed);

    // Another client has more to say.
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t, sign);
    policy.on(t, PolicyEvent::LeaseRequested(CountedLane::Docker));
    policy.on(t, resumed);
    policy.on(t, PolicyEvent::LeaseDropped);
    assert_eq!(policy.deadline(), Some(t + secs(60)));
}

/// One that is missed while QEMU is asked to pause is one all the same.
#[test]
fn a_missed_sign_of_life_wakes_the_guest_for_no_longer() {
    let t = Instant::now();
    let paused = PolicyEvent::PauseDone { paused: true };
    let resumed = PolicyEvent::ResumeDone { running: true };
    for (missed, is_sign) in [
        (PolicyEvent::SignOfLife(t + secs(61)), true),
        (PolicyEvent::Traffic(t + secs(61)), false),
    ] {
        let mut policy = running(SETTINGS, t);
        let pause = policy.on(t + secs(60), PolicyEvent::DeadlinePassed);
        assert_eq!(pause, [PolicyAction::Pause]);
        policy.on(t + secs(61), missed);
        assert_eq!(policy.on(t + secs(61), paused), [PolicyAction::Resume]);
        policy.on(t + secs(61), resumed);
        assert_eq!(policy.state(), PolicyState::Running);
        assert_eq!(policy.is_up_for_a_sign(), is_sign);
        let due = if is_sign {
            t + secs(61) + SIGN_GRACE
        } else {
            t + secs(121)
        };
        assert_eq!(policy.deadline(), Some(due));
    }
    // What comes then is more than a sign.
    let mut policy = hibernated(SETTINGS, t);
    policy.on(t, PolicyEvent::SignSpoken(CountedLane::Ssh));
    policy.on(t, resumed);
    assert!(policy.is_up_for_a_sign());
    policy.on(t + secs(1), PolicyEvent::Traffic(t + secs(1)));
    assert!(!policy.is_up_for_a_sign());
}
