//! The graph of a build: every step once, after what it needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use avocado_engine::{Finished, Graph, Needs, SharedResults, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::Name;
use avocado_project::Runtime;

use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::keys::RuntimeKey;
use crate::steps::install::Uninstall;

/// A task that is a step of a build.
pub(crate) trait BuildStep: Task<Error = BuildError> {
    /// What of its result a user cares about.
    fn artifacts(&self, _output: &Self::Output) -> Vec<Artifact> {
        Vec::new()
    }
}

/// A graph in the making. Each kind of step has a function beside its task that adds it
/// (`steps::*::plan`): it asks for what the step needs in the same way, so that the graph has
/// everything that the steps of a goal need, and nothing else.
pub(crate) struct Plan<'a> {
    pub(crate) context: &'a BuildContext<'a>,
    graph: Graph<'a, BuildError>,
    keys: BTreeMap<Name, Arc<RuntimeKey>>,
    /// In the order of the graph.
    artifacts: Vec<Box<ReadArtifacts<'a>>>,
    /// What is to be removed before the first step.
    uninstalls: Vec<Uninstall>,
    sink: &'a dyn Sink,
}

type ReadArtifacts<'a> = dyn Fn(&Needs<'_>) -> Result<Vec<Artifact>, BuildError> + 'a;

impl<'a> Plan<'a> {
    /// Without any step.
    pub(crate) fn new(context: &'a BuildContext<'a>, sink: &'a dyn Sink) -> Self {
        Plan {
            context,
            graph: Graph::new(),
            keys: BTreeMap::new(),
            artifacts: Vec::new(),
            uninstalls: Vec::new(),
            sink,
        }
    }

    /// The step whose stamp is `key`. When it is asked for first, `make` makes it, after what it
    /// needs.
    pub(crate) fn once<S: BuildStep + 'a>(
        &mut self,
        key: &StampKey,
        make: impl FnOnce(&mut Self) -> Result<S, BuildError>,
    ) -> Result<TaskId<S::Output>, BuildError> {
        if let Some(id) = self.graph.find(key) {
            return Ok(id);
        }
        let step = Arc::new(make(self)?);
        let id = self.graph.add(Arc::clone(&step));
        self.artifacts.push(Box::new(move |results| {
            Ok(step.artifacts(results.output(id)?))
        }));
        Ok(id)
    }

    /// Has what no step makes any more removed before the first one, which might find it.
    pub(crate) fn uninstall(&mut self, what: Uninstall) {
        if !self.uninstalls.contains(&what) {
            self.uninstalls.push(what);
        }
    }

    pub(crate) fn uninstalls(&self) -> &[Uninstall] {
        &self.uninstalls
    }

    /// The key that signs `runtime`, looked up once.
    pub(crate) fn runtime_key(&mut self, runtime: &Runtime) -> Result<Arc<RuntimeKey>, BuildError> {
        if let Some(key) = self.keys.get(&runtime.name) {
            return Ok(Arc::clone(key));
        }
        let context = self.context;
        let (project, layout) = (context.project, &context.layout);
        let key = RuntimeKey::find(context.options, project, layout, runtime, self.sink)?;
        let key = Arc::new(key);
        self.keys.insert(runtime.name.clone(), Arc::clone(&key));
        Ok(key)
    }

    /// Has the steps take results that other machines made.
    pub(crate) fn share(&mut self, results: &'a dyn SharedResults) {
        self.graph.share(results);
    }

    pub(crate) fn graph(&self) -> &Graph<'a, BuildError> {
        &self.graph
    }

    /// What is there after a run of the graph, in the order of the graph.
    pub(crate) fn artifacts(&self, finished: &Finished) -> Result<Vec<Artifact>, BuildError> {
        let results = finished.results();
        let mut artifacts = Vec::new();
        for read in &self.artifacts {
            artifacts.extend(read(&results)?);
        }
        Ok(artifacts)
    }
}
