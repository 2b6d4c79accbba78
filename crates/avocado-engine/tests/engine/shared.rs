use std::fs;
use std::sync::{Arc, Mutex};

use crate::fakes::{Fake, FakeGraph, Place};

#[test]
fn a_task_behind_an_arc_is_run_stamped_and_skipped_as_itself() {
    let place = Place::new();
    let file = place.path("made");
    let consumed = Mutex::new("before".to_owned());
    let mut graph = FakeGraph::new();
    let a = graph.add(Fake::new("a"));
    let shared = Arc::new(
        Fake::new("b")
            .needs(&[a])
            .consumes(|| consumed.lock().unwrap().clone())
            .settles_its_inputs()
            .files(std::slice::from_ref(&file))
            .work(|texts| {
                fs::write(&file, texts.concat()).unwrap();
                *consumed.lock().unwrap() = "after".to_owned();
                Ok(format!("{} and b", texts.concat()))
            }),
    );
    let b = graph.add(Arc::clone(&shared));

    let finished = place.run(&graph).unwrap();
    assert_eq!(finished.results().output(b).unwrap(), "a and b");
    assert_eq!(
        place.told(),
        [
            "a running first run",
            "a success",
            "b running first run",
            "b success"
        ]
    );
    // Its inputs count as they are after the run.
    place.run(&graph).unwrap();
    assert_eq!(
        place.told(),
        ["a skipped up to date", "b skipped up to date"]
    );
    fs::remove_file(&file).unwrap();
    place.run(&graph).unwrap();
    let again = "b running made is missing or changed";
    assert_eq!(place.told(), ["a skipped up to date", again, "b success"]);
}
