use std::sync::Mutex;

use avocado_engine::{AnyTaskId, EngineError, Graph, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::Digest;

use crate::fakes::{Fake, FakeError, FakeGraph, Place, key};

#[test]
fn a_task_runs_after_its_needs_and_reads_them() {
    for jobs in [0, 1, 4] {
        let place = Place::with_jobs(jobs);
        let order = Mutex::new(Vec::new());
        let mut graph = FakeGraph::new();
        let task = |name: &'static str| {
            let order = &order;
            Fake::new(name).work(move |needs| {
                order.lock().unwrap().push(name);
                Ok(format!("{name}({})", needs.join(",")))
            })
        };
        let bottom = graph.add(task("bottom"));
        let left = graph.add(task("left").needs(&[bottom]));
        let right = graph.add(task("right").needs(&[bottom]));
        let top = graph.add(task("top").needs(&[left, right]));
        let finished = place.run(&graph).unwrap();
        let output = finished.results().output(top).unwrap();
        assert_eq!(output, "top(left(bottom()),right(bottom()))");
        assert_eq!(finished.ran, ["bottom", "left", "right", "top"]);
        assert!(finished.skipped.is_empty());
        drop(graph);
        let order = order.into_inner().unwrap();
        assert_eq!((order.len(), order[0], order[3]), (4, "bottom", "top"));
    }
}

#[test]
fn a_run_is_told_from_its_beginning_to_its_end() {
    let place = Place::new();
    let mut graph = FakeGraph::new();
    let first = graph.add(Fake::new("first"));
    graph.add(Fake::new("second").needs(&[first]));
    place.run(&graph).unwrap();
    assert_eq!(place.pending(), ["first pending", "second pending"]);
    assert_eq!(
        place.told(),
        [
            "first running first run",
            "first success",
            "second running first run",
            "second success",
        ]
    );
}

#[test]
fn with_one_job_ready_tasks_run_in_the_order_in_which_they_were_added() {
    let place = Place::new();
    let mut graph = FakeGraph::new();
    for name in ["c", "a", "d", "b"] {
        graph.add(Fake::new(name));
    }
    let finished = place.run(&graph).unwrap();
    assert_eq!(finished.ran, ["c", "a", "d", "b"]);
    let started: Vec<String> = place
        .told()
        .into_iter()
        .filter(|line| line.contains("running"))
        .map(|line| line[..1].to_owned())
        .collect();
    assert_eq!(started, ["c", "a", "d", "b"]);
}

#[test]
fn nothing_to_do_is_done_at_once() {
    let finished = Place::with_jobs(2).run(&FakeGraph::new()).unwrap();
    assert!(finished.ran.is_empty() && finished.skipped.is_empty());
}

/// A task of another type of output than the fakes.
struct Length {
    of: TaskId<String>,
    also_reads: Option<TaskId<String>>,
}

impl Task for Length {
    type Inputs = Digest;
    type Output = usize;
    type Error = FakeError;

    fn stage(&self) -> String {
        "length".into()
    }

    fn stamp_key(&self) -> StampKey {
        key("length")
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        vec![self.of.into()]
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<Digest, FakeError> {
        needs.optional_digest(self.also_reads)?;
        Ok(needs.digest(self.of)?)
    }

    fn run(
        &self,
        inputs: &Digest,
        needs: &Needs<'_>,
        _sink: &dyn Sink,
    ) -> Result<usize, FakeError> {
        let text = needs.output(self.of)?;
        assert_eq!(*inputs, Digest::of(text.as_bytes()));
        Ok(text.len())
    }

    fn output_files(&self, _output: &usize) -> Vec<std::path::PathBuf> {
        Vec::new()
    }

    fn digest(&self, output: &usize) -> Digest {
        Digest::of(output.to_string().as_bytes())
    }
}

#[test]
fn outputs_keep_their_types_also_through_a_stamp() {
    let place = Place::new();
    let mut graph: Graph<'_, FakeError> = Graph::new();
    let of = graph.add(Fake::new("hello"));
    let also_reads = None;
    let length = graph.add(Length { of, also_reads });
    for _ in 0..2 {
        let finished = place.run(&graph).unwrap();
        let results = finished.results();
        assert_eq!(results.output(of).unwrap(), "hello");
        assert_eq!(*results.output(length).unwrap(), 5);
        assert_eq!(results.digest(length).unwrap(), Digest::of(b"5"));
        assert_eq!(
            results.optional_digest(Some(of)),
            results.digest(of).map(Some)
        );
        assert_eq!(results.optional_digest::<String>(None), Ok(None));
    }
}

#[test]
fn what_a_task_reads_without_needing_it_is_an_error_even_if_it_is_there() {
    let place = Place::new();
    let mut graph: Graph<'_, FakeError> = Graph::new();
    let of = graph.add(Fake::new("hello"));
    let also_reads = Some(graph.add(Fake::new("other")));
    graph.add(Length { of, also_reads });
    let error = place.run(&graph).unwrap_err();
    let EngineError::Task { stage, source } = error else {
        panic!("{error}");
    };
    assert_eq!(stage, "length");
    assert_eq!(
        source.to_string(),
        "`length` reads a result that it does not need: that of task 2 of the graph"
    );
    assert!(place.told().contains(&"other success".to_owned()));
}
