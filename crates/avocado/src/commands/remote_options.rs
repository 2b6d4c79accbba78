//! `--runs-on` and `--nfs-port`: steps on another machine.

use super::Command;
use crate::failure::{Failure, Result};
use crate::global_args::GlobalArgs;

/// What is asked for and means nothing: better refused than ignored.
pub(super) fn check(global: &GlobalArgs, command: &Command) -> Result<()> {
    if global.runs_on.is_none() {
        return match global.nfs_port {
            None => Ok(()),
            Some(_) => Err(Failure::usage("--nfs-port means nothing without --runs-on")
                .hint("name the machine as well: --runs-on USER@HOST")),
        };
    }
    let runs_steps = matches!(
        command,
        Command::Fetch(_)
            | Command::Install(_)
            | Command::Uninstall(_)
            | Command::Build(_)
            | Command::Ext(_)
            | Command::Sdk(_)
            | Command::Runtime(_)
            | Command::Rootfs(_)
            | Command::Initramfs(_)
            | Command::Kernel(_)
            | Command::Sbom(_)
            | Command::Verify(_)
            | Command::Deploy(_)
            | Command::Clean(_)
    );
    if runs_steps {
        return Ok(());
    }
    let name = command.name();
    Err(
        Failure::usage(format!("`avocado {name}` runs no steps on another machine"))
            .hint("leave --runs-on out"),
    )
}

#[cfg(target_os = "linux")]
pub(super) use linux::settings;

#[cfg(target_os = "linux")]
mod linux {
    use avocado_build::RemoteSettings;
    use avocado_project::Project;

    use crate::commands::project_owner::become_owner;
    use crate::commands::tools::BackendChoice;
    use crate::commands::{build_run, nfs_server};
    use crate::failure::{Failure, Result};
    use crate::session::Session;

    /// The machine that steps are to run on; none where they run on this one.
    pub(in crate::commands) fn settings(
        session: &Session,
        backend: Option<BackendChoice>,
        project: &Project,
    ) -> Result<Option<RemoteSettings>> {
        let Some(address) = &session.global.runs_on else {
            return Ok(None);
        };
        if build_run::choice_of(session, backend)? == Some(BackendChoice::Container) {
            return Err(Failure::usage(
                "steps run in no containers of another machine (--runs-on)",
            )
            .hint("its own tools are used: leave --backend and AVOCADO_SDK out"));
        }
        let nfs_program = nfs_server::program(session)?;
        become_owner(session, &project.config_path)?;
        Ok(Some(RemoteSettings {
            address: address.clone(),
            nfs_port: session.global.nfs_port,
            nfs_program,
            temporary: session.environment.short_temporary(),
        }))
    }
}
