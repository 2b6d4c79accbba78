//! Hardware in the loop: extensions that are mounted from the machine where they are written, in the
//! place of their images.
//!
//! A mount is a directory below `/run/avocado/hitl`, and what is mounted is written down in
//! `/run/avocado/hitl.json`; both end with the boot. The set of extensions that is merged takes the
//! directory in the place of the image of that name (`extension_set`), so that it has the same rank.
//!
//! The server is a developer's machine, which goes away at any time. The mounts are soft, so that a
//! call fails instead of waiting for ever, and [`watch()`] notices: it takes the mounts away and
//! merges the images again. Nothing of `/usr` works while the overlay there asks a server that is
//! gone, so the overlays go before any program is started.

mod export;
mod mounted;
mod record;
mod server;
mod unit;
mod watch;

use std::net::IpAddr;

use avocado_events::{Cancel, Event, Sink, chain};
use avocado_manifest::Name;

use crate::context::DeviceContext;
use crate::error::{DeviceError, FailureReason};
use crate::merge::service_manager::ServiceManager;
use crate::merge::state::MergedState;
use crate::merge::{MergeMode, units};
use crate::merging::merge_wanted;
use crate::store::lock::StoreLock;
pub(crate) use mounted::mounted;
use record::{HitlMount, HitlRecord};
pub use server::HitlServer;
pub(crate) use unit::bind_services;
pub use watch::HitlWatchEnd;
pub(crate) use watch::watch;

/// Which extensions are to be mounted, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HitlRequest {
    /// The server.
    pub server: HitlServer,
    /// The names of the extensions, which are those of the exports.
    pub extensions: Vec<String>,
}

impl HitlRequest {
    /// The extensions of the server at `address`. The port is the one that servers have if none is
    /// told.
    pub fn new(address: IpAddr, port: Option<u16>, extensions: Vec<String>) -> Self {
        HitlRequest {
            server: HitlServer::new(address, port),
            extensions,
        }
    }
}

/// Mounts extensions and merges them in the place of their images. Of several, all are mounted or
/// none.
pub(crate) fn mount(
    context: &DeviceContext,
    request: &HitlRequest,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let failed = |extension: &str, source| DeviceError::HitlMount {
        extension: extension.to_owned(),
        source: Box::new(source),
    };
    let names = names(&request.extensions).map_err(|(name, why)| failed(name, why))?;
    let Some(first) = names.first() else {
        return Err(failed("", FailureReason::HitlNothingNamed));
    };
    let refused = |source| failed(first.as_str(), source);
    // A port at which nothing listens is told at once, and not after the patience of a mount.
    request.server.probe().map_err(|source| {
        refused(FailureReason::HitlServer {
            server: request.server,
            source,
        })
    })?;
    let lock = context.lock_store(&Cancel::new(), sink).map_err(refused)?;
    mount_all(context, request, &names, &lock, sink).map_err(|(name, source)| {
        // What was mounted from elsewhere under these names is gone with it: the images are back.
        if let Err((_, reason)) = take_away(context, &names, ServerState::There, &lock, sink) {
            report(sink, Err(reason));
        }
        failed(name.as_str(), source)
    })
}

fn mount_all(
    context: &DeviceContext,
    request: &HitlRequest,
    names: &[Name],
    lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<(), (Name, FailureReason)> {
    let paths = &context.paths;
    let mut record = HitlRecord::load(paths).without(names);
    for name in names {
        sink.emit(Event::info(format!(
            "mounting {name} from {}",
            request.server
        )));
        mounted::mount(paths, &request.server, name).map_err(|e| (name.clone(), e))?;
        record.mounts.push(HitlMount {
            name: name.clone(),
            server: request.server,
            id: record::new_id(),
            revision: export::revision(&mounted::place(paths, name)),
        });
    }
    let Some(first) = names.first() else {
        return Ok(());
    };
    let of_first = |e| (first.clone(), e);
    record.save(paths).map_err(of_first)?;
    // Before the merge, which a server that goes away would make wait.
    watch::start(paths, sink).map_err(of_first)?;
    merge_wanted(context, MergeMode::Always, lock, sink)
        .map_err(|error| of_first(FailureReason::Merge(Box::new(error))))
}

/// Merges the images again and unmounts.
pub(crate) fn unmount(
    context: &DeviceContext,
    extensions: &[String],
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let failed = |extension: &str, source| DeviceError::HitlUnmount {
        extension: extension.to_owned(),
        source: Box::new(source),
    };
    let names = names(extensions).map_err(|(name, why)| failed(name, why))?;
    let Some(first) = names.first() else {
        return Err(failed("", FailureReason::HitlNothingNamed));
    };
    let refused = |source| failed(first.as_str(), source);
    let lock = context.lock_store(&Cancel::new(), sink).map_err(refused)?;
    let record = HitlRecord::load(&context.paths);
    if let Some(name) = names.iter().find(|name| record.get(name).is_none()) {
        return Err(failed(name.as_str(), FailureReason::HitlNotMounted));
    }
    let mut mounts = names.iter().filter_map(|name| record.get(name));
    let server = if mounts.any(|mount| mount.server.probe().is_err()) {
        ServerState::Gone
    } else {
        ServerState::There
    };
    let gone = take_away(context, &names, server, &lock, sink);
    gone.map_err(|(name, reason)| failed(name.as_str(), reason))
}

/// Whether what is mounted can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerState {
    There,
    /// Everything that could ask it is cut off first.
    Gone,
}

/// Forgets mounts, merges what takes their place, and unmounts. What was unmerged stays so.
fn take_away(
    context: &DeviceContext,
    names: &[Name],
    server: ServerState,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<(), (Name, FailureReason)> {
    let Some(first) = names.first() else {
        return Ok(());
    };
    let of_first = |reason| (first.clone(), reason);
    let paths = &context.paths;
    let mode = match server {
        ServerState::There => MergeMode::IfNeeded,
        ServerState::Gone => {
            mounted::cut_off(paths, names, sink);
            MergeMode::Always
        }
    };
    release_services(context, names, server, sink);
    let record = HitlRecord::load(paths).without(names);
    record.save(paths).map_err(of_first)?;
    let merged = if MergedState::load(&paths.merged()).is_nothing() {
        Ok(())
    } else {
        merge_wanted(context, mode, lock, sink)
            .map_err(|error| of_first(FailureReason::Merge(Box::new(error))))
    };
    for name in names {
        mounted::unmount(paths, name).map_err(|reason| (name.clone(), reason))?;
    }
    merged
}

/// Ends the services that need the mounts of extensions, unless they end with their server, and lets
/// them do without: their images may have them as well. What goes wrong is told and passed over.
fn release_services(context: &DeviceContext, names: &[Name], server: ServerState, sink: &dyn Sink) {
    let paths = &context.paths;
    let Some(manager) = ServiceManager::running(paths) else {
        return;
    };
    let own = units::own_unit();
    let mut any = false;
    for name in names {
        if server == ServerState::There {
            let stopped = unit::bound(paths, name).and_then(|bound| {
                let bound = bound
                    .iter()
                    .filter(|service| own.as_ref() != Some(*service));
                let bound: Vec<&str> = bound.map(String::as_str).collect();
                manager.stop(&bound, context.config.hook_timeout)
            });
            report(sink, stopped);
        }
        match unit::unbind(paths, name) {
            Ok(bound) => any |= bound,
            Err(reason) => report(sink, Err(reason)),
        }
    }
    if any {
        report(sink, manager.reload());
    }
}

/// Names as they may be used: what a client says must not lead out of a directory.
fn names(extensions: &[String]) -> Result<Vec<Name>, (&str, FailureReason)> {
    let mut names: Vec<Name> = Vec::new();
    for text in extensions {
        let name: Name = text
            .parse()
            .map_err(|source| (text.as_str(), FailureReason::HitlName(source)))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn report(sink: &dyn Sink, result: Result<(), FailureReason>) {
    if let Err(reason) = result {
        sink.emit(Event::warning(chain(&reason)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_name_and_no_path() {
        let of = |text: &str| names(&[text.to_owned()]).map(|_| ()).map_err(drop);
        for good in ["app", "my-ext", "a.b_c", "a+b"] {
            assert!(of(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../../evil",
            "a/b",
            "/etc",
            "a\0b",
            "a b",
            "a\n",
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
        let twice = names(&["a".to_owned(), "b".to_owned(), "a".to_owned()]).unwrap();
        assert_eq!(twice.len(), 2);
    }
}
