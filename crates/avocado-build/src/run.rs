use std::sync::{Mutex, Once};

use avocado_backend::{Backend, HostBackend};
use avocado_engine::{OutdatedTask, StampStore};
use avocado_events::{Cancel, Event, Silent, Sink};
use avocado_manifest::Name;
use avocado_project::LockFile;

use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::goal::{Goal, GoalStep};
use crate::known_files::KnownFiles;
use crate::layout::Layout;
use crate::needed;
use crate::options::Options;
use crate::packages::feed::Feed;
use crate::plan::Plan;
use crate::project_lock::lock_project;
use crate::scriptlets::SkippedScriptlets;
use crate::sources::ProjectSources;
use crate::steps::runtime_build;
use crate::trees;

/// What a run did.
#[derive(Debug, Clone)]
pub struct Report {
    /// The steps that ran, in the order of the graph.
    pub ran: Vec<String>,
    /// The steps that were up to date.
    pub skipped: Vec<String>,
    /// How many processes were started, tools included.
    pub processes: u64,
    /// What is there now, whether this run made it or an earlier one.
    pub artifacts: Vec<Artifact>,
    /// Scriptlets of packages that this run installed and did not run.
    pub skipped_scriptlets: Vec<SkippedScriptlets>,
}

/// Brings everything that `goal` needs up to date.
///
/// # Errors
/// When a step fails, the lock or the feed cannot be used, or `cancel` asks to stop. What was
/// finished is kept; a rerun goes on from there.
pub fn run(
    options: &Options,
    goal: &Goal,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Report, BuildError> {
    run_with(options, Box::new(host_backend(options)), goal, cancel, sink)
}

/// The tools of this host.
pub(crate) fn host_backend(options: &Options) -> HostBackend {
    let layout = Layout::new(&options.project.state_dir(), &options.project.target);
    HostBackend::new(
        options.exe.clone(),
        options.search_path.clone(),
        layout.tool_identities(),
    )
}

/// Does work in a project that nobody else works in meanwhile.
pub(crate) fn in_context<T>(
    options: &Options,
    backend: Box<dyn Backend>,
    cancel: &Cancel,
    sink: &dyn Sink,
    work: impl FnOnce(&BuildContext<'_>) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let project = &options.project;
    let layout = Layout::new(&project.state_dir(), &project.target);
    let _lock = lock_project(&layout, cancel, sink)?;
    layout.check()?;
    let lock_file = LockFile::load(&project.src_dir)?
        .locked(options.locked || options.frozen)
        .unsaved(options.unsaved);
    work(&context(options, backend, lock_file, cancel))
}

/// As [`run`], with the work of the steps done by `backend`.
pub(crate) fn run_with(
    options: &Options,
    backend: Box<dyn Backend>,
    goal: &Goal,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Report, BuildError> {
    let project = &options.project;
    needed::for_run(project)?;
    let steps = goal.steps(project)?;
    let left_out = goal.left_out(project);
    if let Some(first) = left_out.first() {
        let names: Vec<String> = left_out.iter().map(|name| format!("`{name}`")).collect();
        sink.emit(Event::info(format!(
            "in no runtime of {}, and left out: {}; `avocado ext image {first}` makes one all the \
             same",
            project.target,
            names.join(", ")
        )));
    }
    in_context(options, backend, cancel, sink, |context| {
        bring_up_to_date(context, &steps, sink)
    })
}

fn bring_up_to_date(
    context: &BuildContext<'_>,
    steps: &[GoalStep],
    sink: &dyn Sink,
) -> Result<Report, BuildError> {
    let options = context.options;
    let stamps = stamps(options);
    let mut plan = Plan::new(context, sink);
    for step in steps {
        step.add_to(&mut plan)?;
    }
    for uninstall in plan.uninstalls() {
        uninstall.work(context, sink)?;
    }
    let finished = plan
        .graph()
        .run(options.jobs, &stamps, context.cancel, sink);
    context.known_files.save();
    let finished = finished?;
    let artifacts = plan.artifacts(&finished)?;
    let mut skipped_scriptlets = std::mem::take(&mut *context.skipped_scriptlets());
    skipped_scriptlets.sort_by(|a, b| (&a.tree, &a.package).cmp(&(&b.tree, &b.package)));
    Ok(Report {
        artifacts,
        skipped_scriptlets,
        processes: context.backend.processes(),
        ran: finished.ran,
        skipped: finished.skipped,
    })
}

/// The first step that a build of `runtime` would run before its manifest is made, and why; `None`
/// where the manifest is that of the project as it is. Nothing is run, changed or requested.
///
/// # Errors
/// When it cannot be found out: a file that the project names is not there, say.
pub fn outdated(options: &Options, runtime: &Name) -> Result<Option<OutdatedTask>, BuildError> {
    let backend = host_backend(options).asking_no_tools();
    outdated_on(options, Box::new(backend), runtime)
}

/// As [`outdated`], with `backend` to say what its tools are.
pub(crate) fn outdated_on(
    options: &Options,
    backend: Box<dyn Backend>,
    runtime: &Name,
) -> Result<Option<OutdatedTask>, BuildError> {
    let cancel = Cancel::new();
    let lock_file = LockFile::load(&options.project.src_dir)?.locked(true);
    let context = context(options, backend, lock_file, &cancel);
    let mut plan = Plan::new(&context, &Silent);
    // Signing, which comes after it, takes keys and looks at nothing of the project.
    runtime_build::plan(&mut plan, runtime)?;
    let stamps = StampStore {
        enabled: true,
        ..stamps(options)
    };
    Ok(plan.graph().first_outdated(&stamps)?)
}

fn context<'a>(
    options: &'a Options,
    backend: Box<dyn Backend>,
    lock_file: LockFile,
    cancel: &'a Cancel,
) -> BuildContext<'a> {
    let project = &options.project;
    let layout = Layout::new(&project.state_dir(), &project.target);
    BuildContext {
        options,
        project,
        backend,
        lock_file: Mutex::new(lock_file),
        completes_lock: Once::new(),
        shortens_environment: Once::new(),
        skipped_scriptlets: Mutex::default(),
        sources: ProjectSources::default(),
        known_files: KnownFiles::new(layout.known_files()),
        feed: Feed::new(project, &options.network, cancel).cached(options.frozen),
        cancel,
        checkout_mode: trees::checkout_mode(&project.config_path),
        layout,
    }
}

fn stamps(options: &Options) -> StampStore {
    let project = &options.project;
    let layout = Layout::new(&project.state_dir(), &project.target);
    StampStore {
        directory: layout.stamps(),
        prefix: layout.prefix().to_owned(),
        target: project.target.to_string(),
        cli_version: options.cli_version.clone(),
        timestamp: options.now.to_string(),
        enabled: options.stamps,
        explain: options.explain,
    }
}
