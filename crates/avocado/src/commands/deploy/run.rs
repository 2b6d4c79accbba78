//! Serves the repository of a built runtime and has a device fetch, verify and activate it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use avocado_build::{Layout, OutdatedTask};
use avocado_events::{Event, Sink, chain};
use avocado_manifest::{Manifest, Name};
use avocado_project::Project;
use avocado_serve::{FileServer, ServeError, ServeOptions};
use avocado_tuf::{Keyring, SigningKey};
use serde_json::json;

use super::DeployArgs;
use super::remote::{self, AnswerForm};
use super::renew_metadata;
use super::route::DeviceRoute;
use super::ssh::{Ssh, SshFailure, Stream};
use super::transfer::{ImageNames, TransferProgress};
use crate::commands::build_run;
use crate::commands::project;
use crate::environment::DeployPort;
use crate::failure::{Failure, Result};
use crate::interrupt::on_interrupt;
use crate::output::{WorkStart, WorkSummary};
use crate::session::Session;

/// The stage of what a device says.
const STAGE: &str = "device";

pub(in crate::commands) fn run(session: &Session, args: &DeployArgs) -> Result<()> {
    let output = &session.output;
    let project = project::load(session)?;
    let runtime = project::runtime(session, &project, args.runtime.name())?;
    output.start(&WorkStart {
        action: "deploy",
        target: Some(project.target.as_str()),
        runtime: Some(runtime.name.as_str()),
    });
    let layout = project::layout(&project);
    let manifest = built(&layout, &runtime.name)?;
    tell_if_outdated(session, args, &project, &runtime.name)?;
    let repository = layout.repository(&runtime.name);

    let ssh = Ssh::new(&args.device, &args.ssh_args)?;
    let route = DeviceRoute::to(ssh.host(), session.environment.deploy_host())?;
    let environment = &session.environment;
    let of_owner = environment.signing_keys_of_owner(&project.src_dir);
    let keyrings = std::iter::once(environment.signing_keys()?).chain(of_owner);
    let keyrings: Vec<Keyring> = keyrings.map(Keyring::new).collect();
    renew_metadata::renew(&repository, &keyrings, environment.now(), &**output)?;

    let transfer = TransferProgress::default();
    let token = token()?;
    let server = serve(session, &route, &repository, &token, &transfer)?;
    let url = route.url(server.address().port());
    let id = &manifest.id;
    output.emit(Event::info(format!(
        "deploying {} {} ({}) to {} from {url}",
        manifest.runtime.name,
        manifest.runtime.version,
        id.short(),
        args.device
    )));

    let interrupted = Arc::new(AtomicBool::new(false));
    let stop = interrupted.clone();
    on_interrupt(output, move || stop.store(true, Ordering::Relaxed))?;
    let names = ImageNames::new(&manifest);
    let mut lines = DeviceLines::default();
    let mut run = |form| {
        ssh.run(
            &remote::deploy_command(form, &url, id.as_str()),
            &format!("{token}\n"),
            |stream, line| {
                if let Some(event) = lines.event(stream, line) {
                    output.emit(event);
                }
            },
            || {
                transfer.report(&names, &**output);
                !interrupted.load(Ordering::Relaxed)
            },
        )
    };
    let done = match run(AnswerForm::Json) {
        Err(SshFailure::Command(failed)) if remote::knows_no_json(&failed) => run(AnswerForm::Text),
        done => done,
    };
    let done = done.map_err(|failure| match failure {
        SshFailure::Ssh(failure) => failure,
        SshFailure::Command(failed) => remote::explain(&args.device, &failed),
    });
    drop(server);
    let bytes = transfer.finish(&**output);
    done?;

    let mut summary = WorkSummary::default();
    for (key, value) in [
        ("runtime", json!(manifest.runtime.name)),
        ("version", json!(manifest.runtime.version)),
        ("id", json!(id.as_str())),
        ("device", json!(args.device.to_string())),
        ("bytes", json!(bytes)),
    ] {
        summary.fields.insert(key.to_owned(), value);
    }
    summary.closing = format!(
        "{} {} ({}) is active on {}",
        manifest.runtime.name,
        manifest.runtime.version,
        id.short(),
        args.device
    );
    output.complete(summary)
}

/// What this deployment's server asks of everyone: others on the network get nothing.
fn token() -> Result<String> {
    let bytes = SigningKey::random_seed().map_err(|e| Failure::from_error(&e))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The manifest of the last build of the runtime.
fn built(layout: &Layout, runtime: &Name) -> Result<Manifest> {
    let path = layout.manifest(runtime);
    let cannot_read = || Failure::new(format!("cannot read {}", path.display()));
    match fs::read(&path) {
        Ok(bytes) => Manifest::parse(&bytes).map_err(|e| cannot_read().because(&e)),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(Failure::new(format!("runtime `{runtime}` is not built"))
                .hint("run `avocado build` first"))
        }
        Err(e) => Err(cannot_read().because(&e)),
    }
}

/// A build would make another runtime by now: that is told, or an error where the user wants that.
fn tell_if_outdated(
    session: &Session,
    args: &DeployArgs,
    project: &Project,
    runtime: &Name,
) -> Result<()> {
    let what = match build_run::outdated(session, project.clone(), runtime, &args.built_with)? {
        Ok(None) => return Ok(()),
        Ok(Some(OutdatedTask { stage, reason })) => format!(
            "runtime `{runtime}` is older than its sources: a build would run `{stage}` ({reason})"
        ),
        Err(error) => format!(
            "it cannot be told whether runtime `{runtime}` is older than its sources: {}",
            chain(&error)
        ),
    };
    if args.strict {
        return Err(Failure::new(what).hint(
            "run `avocado build` first; give --no-scripts, --dnf-arg and --backend here as well \
             if it was built with them",
        ));
    }
    session.output.emit(Event::warning(format!(
        "{what}; run `avocado build` first to deploy what is there now"
    )));
    Ok(())
}

/// Serves the repository. Where the user did not ask for a certain port and the usual one is
/// taken, any other will do.
fn serve(
    session: &Session,
    route: &DeviceRoute,
    repository: &Path,
    token: &str,
    transfer: &TransferProgress,
) -> Result<FileServer> {
    let port = session.environment.deploy_port()?;
    let listen = |address| {
        FileServer::start(ServeOptions {
            address,
            token: Some(token.to_owned()),
            on_request: Some(transfer.listener()),
            ..ServeOptions::new(repository)
        })
    };
    let start = |port| match listen(route.socket(port)) {
        Err(ServeError::Listen { source, .. }) if source.kind() == ErrorKind::AddrNotAvailable => {
            listen(route.socket_behind_forwarder(port))
        }
        started => started,
    };
    let started = match (start(port), port) {
        (Err(ServeError::Listen { source, .. }), DeployPort::Default(usual))
            if source.kind() == ErrorKind::AddrInUse =>
        {
            let server = start(DeployPort::Fixed(0));
            if let Ok(server) = &server {
                session.output.emit(Event::info(format!(
                    "port {usual} is taken; serving on port {}",
                    server.address().port()
                )));
            }
            server
        }
        (started, _) => started,
    };
    started.map_err(|e| {
        let hint = match e {
            ServeError::Listen { .. } => Some("set AVOCADO_DEPLOY_REPO_PORT to a free port"),
            _ => None,
        };
        Failure::from_error(&e).maybe_hint(hint)
    })
}

/// The lines of a device, as events.
#[derive(Default)]
struct DeviceLines {
    last: String,
}

impl DeviceLines {
    /// The event for a line; `None` for one that only repeats the line before it. What is the
    /// answer of a command on the device is for those who want to see everything: the summary of
    /// the deployment says the same.
    fn event(&mut self, stream: Stream, line: &str) -> Option<Event> {
        let line = avocado_text::strip(line);
        if stream == Stream::Stdout {
            return Some(Event::output(STAGE, line));
        }
        if line == self.last {
            return None;
        }
        self.last.clone_from(&line);
        Some(Event {
            stage: STAGE.to_owned(),
            ..Event::info(line)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use avocado_events::EventKind;

    #[test]
    fn a_device_is_not_quoted_twice() {
        use Stream::{Stderr, Stdout};
        let mut device = DeviceLines::default();
        let mut said = Vec::new();
        for (stream, line) in [
            (Stderr, "metadata: http://host"),
            (Stderr, "metadata: http://host"),
            (Stderr, "add: runtime 1 is staged"),
            (Stdout, "Runtime dev is staged: 1"),
            (Stderr, "metadata: http://host"),
        ] {
            if let Some(event) = device.event(stream, line) {
                assert_eq!(event.stage, "device");
                said.push((event.kind, event.message));
            }
        }
        let said: Vec<_> = said.iter().map(|(k, m)| (*k, m.as_str())).collect();
        assert_eq!(
            said,
            [
                (EventKind::Info, "metadata: http://host"),
                (EventKind::Info, "add: runtime 1 is staged"),
                (EventKind::Output, "Runtime dev is staged: 1"),
                (EventKind::Info, "metadata: http://host"),
            ]
        );
    }
}
