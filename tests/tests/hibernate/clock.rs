//! The clock of a guest after a wake, as the supervisor's log tells of it.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::harness::{LONG, SmallGuestVm};

/// Waits until the log says, after so many bytes, how wrong the guest's clock still is: by no more than it took the guest
/// to be told and to answer, which takes long where it is emulated beside other things.
pub(crate) fn clock_is_set(vm: &SmallGuestVm, after: usize) {
    let deadline = Instant::now() + LONG;
    let told = "the guest's clock is set; it is wrong by ";
    loop {
        let log = vm.log();
        let lines: Vec<_> = log[after..].split_inclusive('\n').collect();
        let set = lines.iter().position(|line| line.contains(told));
        if let Some(set) = set.filter(|at| lines[*at].ends_with('\n')) {
            let (_, wrong) = lines[set].split_once(told).unwrap();
            let wrong: i64 = wrong.split_whitespace().next().unwrap().parse().unwrap();
            let ran = lines[..set]
                .iter()
                .rposition(|line| line.contains(" running ("));
            let took = time_of(lines[set]) - time_of(lines[ran.unwrap()]);
            assert!(wrong.abs() <= took.max(100), "{log}");
            return;
        }
        assert!(Instant::now() < deadline, "the clock is not set:\n{log}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// When a line of the log was written, in milliseconds.
fn time_of(line: &str) -> i64 {
    let time: Timestamp = line.split(' ').next().unwrap().parse().unwrap();
    time.as_millisecond()
}
