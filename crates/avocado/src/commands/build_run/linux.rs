//! Where there are Linux namespaces: the engine runs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use avocado_build::{
    Artifact, CacheOptions, Cancel, Goal, Options, OutdatedTask, Report, SkippedScriptlets,
};
use avocado_events::{Event, Sink};
use avocado_http::NetworkSettings;
use avocado_manifest::Name;
use avocado_project::{CachePlace, Project};
use avocado_text::{count, duration, table};
use serde_json::{Value, json};

use super::backend::{containers, sdk_processor};
use super::bucket_access::bucket_access;
use crate::commands::tools::{BackendChoice, BuiltWithArgs, ToolArgs};
use crate::commands::{project, remote_options};
use crate::failure::{Context, ExitStatus, Failure, Result};
use crate::interrupt::on_interrupt;
use crate::output::{WorkStart, WorkSummary};
use crate::session::Session;

/// One run of the engine.
pub(in crate::commands) struct BuildRun<'a> {
    session: &'a Session,
    action: &'static str,
    options: Options,
    /// That the project is known as far as fetching needs it, and has to be loaded whole.
    fetches: bool,
    out_dir: Option<&'a Path>,
    var: bool,
}

impl<'a> BuildRun<'a> {
    pub(in crate::commands) fn new(
        session: &'a Session,
        action: &'static str,
        tools: &ToolArgs,
    ) -> Result<Self> {
        let to_fetch = project::load_for_fetching(session)?;
        let fetches = to_fetch.is_some();
        let project = match to_fetch {
            Some(project) => project,
            None => project::load(session)?,
        };
        Ok(BuildRun {
            session,
            action,
            options: options_for(session, Some(tools), project)?,
            fetches,
            out_dir: None,
            var: true,
        })
    }

    /// Also copies the artifacts into a directory.
    pub(in crate::commands) fn copy_to(mut self, out_dir: Option<&'a Path>) -> Self {
        self.out_dir = out_dir;
        self
    }

    /// Leaves out the var partition of the runtimes, if so.
    pub(in crate::commands) fn without_var(mut self, no_var: bool) -> Self {
        self.var = !no_var;
        self
    }

    /// Publishes no runtime of which there is something to tell.
    pub(in crate::commands) fn strict(mut self, strict: bool) -> Self {
        self.options.strict = strict;
        self
    }

    /// Builds the runtime that was named, here or in the environment, or all of them.
    pub(in crate::commands) fn run_runtime(self, named: Option<&Name>) -> Result<()> {
        let runtime = match named {
            Some(name) => Some(name.clone()),
            None => self.session.environment.runtime()?,
        };
        let var = self.var;
        self.run(Goal::Build { runtime, var })
    }

    /// Fetches extensions: one, those of a runtime, or all.
    pub(in crate::commands) fn run_fetch(
        self,
        extension: Option<&Name>,
        runtime: Option<&Name>,
    ) -> Result<()> {
        let names = match (extension, runtime) {
            (Some(extension), _) => Some(vec![extension.clone()]),
            (None, Some(name)) => {
                let project = project::load(self.session)?;
                let runtime = project::runtime(self.session, &project, Some(name))?;
                let has = |name: &Name| runtime.extensions.iter().any(|e| e.name == *name);
                let sources = project.sources.iter();
                let wanted = sources.filter(|s| s.section.is_some() || has(&s.extension));
                Some(wanted.map(|source| source.extension.clone()).collect())
            }
            (None, None) => None,
        };
        self.run(Goal::Fetch(names))
    }

    /// Leaves the lock file as it is, if so.
    pub(in crate::commands) fn unsaved(mut self, unsaved: bool) -> Self {
        self.options.unsaved = unsaved;
        self
    }

    pub(in crate::commands) fn run(self, goal: Goal) -> Result<()> {
        self.run_and(goal, |_, _| Ok(Vec::new()))
    }

    /// Runs, and then does `last`, before it says that all is done. What `last` copied is told.
    pub(in crate::commands) fn run_and(
        mut self,
        goal: Goal,
        last: impl FnOnce(&Report, &Cancel) -> Result<Vec<PathBuf>>,
    ) -> Result<()> {
        let session = self.session;
        let began = Instant::now();
        let runtime = match &goal {
            Goal::Build { runtime, .. } | Goal::RuntimeInstall(runtime) => runtime.clone(),
            Goal::Provision { runtime, .. } => Some(runtime.clone()),
            _ => None,
        };
        start(
            session,
            self.action,
            &self.options.project,
            runtime.as_ref(),
        );
        let cancel = cancellable(session)?;
        let run = |options: &Options, goal: &Goal| {
            let report = avocado_build::run(options, goal, &cancel, &*session.output);
            report.map_err(|e| failure(&e))
        };
        let report = if !self.fetches {
            run(&self.options, &goal)?
        } else if matches!(goal, Goal::Fetch(_)) {
            let report = run(&self.options, &goal)?;
            // Says what is wrong with what came.
            project::load(session)?;
            report
        } else {
            let (fetched, project) = fetch_for(session, &goal, |goal| run(&self.options, goal))?;
            self.options.project = project;
            after(fetched, run(&self.options, &goal)?)
        };
        let mut copied = last(&report, &cancel)?;
        if let Some(dir) = self.out_dir {
            copied.extend(copy_artifacts(&report.artifacts, dir)?);
        }
        complete(session, &report, &copied, began.elapsed())
    }
}

/// Says that all is done, and what was copied.
pub(in crate::commands) fn complete(
    session: &Session,
    report: &Report,
    copied: &[PathBuf],
    time: Duration,
) -> Result<()> {
    let here = session.environment.current_dir()?;
    for path in copied {
        session
            .output
            .emit(Event::info(format!("copied to {}", path.display())));
    }
    session
        .output
        .complete(summary(report, copied, time, &here))
}

/// Fetches what the goal needs, and loads the project with it. What was fetched may name more that
/// is to be fetched.
fn fetch_for(
    session: &Session,
    goal: &Goal,
    run: impl Fn(&Goal) -> Result<Report>,
) -> Result<(Report, Project)> {
    let mut loaded = project::load_quietly(session);
    let mut done: Option<Report> = None;
    loop {
        // A project that cannot be read may lack what is not here yet.
        let names = loaded.as_ref().ok().map(|l| needed(&l.project, goal));
        let report = run(&Goal::Fetch(names.clone()))?;
        let fetched_nothing = report.ran.is_empty();
        done = Some(match done {
            Some(before) => after(before, report),
            None => report,
        });
        // Also where this run fetched nothing: it may have waited for another one that did.
        loaded = project::load_quietly(session);
        let is_whole = |project: &Project| {
            let needed = needed(project, goal);
            let source = |name: &Name| project.source(name)?.fetched_to.as_ref();
            let is_here = needed.iter().all(|name| source(name).is_some());
            is_here || (fetched_nothing && names.as_ref() == Some(&needed))
        };
        match (loaded, done) {
            (Ok(again), Some(report)) if is_whole(&again.project) => {
                return Ok((report, project::with_warnings(session, again)));
            }
            (Err(failure), _) => return Err(failure),
            (again, report) => (loaded, done) = (again, report),
        }
    }
}

/// The extensions that come from elsewhere and that a goal is about.
fn needed(project: &Project, goal: &Goal) -> Vec<Name> {
    let of_runtimes = |named: Option<&Name>| {
        let runtimes = project.runtimes.iter();
        let runtimes = runtimes.filter(|r| named.is_none_or(|name| r.name == *name));
        let names: Vec<&Name> = runtimes
            .flat_map(|r| &r.extensions)
            .map(|e| &e.name)
            .collect();
        names
    };
    // What extensions are installed over is a rootfs.
    let has_os = !matches!(goal, Goal::SdkInstall | Goal::Fetch(_));
    let sections = project
        .sources
        .iter()
        .filter(|s| has_os && s.section.is_some());
    let sections = sections.map(|source| &source.extension);
    let sources = project.sources.iter().filter(|s| s.section.is_none());
    let sources = sources.map(|source| &source.extension);
    let wanted: Vec<&Name> = match goal {
        Goal::ExtInstall(Some(name)) | Goal::ExtBuild(Some(name)) | Goal::ExtImage(Some(name)) => {
            vec![name]
        }
        Goal::Build { runtime, .. } | Goal::RuntimeInstall(runtime) => {
            of_runtimes(runtime.as_ref())
        }
        Goal::Provision { runtime, .. } => of_runtimes(Some(runtime)),
        Goal::RootfsInstall | Goal::InitramfsInstall | Goal::RootfsImage | Goal::InitramfsImage => {
            Vec::new()
        }
        // Without runtimes every extension counts.
        _ if project.runtimes.is_empty() => sources.clone().collect(),
        _ => of_runtimes(None),
    };
    sources
        .filter(|name| wanted.contains(name))
        .chain(sections)
        .cloned()
        .collect()
}

/// What two runs did, one after the other.
fn after(first: Report, second: Report) -> Report {
    Report {
        ran: [first.ran, second.ran].concat(),
        skipped: [first.skipped, second.skipped].concat(),
        from_cache: [first.from_cache, second.from_cache].concat(),
        processes: first.processes + second.processes,
        artifacts: second.artifacts,
        skipped_scriptlets: [first.skipped_scriptlets, second.skipped_scriptlets].concat(),
    }
}

/// What commands go by that need no more of the project than its feed.
pub(in crate::commands) fn options(session: &Session) -> Result<Options> {
    let project = match project::load_for_fetching(session)? {
        Some(project) => project,
        None => project::load(session)?,
    };
    options_for(session, None, project)
}

/// The options of a build that goes on as long as the program does, with the project as it is now;
/// what is odd about that is not told again.
pub(in crate::commands) fn options_now(session: &Session, tools: &ToolArgs) -> Result<Options> {
    let project = project::load_quietly(session)?.project;
    options_for(session, Some(tools), project)
}

/// Where tools are to run, by the arguments of a command: they come before the environment.
#[derive(Clone, Copy, Default)]
struct ToolPlace<'a> {
    backend: Option<BackendChoice>,
    container_args: &'a [String],
}

fn options_for(session: &Session, tools: Option<&ToolArgs>, project: Project) -> Result<Options> {
    let place = tools.map_or_else(ToolPlace::default, |tools| ToolPlace {
        backend: tools.backend,
        container_args: &tools.container_args,
    });
    options_at(session, place, tools, project)
}

fn options_at(
    session: &Session,
    place: ToolPlace<'_>,
    tools: Option<&ToolArgs>,
    project: Project,
) -> Result<Options> {
    let environment = &session.environment;
    Ok(Options {
        remote: remote_options::settings(session, place.backend, &project)?,
        containers: containers(session, place.backend, place.container_args, &project)?,
        network: environment.network(&project.distro.repo_url),
        exe: environment.exe()?,
        sdk_processor: sdk_processor(session),
        search_path: environment.search_path(),
        proxy_environment: environment.proxies(),
        variables: environment.texts(),
        fetch_environment: environment.for_fetching(),
        jobs: environment.jobs()?,
        stamps: !session.global.no_stamps,
        cache: cache_options(session, tools, &project),
        locked: tools.is_some_and(|tools| tools.locked),
        unsaved: false,
        frozen: tools.is_some_and(|tools| tools.frozen),
        explain: tools.is_some_and(|tools| tools.explain),
        strict: false,
        scriptlets: !tools.is_some_and(|tools| tools.no_scripts),
        dnf_args: tools.map_or_else(Vec::new, |tools| tools.dnf_args.clone()),
        keyring: environment.signing_keys().ok(),
        owner_keyring: environment.signing_keys_of_owner(&project.src_dir),
        home: environment.home_directory(),
        now: environment.now(),
        project,
        cli_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// How the project's cache is reached, unless it is to be left out.
fn cache_options(
    session: &Session,
    tools: Option<&ToolArgs>,
    project: &Project,
) -> Option<CacheOptions> {
    let cache = project.cache.as_ref()?;
    // What is made on another machine may have other times, and is for nobody else.
    let is_here = session.global.runs_on.is_none();
    let is_wanted = is_here && tools.is_none_or(|tools| !tools.no_cache);
    let environment = &session.environment;
    let bucket = match &cache.place {
        CachePlace::Bucket(place) => Some(bucket_access(place, &|name| environment.variable(name))),
        _ => None,
    };
    is_wanted.then(|| CacheOptions {
        directory: environment.result_cache(),
        network: match (&cache.place, &bucket) {
            (CachePlace::Server(url), _) => environment.network(url),
            (_, Some(access)) => environment.network(&access.endpoint),
            _ => NetworkSettings::default(),
        },
        bucket,
    })
}

/// The options of a build that was told this.
pub(in crate::commands) fn options_as_built(
    session: &Session,
    project: Project,
    built_with: &BuiltWithArgs,
) -> Result<Options> {
    let place = ToolPlace {
        backend: built_with.backend,
        container_args: &built_with.container_args,
    };
    Ok(Options {
        dnf_args: built_with.dnf_args.clone(),
        scriptlets: !built_with.no_scripts,
        ..options_at(session, place, None, project)?
    })
}

/// The first step that a build of the runtime would run, or why that cannot be told; nothing is run.
pub(in crate::commands) fn outdated(
    session: &Session,
    project: Project,
    runtime: &Name,
    built_with: &BuiltWithArgs,
) -> Result<std::result::Result<Option<OutdatedTask>, avocado_build::BuildError>> {
    let options = options_as_built(session, project, built_with)?;
    Ok(avocado_build::outdated(&options, runtime))
}

pub(in crate::commands) fn start(
    session: &Session,
    action: &str,
    project: &Project,
    runtime: Option<&Name>,
) {
    session.output.start(&WorkStart {
        action,
        target: Some(project.target.as_str()),
        runtime: runtime.map(Name::as_str),
    });
}

/// A wish to stop that Ctrl-C expresses.
pub(in crate::commands) fn cancellable(session: &Session) -> Result<Cancel> {
    let cancel = Cancel::new();
    let stop = cancel.clone();
    on_interrupt(&session.output, move || stop.cancel())?;
    Ok(cancel)
}

pub(in crate::commands) fn failure(error: &avocado_build::BuildError) -> Failure {
    let failure = Failure::from_error(error)
        .about_project(error.diagnostics())
        .maybe_hint(error.hint());
    if error.is_cancelled() {
        Failure {
            code: ExitStatus::Interrupted,
            ..failure
        }
    } else {
        failure
    }
}

/// Copies each artifact under its own name: complete and by rename, so that a reader of the
/// directory sees the old file or the new one.
pub(in crate::commands) fn copy_artifacts(
    artifacts: &[Artifact],
    dir: &Path,
) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).context(|| format!("cannot create {}", dir.display()))?;
    let mut copied = Vec::new();
    for artifact in artifacts {
        let Some(file) = artifact.path.file_name() else {
            continue;
        };
        // The images of several runtimes have the same file name.
        let same = |other: &&Artifact| other.path.file_name() == Some(file);
        let mut name = OsString::new();
        if artifacts.iter().filter(same).count() > 1 {
            name.push(&artifact.name);
            name.push("-");
        }
        name.push(file);
        let to = dir.join(&name);
        let mut part = OsString::from(".");
        part.push(&name);
        part.push(format!(".{}.part", std::process::id()));
        let part = dir.join(part);
        let done = fs::copy(&artifact.path, &part).and_then(|_| fs::rename(&part, &to));
        if done.is_err() {
            _ = fs::remove_file(&part);
        }
        done.context(|| {
            format!(
                "cannot copy {} to {}",
                artifact.path.display(),
                to.display()
            )
        })?;
        copied.push(to);
    }
    Ok(copied)
}

/// Paths below `here` are shown from there: shorter, and as good for the next command.
fn summary(report: &Report, copied: &[PathBuf], time: Duration, here: &Path) -> WorkSummary {
    let artifact = |a: &Artifact| {
        json!({
            "kind": a.kind,
            "name": a.name,
            "path": a.path,
            "size": a.size,
            "sha256": a.sha256.to_string(),
        })
    };
    let artifacts: Vec<Value> = report.artifacts.iter().map(artifact).collect();
    let mut summary = WorkSummary::default();
    for (key, value) in [
        ("ran", json!(report.ran.len())),
        ("skipped", json!(report.skipped.len())),
        ("from_cache", json!(report.from_cache.len())),
        ("processes", json!(report.processes)),
        ("artifacts", json!(artifacts)),
    ] {
        summary.fields.insert(key.to_owned(), value);
    }
    if !copied.is_empty() {
        summary.fields.insert("copied".to_owned(), json!(copied));
    }
    if !report.artifacts.is_empty() {
        let row = |a: &Artifact| {
            let digest = a.sha256.to_string();
            let digest = digest.get(..12).unwrap_or(&digest).to_owned();
            [
                a.kind.clone(),
                a.name.clone(),
                avocado_text::bytes(a.size),
                digest,
                a.path
                    .strip_prefix(here)
                    .unwrap_or(&a.path)
                    .display()
                    .to_string(),
            ]
        };
        let rows = report.artifacts.iter().map(row);
        summary.data = table(["KIND", "NAME", "SIZE", "SHA256", "PATH"], rows, None);
    }
    if !report.skipped_scriptlets.is_empty() {
        summary.fields.insert(
            "skipped_scriptlets".to_owned(),
            json!(report.skipped_scriptlets),
        );
        let row = |skipped: &SkippedScriptlets| {
            [
                skipped.tree.clone(),
                skipped.package.clone(),
                skipped.scriptlets.join(" "),
                skipped.reason.clone(),
            ]
        };
        let rows = report.skipped_scriptlets.iter().map(row);
        let header = ["STEP", "PACKAGE", "SCRIPTLETS NOT RUN", "WHY"];
        summary.data += &table(header, rows, None);
    }
    let time = duration(time);
    let (ran, skipped) = (report.ran.len() as u64, report.skipped.len() as u64);
    let from_cache = report.from_cache.len() as u64;
    let up_to_date = skipped.saturating_sub(from_cache);
    summary.closing = match (ran, from_cache) {
        (0, 0) => format!(
            "Nothing to do: {} up to date ({time})",
            count(skipped, "step")
        ),
        (_, 0) => format!(
            "Done: {} run, {skipped} up to date ({time})",
            count(ran, "step")
        ),
        _ => format!(
            "Done: {} run, {from_cache} from the cache, {up_to_date} up to date ({time})",
            count(ran, "step")
        ),
    };
    summary
}

#[cfg(test)]
mod tests {
    use super::*;
    use avocado_manifest::Digest;

    #[test]
    fn copies_are_complete_and_keep_apart() {
        let dir = tempfile::tempdir().unwrap();
        let made = |kind: &str, name: &str, path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            Artifact {
                kind: kind.into(),
                name: name.into(),
                path,
                size: 0,
                sha256: Digest::of(b""),
            }
        };
        let artifacts = [
            made("rootfs", "dev", "dev/rootfs.erofs"),
            made("rootfs", "prod", "prod/rootfs.erofs"),
            made("extension", "app-1.0.0", "app-1.0.0.raw"),
        ];
        let out = dir.path().join("out/deep");
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("app-1.0.0.raw"), "an older one").unwrap();
        let copied = copy_artifacts(&artifacts, &out).unwrap();
        let names = ["dev-rootfs.erofs", "prod-rootfs.erofs", "app-1.0.0.raw"];
        assert_eq!(copied, names.map(|name| out.join(name)));
        for (path, artifact) in copied.iter().zip(&artifacts) {
            assert_eq!(fs::read_to_string(path).unwrap(), artifact.name);
        }
        assert_eq!(fs::read_dir(&out).unwrap().count(), 3);
    }
}
