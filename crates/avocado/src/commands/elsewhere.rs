//! In place of the commands that need the tools of a Linux host, or what they left behind.

use crate::failure::{Failure, Result};

fn only_on_linux(command: &str) -> Result<()> {
    Err(
        Failure::usage(format!("`avocado {command}` runs on Linux only"))
            .hint("run it on a Linux machine"),
    )
}

pub(super) mod build {
    use std::process::ExitCode;

    use super::only_on_linux;
    use crate::cli::{
        BuildArgs, ExtArgs, ExtImageArgs, ImageArgs, InstallArgs, RuntimeSelection, ToolArgs,
    };
    use crate::commands::Session;
    use crate::failure::Result;

    /// Nobody starts a step here.
    pub(in crate::commands) fn step_main() -> ExitCode {
        ExitCode::FAILURE
    }

    pub(in crate::commands) fn install(_: &Session, _: &InstallArgs) -> Result<()> {
        only_on_linux("install")
    }

    pub(in crate::commands) fn build(_: &Session, _: &BuildArgs) -> Result<()> {
        only_on_linux("build")
    }

    pub(in crate::commands) fn runtime_build(
        _: &Session,
        _: &RuntimeSelection,
        _: &ToolArgs,
    ) -> Result<()> {
        only_on_linux("runtime build")
    }

    pub(in crate::commands) fn ext_build(_: &Session, _: &ExtArgs) -> Result<()> {
        only_on_linux("ext build")
    }

    pub(in crate::commands) fn ext_image(_: &Session, _: &ExtImageArgs) -> Result<()> {
        only_on_linux("ext image")
    }

    pub(in crate::commands) fn rootfs_image(_: &Session, _: &ImageArgs) -> Result<()> {
        only_on_linux("rootfs image")
    }

    pub(in crate::commands) fn initramfs_image(_: &Session, _: &ImageArgs) -> Result<()> {
        only_on_linux("initramfs image")
    }

    pub(in crate::commands) fn update(_: &Session) -> Result<()> {
        only_on_linux("update")
    }
}

pub(super) mod clean {
    use crate::cli::CleanArgs;
    use crate::commands::Session;
    use crate::failure::Result;

    pub(in crate::commands) fn run(_: &Session, _: &CleanArgs) -> Result<()> {
        super::only_on_linux("clean")
    }
}

pub(crate) mod deploy {
    use crate::cli::DeployArgs;
    use crate::commands::Session;
    use crate::failure::Result;

    /// Not looked at.
    pub(crate) type Address = String;

    pub(in crate::commands) fn run(_: &Session, _: &DeployArgs) -> Result<()> {
        super::only_on_linux("deploy")
    }
}
