//! `avocado vm`: the development VM.

mod autostart;
mod boot_progress;
mod config;
mod config_effect;
mod cp;
mod delete;
mod docker_context;
mod duration;
mod forward;
mod image;
mod keep_awake;
mod launch;
mod list;
mod logs;
mod machine;
mod publish;
mod rebuild;
mod remembered;
mod reset;
mod restart;
mod shell;
mod size;
mod sleep;
mod start;
mod start_args;
mod status;
mod stop;
mod supervise;
mod update;

use std::process::ExitCode;

use avocado_vm::dir::StateDir;
use avocado_vm::named::VmName;
use clap::{Args, Subcommand};

use crate::failure::{Failure, Result};
use crate::session::Session;
use autostart::AutostartCommand;
use config::ConfigArgs;
use cp::CpArgs;
use delete::DeleteArgs;
use forward::ForwardArgs;
use keep_awake::KeepAwakeArgs;
use logs::LogsArgs;
use publish::PublishArgs;
use rebuild::RebuildArgs;
use reset::ResetArgs;
use restart::RestartArgs;
use shell::ShellArgs;
use start_args::StartArgs;
use stop::StopArgs;
use supervise::SuperviseArgs;
use update::UpdateArgs;

#[derive(Debug, Args)]
pub(crate) struct VmArgs {
    /// Which VM, where there are several; `default` is the one that needs no name [default:
    /// AVOCADO_VM_NAME]
    #[arg(long, value_name = "NAME", global = true)]
    name: Option<VmName>,

    #[command(subcommand)]
    command: VmCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// Start the VM and wait until it answers; nothing happens where it runs already
    Start(StartArgs),
    /// Shut the guest down and end the VM
    Stop(StopArgs),
    /// Stop the VM and start it as it was started before, with the configuration of now
    Restart(RestartArgs),
    /// Show whether the VM runs, sleeps or is stopped, and how it is reached
    Status,
    /// Show every VM: what it does, its ports, its image, and what it takes up
    List,
    /// Remove a VM with everything that is in it
    ///
    /// One that runs, or whose memory is saved, is removed with --force only.
    Delete(DeleteArgs),
    /// Open a shell in the guest, or run a command there
    ///
    /// One word after `--` is a line for the guest's shell; of several words each arrives as it
    /// is. The exit code is that of the shell or the command.
    Shell(ShellArgs),
    /// Copy files into the guest or out of it; `guest:PATH` is a path in the guest
    ///
    /// Every path is taken as it is, also one with characters that a shell would read. In the guest one
    /// that begins without a slash is below the home directory of root. A guest that sleeps is
    /// woken. The exit code is that of scp.
    Cp(CpArgs),
    /// Make a docker context `avocado-vm` that leads to the VM, or lead the one that is there
    ///
    /// That of a VM with a name is `avocado-vm-NAME`. The context that is in use stays in use. Once is
    /// enough: the VM keeps its socket.
    DockerContext,
    /// Let the guest sleep now; the next connection wakes it
    Hibernate,
    /// Wake the guest
    ///
    /// It sleeps again when it was idle for as long as it is configured.
    Wake,
    /// Wake the guest, and keep it awake while this command runs
    ///
    /// It ends after the time of --for, with the command of --while, or at Ctrl-C. Meanwhile
    /// `avocado vm hibernate` is refused.
    KeepAwake(KeepAwakeArgs),
    /// Reach ports of the guest at this host while this command runs
    ///
    /// Ports that containers publish are reached without it. A connection wakes the guest and keeps
    /// it awake as others do; this command alone does not.
    Forward(ForwardArgs),
    /// Show the guest's console, or what the supervisor or QEMU say
    Logs(LogsArgs),
    /// Take an image that was built here for the VM
    Rebuild(RebuildArgs),
    /// Begin with a fresh /var: everything in the guest is lost
    Reset(ResetArgs),
    /// Install the newest image of a channel
    Update(UpdateArgs),
    /// Put an image into a channel, and sign it
    Publish(PublishArgs),
    /// Read and change the VM's configuration; without a command, print it
    Config(ConfigArgs),
    /// Let the VM start at each login of its user, by systemd
    #[command(subcommand)]
    Autostart(AutostartCommand),
    /// Run the VM until it ends: the launch as JSON on stdin, events on stdout
    #[command(hide = true)]
    Supervise(SuperviseArgs),
}

pub(super) fn run(session: &Session, args: &VmArgs) -> Result<ExitCode> {
    if let Some(name) = &args.name {
        // Set here alone, and once.
        let _ = session.vm_name.set(name.clone());
    }
    let done = |()| ExitCode::SUCCESS;
    match &args.command {
        VmCommand::Start(args) => start::run(session, args).map(done),
        VmCommand::Stop(args) => stop::run(session, args).map(done),
        VmCommand::Restart(args) => restart::run(session, args).map(done),
        VmCommand::Status => status::run(session).map(done),
        VmCommand::List => list::run(session).map(done),
        VmCommand::Delete(args) => delete::run(session, args).map(done),
        VmCommand::DockerContext => docker_context::run(session).map(done),
        VmCommand::Shell(args) => shell::run(session, args),
        VmCommand::Cp(args) => cp::run(session, args),
        VmCommand::Hibernate => sleep::hibernate(session).map(done),
        VmCommand::Wake => sleep::wake(session).map(done),
        VmCommand::KeepAwake(args) => keep_awake::run(session, args),
        VmCommand::Forward(args) => forward::run(session, args),
        VmCommand::Logs(args) => logs::run(session, args).map(done),
        VmCommand::Rebuild(args) => rebuild::run(session, args).map(done),
        VmCommand::Reset(args) => reset::run(session, args).map(done),
        VmCommand::Update(args) => update::run(session, args).map(done),
        VmCommand::Publish(args) => publish::run(session, args).map(done),
        VmCommand::Config(args) => config::run(session, args).map(done),
        VmCommand::Autostart(command) => autostart::run(session, command).map(done),
        VmCommand::Supervise(args) => supervise::run(session, args),
    }
}

fn state_dir(session: &Session) -> Result<StateDir> {
    let named = session.vm_name.get();
    Ok(StateDir::new(session.environment.vm_state_dir(named)?))
}

fn failure(error: avocado_vm::VmError) -> Failure {
    Failure::from_error(&error).maybe_hint(error.hint())
}
