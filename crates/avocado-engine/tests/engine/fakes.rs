//! Tasks of a few lines, and a place to run them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use avocado_engine::{
    AnyTaskId, EngineError, Finished, Graph, Needs, StampKey, StampStore, Task, TaskError, TaskId,
    UndeclaredNeed,
};
use avocado_events::{Cancel, Event, EventKind, Sink, StepStatus};
use avocado_manifest::Digest;
use serde::Serialize;
use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FakeError {
    #[error("it broke")]
    Broken(#[source] std::io::Error),
    #[error("asked to stop")]
    Cancelled,
    #[error(transparent)]
    UndeclaredNeed(#[from] UndeclaredNeed),
}

impl FakeError {
    pub(crate) fn broken(why: &'static str) -> Self {
        FakeError::Broken(std::io::Error::other(why))
    }
}

impl TaskError for FakeError {
    fn is_cancelled(&self) -> bool {
        matches!(self, FakeError::Cancelled)
    }
}

pub(crate) type FakeGraph<'a> = Graph<'a, FakeError>;
type Work<'a> = dyn Fn(&[&str]) -> Result<String, FakeError> + Send + Sync + 'a;

/// A task whose output is a text. Without further calls it makes its own name from nothing.
pub(crate) struct Fake<'a> {
    name: &'static str,
    needs: Vec<TaskId<String>>,
    consumes: Box<dyn Fn() -> String + Send + Sync + 'a>,
    settles: bool,
    tells_what_it_read: bool,
    stops_others: bool,
    files: Vec<PathBuf>,
    shared: Vec<PathBuf>,
    environment: Option<&'static str>,
    knows_no_environment: bool,
    cannot_be_restored: bool,
    /// Its file is named by its output, below this directory.
    names_its_file_below: Option<PathBuf>,
    work: Box<Work<'a>>,
}

impl<'a> Fake<'a> {
    pub(crate) fn new(name: &'static str) -> Self {
        Fake {
            name,
            needs: Vec::new(),
            consumes: Box::new(String::new),
            settles: false,
            tells_what_it_read: false,
            stops_others: true,
            files: Vec::new(),
            shared: Vec::new(),
            environment: None,
            knows_no_environment: false,
            cannot_be_restored: false,
            names_its_file_below: None,
            work: Box::new(move |_| Ok(name.to_owned())),
        }
    }

    /// It reads the outputs of these.
    pub(crate) fn needs(mut self, needs: &[TaskId<String>]) -> Self {
        self.needs = needs.to_vec();
        self
    }

    /// Besides what it needs, it consumes what this answers at the time.
    pub(crate) fn consumes(mut self, consumes: impl Fn() -> String + Send + Sync + 'a) -> Self {
        self.consumes = Box::new(consumes);
        self
    }

    /// What it consumes counts as it is after the run.
    pub(crate) fn settles_its_inputs(mut self) -> Self {
        self.settles = true;
        self
    }

    /// Its output is what it consumed, as that was when it ran.
    pub(crate) fn tells_what_it_read(mut self) -> Self {
        self.tells_what_it_read = true;
        self
    }

    /// When it fails, what does not need it goes on.
    pub(crate) fn lets_others_go_on(mut self) -> Self {
        self.stops_others = false;
        self
    }

    pub(crate) fn files(mut self, files: &[PathBuf]) -> Self {
        self.files = files.to_vec();
        self
    }

    pub(crate) fn shared(mut self, files: &[PathBuf]) -> Self {
        self.shared = files.to_vec();
        self
    }

    /// Other machines can have its result, where they have this.
    pub(crate) fn shared_with(mut self, environment: &'static str) -> Self {
        self.environment = Some(environment);
        self
    }

    /// What its result follows from cannot be found out.
    pub(crate) fn knows_no_environment(mut self) -> Self {
        self.knows_no_environment = true;
        self
    }

    /// What is left to do with the result of another machine fails.
    pub(crate) fn cannot_be_restored(mut self) -> Self {
        self.cannot_be_restored = true;
        self
    }

    /// It leaves one file, whose name is its output.
    pub(crate) fn names_its_file_below(mut self, directory: &Path) -> Self {
        self.names_its_file_below = Some(directory.to_owned());
        self
    }

    /// It makes a text from those that it needs.
    pub(crate) fn work(
        mut self,
        work: impl Fn(&[&str]) -> Result<String, FakeError> + Send + Sync + 'a,
    ) -> Self {
        self.work = Box::new(work);
        self
    }

    pub(crate) fn fails(self, why: &'static str) -> Self {
        self.work(move |_| Err(FakeError::broken(why)))
    }
}

#[derive(Serialize)]
pub(crate) struct FakeInputs {
    pub(crate) consumed: String,
    pub(crate) needs: Vec<Digest>,
}

impl Task for Fake<'_> {
    type Inputs = FakeInputs;
    type Output = String;
    type Error = FakeError;

    fn stage(&self) -> String {
        self.name.to_owned()
    }

    fn stamp_key(&self) -> StampKey {
        key(self.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        self.needs.iter().map(|id| AnyTaskId::from(*id)).collect()
    }

    fn failure_stops_others(&self) -> bool {
        self.stops_others
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<FakeInputs, FakeError> {
        let digests: Result<_, _> = self.needs.iter().map(|id| needs.digest(*id)).collect();
        Ok(FakeInputs {
            consumed: (self.consumes)(),
            needs: digests?,
        })
    }

    fn recorded_inputs(&self, before: FakeInputs) -> Result<FakeInputs, FakeError> {
        let consumed = if self.settles {
            (self.consumes)()
        } else {
            before.consumed
        };
        Ok(FakeInputs { consumed, ..before })
    }

    fn is_made_of(&self, inputs: &FakeInputs, output: &String) -> bool {
        !self.tells_what_it_read || inputs.consumed == *output
    }

    fn run(
        &self,
        _inputs: &FakeInputs,
        needs: &Needs<'_>,
        _sink: &dyn Sink,
    ) -> Result<String, FakeError> {
        let mut texts = Vec::new();
        for id in &self.needs {
            texts.push(needs.output(*id)?.as_str());
        }
        (self.work)(&texts)
    }

    fn output_files(&self, output: &String) -> Vec<PathBuf> {
        let named = self.names_its_file_below.iter();
        let named = named.map(|directory| directory.join(output));
        named.chain(self.files.iter().cloned()).collect()
    }

    fn shared_files(&self, _output: &String) -> Vec<PathBuf> {
        self.shared.clone()
    }

    fn digest(&self, output: &String) -> Digest {
        Digest::of(output.as_bytes())
    }

    fn shared_environment(&self) -> Result<Option<Value>, FakeError> {
        if self.knows_no_environment {
            return Err(FakeError::broken("no tool"));
        }
        Ok(self.environment.map(Value::from))
    }

    fn file_digests(&self, output: &String) -> Vec<(PathBuf, Digest)> {
        let files = self.output_files(output).into_iter();
        files
            .map(|file| (file, Digest::of(output.as_bytes())))
            .collect()
    }

    fn restored(&self, _output: &String, _sink: &dyn Sink) -> Result<(), FakeError> {
        if self.cannot_be_restored {
            return Err(FakeError::broken("no way"));
        }
        Ok(())
    }
}

pub(crate) fn key(name: &'static str) -> StampKey {
    StampKey {
        component: "fake",
        directory: "fakes",
        name: Some(name.to_owned()),
        command: "make",
    }
}

/// A directory for stamps and results, and what was told there.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) stamps: StampStore,
    pub(crate) cancel: Cancel,
    pub(crate) jobs: usize,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Place {
            stamps: stamps_in(directory.path()),
            directory,
            cancel: Cancel::new(),
            jobs: 1,
            events: Arc::default(),
        }
    }

    pub(crate) fn with_jobs(jobs: usize) -> Self {
        Place {
            jobs,
            ..Place::new()
        }
    }

    /// A result's place.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn stamp(&self, name: &str) -> PathBuf {
        self.stamps
            .directory
            .join(format!("fakes/{name}/make.stamp"))
    }

    pub(crate) fn run(&self, graph: &FakeGraph<'_>) -> Result<Finished, EngineError<FakeError>> {
        self.run_with(graph, |_| {})
    }

    /// `also` sees each event after it was told.
    pub(crate) fn run_with(
        &self,
        graph: &FakeGraph<'_>,
        also: impl Fn(&Event) + Send + Sync,
    ) -> Result<Finished, EngineError<FakeError>> {
        self.events.lock().unwrap().clear();
        let events = Arc::clone(&self.events);
        let sink = move |event: Event| {
            events.lock().unwrap().push(event.clone());
            also(&event);
        };
        graph.run(self.jobs, &self.stamps, &self.cancel, &sink)
    }

    /// The first task that would run, and why.
    pub(crate) fn first_outdated(&self, graph: &FakeGraph<'_>) -> Option<(String, String)> {
        let outdated = graph.first_outdated(&self.stamps).unwrap();
        outdated.map(|task| (task.stage, task.reason))
    }

    /// What the last run told, `stage status message`, without what was pending.
    pub(crate) fn told(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let told = events
            .iter()
            .filter(|e| e.status != Some(StepStatus::Pending));
        told.map(line).collect()
    }

    pub(crate) fn pending(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let told = events
            .iter()
            .filter(|e| e.status == Some(StepStatus::Pending));
        told.map(line).collect()
    }
}

pub(crate) fn stamps_in(directory: &Path) -> StampStore {
    StampStore {
        directory: directory.join(".stamps"),
        prefix: directory.to_owned(),
        target: "target".into(),
        cli_version: "1".into(),
        timestamp: "2026-01-01T00:00:00Z".into(),
        enabled: true,
        explain: false,
    }
}

fn line(event: &Event) -> String {
    if event.kind == EventKind::Info {
        return format!("{} because {}", event.stage, event.message);
    }
    if event.kind == EventKind::Warning {
        return format!("{} warns: {}", event.stage, event.message);
    }
    assert_eq!(event.kind, EventKind::Step);
    let status = match event.status {
        Some(StepStatus::Pending) => "pending",
        Some(StepStatus::Running) => "running",
        Some(StepStatus::Success) => "success",
        Some(StepStatus::Skipped) => "skipped",
        Some(StepStatus::Failed) => "failed",
        Some(StepStatus::Stopped) => "stopped",
        None => "?",
    };
    format!("{} {status} {}", event.stage, event.message)
        .trim_end()
        .to_owned()
}
