//! The steps of a build, their graph and their stamps.
//!
//! [`run`] takes a resolved project and a [`Goal`] and brings every step that the goal needs up
//! to date: `plan` makes the graph, `graph` runs it, `steps` holds what each step does, `stamp`
//! knows what need not be done again. Steps that need tools run in a child process of the same
//! program ([`step_main`]), in the backend that `avocado_sdk` provides.
// The one backend so far (see `avocado_sdk`) is made of Linux namespaces.
#![cfg(target_os = "linux")]

mod dnf;
mod error;
mod feed;
mod graph;
mod image;
mod keys;
mod layout;
mod passwd;
mod pattern;
mod plan;
mod stamp;
mod steps;
mod tree;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use avocado_events::{Event, Sink};
use avocado_manifest::{Digest, Name};
use avocado_project::{LockFile, Project};
use avocado_sdk::{HostSdk, Mounts};

pub use avocado_events::Cancel;
pub use error::Error;
pub use keys::signing_key;
pub use layout::Layout;

use error::At as _;
use graph::Finished;
use plan::{Placed, Planner, Scope};
use stamp::Stamps;
use steps::extension_image::Imaged;
use steps::os_image::OsImaged;
use steps::runtime_build::Assembled;
use steps::{Context, detail};

/// How often a build that waits for another one looks again.
const WAIT_INTERVAL: Duration = Duration::from_millis(100);

/// Everything that a build depends on besides its goal.
#[derive(Debug, Clone)]
pub struct Options {
    /// The project, resolved for its target.
    pub project: Project,
    /// Our own program, re-executed as `avocado step`.
    pub exe: PathBuf,
    /// PATH for tools.
    pub search_path: OsString,
    /// Further variables for tools: those by which a network is reached, such as `https_proxy`.
    pub proxy_environment: BTreeMap<String, OsString>,
    /// How many steps may run at once; at least 1.
    pub jobs: usize,
    /// False: neither read nor write stamps, so every step runs.
    pub stamps: bool,
    /// Further arguments for dnf.
    pub dnf_args: Vec<String>,
    /// The directory with the signing keys; needed only by what signs.
    pub keyring: Option<PathBuf>,
    /// The time of this run: for stamps and for the expiry of metadata, never for an image.
    pub now: jiff::Timestamp,
    /// The version of the program.
    pub cli_version: String,
}

/// What to bring up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Every tree of packages.
    Install,
    /// Everything of one runtime, or of all.
    Build {
        /// `None`: all runtimes.
        runtime: Option<Name>,
    },
    /// The sysroot of one extension, or of all.
    ExtBuild(Option<Name>),
    /// The image of one extension, or of all.
    ExtImage(Option<Name>),
    /// The rootfs image of every runtime.
    RootfsImage,
    /// The initramfs image of every runtime.
    InitramfsImage,
}

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
}

/// A result that a user cares about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// `extension`, `rootfs`, `initramfs`, `var`, `manifest`, `repository`, `vm`.
    pub kind: String,
    /// What it belongs to: an extension with its version, a runtime.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes; for a directory that of all its files.
    pub size: u64,
    /// The digest of the file; of a repository or a VM's image that of its manifest.
    pub sha256: Digest,
}

/// Where an update moved a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// The snapshot before, if there was a pin.
    pub old: Option<String>,
    /// The snapshot now; `None` where the feed has no snapshots.
    pub new: Option<String>,
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
) -> Result<Report, Error> {
    let project = &options.project;
    let scope = Scope::new(project, goal)?;
    let layout = Layout::new(&project.state_dir(), &project.target);
    let _guard = exclusive(&layout, cancel, sink)?;
    let mut keys = BTreeMap::new();
    if matches!(goal, Goal::Build { .. }) {
        for runtime in &scope.runtimes {
            let key = keys::RuntimeKey::find(options, project, &layout, runtime, sink)?;
            keys.insert(runtime.name.clone(), key);
        }
    }
    let context = Context {
        options,
        project,
        sdk: HostSdk::new(
            options.exe.clone(),
            Mounts {
                state: project.state_dir(),
                source: project.src_dir.clone(),
            },
        ),
        lock: Mutex::new(LockFile::load(&project.src_dir)?),
        feed: feed::Feed::new(project),
        cancel,
        checkout_mode: fs::metadata(&project.config_path).map_or(0o644, |m| m.mode()),
        layout: layout.clone(),
    };
    let stamps = Stamps {
        directory: layout.stamps(),
        prefix: layout.prefix().to_owned(),
        target: project.target.as_str(),
        cli_version: &options.cli_version,
        now: options.now,
        enabled: options.stamps,
    };
    let (graph, placed) = Planner::plan(&context, goal, &scope, &keys)?;
    let finished = graph::run(&graph, options.jobs, &stamps, cancel, sink)?;
    let artifacts = artifacts(project, &layout, &placed, &finished)?;
    Ok(Report {
        artifacts,
        processes: context.sdk.processes(),
        ran: finished.ran,
        skipped: finished.skipped,
    })
}

/// Moves the project to the newest snapshot of its feed and forgets the locked versions of its
/// packages; the next install chooses and locks again.
///
/// # Errors
/// When the feed does not answer or the lock cannot be read or written.
pub fn update(options: &Options, cancel: &Cancel, sink: &dyn Sink) -> Result<Updated, Error> {
    let project = &options.project;
    let layout = Layout::new(&project.state_dir(), &project.target);
    let _guard = exclusive(&layout, cancel, sink)?;
    let mut lock = LockFile::load(&project.src_dir)?;
    let newest = feed::Feed::new(project).latest()?;
    let pin = lock.target(&project.target).and_then(|t| t.snapshot());
    let old = pin.map(|pin| pin.snapshot.clone());
    let new = newest.as_ref().map(|pin| pin.snapshot.clone());
    lock.clear_target(&project.target);
    lock.target_mut(&project.target).set_snapshot(newest);
    lock.save()?;
    Ok(Updated { old, new })
}

/// The whole of the hidden `avocado step`: reads a step as JSON on standard input, does it, and
/// writes events and the result as NDJSON to standard output.
pub fn step_main() -> ExitCode {
    avocado_sdk::worker::main(steps::work)
}

/// Waits until no other run works on the same state, and keeps others out until dropped.
fn exclusive(layout: &Layout, cancel: &Cancel, sink: &dyn Sink) -> Result<Option<fs::File>, Error> {
    use rustix::fs::{FlockOperation, flock};
    let path = layout.lock();
    let mut told = false;
    loop {
        let created = fs::create_dir_all(layout.prefix()).and_then(|()| fs::File::create(&path));
        let file = match created {
            // Nothing can be changed, so nobody has to be kept out.
            Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => return Ok(None),
            created => created.at("create", &path)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // `avocado clean` may have removed the file between the opening and the locking.
            Ok(()) if same_file(&file, &path) => return Ok(Some(file)),
            Ok(()) => continue,
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(e) => return Err(std::io::Error::from(e)).at("lock", &path),
        }
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if !told {
            sink.emit(Event::info(
                "waiting for another avocado that works on this project",
            ));
            told = true;
        }
        std::thread::sleep(WAIT_INTERVAL);
    }
}

fn same_file(file: &fs::File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn artifacts(
    project: &Project,
    layout: &Layout,
    placed: &Placed,
    finished: &Finished,
) -> Result<Vec<Artifact>, Error> {
    let mut artifacts = Vec::new();
    let mut add = |kind: &str, name: String, path: PathBuf, size: u64, sha256: Digest| {
        artifacts.push(Artifact {
            kind: kind.into(),
            name,
            path,
            size,
            sha256,
        });
    };
    for extension in &project.extensions {
        if let Some(id) = placed.images.get(&extension.name) {
            let Imaged { image, .. } = detail(finished.outcome(*id)?)?;
            let path = layout.extension_image(&extension.name, &extension.version);
            let name = format!("{}-{}", extension.name, extension.version);
            add("extension", name, path, image.size, image.sha256);
        }
    }
    for runtime in &project.runtimes {
        let name = &runtime.name;
        let format = |list: &[(Name, avocado_project::OsImage)], wanted: &Name| {
            let found = list.iter().find(|(n, _)| n == wanted);
            found.map_or("", |(_, os)| image::extension(os.filesystem))
        };
        if let Some(id) = placed.rootfs_images.get(name) {
            let OsImaged { image, .. } = detail(finished.outcome(*id)?)?;
            let path = layout.os_image("rootfs", name, format(&project.rootfs, &runtime.rootfs));
            add("rootfs", name.to_string(), path, image.size, image.sha256);
        }
        if let Some(id) = placed.initramfs_images.get(name) {
            let OsImaged { image, .. } = detail(finished.outcome(*id)?)?;
            let path = layout.os_image(
                "initramfs",
                name,
                format(&project.initramfs, &runtime.initramfs),
            );
            add(
                "initramfs",
                name.to_string(),
                path,
                image.size,
                image.sha256,
            );
        }
        if let Some(id) = placed.runtimes.get(name) {
            let Assembled {
                id,
                manifest,
                var_image,
            } = detail(finished.outcome(*id)?)?;
            let var = layout.var_image(name);
            add(
                "var",
                name.to_string(),
                var,
                var_image.size,
                var_image.sha256,
            );
            let title = format!("{name} {}", id.short());
            add(
                "manifest",
                title,
                layout.manifest(name),
                manifest.size,
                manifest.sha256,
            );
            let repository = layout.repository(name);
            let size = size_of(&repository);
            add(
                "repository",
                name.to_string(),
                repository,
                size,
                manifest.sha256,
            );
        }
        if let Some(id) = placed.vm_images.get(name)
            && let Some(made) = steps::vm_image::made(finished.outcome(*id)?)?
        {
            let path = layout.vm_image(name);
            add("vm", name.to_string(), path, made.size, made.sha256);
        }
    }
    Ok(artifacts)
}

/// The bytes of all files below a directory, hard links counted once.
fn size_of(directory: &Path) -> u64 {
    let mut seen = std::collections::BTreeSet::new();
    walkdir::WalkDir::new(directory)
        .into_iter()
        .filter_map(Result::ok)
        .filter_map(|entry| entry.metadata().ok())
        .filter(|m| m.is_file() && seen.insert((m.dev(), m.ino())))
        .map(|m| m.len())
        .sum()
}
