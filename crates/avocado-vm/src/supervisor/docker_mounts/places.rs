//! What a path of this machine is in the guest.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::super::guest::WORKSPACE;
use crate::access::GUEST_DOCKER_SOCKET;

/// Sockets of the guest's engine, under the names that programs expect.
const ENGINE_SOCKETS: [&str; 2] = ["/var/run/docker.sock", GUEST_DOCKER_SOCKET];
/// What containers get of the machine that they run on, which is the guest.
const GUEST_PLACES: [&str; 4] = ["/dev", "/proc", "/sys", "/lib/modules"];
/// Files of programs, in a place of the guest: only the place itself is the guest's.
const SHARED_MEMORY: &str = "/dev/shm";

/// What of this machine the guest has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPlaces {
    /// The directory that is shared, without links in its path.
    pub(crate) workspace: Option<PathBuf>,
    /// Where docker's clients reach the guest's engine.
    pub(crate) sockets: Vec<PathBuf>,
}

/// What a path of a request is in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GuestPath {
    /// It means the same there.
    Same,
    /// In the workspace, and where.
    Workspace(String),
    /// The socket of the guest's engine.
    Socket,
}

/// Why the guest cannot have a path.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotShared {
    /// Where it leads, if that is another one.
    #[error(
        "the VM cannot see {path}{leads_to}: it is not in {workspace}, the directory that this \
         machine shares with it. Share one that holds it with `avocado vm stop` and \
         `avocado vm start --workspace DIR`, or use a named volume"
    )]
    Outside {
        path: String,
        leads_to: String,
        workspace: String,
    },
    #[error(
        "the VM cannot see {0}: this machine shares no directory with it. Share one with \
         `avocado vm stop` and `avocado vm start --workspace DIR`, or use a named volume"
    )]
    NoWorkspace(String),
    #[error("the VM cannot see {path}: it cannot be resolved on this machine: {source}")]
    Unresolved { path: String, source: io::Error },
    #[error("the VM cannot see {0}: the names of the files that lead to it are not UTF-8")]
    NotUtf8(String),
}

impl HostPlaces {
    /// What `path`, which begins with a slash, is in the guest.
    pub(super) fn find(&self, path: &str) -> Result<GuestPath, NotShared> {
        let clean = without_dots(Path::new(path));
        if ENGINE_SOCKETS
            .iter()
            .any(|socket| clean == Path::new(socket))
        {
            return Ok(GuestPath::Same);
        }
        if self.is_of_the_guest(&clean, true) {
            return Ok(GuestPath::Same);
        }
        let resolved = resolve(&clean);
        if let Ok(real) = &resolved {
            let is_socket = |socket: &PathBuf| {
                *socket == clean || socket.canonicalize().is_ok_and(|socket| socket == *real)
            };
            if self.sockets.iter().any(is_socket) {
                return Ok(GuestPath::Socket);
            }
            if let Some(found) = self.in_workspace(path, real) {
                return found;
            }
        }
        if self.is_of_the_guest(&clean, false) {
            return Ok(GuestPath::Same);
        }
        let Some(workspace) = &self.workspace else {
            return Err(NotShared::NoWorkspace(path.to_owned()));
        };
        // As the guest names it: what a link there leads to, it does here.
        let resolved = match clean.strip_prefix(WORKSPACE) {
            Ok(rest) => resolve(&workspace.join(rest)),
            Err(_) => resolved,
        };
        let real = resolved.map_err(|source| NotShared::Unresolved {
            path: path.to_owned(),
            source,
        })?;
        if clean.starts_with(WORKSPACE)
            && let Some(found) = self.in_workspace(path, &real)
        {
            return found;
        }
        Err(NotShared::Outside {
            path: path.to_owned(),
            leads_to: if real == Path::new(path) {
                String::new()
            } else {
                format!(" ({})", real.display())
            },
            workspace: workspace.display().to_string(),
        })
    }

    /// What `path`, which leads to `real`, is in the guest, if that is in the workspace.
    fn in_workspace(&self, path: &str, real: &Path) -> Option<Result<GuestPath, NotShared>> {
        let rest = real.strip_prefix(self.workspace.as_ref()?).ok()?;
        let Some(rest) = rest.to_str() else {
            return Some(Err(NotShared::NotUtf8(path.to_owned())));
        };
        Some(Ok(GuestPath::Workspace(match rest {
            "" => WORKSPACE.to_owned(),
            rest => format!("{WORKSPACE}/{rest}"),
        })))
    }

    /// Whether a path means the machine that a container runs on. `first`: before it is looked for in
    /// the workspace, which may be all of this machine, or in such a place itself.
    fn is_of_the_guest(&self, clean: &Path, first: bool) -> bool {
        let is_shared = |place: &str| {
            let workspace = self.workspace.as_ref();
            workspace.is_some_and(|workspace| workspace.starts_with(place))
        };
        GUEST_PLACES
            .into_iter()
            .any(|place| clean.starts_with(place) && !(first && is_shared(place)))
            // What is in it is as temporary as that of any other directory, and is this machine's.
            && !(clean.starts_with(SHARED_MEMORY) && clean != Path::new(SHARED_MEMORY))
    }
}

/// The path as engines read it: `..` takes away the name before it, also where that is a link.
fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// Where a path leads, without links. What is not there yet is made by the engine, so it has a place
/// as well; a link that leads nowhere has none.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() =>
        {
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => Ok(resolve(parent)?.join(name)),
                _ => Err(error),
            }
        }
        other => other,
    }
}
