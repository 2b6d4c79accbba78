use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc;

use avocado_engine::{
    AnyTaskId, EngineError, Graph, GraphError, Needs, StampError, StampKey, Task,
};
use avocado_events::{Event, Sink, StepStatus};
use avocado_manifest::Digest;
use serde::{Deserialize, Serialize};

use crate::fakes::{Fake, FakeError, FakeGraph, Place, key};

#[test]
fn what_needs_a_failed_task_is_not_run() {
    let place = Place::new();
    let mut graph = FakeGraph::new();
    let bad = graph.add(Fake::new("bad").fails("no luck"));
    let next = graph.add(Fake::new("next").needs(&[bad]));
    graph.add(Fake::new("last").needs(&[next]));
    let error = place.run(&graph).unwrap_err();
    assert_eq!(error.to_string(), "bad failed");
    assert_eq!(
        avocado_events::chain(&error),
        "bad failed: it broke: no luck"
    );
    assert_eq!(
        place.told(),
        ["bad running first run", "bad failed it broke: no luck"]
    );
}

#[test]
fn what_does_not_need_a_failed_task_may_go_on() {
    for jobs in [1, 2] {
        let place = Place::with_jobs(jobs);
        let mut graph = FakeGraph::new();
        let bad = graph.add(Fake::new("bad").lets_others_go_on().fails("no luck"));
        graph.add(Fake::new("next").needs(&[bad]));
        let good = graph.add(Fake::new("good"));
        graph.add(Fake::new("last").needs(&[good]));
        // With two jobs it could be started before the last one.
        if jobs == 1 {
            graph.add(Fake::new("worse").fails("no luck either"));
            graph.add(Fake::new("never"));
        }
        let error = place.run(&graph).unwrap_err();
        assert_eq!(error.to_string(), "bad failed");
        let told = place.told();
        for success in ["good success", "last success"] {
            assert!(told.iter().any(|line| line == success), "{told:?}");
        }
        assert!(
            !told.iter().any(|line| line.starts_with("next")),
            "{told:?}"
        );
        assert!(
            !told.iter().any(|line| line.starts_with("never")),
            "{told:?}"
        );
    }
}

#[test]
fn after_a_failure_those_at_work_finish_and_keep_their_results_and_no_other_starts() {
    let place = Place::with_jobs(2);
    let (tell, told) = mpsc::channel();
    let (tell, told) = (Mutex::new(tell), Mutex::new(told));
    let (at_work, begin) = mpsc::channel();
    let (at_work, begin) = (Mutex::new(at_work), Mutex::new(begin));
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("bad").work(|_| {
        begin.lock().unwrap().recv().unwrap();
        Err(FakeError::broken("no luck"))
    }));
    graph.add(Fake::new("good").work(|_| {
        at_work.lock().unwrap().send(()).unwrap();
        told.lock().unwrap().recv().unwrap();
        Ok("done".into())
    }));
    graph.add(Fake::new("third"));
    let error = place
        .run_with(&graph, |event: &Event| {
            if event.status == Some(StepStatus::Failed) {
                tell.lock().unwrap().send(()).unwrap();
            }
        })
        .unwrap_err();
    assert_eq!(error.to_string(), "bad failed");
    assert_eq!(place.told().last().unwrap(), "good success");
    assert!(!place.told().iter().any(|line| line.starts_with("third")));

    let mut graph = FakeGraph::new();
    graph.add(Fake::new("good"));
    let finished = place.run(&graph).unwrap();
    assert_eq!(finished.skipped, ["good"]);
}

#[test]
fn the_first_of_several_failures_is_the_answer() {
    let place = Place::with_jobs(2);
    let (tell, told) = mpsc::channel();
    let (tell, told) = (Mutex::new(tell), Mutex::new(told));
    let (at_work, begin) = mpsc::channel();
    let (at_work, begin) = (Mutex::new(at_work), Mutex::new(begin));
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("later").work(|_| {
        at_work.lock().unwrap().send(()).unwrap();
        told.lock().unwrap().recv().unwrap();
        Err(FakeError::broken("two"))
    }));
    graph.add(Fake::new("earlier").work(|_| {
        begin.lock().unwrap().recv().unwrap();
        Err(FakeError::broken("one"))
    }));
    let error = place
        .run_with(&graph, |event: &Event| {
            if event.message.ends_with("one") {
                tell.lock().unwrap().send(()).unwrap();
            }
        })
        .unwrap_err();
    assert_eq!(error.to_string(), "earlier failed");
    assert_eq!(place.told().last().unwrap(), "later failed it broke: two");
}

#[test]
fn a_panic_of_a_task_is_passed_on_and_hangs_no_other_worker() {
    let place = Place::with_jobs(3);
    let mut graph = FakeGraph::new();
    let bad = graph.add(Fake::new("bad").work(|_| panic!("a task panics")));
    graph.add(Fake::new("next").needs(&[bad]));
    graph.add(Fake::new("after").needs(&[bad]));
    let result = catch_unwind(AssertUnwindSafe(|| place.run(&graph).map(|_| ())));
    assert!(result.is_err());
}

#[test]
fn stamps_that_cannot_be_written_fail_the_task() {
    let place = Place::new();
    fs::write(&place.stamps.directory, "a file").unwrap();
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("a"));
    let error = place.run(&graph).unwrap_err();
    assert!(
        matches!(&error, EngineError::Stamp { stage, source: StampError::File(_) } if stage == "a"),
        "{error:?}"
    );
    assert!(place.told()[1].starts_with("a failed cannot "));
}

/// What a task started may have done that.
#[test]
fn a_link_in_the_place_of_a_directory_of_stamps_or_results_is_not_followed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("a");
    for link in [".stamps", ".stamps/fakes", ".stamps/fakes/a", "results"] {
        let place = Place::new();
        let (run, result) = (Cell::new(0), place.path("results/old"));
        fs::create_dir(place.path("results")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        for name in ["old", "a/make.stamp", "make.stamp"] {
            fs::create_dir_all(elsewhere.path().join("fakes/a")).unwrap();
            let file = elsewhere.path().join(name);
            fs::write(file, "not ours").unwrap();
        }
        let before = files_below(elsewhere.path());
        let run_once = |work: &(dyn Fn() + Send + Sync)| {
            let mut graph = FakeGraph::new();
            let first = run.get() == 0;
            let files = if first {
                vec![result.clone()]
            } else {
                Vec::new()
            };
            let task = Fake::new("a")
                .files(&files)
                .consumes(move || first.to_string());
            graph.add(task.work(|_| {
                work();
                Ok("done".into())
            }));
            run.set(run.get() + 1);
            place.run(&graph).map(|_| ())
        };
        run_once(&|| fs::write(&result, "").unwrap()).unwrap();
        let error = run_once(&|| {
            let path = place.path(link);
            fs::remove_dir_all(&path).unwrap();
            symlink(elsewhere.path(), path).unwrap();
        })
        .unwrap_err();
        let EngineError::Stamp { source, .. } = &error else {
            panic!("{link}: {error:?}");
        };
        let found = matches!(source, StampError::Link(path) if *path == place.path(link));
        assert!(found, "{link}: {source:?}");
        // Nor is it the next time.
        let again = run_once(&|| {});
        assert_eq!(again.is_ok(), link == "results", "{link}: {again:?}");
        assert_eq!(files_below(elsewhere.path()), before, "{link}");
    }
}

fn files_below(directory: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        }
        let content = fs::read(&path).ok();
        found.push((path, content));
    }
    found.sort();
    found
}

/// A task with inputs and outputs that may have no JSON form.
struct Awkward {
    input: PathBuf,
    key: Vec<u8>,
}

/// Only a text can be the key of a JSON object.
#[derive(Serialize, Deserialize)]
struct AwkwardOutput(BTreeMap<Vec<u8>, u8>);

impl Task for Awkward {
    type Inputs = PathBuf;
    type Output = AwkwardOutput;
    type Error = FakeError;

    fn stage(&self) -> String {
        "awkward".into()
    }

    fn stamp_key(&self) -> StampKey {
        key("awkward")
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        Vec::new()
    }

    fn inputs(&self, _needs: &Needs<'_>) -> Result<PathBuf, FakeError> {
        Ok(self.input.clone())
    }

    fn run(
        &self,
        _inputs: &PathBuf,
        _needs: &Needs<'_>,
        _sink: &dyn Sink,
    ) -> Result<AwkwardOutput, FakeError> {
        Ok(AwkwardOutput(BTreeMap::from([(self.key.clone(), 1)])))
    }

    fn output_files(&self, _output: &AwkwardOutput) -> Vec<PathBuf> {
        Vec::new()
    }

    fn digest(&self, _output: &AwkwardOutput) -> Digest {
        Digest::of(b"")
    }
}

#[test]
fn the_failure_of_a_task_that_says_nothing_of_it_stops_others() {
    let place = Place::new();
    let mut graph: Graph<'_, FakeError> = Graph::new();
    graph.add(Awkward {
        input: "fine".into(),
        key: b"key".to_vec(),
    });
    graph.add(Fake::new("other"));
    place.run(&graph).unwrap_err();
    assert!(!place.told().iter().any(|line| line.starts_with("other")));
}

#[test]
fn a_task_that_says_nothing_of_it_shares_nothing_and_is_made_of_its_inputs() {
    let task = Awkward {
        input: "input".into(),
        key: Vec::new(),
    };
    let output = AwkwardOutput(BTreeMap::new());
    assert!(task.is_made_of(&task.input, &output));
    assert!(task.shared_files(&output).is_empty() && task.file_digests(&output).is_empty());
    assert!(task.shared_environment().unwrap().is_none());
    assert!(task.restored(&output, &avocado_events::Silent).is_ok());
}

#[test]
fn what_has_no_json_form_is_an_error_and_never_an_empty_stamp() {
    use std::os::unix::ffi::OsStringExt as _;
    let place = Place::new();
    let run = |input: &[u8]| {
        let mut graph: Graph<'_, FakeError> = Graph::new();
        graph.add(Awkward {
            input: std::ffi::OsString::from_vec(input.to_vec()).into(),
            key: b"key".to_vec(),
        });
        place.run(&graph).unwrap_err()
    };
    let error = run(b"not utf-8: \xff");
    assert!(
        matches!(
            error,
            EngineError::Stamp {
                source: StampError::Inputs(_),
                ..
            }
        ),
        "{error:?}"
    );
    let error = run(b"fine");
    assert!(
        matches!(
            error,
            EngineError::Stamp {
                source: StampError::Output(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(!place.stamp("awkward").exists());
}

#[test]
fn a_need_of_another_graph_is_refused_before_anything_runs() {
    let place = Place::new();
    let mut other = FakeGraph::new();
    other.add(Fake::new("x"));
    let foreign = other.add(Fake::new("y"));
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("a"));
    graph.add(Fake::new("b").needs(&[foreign]));
    let error = place.run(&graph).unwrap_err();
    let expected = GraphError::UnknownNeed { stage: "b".into() };
    assert!(matches!(error, EngineError::Graph(e) if e == expected));
    assert!(place.pending().is_empty() && place.told().is_empty());
}

#[test]
fn two_tasks_with_one_stamp_are_refused() {
    let place = Place::new();
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("b"));
    graph.add(Fake::new("a"));
    graph.add(Fake::new("a"));
    let error = place.run(&graph).unwrap_err();
    assert_eq!(error.to_string(), "`a` and `a` have the same stamp");
    assert!(place.pending().is_empty());
}
