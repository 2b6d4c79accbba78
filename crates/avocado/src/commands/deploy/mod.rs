//! `avocado deploy`: serves the repository of a built runtime and has a device fetch, verify and
//! activate it.

mod address;
mod renew;
mod route;
mod served;
mod ssh;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use avocado_build::Layout;
use avocado_events::{Event, Sink};
use avocado_manifest::{Manifest, Name};
use avocado_serve::Server;
use avocado_tuf::Keyring;
use serde_json::json;

pub(crate) use address::Address;

use super::{Session, project, quote};
use crate::cli::DeployArgs;
use crate::environment::Port;
use crate::failure::{Failure, Result};
use crate::interrupt::on_interrupt;
use crate::output::{Start, Summary, text};
use route::Route;
use served::{Names, Served};
use ssh::{Ssh, Stream};

/// The stage of what a device says.
const STAGE: &str = "device";

pub(super) fn run(session: &Session, args: &DeployArgs) -> Result<()> {
    let output = &session.output;
    let project = project::load(session)?;
    let runtime = project::runtime(session, &project, args.runtime.name())?;
    output.start(&Start {
        action: "deploy",
        target: Some(project.target.as_str()),
        runtime: Some(runtime.name.as_str()),
    });
    let layout = project::layout(&project);
    let manifest = built(&layout, &runtime.name)?;
    let repository = layout.repository(&runtime.name);

    let ssh = Ssh {
        address: &args.device,
        extra: &args.ssh_args,
    };
    let route = Route::to(&ssh.resolve_alias()?, session.environment.deploy_host())?;
    let keyring = Keyring::new(session.environment.signing_keys()?);
    renew::renew(&repository, &keyring, session.environment.now(), &**output)?;

    let served = Served::default();
    let server = serve(session, &route, &repository, &served)?;
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
    let names = Names::new(&manifest);
    // One session for both: one login, and nothing is activated that was not added.
    let remote = format!(
        "avocadoctl runtime add --url {} && avocadoctl runtime activate {}",
        quote(&url),
        quote(id.as_str())
    );
    let mut device = DeviceTalk::default();
    let done = ssh.run(
        &remote,
        |stream, line| {
            if let Some(event) = device.event(stream, line) {
                output.emit(event);
            }
        },
        || {
            served.report(&names, &**output);
            !interrupted.load(Ordering::Relaxed)
        },
    );
    drop(server);
    let bytes = served.finish(&**output);
    done?;

    let mut summary = Summary::default();
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

/// Serves the repository. Where nobody asked for a certain port and the usual one is taken, any
/// other will do.
fn serve(session: &Session, route: &Route, repository: &Path, served: &Served) -> Result<Server> {
    let port = session.environment.deploy_port()?;
    let start = |port| {
        Server::start(avocado_serve::Options {
            address: route.socket(port),
            on_request: Some(served.listener()),
            ..avocado_serve::Options::new(repository)
        })
    };
    let started = match (start(port), port) {
        (Err(avocado_serve::Error::Listen { source, .. }), Port::Default(usual))
            if source.kind() == ErrorKind::AddrInUse =>
        {
            let server = start(Port::Fixed(0));
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
            avocado_serve::Error::Listen { .. } => {
                Some("set AVOCADO_DEPLOY_REPO_PORT to a free port")
            }
            _ => None,
        };
        Failure::from_error(&e).maybe_hint(hint)
    })
}

/// The lines of a device, as events.
#[derive(Default)]
struct DeviceTalk {
    last: String,
}

impl DeviceTalk {
    /// The event for a line; `None` for one that only repeats the line before it. What is the
    /// answer of a command on the device is for those who want to see everything: the summary of
    /// the deployment says the same.
    fn event(&mut self, stream: Stream, line: &str) -> Option<Event> {
        let line = text::plain(line);
        if stream == Stream::Answer {
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
    use avocado_events::Kind;

    #[test]
    fn a_device_is_not_quoted_twice() {
        use Stream::{Answer, Talk};
        let mut device = DeviceTalk::default();
        let mut said = Vec::new();
        for (stream, line) in [
            (Talk, "metadata: http://host"),
            (Talk, "metadata: http://host"),
            (Talk, "add: runtime 1 is staged"),
            (Answer, "Runtime dev is staged: 1"),
            (Talk, "metadata: http://host"),
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
                (Kind::Info, "metadata: http://host"),
                (Kind::Info, "add: runtime 1 is staged"),
                (Kind::Output, "Runtime dev is staged: 1"),
                (Kind::Info, "metadata: http://host"),
            ]
        );
    }
}
