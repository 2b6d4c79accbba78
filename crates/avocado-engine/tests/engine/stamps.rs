use std::fs;
use std::sync::Mutex;

use avocado_engine::StampKey;
use serde_json::{Value, json};

use crate::fakes::{Fake, FakeGraph, Place, key};

/// A run of one task that consumes `input`; what it told.
fn run_one(place: &Place, input: &'static str) -> Vec<String> {
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("a").consumes(move || input.into()));
    place.run(&graph).unwrap();
    place.told()
}

const UP_TO_DATE: [&str; 1] = ["a skipped up to date"];

/// Changes the JSON of the stamp of `a`.
fn edit_stamp(place: &Place, edit: impl FnOnce(&mut Value)) {
    let path = place.stamp("a");
    let mut stamp = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut stamp);
    fs::write(&path, stamp.to_string()).unwrap();
}

#[test]
fn what_is_up_to_date_is_skipped_and_its_output_comes_from_the_stamp() {
    let place = Place::new();
    let mut graph = FakeGraph::new();
    let a = graph.add(Fake::new("a"));
    let b = graph.add(Fake::new("b").needs(&[a]));
    let first = place.run(&graph).unwrap();
    let second = place.run(&graph).unwrap();
    assert_eq!(
        (second.ran.len(), second.skipped),
        (0, vec!["a".into(), "b".into()])
    );
    assert_eq!(
        place.told(),
        ["a skipped up to date", "b skipped up to date"]
    );
    let digest = |run: &avocado_engine::Finished| run.results().digest(b).unwrap();
    let second = place.run(&graph).unwrap();
    assert_eq!(second.results().output(b).unwrap(), "b");
    assert_eq!(digest(&second), digest(&first));
}

#[test]
fn other_inputs_make_a_task_run_again() {
    let place = Place::new();
    assert_eq!(run_one(&place, "1"), ["a running first run", "a success"]);
    assert_eq!(run_one(&place, "1"), UP_TO_DATE);
    assert_eq!(
        run_one(&place, "2"),
        ["a running its inputs changed", "a success"]
    );
    assert_eq!(run_one(&place, "2"), UP_TO_DATE);
}

#[test]
fn an_equal_result_stops_the_ripple_and_another_one_does_not() {
    let place = Place::new();
    let run = |input: &'static str, output: &'static str| {
        let mut graph = FakeGraph::new();
        let a = graph.add(
            Fake::new("a")
                .consumes(move || input.into())
                .work(move |_| Ok(output.into())),
        );
        let b = graph.add(Fake::new("b").needs(&[a]));
        graph.add(Fake::new("c").needs(&[b]));
        place.run(&graph).unwrap().ran
    };
    assert_eq!(run("1", "x"), ["a", "b", "c"]);
    assert_eq!(run("2", "x"), ["a"]);
    // `b` makes the same of it, so that the ripple ends there.
    assert_eq!(run("3", "y"), ["a", "b"]);
    assert!(run("3", "y").is_empty());
}

#[test]
fn what_is_edited_while_a_task_runs_counts_as_a_change() {
    let place = Place::new();
    let file = Mutex::new("before".to_owned());
    let mut graph = FakeGraph::new();
    graph.add(
        Fake::new("a")
            .consumes(|| file.lock().unwrap().clone())
            .work(|_| {
                *file.lock().unwrap() = "after".into();
                Ok("done".into())
            }),
    );
    place.run(&graph).unwrap();
    place.run(&graph).unwrap();
    assert_eq!(place.told()[0], "a running its inputs changed");
    place.run(&graph).unwrap();
    assert_eq!(place.told(), UP_TO_DATE);
}

#[test]
fn what_a_task_settles_itself_is_no_change() {
    let place = Place::new();
    let lock = Mutex::new(String::new());
    let mut graph = FakeGraph::new();
    graph.add(
        Fake::new("a")
            .settles_its_inputs()
            .consumes(|| lock.lock().unwrap().clone())
            .work(|_| {
                *lock.lock().unwrap() = "1.0".into();
                Ok("done".into())
            }),
    );
    place.run(&graph).unwrap();
    place.run(&graph).unwrap();
    assert_eq!(place.told(), UP_TO_DATE);
}

#[test]
fn a_failed_run_leaves_no_stamp_of_an_earlier_one() {
    let place = Place::new();
    run_one(&place, "1");
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("a").consumes(|| "2".into()).fails("no luck"));
    place.run(&graph).unwrap_err();
    assert!(!place.stamp("a").exists());
    // Its inputs are those of the first run, but its results may not be.
    assert_eq!(run_one(&place, "1")[0], "a running first run");
}

#[test]
fn a_stamp_that_cannot_be_read_counts_as_none() {
    let place = Place::new();
    let unreadable = "a running its stamp is not readable";
    run_one(&place, "1");
    fs::write(place.stamp("a"), "{").unwrap();
    assert_eq!(run_one(&place, "1")[0], unreadable);
    assert_eq!(run_one(&place, "1"), UP_TO_DATE);
    // An output of a form that this program does not know.
    edit_stamp(&place, |stamp| stamp["outputs"]["detail"] = json!([1]));
    assert_eq!(run_one(&place, "1")[0], unreadable);
    assert_eq!(run_one(&place, "1"), UP_TO_DATE);
}

#[test]
fn a_stamp_of_another_version_counts_as_none() {
    let mut place = Place::new();
    let other = "a running it was made by another version";
    run_one(&place, "1");
    place.stamps.cli_version = "2".into();
    assert_eq!(run_one(&place, "1")[0], other);
    assert_eq!(run_one(&place, "1"), UP_TO_DATE);
    edit_stamp(&place, |stamp| stamp["version"] = 3.into());
    assert_eq!(run_one(&place, "1")[0], other);
    edit_stamp(&place, |stamp| stamp["success"] = false.into());
    let meanwhile = "a running what it read changed while it ran";
    assert_eq!(run_one(&place, "1")[0], meanwhile);
    // As from a newer one, whose outputs look different.
    edit_stamp(&place, |stamp| {
        stamp["version"] = 3.into();
        stamp["outputs"]["detail"] = json!({"x": 1});
    });
    assert_eq!(run_one(&place, "1")[0], other);
}

#[test]
fn without_stamps_every_task_runs_and_leaves_none() {
    let mut place = Place::new();
    run_one(&place, "1");
    place.stamps.enabled = false;
    for _ in 0..2 {
        assert_eq!(run_one(&place, "1"), ["a running", "a success"]);
        // The one of before said nothing about the new result.
        assert!(!place.stamp("a").exists());
    }
    place.stamps.enabled = true;
    assert_eq!(run_one(&place, "1")[0], "a running first run");
}

#[test]
fn a_stamp_has_the_published_form() {
    let place = Place::new();
    fs::write(place.path("result"), "12345").unwrap();
    fs::create_dir(place.path("tree")).unwrap();
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("a").files(&[place.path("result"), place.path("tree")]));
    place.run(&graph).unwrap();
    let text = fs::read_to_string(place.stamp("a")).unwrap();
    assert!(text.ends_with("}\n"));
    let mut stamp: Value = serde_json::from_str(&text).unwrap();
    let hash = stamp["inputs"]["config_hash"].take();
    assert!(
        hash.as_str()
            .is_some_and(|h| h.starts_with("sha256:") && h.len() == 71)
    );
    let changed = stamp["outputs"]["files"][0]["changed"].take();
    assert!(changed[0].as_i64().is_some_and(|seconds| seconds > 0));
    assert_eq!(
        stamp,
        json!({
            "version": 2,
            "command": "make",
            "component": "fake",
            "component_name": "a",
            "target": "target",
            "timestamp": "2026-01-01T00:00:00Z",
            "success": true,
            "inputs": {"config_hash": null},
            "outputs": {
                "digest": avocado_manifest::Digest::of(b"a"),
                "detail": "a",
                "files": [
                    {"path": "result", "size": 5, "changed": null},
                    {"path": "tree", "size": 0, "changed": [0, 0]},
                ],
            },
            "cli_version": "1",
        })
    );
}

#[test]
fn the_stamp_of_a_thing_without_a_name_is_in_the_directory_of_its_kind() {
    let unnamed = StampKey {
        name: None,
        ..key("a")
    };
    assert_ne!(unnamed, key("a"));
    // Seen through a run, with a task that has such a stamp.
    let place = Place::new();
    let mut graph = FakeGraph::new();
    graph.add(crate::outputs::Unnamed);
    place.run(&graph).unwrap();
    assert!(place.stamps.directory.join("fakes/make.stamp").is_file());
}

#[test]
fn who_asks_is_told_which_input_differs() {
    let mut place = Place::new();
    place.stamps.explain = true;
    let because = |place: &Place, input| run_one(place, input).swap_remove(1);
    assert_eq!(because(&place, "1"), "a because no stamp");
    assert_eq!(run_one(&place, "1"), UP_TO_DATE);
    assert_eq!(because(&place, "2"), r#"a because consumed: "1" → "2""#);
    let recorded = place.stamp("a").with_extension("inputs.json");
    fs::write(&recorded, "{").unwrap();
    let unknown = "a because its inputs changed; what they were is not recorded";
    assert_eq!(because(&place, "3"), unknown);
    // Those of another run: a program that does not record them was here.
    let others = fs::read(&recorded).unwrap();
    run_one(&place, "4");
    fs::write(&recorded, others).unwrap();
    assert_eq!(because(&place, "5"), unknown);
    edit_stamp(&place, |stamp| stamp["cli_version"] = json!("0"));
    let version = "a because it was made by another version";
    assert_eq!(because(&place, "5"), version);
    place.stamps.enabled = false;
    assert_eq!(because(&place, "5"), "a because stamps are off");
}

#[test]
fn the_first_task_that_would_run_is_found_and_does_not_run() {
    let place = Place::new();
    let graph = |input: &'static str| {
        let mut graph = FakeGraph::new();
        let a = graph.add(Fake::new("a"));
        let b = graph.add(Fake::new("b").needs(&[a]).consumes(move || input.into()));
        graph.add(Fake::new("c").needs(&[b]));
        graph
    };
    let first = |input| place.first_outdated(&graph(input));
    assert_eq!(first("1").unwrap(), ("a".to_owned(), "no stamp".to_owned()));
    place.run(&graph("1")).unwrap();
    let told = place.told();
    assert_eq!(first("1"), None);
    let (stage, reason) = first("2").unwrap();
    assert_eq!(stage, "b");
    assert!(reason.contains("\"1\" → \"2\""), "{reason}");
    // Nothing was run or forgotten.
    assert_eq!(first("1"), None);
    assert_eq!(place.told(), told);
}

#[test]
fn what_was_made_of_something_else_than_its_inputs_is_made_again() {
    let place = Place::new();
    // What is read when the task runs is what the user wrote since it was asked for its inputs; then
    // the user takes that back.
    let run = |read: &'static str| {
        let mut graph = FakeGraph::new();
        let task = Fake::new("a").consumes(|| "1".into()).tells_what_it_read();
        let made = graph.add(task.work(move |_| Ok(read.into())));
        let next = Fake::new("b").needs(&[made]);
        graph.add(next.work(|needs| Ok(needs.concat())));
        place.run(&graph).unwrap();
        let told = place.told().into_iter();
        told.filter(|line| line.contains(" running ") || line.contains(" skipped "))
            .collect::<Vec<_>>()
    };
    assert_eq!(run("2"), ["a running first run", "b running first run"]);
    let again = [
        "a running what it read changed while it ran",
        "b running its inputs changed",
    ];
    assert_eq!(run("1"), again);
    assert_eq!(run("1"), ["a skipped up to date", "b skipped up to date"]);
}
