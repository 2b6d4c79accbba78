use std::fs;
use std::sync::{Arc, Mutex};

use avocado_engine::Task;
use avocado_events::Silent;

use crate::fakes::{Fake, FakeError, FakeGraph, FakeInputs, Place};

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

#[test]
fn what_a_task_says_of_itself_it_says_behind_an_arc_as_well() {
    type FakeTask = dyn Task<Inputs = FakeInputs, Output = String, Error = FakeError>;
    let said = |task: &FakeTask| {
        let output = "made".to_owned();
        let inputs = FakeInputs {
            consumed: "read".to_owned(),
            needs: Vec::new(),
        };
        (
            task.failure_stops_others(),
            task.is_made_of(&inputs, &output),
            task.shared_files(&output),
            task.file_digests(&output),
            task.shared_environment().unwrap(),
            task.restored(&output, &Silent).is_ok(),
        )
    };
    let place = Place::new();
    let plain = Fake::new("plain");
    let other = Fake::new("other")
        .lets_others_go_on()
        .tells_what_it_read()
        .files(&[place.path("file")])
        .shared(&[place.path("shared")])
        .shared_with("tools")
        .cannot_be_restored();
    assert_ne!(said(&plain), said(&other));
    for task in [plain, other] {
        let alone = said(&task);
        assert_eq!(said(&Arc::new(task)), alone);
    }
}
