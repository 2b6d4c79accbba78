//! Runs of one machine, each from what the one before left, and what has to be true after each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use avocado_testbed::cut_guest::{
    CutGuest, CutRun, ENVIRONMENT, RunEnd, slot_content, started_slot,
};
use avocado_testbed::volatile_disk::{CutRandom, DiskEvent, MarkVisit, NamedDisks, VolatileDisk};

use crate::phases::{ACTIVATE, ADD, CutPhase, MERGE, PhaseLengths, STATUS, done, tells_the_loader};
use crate::said::{DeviceAnswer, GuestReport, WrittenFile};
use crate::updates::{Update, Updates};

/// A machine, and what is known of it.
#[derive(Debug)]
pub(crate) struct CutChain {
    guest: CutGuest,
    updates: Updates,
    random: CutRandom,
    lengths: PhaseLengths,
    disks: NamedDisks,
    runs: u32,
    /// The slot that ran last.
    slot: String,
    /// The update whose system is in it.
    holds: Update,
    /// Those that may have been written to the other slot since.
    wanted: Vec<Update>,
    /// One was activated: its command ended well, and it waits for the reboot.
    activated: Option<Update>,
    /// One was added: its command ended well.
    added: Option<Update>,
    /// The system that runs has to prove itself still.
    waits_for_proof: bool,
    /// What the machine said of the slot that is started next, where nothing was done since.
    told: Option<String>,
    /// Files that the guest has synced, and that were not looked at since.
    synced: BTreeSet<WrittenFile>,
    /// How the last runs went.
    last: Option<(NamedDisks, RunEndTexts)>,
    /// Goes last, for everything is in it.
    _place: tempfile::TempDir,
}

#[derive(Debug, Default)]
struct RunEndTexts {
    said: String,
    console: String,
}

impl CutChain {
    pub(crate) fn new(seed: u64) -> Self {
        let place = tempfile::tempdir().unwrap();
        let guest = CutGuest::create(place.path()).unwrap();
        let mut updates = Updates::new(&guest, &place.path().join("updates"));
        let (holds, disks) = updates.provision(&guest);
        guest.park(&disks).unwrap();
        CutChain {
            guest,
            updates,
            random: CutRandom::new(seed),
            lengths: PhaseLengths::new(),
            disks,
            runs: 0,
            slot: "a".into(),
            holds,
            wanted: Vec::new(),
            activated: None,
            added: None,
            waits_for_proof: false,
            told: None,
            synced: BTreeSet::new(),
            last: None,
            _place: place,
        }
    }

    /// Whether the next run is the first one of a system that was written, or one like it.
    pub(crate) fn waits_for_proof(&self) -> bool {
        let slot = started_slot(self.disks[ENVIRONMENT].lasting()).unwrap();
        self.waits_for_proof || slot != self.slot
    }

    /// Runs the machine, which is updated, and cuts its power. Says whether it was cut.
    pub(crate) fn run(&mut self, phase: Option<CutPhase>) -> bool {
        self.runs += 1;
        self.boot();
        let replaces = phase == Some(CutPhase::Replacement);
        let either = self.random.below(3) == 0;
        // Those without a cut in turns: each tells how long its phases are.
        let in_turn = Some(self.runs.is_multiple_of(2));
        let streams = phase.map_or(in_turn, CutPhase::streams).unwrap_or(either);
        let work = self.work(replaces, streams);
        let moment = phase.map(|p| p.moment(self.lengths.of(p), &mut self.random));
        // In some runs nothing else flushes what the updates do not.
        let pause = if self.random.below(3) == 0 {
            3_000_000
        } else {
            50_000 + self.random.below(300_000)
        };
        let run = CutRun {
            slot: &self.slot,
            number: self.runs,
            pause,
            work: &work,
            moment,
        };
        let before = self.disks.clone();
        let disks = std::mem::take(&mut self.disks);
        let end = self.guest.run(&run, disks, &mut self.random).unwrap();
        let RunEnd {
            disks,
            was_cut,
            lost,
            events,
            said,
            console,
        } = end;
        let when = match moment {
            Some(moment) if was_cut => format!(
                "cut in {:?}, after {} operations: {lost:?}",
                phase.unwrap(),
                match moment.operations {
                    usize::MAX => "all".into(),
                    n => n.to_string(),
                }
            ),
            _ => "not cut".to_owned(),
        };
        let how = if streams { " and streamed" } else { "" };
        println!("run {} from slot {}{how}: {when}", self.runs, self.slot);
        self.last = Some((before, RunEndTexts { said, console }));
        self.disks = disks;
        self.lengths.learn(&events, streams);
        self.check(&events, was_cut);
        was_cut
    }

    /// What the boot loader starts is what it should be, whole.
    fn boot(&mut self) {
        let slot = started_slot(self.disks[ENVIRONMENT].lasting()).unwrap();
        if let Some(told) = self.told.take() {
            assert_eq!(slot, told, "the machine said what is started next");
        }
        let content = slot_content(&self.disks, &slot);
        let systems = &self.updates.systems;
        let is_in_it = |update: &&Update| content.starts_with(&systems[update.system].image);
        if slot == self.slot {
            assert!(is_in_it(&&self.holds), "the old system is not whole");
            if let Some(activated) = &self.activated {
                panic!("an update was activated, and the old system is started: {activated:?}");
            }
            return;
        }
        let Some(new) = self.wanted.iter().rev().find(is_in_it) else {
            panic!("the new system is not whole");
        };
        if let Some(activated) = &self.activated {
            assert_eq!(new, activated);
        }
        self.holds = new.clone();
        self.slot = slot;
        self.waits_for_proof = true;
        self.activated = None;
        self.wanted.clear();
    }

    /// What the guest does in this run: the update that is wanted, and another one after it.
    fn work(&mut self, replaces: bool, streams: bool) -> Vec<String> {
        let of_other = |updates: &mut Updates, holds: &Update, step: usize| {
            let count = updates.systems.len();
            updates.publish((holds.system + step) % count)
        };
        if self.wanted.is_empty() {
            let update = of_other(&mut self.updates, &self.holds, 1);
            self.wanted.push(update);
            self.added = None;
        }
        // One that took the place of another is the one that is wanted.
        self.wanted.drain(..self.wanted.len() - 1);
        if replaces {
            let step = (self.wanted[0].system + 3 - self.holds.system) % 3;
            let update = of_other(&mut self.updates, &self.holds, 3 - step);
            self.wanted.push(update);
        }
        let mut work = vec!["merge".to_owned(), "status".to_owned()];
        for update in &self.wanted {
            let add = if streams { "stream" } else { "add" };
            work.push(format!("{add}@{}", update.place));
            work.push(format!("activate@{}", update.id));
            work.push("status".to_owned());
        }
        work
    }

    fn check(&mut self, events: &[DiskEvent], was_cut: bool) {
        let report = GuestReport::read(&self.last.as_ref().unwrap().1.said);
        if report.is_checked {
            let lost: Vec<_> = self.synced.difference(&report.whole).collect();
            assert!(
                lost.is_empty(),
                "files that were synced are not there, or not whole: {lost:?}"
            );
            self.synced.clear();
        }
        self.synced.extend(report.synced.iter().copied());
        for (name, code) in &report.steps {
            assert_eq!(*code, 0, "{name} failed");
        }
        let reached = |step: u8, time: u32| done(step, time, events).is_some();
        if !was_cut {
            assert!(report.is_up && report.is_checked, "it did not come up");
            assert_eq!(
                report.done("activate"),
                self.wanted.len(),
                "it did not do all"
            );
        }
        if reached(MERGE, 1) {
            self.waits_for_proof = false;
        }
        for (number, answer) in report.answers.iter().enumerate() {
            let waiting = number
                .checked_sub(1)
                .map(|number| self.wanted[number].clone());
            self.check_answer(answer, waiting.as_ref());
        }
        let answers = u32::try_from(report.answers.len()).unwrap();
        self.told = None;
        if let Some(answer) = report.answers.last() {
            let after = done(STATUS, answers, events).unwrap_or(events.len());
            if !events[after..].iter().any(tells_the_loader) {
                self.told = Some(answer.next.clone());
            }
        }
        // What a command that ended well has done lasts.
        for (number, update) in self.wanted.clone().into_iter().enumerate() {
            let time = u32::try_from(number).unwrap() + 1;
            if reached(ADD, time) {
                self.added = Some(update.clone());
            }
            if reached(ACTIVATE, time) {
                self.activated = Some(update.clone());
            }
            if time > 1
                && (MarkVisit {
                    mark: ACTIVATE,
                    time,
                })
                .among(events)
                .is_some()
                && !reached(ACTIVATE, time)
            {
                // It is given up in favour of another one.
                self.activated = None;
            }
        }
    }

    /// What the machine says of itself. `waiting`: the update that was activated just before.
    fn check_answer(&self, answer: &DeviceAnswer, waiting: Option<&Update>) {
        let DeviceAnswer { status, .. } = answer;
        assert_eq!(
            answer.active(),
            self.holds.id,
            "the active runtime is that of the system that runs: {status}"
        );
        let build = &self.updates.systems[self.holds.system].build;
        assert_eq!(
            status["osBuildId"].as_str(),
            Some(build.as_str()),
            "{status}"
        );
        assert!(status["degraded"].is_null(), "{status}");
        let other = if self.slot == "a" { "b" } else { "a" };
        match waiting {
            Some(update) => {
                assert_eq!(answer.update(), ("waiting", update.id.as_str()), "{status}");
                assert_eq!(answer.next, other, "{status}");
            }
            None => {
                assert_ne!(answer.update().0, "waiting", "{status}");
                assert_eq!(answer.next, self.slot, "{status}");
                if let Some(added) = &self.added {
                    assert!(answer.lists(&added.id), "{}", answer.list);
                }
            }
        }
    }
}

impl Drop for CutChain {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let place = std::env::temp_dir().join(format!("power-cuts-{}", std::process::id()));
        if fs::create_dir_all(&place).is_err() {
            return;
        }
        let write = |name: &str, bytes: &[u8]| drop(fs::write(place.join(name), bytes));
        let disks = |when: &str, disks: &BTreeMap<String, VolatileDisk>| {
            for (name, disk) in disks {
                write(&format!("{name}.{when}"), disk.lasting());
            }
        };
        if let Some((before, texts)) = &self.last {
            disks("before", before);
            write("said", texts.said.as_bytes());
            write("console", texts.console.as_bytes());
            println!("--- the guest said\n{}", texts.said);
        }
        disks("after", &self.disks);
        println!("the disks are in {}", place.display());
    }
}
