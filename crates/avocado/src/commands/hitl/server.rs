//! `avocado hitl server`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use avocado_events::{Event, Sink};
use avocado_fs::LockPlace;
use avocado_manifest::Name;
use avocado_nfs::{
    ExportTree, NfsAccess, NfsClients, NfsError, NfsExport, NfsServer, NfsServerOptions,
};
use serde_json::json;

use super::HitlServerArgs;
use super::follow::Follower;
use crate::commands::project_owner::become_owner;
use crate::commands::{build_run, nfs_server, project};
use crate::failure::{Context, Failure, Result};
use crate::output::WorkSummary;
use crate::session::Session;

/// How long it is between two looks at the sources.
const PAUSE: Duration = Duration::from_millis(300);

pub(super) fn run(session: &Session, args: &HitlServerArgs) -> Result<()> {
    let project = project::load(session)?;
    let names = names(args);
    let program = nfs_server::program(session)?;
    become_owner(session, &project.config_path)?;
    let layout = project::layout(&project);
    build_run::start(session, "hitl server", &project, None);
    let cancel = build_run::cancellable(session)?;

    let place = ServerPlace::take(layout.hitl(), &layout.hitl_lock())?;
    let mut trees = Vec::new();
    let mut exports = Vec::new();
    for name in &names {
        let export = place.directory.join("export").join(name);
        let scratch = place.directory.join("scratch").join(name);
        let tree = ExportTree::new(layout.extension(name), export.clone(), scratch);
        trees.push((name.clone(), tree.map_err(|e| Failure::from_error(&e))?));
        exports.push(NfsExport {
            name: name.clone(),
            path: export,
            access: NfsAccess::Read,
        });
    }
    let mut follower = Follower::new(session, args, &cancel, trees);
    follower.begin()?;

    let options = NfsServerOptions {
        program,
        address: SocketAddr::new(address(args), args.port),
        directory: place.directory.clone(),
        exports,
        first_number: 1,
        clients: NfsClients::Everyone,
    };
    let mut server = NfsServer::start(&options).map_err(|e| failure(&e, args.port))?;
    tell(session, &names, options.address);
    while !cancel.is_cancelled() {
        thread::sleep(PAUSE);
        if cancel.is_cancelled() {
            break;
        }
        server.check().map_err(|e| failure(&e, args.port))?;
        follower.go_on();
    }
    drop(server);
    let mut summary = WorkSummary {
        closing: "Stopped: devices go back to the images".to_owned(),
        ..WorkSummary::default()
    };
    let fields = &mut summary.fields;
    fields.insert("extensions".to_owned(), json!(names));
    session.output.complete(summary)
}

/// Each once, in the order in which they were named.
fn names(args: &HitlServerArgs) -> Vec<Name> {
    let mut names = Vec::new();
    for name in &args.extensions {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// All addresses, of both kinds where there are both, unless one was named.
fn address(args: &HitlServerArgs) -> IpAddr {
    let every = || match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    };
    args.address.unwrap_or_else(every)
}

fn failure(error: &NfsError, port: u16) -> Failure {
    let failure = Failure::from_error(error);
    match error {
        NfsError::Address { .. } => failure.hint(format!(
            "something else listens there, perhaps another `avocado hitl server`: choose another port \
             with --port (and `avocadoctl hitl mount --server-port`), or see `ss -ltnp sport = :{port}`"
        )),
        _ => failure,
    }
}

fn tell(session: &Session, names: &[Name], address: SocketAddr) {
    let extensions: Vec<String> = names.iter().map(|name| format!(" -e {name}")).collect();
    let document = json!({
        "event": "listening",
        "address": address.to_string(),
        "extensions": names,
    });
    if !session.output.document(&document) {
        let port = match address.port() {
            12049 => String::new(),
            port => format!(" -p {port}"),
        };
        session.output.emit(Event::info(format!(
            "listening at {address}; on the device: avocadoctl hitl mount -s ADDRESS{port}{}",
            extensions.concat()
        )));
    }
}

/// The directory of one server, which is removed with it. One that a killed server left goes with the
/// next.
struct ServerPlace {
    directory: PathBuf,
    _lock: avocado_fs::FileLock,
}

impl ServerPlace {
    fn take(directory: PathBuf, lock: &Path) -> Result<Self> {
        let failed = || format!("cannot use {}", directory.display());
        if let Some(parent) = directory.parent() {
            std::fs::create_dir_all(parent).context(failed)?;
        }
        let lock = LockPlace::file(lock).try_lock().context(failed)?;
        let lock = lock.ok_or_else(|| {
            Failure::new("another `avocado hitl server` runs for this project and target")
                .hint("stop it, or name all extensions to one of them: -e A -e B")
        })?;
        avocado_fs::remove_tree(&directory).context(failed)?;
        std::fs::create_dir(&directory).context(failed)?;
        Ok(ServerPlace {
            directory,
            _lock: lock,
        })
    }
}

impl Drop for ServerPlace {
    fn drop(&mut self) {
        let _ = avocado_fs::remove_tree(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part of what an edit takes to get to a device, which is to be 2 s at most with a second for the
    /// device's kernel.
    #[test]
    fn the_sources_are_looked_at_several_times_a_second() {
        assert!(PAUSE * 3 <= Duration::from_secs(1));
    }
}
