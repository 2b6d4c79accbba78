use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use crate::fakes::{Fake, FakeError, FakeGraph, Place};

/// Long enough for a machine that is busy with everything else.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two tasks that end only when both are at work.
struct Meeting {
    here: [Sender<()>; 2],
    there: [Mutex<Receiver<()>>; 2],
}

impl Meeting {
    fn new() -> Self {
        let (to_second, first) = mpsc::channel();
        let (to_first, second) = mpsc::channel();
        Meeting {
            here: [to_second, to_first],
            there: [Mutex::new(second), Mutex::new(first)],
        }
    }

    fn attend(&self, who: usize) -> Result<String, FakeError> {
        self.here[who].send(()).unwrap();
        match self.there[who].lock().unwrap().recv_timeout(PATIENCE) {
            Ok(()) => Ok("met".into()),
            Err(_) => Err(FakeError::broken("the other one did not come")),
        }
    }
}

#[test]
fn two_jobs_are_at_work_at_once() {
    let place = Place::with_jobs(2);
    let meeting = Meeting::new();
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("a").work(|_| meeting.attend(0)));
    graph.add(Fake::new("b").work(|_| meeting.attend(1)));
    place.run(&graph).unwrap();
}

#[test]
fn a_worker_that_waits_goes_on_when_a_task_ends() {
    let place = Place::with_jobs(2);
    let meeting = Meeting::new();
    let mut graph = FakeGraph::new();
    let first = graph.add(Fake::new("first"));
    let a = graph.add(Fake::new("a").needs(&[first]).work(|_| meeting.attend(0)));
    let b = graph.add(Fake::new("b").needs(&[first]).work(|_| meeting.attend(1)));
    graph.add(Fake::new("last").needs(&[a, b]));
    let finished = place.run(&graph).unwrap();
    assert_eq!(finished.ran, ["first", "a", "b", "last"]);
}

#[test]
fn no_more_jobs_than_allowed_are_at_work() {
    for jobs in [1, 2] {
        let place = Place::with_jobs(jobs);
        let (at_work, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut graph = FakeGraph::new();
        for name in ["a", "b", "c", "d", "e", "f"] {
            graph.add(Fake::new(name).work(|_| {
                let now = at_work.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                std::thread::yield_now();
                at_work.fetch_sub(1, Ordering::SeqCst);
                Ok(String::new())
            }));
        }
        place.run(&graph).unwrap();
        assert!(most.load(Ordering::SeqCst) <= jobs);
    }
}
