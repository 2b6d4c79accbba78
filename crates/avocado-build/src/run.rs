use std::sync::{Mutex, Once};

use avocado_backend::{
    Backend, ContainerBackend, ContainerOptions, HostBackend, RememberedBackend,
};
use avocado_engine::{OutdatedTask, StampStore};
use avocado_events::{Cancel, Event, Silent, Sink};
use avocado_manifest::Name;
use avocado_project::LockFile;

use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::cache::BuildCache;
use crate::error::BuildError;
use crate::goal::{Goal, GoalStep};
use crate::known_files::KnownFiles;
use crate::layout::Layout;
use crate::needed;
use crate::options::{ContainerSettings, Options};
use crate::packages::feed::Feed;
use crate::plan::Plan;
use crate::project_lock::lock_project;
use crate::remote;
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
    /// The steps among these whose results another machine made.
    pub from_cache: Vec<String>,
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
    let open = || open_backend(options, cancel, sink);
    run_opening(options, open, goal, cancel, sink)
}

/// Where the tools run. Opened by [`in_context`]: on another machine, what it is shown lies in the state.
fn open_backend<'a>(
    options: &Options,
    cancel: &'a Cancel,
    sink: &'a dyn Sink,
) -> Result<Box<dyn Backend + 'a>, BuildError> {
    if let Some(settings) = &options.remote {
        return remote::open(options, &layout_of(options), settings, cancel, sink);
    }
    Ok(match &options.containers {
        Some(settings) => Box::new(container_backend(options, settings, cancel, sink)?),
        None => Box::new(host_backend(options)),
    })
}

/// The same for who only looks: nothing is started, and no machine connected to.
pub(crate) fn backend_asking_no_tools<'a>(
    options: &Options,
    cancel: &'a Cancel,
) -> Result<Box<dyn Backend + 'a>, BuildError> {
    if let Some(settings) = &options.remote {
        let tools = layout_of(options).tool_identities_of_machine();
        return Ok(Box::new(RememberedBackend::new(&settings.address, tools)));
    }
    Ok(match &options.containers {
        Some(settings) => {
            let backend = container_backend(options, settings, cancel, &Silent)?;
            Box::new(backend.asking_no_tools())
        }
        None => Box::new(host_backend(options).asking_no_tools()),
    })
}

fn container_backend<'a>(
    options: &Options,
    settings: &ContainerSettings,
    cancel: &'a Cancel,
    sink: &'a dyn Sink,
) -> Result<ContainerBackend<'a>, BuildError> {
    let sdk = &options.project.sdk;
    let engine = settings.engine.clone().ok_or(BuildError::NoEngine)?;
    let image = sdk.image.clone().ok_or(BuildError::NoSdkImage)?;
    let container = ContainerOptions {
        engine,
        image,
        arguments: [&sdk.container_args[..], &settings.arguments].concat(),
        pulls: !options.frozen,
        processor: options.sdk_processor,
    };
    let identities = layout_of(options).tool_identities_of_image();
    let program = options.exe.clone();
    let socket_directory = layout_of(options).command_socket();
    Ok(ContainerBackend::new(
        container,
        program,
        identities,
        socket_directory,
        cancel,
        sink,
    ))
}

fn host_backend(options: &Options) -> HostBackend {
    HostBackend::new(
        options.exe.clone(),
        options.search_path.clone(),
        layout_of(options).tool_identities(),
    )
}

fn layout_of(options: &Options) -> Layout {
    Layout::new(&options.project.state_dir(), &options.project.target)
        .with_sdk_for(options.sdk_processor)
}

/// Does work in a project that nobody else works in meanwhile.
pub(crate) fn in_project<T>(
    options: &Options,
    cancel: &Cancel,
    sink: &dyn Sink,
    work: impl FnOnce(&BuildContext<'_>) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let open = || open_backend(options, cancel, sink);
    in_context(options, open, cancel, sink, work)
}

/// The same with the backend that `open` makes when nobody else works there any more.
pub(crate) fn in_context<'b, T>(
    options: &Options,
    open: impl FnOnce() -> Result<Box<dyn Backend + 'b>, BuildError>,
    cancel: &Cancel,
    sink: &dyn Sink,
    work: impl FnOnce(&BuildContext<'_>) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let project = &options.project;
    let layout = layout_of(options);
    let _lock = lock_project(&layout, cancel, sink)?;
    trees::recover(&project.state_dir())?;
    layout.check()?;
    let lock_file = LockFile::load(&project.src_dir)?
        .locked(options.locked || options.frozen)
        .unsaved(options.unsaved);
    work(&context(options, open()?, lock_file, cancel))
}

/// As [`run`], with the work of the steps done by `backend`.
#[cfg(test)]
pub(crate) fn run_with(
    options: &Options,
    backend: Box<dyn Backend + '_>,
    goal: &Goal,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Report, BuildError> {
    run_opening(options, || Ok(backend), goal, cancel, sink)
}

/// As [`run`], with the work of the steps done by the backend that `open` makes.
fn run_opening<'b>(
    options: &Options,
    open: impl FnOnce() -> Result<Box<dyn Backend + 'b>, BuildError>,
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
    in_context(options, open, cancel, sink, |context| {
        bring_up_to_date(context, &steps, sink)
    })
}

/// Brings what these steps need up to date, and these.
pub(crate) fn bring_up_to_date(
    context: &BuildContext<'_>,
    steps: &[GoalStep],
    sink: &dyn Sink,
) -> Result<Report, BuildError> {
    let options = context.options;
    let stamps = stamps(options);
    let cache = BuildCache::open(context, sink);
    let mut plan = Plan::new(context, sink);
    if let Some(cache) = &cache {
        plan.share(cache);
    }
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
    drop_gone_from_lock(context, sink)?;
    let artifacts = plan.artifacts(&finished)?;
    let mut skipped_scriptlets = std::mem::take(&mut *context.skipped_scriptlets());
    skipped_scriptlets.sort_by(|a, b| (&a.tree, &a.package).cmp(&(&b.tree, &b.package)));
    Ok(Report {
        artifacts,
        skipped_scriptlets,
        processes: context.backend.processes(),
        ran: finished.ran,
        skipped: finished.skipped,
        from_cache: finished.from_cache,
    })
}

/// Drops from the lock what the project does not have any more. Last: a run that fails leaves it.
fn drop_gone_from_lock(context: &BuildContext<'_>, sink: &dyn Sink) -> Result<(), BuildError> {
    let mut lock_file = context.lock_file();
    let gone = lock_file.drop_gone(context.project);
    if !gone.is_empty() {
        lock_file.save()?;
        sink.emit(Event::info(format!(
            "the project does not have these any more; dropped from avocado.lock for {}: {}",
            context.project.target,
            gone.join(", ")
        )));
    }
    Ok(())
}

/// The first step that a build of `runtime` would run before its manifest is made, and why; `None`
/// where the manifest is that of the project as it is. Nothing is run, changed or requested.
///
/// # Errors
/// When it cannot be found out: a file that the project names is not there, say.
pub fn outdated(options: &Options, runtime: &Name) -> Result<Option<OutdatedTask>, BuildError> {
    let cancel = Cancel::new();
    let backend = backend_asking_no_tools(options, &cancel)?;
    outdated_on(options, backend, runtime)
}

/// As [`outdated`], with `backend` to say what its tools are.
pub(crate) fn outdated_on(
    options: &Options,
    backend: Box<dyn Backend + '_>,
    runtime: &Name,
) -> Result<Option<OutdatedTask>, BuildError> {
    // Signing, which comes after it, takes keys and looks at nothing of the project.
    first_outdated(options, backend, |plan| {
        runtime_build::plan(plan, runtime).map(drop)
    })
}

/// Gives `work` the project as it lies there, for who only reads what is stated or installed: nothing is
/// started, connected to or waited for.
pub(crate) fn look_at<T>(
    options: &Options,
    work: impl FnOnce(&BuildContext<'_>) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let cancel = Cancel::new();
    let backend = Box::new(host_backend(options).asking_no_tools());
    let lock_file = LockFile::load(&options.project.src_dir)?.locked(true);
    work(&context(options, backend, lock_file, &cancel))
}

/// The first of the steps that `add` plans, and of those that they need, that a build would run.
pub(crate) fn first_outdated(
    options: &Options,
    backend: Box<dyn Backend + '_>,
    add: impl FnOnce(&mut Plan<'_>) -> Result<(), BuildError>,
) -> Result<Option<OutdatedTask>, BuildError> {
    let cancel = Cancel::new();
    let lock_file = LockFile::load(&options.project.src_dir)?.locked(true);
    let context = context(options, backend, lock_file, &cancel);
    let mut plan = Plan::new(&context, &Silent);
    add(&mut plan)?;
    let stamps = StampStore {
        enabled: true,
        ..stamps(options)
    };
    Ok(plan.graph().first_outdated(&stamps)?)
}

fn context<'a>(
    options: &'a Options,
    backend: Box<dyn Backend + 'a>,
    lock_file: LockFile,
    cancel: &'a Cancel,
) -> BuildContext<'a> {
    let project = &options.project;
    let layout = layout_of(options);
    BuildContext {
        options,
        project,
        backend,
        lock_file: Mutex::new(lock_file),
        completes_lock: Once::new(),
        shortens_environment: Once::new(),
        misses_emulation: Once::new(),
        skipped_scriptlets: Mutex::default(),
        sources: ProjectSources::default(),
        known_files: KnownFiles::new(layout.known_files(), layout.known_trees()),
        feed: Feed::new(project, &options.network, cancel).cached(options.frozen),
        cancel,
        checkout_mode: trees::checkout_mode(&project.config_path),
        layout,
    }
}

fn stamps(options: &Options) -> StampStore {
    let project = &options.project;
    let layout = layout_of(options);
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
