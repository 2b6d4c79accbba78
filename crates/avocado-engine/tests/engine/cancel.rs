use avocado_engine::EngineError;

use crate::fakes::{Fake, FakeError, FakeGraph, Place};

#[test]
fn a_stop_before_the_start_starts_nothing() {
    let place = Place::with_jobs(2);
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("a"));
    graph.add(Fake::new("b"));
    place.cancel.cancel();
    let error = place.run(&graph).unwrap_err();
    assert!(matches!(error, EngineError::Stopped));
    assert!(place.told().is_empty());
    assert_eq!(place.pending().len(), 2);
}

#[test]
fn after_a_stop_what_was_finished_is_kept_and_the_rest_is_not_started() {
    let place = Place::new();
    let cancel = place.cancel.clone();
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("a").work(move |_| {
        cancel.cancel();
        Ok("done".into())
    }));
    graph.add(Fake::new("b"));
    let error = place.run(&graph).unwrap_err();
    assert!(matches!(error, EngineError::Stopped));
    assert_eq!(place.told(), ["a running first run", "a success"]);
    assert!(place.stamp("a").is_file());
}

#[test]
fn a_task_that_was_stopped_has_not_failed() {
    let place = Place::new();
    let mut graph = FakeGraph::new();
    let a = graph.add(Fake::new("a").work(|_| Err(FakeError::Cancelled)));
    graph.add(Fake::new("b").needs(&[a]));
    let error = place.run(&graph).unwrap_err();
    assert!(matches!(error, EngineError::Stopped));
    assert_eq!(place.told(), ["a running first run", "a stopped"]);
    assert!(!place.stamp("a").exists());
}

#[test]
fn a_stop_that_comes_when_everything_was_started_comes_too_late() {
    let place = Place::new();
    let cancel = place.cancel.clone();
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("a").work(move |_| {
        cancel.cancel();
        Ok("done".into())
    }));
    assert_eq!(place.run(&graph).unwrap().ran, ["a"]);
}
