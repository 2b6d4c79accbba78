//! Reading the project, as every command that needs one does.

use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use avocado_build::Layout;
use avocado_events::{Event, Sink};
use avocado_manifest::Name;
#[cfg(target_os = "linux")]
use avocado_project::PackageScope;
use avocado_project::{Diagnostic, LoadOptions, Loaded, Project, ProjectError, Runtime};
#[cfg(target_os = "linux")]
use avocado_project::{ReadProject, SourceKind};

use crate::failure::{Failure, Result};
use crate::session::Session;

/// Reads avocado.yaml for the target and says what is odd about it.
pub(super) fn load(session: &Session) -> Result<Project> {
    load_from(session, &config_path(session, Path::new("")))
}

pub(super) fn load_from(session: &Session, config: &Path) -> Result<Project> {
    let loaded = with_options(session, config, avocado_project::load)?;
    Ok(with_warnings(session, loaded))
}

/// Reads avocado.yaml, and says nothing yet of what is odd about it.
#[cfg(target_os = "linux")]
pub(super) fn load_quietly(session: &Session) -> Result<Loaded> {
    let config = config_path(session, Path::new(""));
    with_options(session, &config, avocado_project::load)
}

/// Reads avocado.yaml for every target that it is for, the one that is meant first, and says what is odd
/// about it for that one.
#[cfg(target_os = "linux")]
pub(super) fn load_for_every_target(session: &Session) -> Result<Vec<Project>> {
    let config = config_path(session, Path::new(""));
    let loaded = with_options(session, &config, avocado_project::load_for_every_target)?;
    let mut loaded = loaded.into_iter();
    let meant = loaded.next().map(|meant| with_warnings(session, meant));
    Ok(meant
        .into_iter()
        .chain(loaded.map(|other| other.project))
        .collect())
}

/// Says what is odd about a project.
pub(super) fn with_warnings(session: &Session, loaded: Loaded) -> Project {
    for warning in &loaded.warnings {
        warn(session, warning);
    }
    loaded.project
}

/// Says one thing that is odd about a project.
pub(super) fn warn(session: &Session, warning: &Diagnostic) {
    let hint = warning.hint.as_ref().map(|hint| format!("\nhint: {hint}"));
    let message = format!("{warning}{}", hint.unwrap_or_default());
    session.output.emit(Event::warning(message));
}

/// The project as far as fetching needs it; `None` where it has nothing to fetch, or is wrong in a
/// way that [`load`] tells better.
#[cfg(target_os = "linux")]
pub(super) fn load_for_fetching(session: &Session) -> Result<Option<Project>> {
    let config = config_path(session, Path::new(""));
    with_options(session, &config, |options| {
        let project = ReadProject::read(options)?.find_sources(options)?;
        let is_local = |kind: &SourceKind| matches!(kind, SourceKind::Path { .. });
        let has_remote = project.sources().iter().any(|s| !is_local(&s.kind));
        if project.has_errors() || !has_remote {
            return Ok(None);
        }
        Ok(Some(project.for_fetching(options)?.project))
    })
}

fn with_options<T>(
    session: &Session,
    config: &Path,
    load: impl FnOnce(&LoadOptions<'_>) -> std::result::Result<T, ProjectError>,
) -> Result<T> {
    load(&LoadOptions {
        config,
        text: session.edited.get().map(String::as_str),
        target: session.global.target.as_ref().map(Name::as_str),
        env: &|name| session.environment.variable(name),
        cli_version: env!("CARGO_PKG_VERSION"),
    })
    .map_err(|e| Failure::from_project(&e))
}

/// The configuration that was asked for, or the one in `dir`.
pub(super) fn config_path(session: &Session, dir: &Path) -> PathBuf {
    let asked = session.global.config.clone();
    asked.unwrap_or_else(|| usual_path(dir))
}

/// The configuration in `dir`, under either of its names. Where `dir` is empty, which is the current
/// directory, that of the next directory above it that has one.
pub(super) fn usual_path(dir: &Path) -> PathBuf {
    let usual = dir.join("avocado.yaml");
    let here = in_directory(dir);
    if here.is_some() || !dir.as_os_str().is_empty() {
        return here.unwrap_or(usual);
    }
    let current = std::path::absolute(".").unwrap_or_default();
    let mut above = current.ancestors().skip(1);
    let trusted = |config: &PathBuf| is_trusted(config);
    above
        .find_map(|dir| in_directory(dir).filter(trusted))
        .unwrap_or(usual)
}

/// The one in a directory.
fn in_directory(dir: &Path) -> Option<PathBuf> {
    let names = ["avocado.yaml", "avocado.yml"];
    let mut files = names.iter().map(|name| dir.join(name));
    files.find(|file| file.exists())
}

/// Whether a file that nobody named is of those who own the current directory, or of root: one that
/// another user put into /tmp would have its scripts run.
#[cfg(unix)]
fn is_trusted(config: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let owner = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.uid());
    match (owner(config), owner(Path::new("."))) {
        (Ok(of_file), Ok(of_directory)) => of_file == 0 || of_file == of_directory,
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_trusted(_config: &Path) -> bool {
    true
}

/// Where the results of the project's target are.
#[cfg(target_os = "linux")]
pub(super) fn layout(project: &Project) -> Layout {
    Layout::new(&project.state_dir(), &project.target)
}

/// That the project has the part that a command is about.
#[cfg(target_os = "linux")]
pub(super) fn check_scope(project: &Project, scope: &PackageScope) -> Result<()> {
    let (kind, name, known): (_, _, Vec<&Name>) = match scope {
        PackageScope::Extension(name) => {
            let sources = project.sources.iter().map(|s| &s.extension);
            let extensions = project.extensions.iter().map(|e| &e.name);
            ("extension", name, extensions.chain(sources).collect())
        }
        PackageScope::Runtime(name) => {
            let runtimes = project.runtimes.iter().map(|r| &r.name);
            ("runtime", name, runtimes.collect())
        }
        PackageScope::Sdk | PackageScope::Rootfs | PackageScope::Initramfs => return Ok(()),
    };
    if known.contains(&name) {
        return Ok(());
    }
    let known: Vec<&str> = known.into_iter().map(Name::as_str).collect();
    let hint = match &known[..] {
        [] => format!("it has no {kind} at all for target {}", project.target),
        known => format!("it has {}", known.join(", ")),
    };
    Err(Failure::new(format!("the project has no {kind} `{name}`")).hint(hint))
}

/// The one runtime that a command works on: named, from the environment, the project's default, or
/// the only one.
pub(super) fn runtime<'p>(
    session: &Session,
    project: &'p Project,
    named: Option<&Name>,
) -> Result<&'p Runtime> {
    let named = match named {
        Some(name) => Some(name.clone()),
        None => match session.environment.runtime()? {
            Some(name) => Some(name),
            None => project.default_runtime.clone(),
        },
    };
    let known = || {
        let names: Vec<&str> = project.runtimes.iter().map(|r| r.name.as_str()).collect();
        names.join(", ")
    };
    match (named, project.runtimes.as_slice()) {
        (_, []) => Err(Failure::new(format!(
            "the project has no runtime for target {}",
            project.target
        ))),
        (Some(name), _) => project.runtime(&name).ok_or_else(|| {
            Failure::new(format!(
                "the project has no runtime `{name}` for target {}",
                project.target
            ))
            .hint(format!("it has {}", known()))
        }),
        (None, [only]) => Ok(only),
        (None, _) => Err(
            Failure::usage("the project has several runtimes; name one of them")
                .hint(format!("it has {}", known())),
        ),
    }
}
