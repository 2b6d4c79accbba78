//! The policy in random worlds: devices with each kind of boot loader, operating systems that work or
//! do not, and cuts of the power at and within every step.

use proptest::prelude::*;

use super::*;

/// What is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// The operating system that the device had.
    Old,
    /// The one of the update.
    New,
    /// A part of it, or nothing.
    Part,
}

/// What decides which slot is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loader {
    /// A variable, or a partition table: the slot that it names.
    Choice(OsSlot),
    /// A default, and one that is tried once (`BootNext`, tryboot, Mender's `upgrade_available`).
    Once { usual: OsSlot, once: Option<OsSlot> },
    /// RAUC's: an order of one or both, and how many starts each slot has left. When none is left the
    /// script begins anew with those in the order.
    Counted {
        first: OsSlot,
        both: bool,
        left: [u8; 2],
    },
}

#[derive(Debug, Clone, Copy)]
struct Marker {
    previous: OsSlot,
    boot: u32,
}

/// How the new operating system turns out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NewSystem {
    Good,
    /// It comes up and is not what it should be.
    Wrong,
    /// It does not come up.
    Panics,
}

#[derive(Debug, Clone)]
struct World {
    slots: [Content; 2],
    loader: Loader,
    marker: Option<Marker>,
    /// Whether the runtime of the new operating system is the active one.
    new_runtime: bool,
    reason: bool,
    new: NewSystem,
    /// Whether the loader is switched, and says that it is not.
    loader_fails: bool,
    /// How the next commits, ways back and reasons go, two bits for each: 1 fails, 3 fails and was done.
    trouble: u32,
    /// Whether an update was given up after its system had been started.
    given_up: bool,
    boot: u32,
    running: OsSlot,
    commits: u32,
}

const ATTEMPTS: u8 = 3;

fn at(slot: OsSlot) -> usize {
    match slot {
        OsSlot::First => 0,
        OsSlot::Second => 1,
    }
}

/// The power went.
#[derive(Debug)]
struct Cut;

/// After how many steps the power goes, and whether the step at which it goes is half done, done, or
/// not begun.
#[derive(Debug, Clone, Copy)]
struct Power {
    left: u32,
    within: u8,
}

impl World {
    fn new(loader: Loader, running: OsSlot, new: NewSystem) -> Self {
        let mut slots = [Content::Part; 2];
        slots[at(running)] = Content::Old;
        World {
            slots,
            loader,
            marker: None,
            new_runtime: false,
            reason: false,
            new,
            loader_fails: false,
            trouble: 0,
            given_up: false,
            boot: 0,
            running,
            commits: 0,
        }
    }

    /// The same where the other slot has an old system as well, and is the one that the loader starts: the
    /// firmware fell back, or somebody changed its record.
    fn fell_back(loader: Loader, running: OsSlot, new: NewSystem) -> Self {
        World {
            slots: [Content::Old; 2],
            ..World::new(loader, running, new)
        }
    }

    /// Whether it may start a slot before it is told something else.
    fn may_start(&self, slot: OsSlot) -> bool {
        match self.loader {
            Loader::Choice(choice) => choice == slot,
            Loader::Once { usual, once } => usual == slot || once == Some(slot),
            Loader::Counted { first, both, .. } => both || first == slot,
        }
    }

    fn facts(&self) -> Option<MarkerFacts> {
        self.marker.map(|marker| MarkerFacts {
            previous: marker.previous,
            of_this_boot: Some(marker.boot == self.boot),
        })
    }

    fn content(&self, slot: OsSlot) -> Content {
        self.slots[at(slot)]
    }

    /// The device is started until something comes up.
    fn start(&mut self) {
        for _ in 0..10 {
            self.boot += 1;
            let slot = match &mut self.loader {
                Loader::Choice(slot) => *slot,
                Loader::Once { usual, once } => once.take().unwrap_or(*usual),
                Loader::Counted { first, both, left } => {
                    let order = [*first, first.other()];
                    let order = &order[..if *both { 2 } else { 1 }];
                    let slot = order.iter().find(|slot| left[at(**slot)] > 0);
                    let Some(slot) = slot.copied() else {
                        *left = [ATTEMPTS; 2];
                        continue;
                    };
                    left[at(slot)] -= 1;
                    slot
                }
            };
            let content = self.content(slot);
            assert_ne!(
                content,
                Content::Part,
                "a part of a system is started: {self:?}"
            );
            if content == Content::Old || self.new != NewSystem::Panics {
                self.running = slot;
                return;
            }
        }
        panic!("the device does not come up: {self:?}");
    }

    fn switch(&mut self, slot: OsSlot) {
        match &mut self.loader {
            Loader::Choice(choice) => *choice = slot,
            Loader::Once { once, .. } => *once = Some(slot),
            Loader::Counted { first, both, left } => {
                (*first, *both) = (slot, true);
                *left = [ATTEMPTS; 2];
            }
        }
    }

    fn restore(&mut self, slot: OsSlot) {
        match &mut self.loader {
            Loader::Choice(choice) => *choice = slot,
            Loader::Once { usual, once } => (*usual, *once) = (slot, None),
            Loader::Counted { first, both, left } => {
                (*first, *both) = (slot, false);
                left[at(slot)] = ATTEMPTS;
                left[at(slot.other())] = 0;
            }
        }
    }

    fn commit(&mut self, slot: OsSlot) {
        match &mut self.loader {
            Loader::Choice(choice) => *choice = slot,
            Loader::Once { usual, .. } => *usual = slot,
            // Only it: a slot in the order would be started after some fast cuts of the power.
            Loader::Counted { first, both, left } => {
                (*first, *both) = (slot, false);
                left[at(slot)] = ATTEMPTS;
            }
        }
    }

    /// Does a step; whether it succeeded.
    fn attempt(&mut self, update: SlotUpdate, step: SlotStep) -> bool {
        let may_fail = matches!(
            step,
            SlotStep::CommitLoader(_) | SlotStep::RestoreLoader(_) | SlotStep::KeepReason
        );
        if !may_fail {
            return self.act(update, step);
        }
        let how = self.trouble & 3;
        self.trouble >>= 2;
        (how == 1 || self.act(update, step)) && how & 1 == 0
    }

    fn act(&mut self, update: SlotUpdate, step: SlotStep) -> bool {
        match step {
            SlotStep::ForbidSlot(slot) => {
                assert_ne!(slot, self.running, "the slot that runs is forbidden");
                match &mut self.loader {
                    Loader::Choice(choice) => *choice = slot.other(),
                    Loader::Once { usual, once } => (*usual, *once) = (slot.other(), None),
                    Loader::Counted { first, both, left } => {
                        (*first, *both) = (slot.other(), false);
                        left[at(slot)] = 0;
                        left[at(slot.other())] = ATTEMPTS;
                    }
                }
            }
            SlotStep::WriteSlot(slot) => {
                assert_ne!(slot, self.running, "the slot that runs is written");
                assert!(
                    !self.may_start(slot),
                    "what is written is started: {self:?}"
                );
                self.slots[at(slot)] = Content::New;
            }
            SlotStep::WriteMarker => {
                self.marker = Some(Marker {
                    previous: update.previous,
                    boot: self.boot,
                });
            }
            SlotStep::SwitchLoader(slot) => {
                assert!(
                    self.marker.is_some(),
                    "the loader is switched without a marker"
                );
                self.switch(slot);
                return !self.loader_fails;
            }
            SlotStep::Verify => {
                return self.content(self.running) == Content::New && self.new == NewSystem::Good;
            }
            SlotStep::CommitLoader(slot) => {
                let marker = self.marker.expect("a commit without a marker");
                assert_ne!(marker.boot, self.boot, "committed before the reboot");
                assert_eq!(slot, self.running);
                assert_ne!(
                    marker.previous, self.running,
                    "the same slot proves nothing"
                );
                assert_eq!(self.content(slot), Content::New);
                self.commits += 1;
                self.commit(slot);
            }
            SlotStep::ActivateRuntime => {
                assert_eq!(self.content(self.running), Content::New);
                self.new_runtime = true;
            }
            SlotStep::RestoreLoader(slot) => self.restore(slot),
            SlotStep::KeepReason => self.reason = true,
            SlotStep::RemoveMarker => self.marker = None,
        }
        true
    }

    /// What is left of a step that the power cut off.
    fn act_in_part(&mut self, step: SlotStep) {
        // Everything else changes whole or not at all: see the tests of boot loaders' records.
        if let SlotStep::WriteSlot(slot) = step {
            self.slots[at(slot)] = Content::Part;
        }
    }

    /// Does what is to be done, until there is nothing or the power goes.
    fn drive(&mut self, mut update: SlotUpdate, power: &mut Power) -> Result<(), Cut> {
        while let Some(step) = update.step() {
            if power.left == 0 {
                match power.within {
                    0 => {}
                    1 => self.act_in_part(step),
                    _ => drop(self.attempt(update, step)),
                }
                return Err(Cut);
            }
            power.left -= 1;
            let next = if self.attempt(update, step) {
                Some(update.done())
            } else {
                update.failed()
            };
            let Some(next) = next else { return Ok(()) };
            update = next;
        }
        Ok(())
    }

    /// What an agent does at a merge.
    fn merge(&mut self, power: &mut Power) -> Result<(), Cut> {
        match self.facts() {
            Some(marker) => self.drive(SlotUpdate::found(marker, Some(self.running)), power),
            None => Ok(()),
        }
    }

    /// What an agent does when the update is asked for.
    fn activate(&mut self, other: bool, power: &mut Power) -> Result<(), Cut> {
        self.merge(power)?;
        let runs_new = self.content(self.running) == Content::New;
        match self.facts() {
            // It needs no other system.
            None if runs_new => {
                self.new_runtime = self.new == NewSystem::Good;
                return Ok(());
            }
            // It could not be settled, and another one is wanted only where what runs is whole.
            Some(marker)
                if marker.of_this_boot == Some(false)
                    && (!other || self.new != NewSystem::Good) =>
            {
                return Ok(());
            }
            _ => {}
        }
        let update = match self.facts() {
            Some(marker) if !other => SlotUpdate::again(marker),
            Some(_) => {
                self.given_up |= runs_new;
                self.drive(SlotUpdate::withdraw(self.running), power)?;
                // The loader could not be told: nothing is written.
                if self.marker.is_some() {
                    return Ok(());
                }
                SlotUpdate::begin(self.running)
            }
            None => SlotUpdate::begin(self.running),
        };
        self.drive(update, power)
    }

    /// One thing that happens to a device. After a cut, and where it is told to, it starts again.
    fn happen(&mut self, what: u8, power: &mut Power) {
        let result = match what {
            0 => self.activate(false, power),
            1 => self.activate(true, power),
            2 | 3 => self.merge(power),
            _ => Err(Cut),
        };
        if result.is_err() {
            self.start();
        }
        self.is_right();
    }

    fn is_right(&self) {
        assert_ne!(self.content(self.running), Content::Part);
        // The runtime goes with the system, but for the moments that a merge settles.
        if self.marker.is_none() && self.new_runtime {
            assert_eq!(self.content(self.running), Content::New, "{self:?}");
        }
    }
}

fn loaders(running: OsSlot) -> Vec<Loader> {
    vec![
        Loader::Choice(running),
        Loader::Once {
            usual: running,
            once: None,
        },
        Loader::Counted {
            first: running,
            both: false,
            left: [ATTEMPTS; 2],
        },
    ]
}

/// A device before an update. `fell_back`: its loader would start the other slot.
fn world(kind: usize, fell_back: bool, running: OsSlot, new: NewSystem) -> World {
    if fell_back {
        World::fell_back(loaders(running.other())[kind], running, new)
    } else {
        World::new(loaders(running)[kind], running, new)
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let new = prop_oneof![
        Just(NewSystem::Good),
        Just(NewSystem::Wrong),
        Just(NewSystem::Panics)
    ];
    // Mostly nothing goes wrong.
    let trouble = any::<[u32; 3]>().prop_map(|[a, b, c]| a & b & c);
    (0_usize..3, any::<[bool; 2]>(), new, trouble).prop_map(
        |(kind, [first, fell_back], new, trouble)| {
            let running = if first { OsSlot::First } else { OsSlot::Second };
            // A loader that cannot go back by itself needs a system that comes up.
            let new = match (kind, new) {
                (0, NewSystem::Panics) => NewSystem::Wrong,
                (_, new) => new,
            };
            World {
                trouble,
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
        world.start();
        world.is_right();
    }
    world.merge(power).unwrap();
    assert!(world.marker.is_none(), "{world:?}");
    let is_new = world.content(world.running) == Content::New;
    let proven = is_new && world.new == NewSystem::Good;
    assert!(world.new_runtime == proven || (world.given_up && !world.new_runtime));
    // What was said to be there stays, however often it is started.
    let running = world.running;
    for _ in 0..10 {
        world.start();
        assert_eq!(world.running, running);
        world.merge(power).unwrap();
    }
    assert!(world.new == NewSystem::Good || !is_new, "{world:?}");
    // It is asked for again, and nothing is in the way.
    world.activate(false, power).unwrap();
    world.merge(power).unwrap();
    assert!(world.content(world.running) == Content::New || world.marker.is_some());
    world.start();
    world.merge(power).unwrap();
    world.start();
    world.merge(power).unwrap();
    let is_new = world.content(world.running) == Content::New;
    assert_eq!(is_new, world.new == NewSystem::Good, "{world:?}");
    assert_eq!(world.new_runtime, is_new);
    assert!(is_new || world.reason);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn the_old_or_the_new_system_is_started_whole(
        world in worlds(),
        story in prop::collection::vec((0_u8..6, 0_u32..9, 0_u8..3), 0..14),
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
    for running in OsSlot::ALL {
        for (kind, fell_back) in (0..3).flat_map(|kind| [(kind, false), (kind, true)]) {
            for new in [NewSystem::Good, NewSystem::Wrong, NewSystem::Panics] {
                if kind == 0 && new == NewSystem::Panics {
                    continue;
                }
                for (left, within) in (0..16).flat_map(|left| (0..3).map(move |w| (left, w))) {
                    let mut world = world(kind, fell_back, running, new);
                    let power = &mut Power { left, within };
                    let story = [0, 5, 2, 5, 2];
                    for what in story {
                        world.happen(what, power);
                        cuts += 1;
                    }
                    settles(world);
                }
            }
        }
    }
    assert!(cuts > 1000);
}

#[test]
fn only_a_boot_of_the_other_slot_is_verified() {
    use SlotState::{GoingBack, Rebooting, Unverified};
    let (a, b) = (OsSlot::First, OsSlot::Second);
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
        let marker = MarkerFacts {
            previous: a,
            of_this_boot,
        };
        assert_eq!(SlotUpdate::found(marker, running).state, state);
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
    let failed = SlotUpdate {
        previous: OsSlot::First,
        state: SlotState::GoingBack,
    };
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
    let early = SlotUpdate {
        previous: running,
        state: SlotState::Armed,
    };
    let mut go = || world.drive(early, &mut { NEVER });
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut go));
    assert!(result.is_err());
}
