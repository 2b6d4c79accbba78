//! The files that a task leaves behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use avocado_engine::{AnyTaskId, Needs, StampKey, Task};
use avocado_events::Sink;
use avocado_manifest::Digest;
use serde_json::json;

use crate::fakes::{Fake, FakeError, FakeGraph, Place, key, stamps_in};

/// A run of one task that writes `name`; what it told first.
fn run_writing(place: &Place, name: &str) -> String {
    let path = place.path(name);
    let mut graph = FakeGraph::new();
    graph.add(
        Fake::new("a")
            .files(std::slice::from_ref(&path))
            .consumes(move || name.to_owned())
            .work(|_| {
                fs::write(&path, "12345").map_err(FakeError::Broken)?;
                Ok("done".into())
            }),
    );
    place.run(&graph).unwrap();
    place.told().remove(0)
}

fn set_modified(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_result_that_is_missing_or_changed_is_made_again() {
    let place = Place::new();
    let result = place.path("a.raw");
    let again = "a running a.raw is missing or changed";
    run_writing(&place, "a.raw");
    assert_eq!(run_writing(&place, "a.raw"), "a skipped up to date");

    fs::remove_file(&result).unwrap();
    assert_eq!(run_writing(&place, "a.raw"), again);
    assert!(result.is_file());

    // Another size at the same time.
    let made = fs::metadata(&result).unwrap().modified().unwrap();
    fs::write(&result, "1234").unwrap();
    set_modified(&result, made);
    assert_eq!(run_writing(&place, "a.raw"), again);

    // The same size at another time, however close.
    let made = fs::metadata(&result).unwrap().modified().unwrap();
    set_modified(&result, made + Duration::from_nanos(1));
    assert_eq!(run_writing(&place, "a.raw"), again);
    let made = fs::metadata(&result).unwrap().modified().unwrap();
    set_modified(&result, made + Duration::from_secs(1));
    assert_eq!(run_writing(&place, "a.raw"), again);

    // Opened, and left as it was.
    let made = fs::metadata(&result).unwrap().modified().unwrap();
    fs::write(&result, "12345").unwrap();
    set_modified(&result, made);
    assert_eq!(run_writing(&place, "a.raw"), "a skipped up to date");
}

#[test]
fn a_directory_only_has_to_be_there() {
    let place = Place::new();
    let directory = place.path("tree");
    let mut graph = FakeGraph::new();
    graph.add(
        Fake::new("a")
            .files(std::slice::from_ref(&directory))
            .work(|_| {
                fs::create_dir(&directory).map_err(FakeError::Broken)?;
                Ok("done".into())
            }),
    );
    place.run(&graph).unwrap();
    fs::write(directory.join("more"), "x").unwrap();
    place.run(&graph).unwrap();
    assert_eq!(place.told(), ["a skipped up to date"]);
    fs::remove_dir_all(&directory).unwrap();
    place.run(&graph).unwrap();
    assert_eq!(place.told()[0], "a running tree is missing or changed");
}

#[test]
fn a_result_of_an_earlier_run_that_is_none_any_more_is_removed() {
    let place = Place::new();
    run_writing(&place, "a-1.raw");
    run_writing(&place, "a-2.raw");
    assert!(!place.path("a-1.raw").exists());
    assert!(place.path("a-2.raw").is_file());
}

#[test]
fn what_is_not_its_own_is_looked_at_and_never_removed() {
    let place = Place::new();
    let run = |name: &str| {
        let mut graph = FakeGraph::new();
        let shared = Fake::new("a").consumes(move || format!("shared {name}"));
        graph.add(shared.shared(&[place.path(name)]));
        place.run(&graph).unwrap();
        place.told().remove(0)
    };
    for name in ["of-b", "of-c"] {
        fs::write(place.path(name), "1").unwrap();
    }
    run("of-b");
    assert_eq!(run("of-b"), "a skipped up to date");
    run("of-c");
    assert!(place.path("of-b").exists());
    fs::write(place.path("of-c"), "23").unwrap();
    assert_eq!(run("of-c"), "a running of-c is missing or changed");
    // What was its own once, too.
    run_writing(&place, "own");
    run("own");
    assert!(place.path("own").exists());
}

#[test]
fn without_stamps_an_earlier_result_goes_too() {
    let mut place = Place::new();
    run_writing(&place, "a-1.raw");
    place.stamps.enabled = false;
    run_writing(&place, "a-2.raw");
    assert!(!place.path("a-1.raw").exists());
}

#[test]
fn a_copy_of_the_whole_place_keeps_its_stamps() {
    let mut place = Place::new();
    let outer = tempfile::tempdir().unwrap();
    run_writing(&place, "a.raw");
    let moved = outer.path().join("moved");
    fs::rename(&place.stamps.prefix, &moved).unwrap();
    place.stamps = stamps_in(&moved);
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("a").consumes(|| "a.raw".into()));
    place.run(&graph).unwrap();
    assert_eq!(place.told(), ["a skipped up to date"]);
}

#[test]
fn a_stamp_is_no_reason_to_remove_what_is_outside() {
    let outer = tempfile::tempdir().unwrap();
    let prefix = outer.path().join("place");
    fs::create_dir(&prefix).unwrap();
    let (outside, inside) = (outer.path().join("precious"), prefix.join("other"));
    let mut place = Place::new();
    place.stamps = stamps_in(&prefix);
    for forged in [
        "../precious",
        outside.to_str().unwrap(),
        "x/../../precious",
        "./other",
        "",
    ] {
        fs::write(&outside, "mine").unwrap();
        fs::write(&inside, "mine too").unwrap();
        let mut graph = FakeGraph::new();
        graph.add(Fake::new("a"));
        place.run(&graph).unwrap();
        let path = place.stamp("a");
        let mut stamp: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        stamp["outputs"]["files"] = json!([{"path": forged, "size": 1, "changed": [1, 1]}]);
        fs::write(&path, stamp.to_string()).unwrap();
        place.run(&graph).unwrap();
        assert!(place.told()[0].starts_with("a running"), "{forged}");
        assert!(outside.is_file() && inside.is_file(), "{forged}");
    }
}

/// A task whose thing is the only one of its kind.
pub(crate) struct Unnamed;

impl Task for Unnamed {
    type Inputs = ();
    type Output = ();
    type Error = FakeError;

    fn stage(&self) -> String {
        "unnamed".into()
    }

    fn stamp_key(&self) -> StampKey {
        StampKey {
            name: None,
            ..key("unnamed")
        }
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        Vec::new()
    }

    fn inputs(&self, _needs: &Needs<'_>) -> Result<(), FakeError> {
        Ok(())
    }

    fn run(&self, _inputs: &(), _needs: &Needs<'_>, _sink: &dyn Sink) -> Result<(), FakeError> {
        Ok(())
    }

    fn output_files(&self, _output: &()) -> Vec<PathBuf> {
        Vec::new()
    }

    fn digest(&self, _output: &()) -> Digest {
        Digest::of(b"")
    }
}

#[test]
fn what_was_made_of_something_else_goes_with_the_next_name() {
    let place = Place::new();
    // Its inputs name the file; what it tells that it read is `read`.
    let run = |file: &'static str, read: &'static str| {
        let path = place.path(file);
        let mut graph = FakeGraph::new();
        let task = Fake::new("a").files(std::slice::from_ref(&path));
        let task = task.consumes(move || file.to_owned());
        graph.add(task.tells_what_it_read().work(|_| {
            fs::write(&path, "12345").map_err(FakeError::Broken)?;
            Ok(read.into())
        }));
        place.run(&graph).unwrap();
        place.told().remove(0)
    };
    let meanwhile = "a running what it read changed while it ran";
    assert_eq!(run("1.raw", "1.raw"), "a running first run");
    assert_eq!(run("1.raw", "1.raw"), "a skipped up to date");
    assert_eq!(run("2.raw", "other"), "a running its inputs changed");
    assert!(!place.path("1.raw").exists());
    assert_eq!(run("2.raw", "other"), meanwhile);
    assert_eq!(run("3.raw", "3.raw"), meanwhile);
    assert!(!place.path("2.raw").exists());
    assert_eq!(run("3.raw", "3.raw"), "a skipped up to date");
}
