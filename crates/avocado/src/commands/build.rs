//! The commands that build: each one is a goal for the engine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use avocado_build::{Artifact, Cancel, Goal, Options, Report};
use avocado_events::{Event, Sink};
use avocado_manifest::Name;
use avocado_project::Project;
use serde_json::{Value, json};

use super::{Session, project};
use crate::cli::{
    Backend, BuildArgs, ExtArgs, ExtImageArgs, ImageArgs, InstallArgs, RuntimeSelection, ToolArgs,
};
use crate::failure::{Code, Context, Failure, Result};
use crate::interrupt::on_interrupt;
use crate::output::{Start, Summary, text};

pub(super) use avocado_build::step_main;

pub(super) fn install(session: &Session, args: &InstallArgs) -> Result<()> {
    Work::new(session, "install", &args.tools)?.run(Goal::Install)
}

pub(super) fn build(session: &Session, args: &BuildArgs) -> Result<()> {
    let work = Work::new(session, "build", &args.tools)?;
    match &args.extension {
        Some(extension) => work.run(Goal::ExtImage(Some(extension.clone()))),
        None => work.run_runtime(args.runtime.as_ref()),
    }
}

pub(super) fn runtime_build(
    session: &Session,
    runtime: &RuntimeSelection,
    tools: &ToolArgs,
) -> Result<()> {
    Work::new(session, "runtime build", tools)?.run_runtime(runtime.name())
}

pub(super) fn ext_build(session: &Session, args: &ExtArgs) -> Result<()> {
    Work::new(session, "ext build", &args.tools)?.run(Goal::ExtBuild(args.name().cloned()))
}

pub(super) fn ext_image(session: &Session, args: &ExtImageArgs) -> Result<()> {
    Work::new(session, "ext image", &args.ext.tools)?
        .copy_to(args.out_dir.as_deref())
        .run(Goal::ExtImage(args.ext.name().cloned()))
}

pub(super) fn rootfs_image(session: &Session, args: &ImageArgs) -> Result<()> {
    Work::new(session, "rootfs image", &args.tools)?
        .copy_to(args.out_dir.as_deref())
        .run(Goal::RootfsImage)
}

pub(super) fn initramfs_image(session: &Session, args: &ImageArgs) -> Result<()> {
    Work::new(session, "initramfs image", &args.tools)?
        .copy_to(args.out_dir.as_deref())
        .run(Goal::InitramfsImage)
}

pub(super) fn update(session: &Session) -> Result<()> {
    let options = options(session, None)?;
    start(session, "update", &options.project, None);
    let cancel = cancellable(session)?;
    let updated =
        avocado_build::update(&options, &cancel, &*session.output).map_err(|e| failure(&e))?;
    let closing = match (&updated.old, &updated.new) {
        (Some(old), Some(new)) if old == new => format!("{new} is the newest snapshot"),
        (Some(old), Some(new)) => format!("moved from snapshot {old} to {new}"),
        (None, Some(new)) => format!("pinned to snapshot {new}"),
        (_, None) => "the feed has no snapshots; the package pins are cleared".to_owned(),
    };
    session.output.complete(Summary {
        fields: BTreeMap::from([("old", updated.old), ("new", updated.new)])
            .into_iter()
            .map(|(key, snapshot)| (key.to_owned(), json!(snapshot)))
            .collect(),
        closing: closing + "\nNext: avocado install",
        ..Summary::default()
    })
}

/// One run of the engine.
struct Work<'a> {
    session: &'a Session,
    action: &'static str,
    options: Options,
    out_dir: Option<&'a Path>,
}

impl<'a> Work<'a> {
    fn new(session: &'a Session, action: &'static str, tools: &ToolArgs) -> Result<Self> {
        check_backend(session, tools)?;
        if !tools.container_args.is_empty() {
            let ignored = "--container-arg has no effect: the host backend runs no container";
            session.output.emit(Event::warning(ignored));
        }
        Ok(Work {
            session,
            action,
            options: options(session, Some(tools))?,
            out_dir: None,
        })
    }

    /// Also copies the artifacts into a directory.
    fn copy_to(mut self, out_dir: Option<&'a Path>) -> Self {
        self.out_dir = out_dir;
        self
    }

    /// Builds the runtime that was named, here or in the environment, or all of them.
    fn run_runtime(self, named: Option<&Name>) -> Result<()> {
        let runtime = match named {
            Some(name) => Some(name.clone()),
            None => self.session.environment.runtime()?,
        };
        self.run(Goal::Build { runtime })
    }

    fn run(self, goal: Goal) -> Result<()> {
        let session = self.session;
        let began = Instant::now();
        let runtime = match &goal {
            Goal::Build { runtime } => runtime.clone(),
            _ => None,
        };
        start(
            session,
            self.action,
            &self.options.project,
            runtime.as_ref(),
        );
        let cancel = cancellable(session)?;
        let report = avocado_build::run(&self.options, &goal, &cancel, &*session.output)
            .map_err(|e| failure(&e))?;
        let here = session.environment.current_dir()?;
        let copied = match self.out_dir {
            Some(dir) => copy_artifacts(&report.artifacts, dir)?,
            None => Vec::new(),
        };
        for path in &copied {
            session
                .output
                .emit(Event::info(format!("copied to {}", path.display())));
        }
        session
            .output
            .complete(summary(&report, &copied, began.elapsed(), &here))
    }
}

/// This version has one backend. The other one is refused rather than replaced.
fn check_backend(session: &Session, tools: &ToolArgs) -> Result<()> {
    let container = match (tools.sdk, session.environment.sdk()) {
        (Some(backend), _) => backend == Backend::Container,
        (None, None | Some("host")) => false,
        (None, Some("container")) => true,
        (None, Some(other)) => {
            return Err(Failure::usage(format!(
                "AVOCADO_SDK is `{}`, not `host` or `container`",
                other.escape_debug()
            )));
        }
    };
    match container {
        false => Ok(()),
        true => Err(Failure::usage("the container backend is not available in this version")
            .hint("use --sdk host: it needs dnf and the image writers on PATH, and no container engine")),
    }
}

fn options(session: &Session, tools: Option<&ToolArgs>) -> Result<Options> {
    let environment = &session.environment;
    Ok(Options {
        project: project::load(session)?,
        exe: environment.exe()?,
        search_path: environment.search_path(),
        proxy_environment: environment.proxies(),
        jobs: environment.jobs()?,
        stamps: !session.global.no_stamps,
        dnf_args: tools.map_or_else(Vec::new, |tools| tools.dnf_args.clone()),
        keyring: environment.signing_keys().ok(),
        now: environment.now(),
        cli_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn start(session: &Session, action: &str, project: &Project, runtime: Option<&Name>) {
    session.output.start(&Start {
        action,
        target: Some(project.target.as_str()),
        runtime: runtime.map(Name::as_str),
    });
}

/// A wish to stop that Ctrl-C expresses.
fn cancellable(session: &Session) -> Result<Cancel> {
    let cancel = Cancel::new();
    let stop = cancel.clone();
    on_interrupt(&session.output, move || stop.cancel())?;
    Ok(cancel)
}

fn failure(error: &avocado_build::Error) -> Failure {
    let failure = Failure::from_error(error).maybe_hint(error.hint());
    match error.is_cancelled() {
        true => Failure {
            code: Code::Interrupted,
            ..failure
        },
        false => failure,
    }
}

/// Copies each artifact under its own name: complete and by rename, so that a reader of the
/// directory sees the old file or the new one.
fn copy_artifacts(artifacts: &[Artifact], dir: &Path) -> Result<Vec<PathBuf>> {
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
fn summary(report: &Report, copied: &[PathBuf], time: Duration, here: &Path) -> Summary {
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
    let mut summary = Summary::default();
    for (key, value) in [
        ("ran", json!(report.ran.len())),
        ("skipped", json!(report.skipped.len())),
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
            vec![
                a.kind.clone(),
                a.name.clone(),
                text::bytes(a.size),
                digest,
                a.path
                    .strip_prefix(here)
                    .unwrap_or(&a.path)
                    .display()
                    .to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = report.artifacts.iter().map(row).collect();
        summary.data = text::table(&["KIND", "NAME", "SIZE", "SHA256", "PATH"], &rows);
    }
    let time = text::duration(time);
    let (ran, skipped) = (report.ran.len() as u64, report.skipped.len() as u64);
    summary.closing = match ran {
        0 => format!(
            "Nothing to do: {} up to date ({time})",
            text::count(skipped, "step")
        ),
        _ => format!(
            "Done: {} run, {skipped} up to date ({time})",
            text::count(ran, "step")
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
