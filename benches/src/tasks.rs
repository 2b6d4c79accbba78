//! What the engine of `avocado` takes to find that nothing is to do, beside reading and parsing
//! the same stamps and nothing else: in time of processors.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use avocado_engine::{
    AnyTaskId, Graph, Needs, StampKey, StampStore, Task, TaskError, TaskId, UndeclaredNeed,
};
use avocado_events::{Cancel, Silent, Sink};
use avocado_manifest::Digest;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::failure::Failure;
use crate::stats::Sample;

/// As many jobs as the fewest machines have.
const JOBS: usize = 2;

pub(crate) fn measure(directory: &Path, rounds: usize) -> Result<(), Failure> {
    println!("\n== the engine with nothing to do, {rounds} rounds");
    let mut medians = Vec::new();
    for tasks in [20, 100, 200, 1000, 5000] {
        let place = directory.join(tasks.to_string());
        let stamps = store(&place);
        run(tasks, &stamps, tasks)?;
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(run(tasks, &stamps, 0)?);
            peer.push(parse(tasks, &stamps.directory)?);
        }
        let ours: Sample = ours.into_iter().collect();
        let peer: Sample = peer.into_iter().collect();
        println!(
            "{tasks:>5} tasks   {:>8.2} ms, {:>5.1} µs each; {:.2} times as long as their stamps alone",
            ours.median().as_secs_f64() * 1e3,
            ours.median().as_secs_f64() * 1e6 / tasks as f64,
            ours.ratio(&peer),
        );
        medians.push((tasks, ours));
    }
    let of = |tasks| medians.iter().find(|(n, _)| *n == tasks).map(|(_, s)| s);
    for (many, few) in [(200, 20), (1000, 100), (5000, 1000)] {
        if let Some((many_took, few_took)) = of(many).zip(of(few)) {
            println!(
                "  {many} tasks take {:.1} times as long as {few} (linear: {:.1})",
                many_took.ratio(few_took),
                many as f64 / few as f64,
            );
        }
    }
    Ok(())
}

fn store(place: &Path) -> StampStore {
    StampStore {
        directory: place.join("stamps"),
        prefix: place.to_owned(),
        target: "target".to_owned(),
        cli_version: "1".to_owned(),
        timestamp: "2026-01-01T00:00:00Z".to_owned(),
        enabled: true,
        explain: false,
    }
}

/// One run of a graph: the first task is needed by all, and the last needs all.
fn run(tasks: usize, stamps: &StampStore, to_run: usize) -> Result<Duration, Failure> {
    let begin = processor_time();
    let mut graph: Graph<'_, TaskFault> = Graph::new();
    let mut ids: Vec<TaskId<String>> = Vec::new();
    for number in 0..tasks {
        let needs = match number {
            0 => Vec::new(),
            _ if number + 1 == tasks => ids.clone(),
            _ => ids[..1].to_vec(),
        };
        // As a plan asks before it adds.
        let known = graph.find::<String>(&key(number));
        ids.push(known.unwrap_or_else(|| graph.add(Numbered { number, needs })));
    }
    let finished = graph.run(JOBS, stamps, &Cancel::new(), &Silent);
    let finished = finished.map_err(|error| Failure::Wrong(error.to_string()))?;
    let took = processor_time().saturating_sub(begin);
    if finished.ran.len() != to_run {
        let ran = finished.ran.len();
        return Err(Failure::Wrong(format!("{ran} tasks ran, not {to_run}")));
    }
    Ok(took)
}

/// The same stamps, read one after the other.
fn parse(tasks: usize, stamps: &Path) -> Result<Duration, Failure> {
    let begin = processor_time();
    for number in 0..tasks {
        let path: PathBuf = stamps.join(format!("tasks/{number}/make.stamp"));
        let text = fs::read(path).map_err(Failure::system("read a stamp"))?;
        let stamp: Value = serde_json::from_slice(&text)
            .map_err(|error| Failure::Wrong(format!("a stamp is no JSON: {error}")))?;
        std::hint::black_box(&stamp);
    }
    Ok(processor_time().saturating_sub(begin))
}

/// What this process has taken of the processors so far: what else the machine does counts for
/// less than on a clock.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn key(number: usize) -> StampKey {
    StampKey {
        component: "task",
        directory: "tasks",
        name: Some(number.to_string()),
        command: "make",
    }
}

/// A task that makes its number.
struct Numbered {
    number: usize,
    needs: Vec<TaskId<String>>,
}

#[derive(Debug, thiserror::Error)]
enum TaskFault {
    #[error(transparent)]
    UndeclaredNeed(#[from] UndeclaredNeed),
}

impl TaskError for TaskFault {
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Task for Numbered {
    type Inputs = (usize, Vec<Digest>);
    type Output = String;
    type Error = TaskFault;

    fn stage(&self) -> String {
        format!("task {}", self.number)
    }

    fn stamp_key(&self) -> StampKey {
        key(self.number)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        self.needs.iter().map(|id| AnyTaskId::from(*id)).collect()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<Self::Inputs, TaskFault> {
        let digests: Result<_, _> = self.needs.iter().map(|id| needs.digest(*id)).collect();
        Ok((self.number, digests?))
    }

    fn run(
        &self,
        inputs: &Self::Inputs,
        _needs: &Needs<'_>,
        _sink: &dyn Sink,
    ) -> Result<String, TaskFault> {
        Ok(inputs.0.to_string())
    }

    fn output_files(&self, _output: &String) -> Vec<PathBuf> {
        Vec::new()
    }

    fn digest(&self, output: &String) -> Digest {
        Digest::of(output.as_bytes())
    }
}
