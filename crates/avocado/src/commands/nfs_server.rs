//! The NFS server of this machine: for devices (`hitl server`), and for machines that steps run on.

use std::path::PathBuf;

use avocado_build::find_tool;

use crate::failure::{Context, Failure, Result};
use crate::session::Session;

/// Its program, where this process may run it.
pub(super) fn program(session: &Session) -> Result<PathBuf> {
    let found = find_tool(&session.environment.search_path(), avocado_nfs::PROGRAM);
    let program = found.ok_or_else(|| {
        Failure::new(format!("{} is not installed", avocado_nfs::PROGRAM)).hint(
            "install NFS-Ganesha and its file system module: nfs-ganesha and nfs-ganesha-vfs \
             (Debian, Ubuntu, Fedora); Debian starts a server with it, which is not needed: \
             systemctl disable --now nfs-ganesha",
        )
    })?;
    let may = avocado_nfs::may_serve().context(|| "cannot tell what this process may do".into())?;
    if !may {
        return Err(Failure::new(
            "this user may not export files: the server needs CAP_DAC_READ_SEARCH to open what \
             clients hold",
        )
        .hint(
            "run it with sudo: it goes on as the owner of the project, with that capability alone",
        ));
    }
    Ok(program)
}
