//! `--runs-on` and `--nfs-port`: steps on another machine.

use super::Command;
use super::ext::ExtCommand;
use super::os_image::OsImageCommand;
use super::runtime::RuntimeCommand;
use super::sdk::SdkCommand;
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
    let Some(name) = without_steps(command) else {
        return Ok(());
    };
    Err(
        Failure::usage(format!("`avocado {name}` runs no steps on another machine"))
            .hint("leave --runs-on out"),
    )
}

/// The name of a command that runs no steps, or none that can run there.
fn without_steps(command: &Command) -> Option<&'static str> {
    let os_image = |command: &OsImageCommand, deps, clean| match command {
        OsImageCommand::Deps => Some(deps),
        OsImageCommand::Clean => Some(clean),
        OsImageCommand::Install(_)
        | OsImageCommand::List
        | OsImageCommand::Image(_)
        | OsImageCommand::Dnf(_) => None,
    };
    match command {
        Command::Fetch(_)
        | Command::Install(_)
        | Command::Uninstall(_)
        | Command::Build(_)
        | Command::Provision(_)
        | Command::Kernel(_)
        | Command::Sbom(_)
        | Command::Verify(_)
        // It runs none, and tells whether what was built there is as a build there would make it.
        | Command::Deploy(_) => None,
        Command::Ext(command) => match command {
            ExtCommand::List => Some("ext list"),
            ExtCommand::Deps(_) => Some("ext deps"),
            ExtCommand::Package(_) => Some("ext package"),
            ExtCommand::Clean(_) => Some("ext clean"),
            ExtCommand::Image(_)
            | ExtCommand::Build(_)
            | ExtCommand::Install(_)
            | ExtCommand::Fetch(_)
            // It builds the extension first.
            | ExtCommand::Checkout(_)
            | ExtCommand::Dnf { .. } => None,
        },
        Command::Sdk(command) => match command {
            SdkCommand::Deps => Some("sdk deps"),
            // A command at this terminal.
            SdkCommand::Run(_) => Some("sdk run"),
            SdkCommand::Install(_)
            | SdkCommand::Compile(_)
            | SdkCommand::Package(_)
            | SdkCommand::Dnf(_)
            // Sections have scripts for it.
            | SdkCommand::Clean(_) => None,
        },
        Command::Runtime(command) => match command {
            RuntimeCommand::List => Some("runtime list"),
            RuntimeCommand::Deps(_) => Some("runtime deps"),
            RuntimeCommand::Clean(_) => Some("runtime clean"),
            RuntimeCommand::Install { .. }
            | RuntimeCommand::Build { .. }
            | RuntimeCommand::Provision(_)
            | RuntimeCommand::Dnf { .. } => None,
        },
        Command::Rootfs(command) => os_image(command, "rootfs deps", "rootfs clean"),
        Command::Initramfs(command) => os_image(command, "initramfs deps", "initramfs clean"),
        other => Some(other.name()),
    }
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
        let choice = build_run::choice_of(session, backend)?;
        if choice.is_some_and(|choice| choice != BackendChoice::Host) {
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
