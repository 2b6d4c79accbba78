//! The policy in random worlds, with cuts of the power at and within every step.

#[path = "slot_policy_world.rs"]
mod world;

use proptest::prelude::*;

use super::*;
use world::{Content, Loader, NewSystem, Power, World, loaders, world};

fn worlds() -> impl Strategy<Value = World> {
    let new = prop_oneof![
        Just(NewSystem::Good),
        Just(NewSystem::Wrong),
        Just(NewSystem::Sick),
        Just(NewSystem::Panics)
    ];
    // Mostly nothing goes wrong.
    let trouble = any::<[u32; 3]>().prop_map(|[a, b, c]| a & b & c);
    (0_usize..3, any::<[bool; 3]>(), new, trouble).prop_map(
        |(kind, [first, fell_back, health], new, trouble)| {
            let running = if first { OsSlot::First } else { OsSlot::Second };
            // A loader that cannot go back by itself needs a system that comes up.
            let new = match (kind, new) {
                (0, NewSystem::Panics) => NewSystem::Wrong,
                (_, new) => new,
            };
            World {
                trouble,
                health,
                ..world(kind, fell_back, running, new)
            }
        },
    )
}

const NEVER: Power = Power {
    left: u32::MAX,
    within: 0,
};

/// Lets a world come to rest, and looks at where it is.
fn settles(mut world: World) {
    let power = &mut { NEVER };
    world.trouble = 0;
    for _ in 0..3 {
        world.merge(power).unwrap();
        world.commit_or_go_back(power).unwrap();
        world.start();
        world.is_right();
    }
    world.merge(power).unwrap();
    world.commit_or_go_back(power).unwrap();
    assert!(world.marker.is_none(), "{world:?}");
    let is_new = world.content(world.running) == Content::New;
    let proven = is_new && world.keeps_new();
    assert!(world.new_runtime == proven || (world.given_up && !world.new_runtime));
    // What was said to be there stays, however often it is started.
    let running = world.running;
    for _ in 0..10 {
        world.start();
        assert_eq!(world.running, running);
        world.merge(power).unwrap();
    }
    assert!(world.keeps_new() || !is_new, "{world:?}");
    // It is asked for again, and nothing is in the way.
    world.activate(false, power).unwrap();
    world.merge(power).unwrap();
    assert!(world.content(world.running) == Content::New || world.marker.is_some());
    for _ in 0..2 {
        world.start();
        world.merge(power).unwrap();
        world.commit_or_go_back(power).unwrap();
    }
    let is_new = world.content(world.running) == Content::New;
    assert_eq!(is_new, world.keeps_new(), "{world:?}");
    assert_eq!(world.new_runtime, is_new);
    assert!(is_new || world.reason);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn the_old_or_the_new_system_is_started_whole(
        world in worlds(),
        story in prop::collection::vec((0_u8..8, 0_u32..10, 0_u8..3), 0..14),
    ) {
        let mut world = world;
        for (what, left, within) in story {
            world.happen(what, &mut Power { left, within });
        }
        settles(world);
    }
}

/// Every step of one update with a cut at, within and after it, for each loader and outcome.
#[test]
fn each_step_survives_a_cut() {
    let mut cuts = 0;
    let kinds = || (0..3).flat_map(|kind| [(kind, false), (kind, true)]);
    let outcomes = || {
        use NewSystem::{Good, Panics, Sick, Wrong};
        [Good, Wrong, Sick, Panics].map(|new| [(new, false), (new, true)])
    };
    for running in OsSlot::ALL {
        for ((kind, fell_back), (new, health)) in
            kinds().flat_map(|kind| outcomes().into_iter().flatten().map(move |new| (kind, new)))
        {
            if kind == 0 && new == NewSystem::Panics {
                continue;
            }
            for (left, within) in (0..18).flat_map(|left| (0..3).map(move |w| (left, w))) {
                let mut world = world(kind, fell_back, running, new);
                world.health = health;
                let power = &mut Power { left, within };
                let story = [0, 7, 2, 4, 7, 2, 4];
                for what in story {
                    world.happen(what, power);
                    cuts += 1;
                }
                settles(world);
            }
        }
    }
    assert!(cuts > 1000);
}

/// Boots of the other slot that end before their health is known are counted, and the last but so many goes
/// back, also where the boot loader would start it for ever.
#[test]
fn boots_that_never_show_their_health_are_counted() {
    let running = OsSlot::First;
    let mut world = world(0, false, running, NewSystem::Good);
    world.health = true;
    let never = &mut { NEVER };
    world.activate(false, never).unwrap();
    for boot in 1..=TRIAL_BOOTS {
        world.start();
        // However often it is merged in one boot.
        for _ in 0..3 {
            world.merge(never).unwrap();
            assert_eq!(world.marker.map(|m| m.trial_boots), Some(boot));
        }
        assert_eq!((world.running, world.new_runtime), (running.other(), false));
        assert_eq!(world.commits, 0);
    }
    world.start();
    world.merge(never).unwrap();
    assert!(world.marker.is_none() && world.reason);
    world.start();
    assert_eq!(world.running, running);
}

/// A system that was committed is not counted.
#[test]
fn cuts_of_a_committed_system_change_nothing() {
    let never = &mut { NEVER };
    for kind in 0..3 {
        let mut world = world(kind, false, OsSlot::First, NewSystem::Good);
        world.health = true;
        world.activate(false, never).unwrap();
        world.start();
        world.merge(never).unwrap();
        assert_eq!((world.commits, world.new_runtime), (0, false));
        world.commit_or_go_back(never).unwrap();
        assert_eq!((world.commits, world.new_runtime), (1, true));
        for merges in [false, true].repeat(5) {
            world.start();
            if merges {
                world.merge(never).unwrap();
                world.commit_or_go_back(never).unwrap();
            }
            assert_eq!((world.running, world.commits), (OsSlot::Second, 1));
            assert!(world.new_runtime && world.marker.is_none());
        }
    }
}

#[test]
fn only_a_boot_of_the_other_slot_is_verified() {
    use SlotState::{GoingBack, OnTrial, Rebooting, Unverified};
    let (a, b) = (OsSlot::First, OsSlot::Second);
    let marker = |of_this_boot, trial_boots, on_trial| MarkerFacts {
        previous: a,
        of_this_boot,
        trial_boots,
        on_trial,
        healthy: false,
    };
    for (of_this_boot, running, state) in [
        (Some(true), Some(a), Rebooting),
        // As a loader says that was switched already.
        (Some(true), Some(b), Rebooting),
        (Some(true), None, Rebooting),
        (Some(false), Some(b), Unverified),
        (Some(false), Some(a), GoingBack),
        (Some(false), None, Rebooting),
        (None, Some(b), Unverified),
        (None, Some(a), Rebooting),
    ] {
        for health in [false, true] {
            let found = SlotUpdate::found(marker(of_this_boot, 0, false), running, health);
            assert_eq!(found.state, state);
            assert_eq!(found.judged(true), None);
        }
    }
    for (boots, on_trial, health, state) in [
        (1, true, true, OnTrial),
        // What asks for it was asked already.
        (1, true, false, OnTrial),
        (TRIAL_BOOTS, true, true, OnTrial),
        (TRIAL_BOOTS - 1, false, true, Unverified),
        (TRIAL_BOOTS, false, true, GoingBack),
        // Nothing asks for it any more.
        (TRIAL_BOOTS, false, false, Unverified),
    ] {
        let marker = marker(Some(false), boots, on_trial);
        let found = SlotUpdate::found(marker, Some(b), health);
        assert_eq!(found.state, state, "{boots} {on_trial} {health}");
        let started_another = SlotUpdate::found(marker, Some(a), health);
        assert_eq!(started_another.state, GoingBack);
    }
}

#[test]
fn a_loader_that_fails_is_told_to_go_back() {
    let running = OsSlot::Second;
    for loader in loaders(running) {
        let mut world = World::new(loader, running, NewSystem::Good);
        world.loader_fails = true;
        world.activate(false, &mut { NEVER }).unwrap();
        assert!(world.marker.is_none() && world.reason);
        world.start();
        assert_eq!((world.running, world.new_runtime), (running, false));
    }
}

/// b runs and could not be kept. Another update is written to a, and the loader starts b from then on.
#[test]
fn an_update_after_one_that_could_not_be_kept_leaves_a_way_to_start() {
    let never = &mut { NEVER };
    for kind in 0..3 {
        let mut world = world(kind, false, OsSlot::First, NewSystem::Good);
        world.activate(false, never).unwrap();
        world.start();
        // The commit at the merge and that of the activation's own.
        world.trouble = 0b0101;
        world.merge(never).unwrap();
        assert!(world.marker.is_some() && world.running == OsSlot::Second);
        for within in [0, 1, 2] {
            for left in 0..8 {
                let mut world = world.clone();
                world.happen(1, &mut Power { left, within });
                settles(world);
            }
        }
    }
}

/// The reason is there before the loader is told, and a disk that is full keeps no device.
#[test]
fn what_cannot_be_written_down_goes_back_all_the_same() {
    let failed = SlotUpdate::at(OsSlot::First, SlotState::GoingBack);
    assert_eq!(failed.step(), Some(SlotStep::KeepReason));
    for next in [failed.done(), failed.failed().unwrap()] {
        assert_eq!(next.step(), Some(SlotStep::RestoreLoader(OsSlot::First)));
        assert_eq!(next.failed(), None);
        assert_eq!(next.done().step(), Some(SlotStep::RemoveMarker));
    }
}

/// The test sees what it should see: an order with the marker after the loader is found out.
#[test]
fn a_loader_that_is_switched_first_would_be_noticed() {
    let running = OsSlot::First;
    let mut world = World::new(Loader::Choice(running), running, NewSystem::Good);
    let early = SlotUpdate::at(running, SlotState::Armed);
    let mut go = || world.drive(early, &mut { NEVER });
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut go));
    assert!(result.is_err());
}

/// What was found healthy in the last boot on trial is kept, wherever the power went then.
#[test]
fn a_commit_that_was_cut_off_is_completed() {
    let running = OsSlot::First;
    for left in 0..4 {
        let mut world = World::new(Loader::Choice(running), running, NewSystem::Good);
        world.health = true;
        world.activate(false, &mut { NEVER }).unwrap();
        for _ in 0..TRIAL_BOOTS {
            world.start();
            world.merge(&mut { NEVER }).unwrap();
        }
        let _ = world.commit_or_go_back(&mut Power { left, within: 0 });
        world.start();
        world.merge(&mut { NEVER }).unwrap();
        assert!(world.marker.is_none() && world.new_runtime, "{left}");
        settles(world);
    }
}
