//! Sleeping and waking at random moments.

use std::io::Read;
use std::net::Shutdown;
use std::time::Duration;

use avocado_vm::control;
use avocado_vm::supervisor::SupervisorError;

use crate::harness::{SmallGuestVm, cannot_run};
use crate::peers::Client;
use crate::processes::{of_the_machine, until_children};

/// Numbers that only look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[test]
fn it_sleeps_and_wakes_at_random_moments_and_misses_nobody() {
    if cannot_run("it_sleeps_and_wakes_at_random_moments_and_misses_nobody") {
        return;
    }
    let cycles: u64 = match std::env::var("AVOCADO_HIBERNATE_CYCLES") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 40,
    };
    let vm = SmallGuestVm::new();
    let started = vm.start();
    let supervisor = started.supervisor_pid.unwrap();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut kept: Vec<Client> = Vec::new();
    let mut denied = 0;
    for cycle in 0..cycles {
        let delay = Duration::from_micros(dice.below(160_000));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| control::hibernate(&vm.dir));
            std::thread::sleep(delay);
            match dice.below(6) {
                // A new connection.
                0 | 1 => vm.connect().talk(&format!("cycle {cycle}")),
                // Several at once.
                2 => {
                    let talk = || vm.connect().talk("together");
                    let all: Vec<_> = (0..3).map(|_| scope.spawn(talk)).collect();
                    all.into_iter().for_each(|one| one.join().unwrap());
                }
                // One that stays, silent for a while.
                3 => kept.push(vm.connect()),
                // An old one has something to say.
                4 if !kept.is_empty() => {
                    let which = dice.below(kept.len() as u64) as usize;
                    kept[which].talk(&format!("again {cycle}"));
                }
                // An old one leaves, or half of it: the guest then closes.
                5 if !kept.is_empty() => {
                    let mut client = kept.swap_remove(0);
                    if dice.below(2) == 0 {
                        client.stream.shutdown(Shutdown::Write).unwrap();
                        let mut rest = String::new();
                        client.reader.read_to_string(&mut rest).unwrap();
                        assert_eq!(rest, "");
                    }
                }
                // It sleeps undisturbed, and is woken by request.
                _ => {
                    sleeper
                        .join()
                        .unwrap()
                        .unwrap_or_else(|error| vm.fail(&error));
                    control::wake(&vm.dir).unwrap_or_else(|error| vm.fail(&error));
                    return;
                }
            }
            match sleeper.join().unwrap() {
                Ok(()) => {}
                Err(SupervisorError::Refused(_)) => denied += 1,
                Err(error) => vm.fail(&error),
            }
        });
    }
    for mut client in kept {
        client.talk("goodbye");
    }
    let status = vm.until("the end of all connections", |s| s.connections.counted == 0);
    assert_eq!((status.problem, status.connections.infra), (None, 0));
    until_children(
        supervisor,
        of_the_machine(),
        "the machine alone is its child",
    );
    let log = vm.log();
    let slept = log.matches("hibernated (requested)").count() as u64;
    let woken = log.matches(" waking (").count() as u64;
    assert!(
        slept >= cycles / 2,
        "slept {slept} times of {cycles}, denied {denied}\n{log}"
    );
    assert!(woken + 1 >= slept, "{woken} wakes, {slept} sleeps");
    vm.stop();
}
