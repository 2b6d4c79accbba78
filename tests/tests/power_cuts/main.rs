//! A machine whose power is cut in every part of an update of its OS, again and again, and whose disks lose what was
//! not flushed. It starts the old or the new system, whole; it keeps what was synced; it says what it will start;
//! and what was cut off is completed when it is done again.

#![allow(
    clippy::print_stdout,
    reason = "what was cut when is shown with a failure"
)]

mod chain;
mod phases;
mod said;
mod updates;

use std::collections::BTreeMap;

use avocado_testbed::cut_guest;
use avocado_testbed::tools::skip_without;

use chain::CutChain;
use phases::CutPhase;

/// How often the power is cut, unless `AVOCADO_TEST_CUTS` says it: three times in each phase.
const CUTS: usize = 3 * CutPhase::ALL.len();

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{name} is no number: {text}");
    number
}

#[test]
fn a_machine_whose_power_is_cut_has_the_old_or_the_new_system_and_all_that_was_synced() {
    let name = "a_machine_whose_power_is_cut_has_the_old_or_the_new_system_and_all_that_was_synced";
    if skip_without(name, &cut_guest::needs()) {
        return;
    }
    let cuts = number("AVOCADO_TEST_CUTS").unwrap_or(CUTS);
    let seed = number("AVOCADO_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("AVOCADO_TEST_CUTS={cuts} AVOCADO_TEST_SEED={seed}");
    let mut chain = CutChain::new(seed);
    // Once without a cut, which also tells how long each phase is.
    for _ in 0..2 {
        chain.run(None);
    }
    let mut phases = CutPhase::ALL.iter().copied().cycle();
    let mut done = BTreeMap::<CutPhase, usize>::new();
    let mut next = phases.next();
    // A cut at the very end of a phase may leave nothing to do for the next one.
    let mut missed = 0;
    while done.values().sum::<usize>() < cuts {
        let Some(phase) = next else { break };
        if phase.is_of_the_proof() && !chain.waits_for_proof() {
            // The cut before left the old system: what it cut off is done again.
            chain.run(None);
            continue;
        }
        if !chain.run(Some(phase)) {
            missed += 1;
            assert!(missed < 4, "the guest does not come to {phase:?}");
            continue;
        }
        missed = 0;
        *done.entry(phase).or_default() += 1;
        next = phases.next();
    }
    // And what the last one cut off is completed.
    chain.run(None);
    chain.run(None);
    println!("{done:?}");
}
