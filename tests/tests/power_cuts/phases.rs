//! The parts of an update in which the power is cut, as the guest's marks tell them (`tests/src/cut_guest/init`).

use std::collections::BTreeMap;

use avocado_testbed::volatile_disk::{
    CutMoment, CutRandom, DiskEvent, MarkVisit, operations_between,
};

/// What the guest is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CutPhase {
    /// A runtime and its bundle are downloaded and added.
    Download,
    /// The other slot is written while the OS is downloaded.
    Stream,
    /// The other slot is written, or what was streamed to it is looked at, and the marker made.
    SlotWrite,
    /// The boot loader is told, and nothing has been done since.
    Loader,
    /// The system that was written is started.
    FirstBoot,
    /// It is asked whether it is what was written.
    Verification,
    /// It is kept: the loader, the active runtime, the marker.
    Commit,
    /// Another update is written in the place of one that waits for the reboot.
    Replacement,
}

pub(crate) const BOOTED: u8 = 1;
pub(crate) const MERGE: u8 = 10;
pub(crate) const STATUS: u8 = 20;
pub(crate) const ADD: u8 = 30;
pub(crate) const ACTIVATE: u8 = 40;

/// In each step: it is over, the boot loader is asked, and it is told.
const OVER: u8 = 1;
const ASKED: u8 = 2;
const TOLD: u8 = 3;

/// Where a step of the guest begins, at its first time.
const fn begin(mark: u8) -> MarkVisit {
    MarkVisit { mark, time: 1 }
}

/// Where a step of the guest is done, the first time that it is.
const fn end(step: u8) -> MarkVisit {
    begin(step + OVER)
}

/// Whether the boot loader was told something.
pub(crate) fn tells_the_loader(event: &DiskEvent) -> bool {
    [MERGE + TOLD, ACTIVATE + TOLD]
        .map(DiskEvent::Mark)
        .contains(event)
}

/// Where a step was done, if it was.
pub(crate) fn done(step: u8, time: u32, events: &[DiskEvent]) -> Option<usize> {
    MarkVisit {
        mark: step + OVER,
        time,
    }
    .among(events)
}

const fn again(visit: MarkVisit) -> MarkVisit {
    MarkVisit { time: 2, ..visit }
}

impl CutPhase {
    /// In the order in which an update goes through them.
    pub(crate) const ALL: [CutPhase; 8] = [
        CutPhase::Download,
        CutPhase::Stream,
        CutPhase::SlotWrite,
        CutPhase::Loader,
        CutPhase::FirstBoot,
        CutPhase::Verification,
        CutPhase::Commit,
        CutPhase::Replacement,
    ];

    /// Whether it is in the first boot of a system that was written.
    pub(crate) fn is_of_the_proof(self) -> bool {
        use CutPhase::{Commit, FirstBoot, Verification};
        [FirstBoot, Verification, Commit].contains(&self)
    }

    /// Whether an OS can be, or has to be, streamed to its slot in it. Nothing says: both.
    pub(crate) fn streams(self) -> Option<bool> {
        match self {
            CutPhase::Stream => Some(true),
            // An update that waits for the reboot has the slot.
            CutPhase::Download | CutPhase::Replacement => Some(false),
            _ => None,
        }
    }

    fn between(self) -> (MarkVisit, MarkVisit) {
        match self {
            CutPhase::Download | CutPhase::Stream => (begin(ADD), end(ADD)),
            CutPhase::SlotWrite => (begin(ACTIVATE), begin(ACTIVATE + TOLD)),
            CutPhase::Loader => (begin(ACTIVATE + TOLD), end(ACTIVATE)),
            CutPhase::FirstBoot => (begin(BOOTED), begin(MERGE)),
            CutPhase::Verification => (begin(MERGE + ASKED), again(begin(MERGE + ASKED))),
            CutPhase::Commit => (again(begin(MERGE + ASKED)), end(MERGE)),
            CutPhase::Replacement => (again(begin(ACTIVATE)), again(end(ACTIVATE))),
        }
    }

    /// A moment in it: in some cuts where it begins, in some where it ends, else after any of so many
    /// operations.
    pub(crate) fn moment(self, operations: usize, random: &mut CutRandom) -> CutMoment {
        let (from, until) = self.between();
        let operations = match random.below(8) {
            0 => 0,
            1 | 2 => usize::MAX,
            _ => 1 + random.index(operations),
        };
        CutMoment {
            from,
            until,
            operations,
        }
    }
}

/// How many operations each phase has, as far as it was seen.
#[derive(Debug)]
pub(crate) struct PhaseLengths(BTreeMap<CutPhase, usize>);

impl PhaseLengths {
    pub(crate) fn new() -> Self {
        PhaseLengths(CutPhase::ALL.map(|phase| (phase, 10)).into())
    }

    /// Learns from a run, in which the OS was streamed or not.
    pub(crate) fn learn(&mut self, events: &[DiskEvent], streams: bool) {
        for phase in CutPhase::ALL {
            if phase.streams().is_some_and(|needed| needed != streams) {
                continue;
            }
            let (from, until) = phase.between();
            if let Some(count) = operations_between(events, from, until) {
                let known = self.0.entry(phase).or_default();
                *known = count.max(*known / 2);
            }
        }
    }

    pub(crate) fn of(&self, phase: CutPhase) -> usize {
        self.0.get(&phase).copied().unwrap_or_default()
    }
}
