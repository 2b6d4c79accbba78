//! The clock of a guest after a wake, as the supervisor's log tells of it.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use avocado_vm::dir::StateFile;
use jiff::Timestamp;

use crate::harness::{LONG, SmallGuestVm, cannot_run};

#[test]
fn a_clock_that_cannot_be_set_at_first_is_set_later() {
    if cannot_run("a_clock_that_cannot_be_set_at_first_is_set_later") {
        return;
    }
    let vm = SmallGuestVm::new();
    vm.start();
    vm.hibernate();
    let before = vm.log().len();
    // The agent serves one client at a time.
    let other = UnixStream::connect(vm.dir.file(StateFile::Agent)).unwrap();
    let mut client = vm.connect();
    client.talk("awake");
    vm.until_log("the guest's clock is not set");
    drop(other);
    clock_is_set(&vm, before);
    client.talk("still there");
    drop(client);
    vm.stop();
}

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
