//! Devices with each kind of boot loader, and operating systems that work or do not.

use super::super::*;

/// What is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// The operating system that the device had.
    Old,
    /// The one of the update.
    New,
    /// A part of it, or nothing.
    Part,
}

/// What decides which slot is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loader {
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
pub(super) struct Marker {
    pub(super) previous: OsSlot,
    pub(super) boot: u32,
    pub(super) trial_boots: u32,
    /// Whether one of them was found healthy.
    pub(super) healthy: bool,
    /// The last one of them.
    pub(super) trial: u32,
}

/// How the new operating system turns out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NewSystem {
    Good,
    /// It comes up and is not what it should be.
    Wrong,
    /// It is what it should be, and its health checks fail.
    Sick,
    /// It does not come up.
    Panics,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) slots: [Content; 2],
    pub(super) loader: Loader,
    pub(super) marker: Option<Marker>,
    /// Whether the runtime of the new operating system is the active one.
    pub(super) new_runtime: bool,
    pub(super) reason: bool,
    pub(super) new: NewSystem,
    /// Whether it has something that asks for its health.
    pub(super) health: bool,
    /// Whether the loader is switched, and says that it is not.
    pub(super) loader_fails: bool,
    /// How the next commits, ways back and reasons go, two bits for each: 1 fails, 3 fails and was done.
    pub(super) trouble: u32,
    /// Whether an update was given up after its system had been started.
    pub(super) given_up: bool,
    pub(super) boot: u32,
    /// The last one in which the system that ran was found to have failed.
    pub(super) failed: u32,
    pub(super) running: OsSlot,
    pub(super) commits: u32,
}

pub(super) const ATTEMPTS: u8 = 3;

pub(super) fn at(slot: OsSlot) -> usize {
    match slot {
        OsSlot::First => 0,
        OsSlot::Second => 1,
    }
}

/// The power went.
#[derive(Debug)]
pub(super) struct Cut;

/// After how many steps the power goes, and whether the step at which it goes is half done, done, or
/// not begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Power {
    pub(super) left: u32,
    pub(super) within: u8,
}

impl World {
    pub(super) fn new(loader: Loader, running: OsSlot, new: NewSystem) -> Self {
        let mut slots = [Content::Part; 2];
        slots[at(running)] = Content::Old;
        World {
            slots,
            loader,
            marker: None,
            new_runtime: false,
            reason: false,
            new,
            health: false,
            loader_fails: false,
            trouble: 0,
            given_up: false,
            boot: 0,
            failed: u32::MAX,
            running,
            commits: 0,
        }
    }

    /// The same where the other slot has an old system as well, and is the one that the loader starts: the
    /// firmware fell back, or somebody changed its record.
    pub(super) fn fell_back(loader: Loader, running: OsSlot, new: NewSystem) -> Self {
        World {
            slots: [Content::Old; 2],
            ..World::new(loader, running, new)
        }
    }

    /// Whether it may start a slot before it is told something else.
    pub(super) fn may_start(&self, slot: OsSlot) -> bool {
        match self.loader {
            Loader::Choice(choice) => choice == slot,
            Loader::Once { usual, once } => usual == slot || once == Some(slot),
            Loader::Counted { first, both, .. } => both || first == slot,
        }
    }

    pub(super) fn facts(&self) -> Option<MarkerFacts> {
        self.marker.map(|marker| MarkerFacts {
            previous: marker.previous,
            of_this_boot: Some(marker.boot == self.boot),
            trial_boots: marker.trial_boots,
            on_trial: marker.trial == self.boot,
            healthy: marker.healthy,
        })
    }

    /// Whether the new system is one that is to be kept.
    pub(super) fn keeps_new(&self) -> bool {
        match self.new {
            NewSystem::Good => true,
            NewSystem::Sick => !self.health,
            NewSystem::Wrong | NewSystem::Panics => false,
        }
    }

    pub(super) fn is_on_trial(&self) -> bool {
        let facts = self.facts();
        facts.is_some_and(|facts| facts.on_trial)
    }

    pub(super) fn content(&self, slot: OsSlot) -> Content {
        self.slots[at(slot)]
    }

    /// The device is started until something comes up.
    pub(super) fn start(&mut self) {
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

    pub(super) fn switch(&mut self, slot: OsSlot) {
        match &mut self.loader {
            Loader::Choice(choice) => *choice = slot,
            Loader::Once { once, .. } => *once = Some(slot),
            Loader::Counted { first, both, left } => {
                (*first, *both) = (slot, true);
                *left = [ATTEMPTS; 2];
            }
        }
    }

    pub(super) fn restore(&mut self, slot: OsSlot) {
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

    pub(super) fn commit(&mut self, slot: OsSlot) {
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
    pub(super) fn attempt(&mut self, update: SlotUpdate, step: SlotStep) -> bool {
        // As it is noted in memory, whatever becomes of the reason.
        if step == SlotStep::KeepReason && self.content(self.running) == Content::New {
            self.failed = self.boot;
        }
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

    pub(super) fn act(&mut self, update: SlotUpdate, step: SlotStep) -> bool {
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
                    trial_boots: 0,
                    healthy: false,
                    trial: u32::MAX,
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
                return self.content(self.running) == Content::New && self.new != NewSystem::Wrong;
            }
            SlotStep::CountBoot => {
                let boot = self.boot;
                let marker = self.marker.as_mut().expect("a trial without a marker");
                assert_ne!(marker.trial, boot, "a boot is counted twice");
                marker.trial_boots += 1;
                marker.trial = boot;
                assert!(
                    marker.trial_boots <= TRIAL_BOOTS,
                    "tried for ever: {self:?}"
                );
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
                assert!(!self.health || marker.healthy, "kept unseen");
                assert!(self.keeps_new());
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
    pub(super) fn act_in_part(&mut self, step: SlotStep) {
        // Everything else changes whole or not at all: see the tests of boot loaders' records.
        if let SlotStep::WriteSlot(slot) = step {
            self.slots[at(slot)] = Content::Part;
        }
    }

    /// Does what is to be done, until there is nothing or the power goes.
    pub(super) fn drive(&mut self, mut update: SlotUpdate, power: &mut Power) -> Result<(), Cut> {
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
    pub(super) fn merge(&mut self, power: &mut Power) -> Result<(), Cut> {
        match self.facts() {
            Some(marker) => {
                let found = SlotUpdate::found(marker, Some(self.running), self.health);
                self.drive(found, power)
            }
            None => Ok(()),
        }
    }

    /// What ends a trial.
    pub(super) fn commit_or_go_back(&mut self, power: &mut Power) -> Result<(), Cut> {
        let Some(marker) = self.facts() else {
            return Ok(());
        };
        let found = SlotUpdate::found(marker, Some(self.running), true);
        match found.judged(self.keeps_new()) {
            Some(update) => {
                if self.keeps_new()
                    && let Some(marker) = &mut self.marker
                {
                    marker.healthy = true;
                }
                self.drive(update, power)
            }
            None => Ok(()),
        }
    }

    /// What an agent does when the update is asked for.
    pub(super) fn activate(&mut self, other: bool, power: &mut Power) -> Result<(), Cut> {
        self.merge(power)?;
        let runs_new = self.content(self.running) == Content::New;
        if self.is_on_trial() {
            return Ok(());
        }
        match self.facts() {
            // What runs has failed.
            None if self.failed == self.boot => return Ok(()),
            // It needs no other system.
            None if runs_new => {
                self.new_runtime = self.keeps_new();
                return Ok(());
            }
            // It could not be settled, and another one is wanted only where what runs is whole.
            Some(marker)
                if marker.of_this_boot == Some(false)
                    && (!other || !self.keeps_new() || marker.trial_boots > 0) =>
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
    pub(super) fn happen(&mut self, what: u8, power: &mut Power) {
        let result = match what {
            0 => self.activate(false, power),
            1 => self.activate(true, power),
            2 | 3 => self.merge(power),
            4 => self.commit_or_go_back(power),
            _ => Err(Cut),
        };
        if result.is_err() {
            self.start();
        }
        self.is_right();
    }

    pub(super) fn is_right(&self) {
        assert_ne!(self.content(self.running), Content::Part);
        // The runtime goes with the system, but for the moments that a merge settles.
        if self.marker.is_none() && self.new_runtime {
            assert_eq!(self.content(self.running), Content::New, "{self:?}");
        }
    }
}

pub(super) fn loaders(running: OsSlot) -> Vec<Loader> {
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
pub(super) fn world(kind: usize, fell_back: bool, running: OsSlot, new: NewSystem) -> World {
    if fell_back {
        World::fell_back(loaders(running.other())[kind], running, new)
    } else {
        World::new(loaders(running)[kind], running, new)
    }
}
