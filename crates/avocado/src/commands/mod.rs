//! The command line: one file for each command, with its arguments beside what it does. A command
//! reads the project, calls the crate that does the work, and says how it went.

mod build;
mod build_run;
mod clean;
mod completion;
mod config;
mod deploy;
mod deps;
mod diff;
mod dnf;
mod doctor;
mod ext;
mod fetch;
mod hitl;
mod init;
mod install;
mod installed;
mod kernel;
mod load;
mod lock;
mod manual;
#[cfg(target_os = "linux")]
mod moved_state;
#[cfg(target_os = "linux")]
mod nfs_server;
mod os_image;
mod project;
#[cfg(target_os = "linux")]
mod project_owner;
mod provision;
mod prune;
#[cfg(unix)]
mod question;
mod remote_options;
mod runtime;
mod save;
mod sbom;
mod scan;
mod scope;
#[cfg(target_os = "linux")]
mod scriptlet_command;
mod sdk;
mod sdk_run;
mod signing_keys;
mod tools;
mod unlock;
#[cfg(target_os = "linux")]
mod update;
mod verify;
#[cfg(unix)]
mod vm;
#[cfg(not(unix))]
#[path = "vm_unsupported.rs"]
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::{Args, Parser, Subcommand};

use crate::environment::Environment;
#[cfg(not(target_os = "linux"))]
use crate::failure::Failure;
use crate::failure::Result;
use crate::global_args::GlobalArgs;
use crate::logging;
use crate::output::Output;
use crate::session::Session;
use build::BuildArgs;
use clean::CleanArgs;
use completion::CompletionArgs;
use config::ConfigCommand;
use deploy::DeployArgs;
use diff::DiffArgs;
use ext::ExtCommand;
use fetch::FetchArgs;
use hitl::HitlCommand;
use init::InitArgs;
use install::{InstallArgs, UninstallArgs};
use kernel::KernelCommand;
use load::LoadArgs;
use lock::LockCommand;
use manual::ManualArgs;
use os_image::OsImageCommand;
use provision::ProvisionArgs;
use prune::PruneArgs;
use runtime::RuntimeCommand;
use save::SaveArgs;
use sbom::SbomArgs;
use scan::ScanArgs;
use sdk::SdkCommand;
use signing_keys::SigningKeysCommand;
use unlock::UnlockArgs;
use verify::VerifyArgs;
use vm::VmArgs;

pub(crate) use completion::answer as answer_shell;

/// Build Avocado Linux runtimes from avocado.yaml and bring them to devices
#[derive(Debug, Parser)]
#[command(
    name = "avocado",
    version,
    args_override_self = true,
    subcommand_required = true,
    arg_required_else_help = true,
    infer_subcommands = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a project: a small avocado.yaml that builds as it is
    Init(InitArgs),
    /// Fetch the extensions that come from elsewhere; install and build do it as well
    Fetch(FetchArgs),
    /// Install the packages of the SDK, the images, the extensions and the runtimes
    Install(InstallArgs),
    /// Remove packages from avocado.yaml, and from what is installed
    Uninstall(UninstallArgs),
    /// Build everything that changed, down to the signed repository of each runtime
    Build(BuildArgs),
    /// Move to the newest feed snapshot and forget the pinned package versions
    Update,
    /// Forget what avocado.lock pins, of everything or of one part; the next install locks it anew
    Unlock(UnlockArgs),
    /// Look at what avocado.lock pins
    #[command(subcommand)]
    Lock(LockCommand),
    /// Show the project as it is resolved, and check it
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the JSON Schema of avocado.yaml, for editors
    Schema,
    /// Work with extensions
    #[command(subcommand)]
    Ext(ExtCommand),
    /// Work with the SDK: the tools, and what they compile
    #[command(subcommand)]
    Sdk(SdkCommand),
    /// Work with runtimes
    #[command(subcommand)]
    Runtime(RuntimeCommand),
    /// Work with the root file system
    #[command(subcommand)]
    Rootfs(OsImageCommand),
    /// Work with the initial RAM file system
    #[command(subcommand)]
    Initramfs(OsImageCommand),
    /// Work with the kernels of the runtimes
    #[command(subcommand)]
    Kernel(KernelCommand),
    /// Manage the keys that sign repositories
    #[command(subcommand)]
    SigningKeys(SigningKeysCommand),
    /// Write what is in the images of a runtime: packages and files, with where they come from
    Sbom(SbomArgs),
    /// Look for known vulnerabilities of the packages of a runtime, without a network
    Scan(ScanArgs),
    /// Tell in which packages, files and images two runtimes differ
    Diff(DiffArgs),
    /// Verify that a repository is what was built, and by whose word
    Verify(VerifyArgs),
    /// Bring a built runtime to a device on the network and activate it
    Deploy(DeployArgs),
    /// Make what a device has on its disks when it starts for the first time
    Provision(ProvisionArgs),
    /// Hardware in the loop: run extensions on a device as they are on this machine
    #[command(subcommand)]
    Hitl(HitlCommand),
    /// Run the development VM, which costs nothing while nobody uses it
    Vm(VmArgs),
    /// Remove what builds left behind
    Clean(CleanArgs),
    /// Remove from the state what nothing in the project names any more
    Prune(PruneArgs),
    /// Write the state, which is what builds made, to one file for another machine
    Save(SaveArgs),
    /// Take the state that `avocado save` wrote on another machine
    Load(LoadArgs),
    /// Tell what this machine can do, and how to get the rest
    Doctor,
    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// Write a man page for each command
    #[command(hide = true)]
    Manual(ManualArgs),
    /// Run one step of a build: JSON on stdin, events on stdout
    #[command(hide = true)]
    Step(StepArgs),
    /// Answer what a scriptlet of a package calls
    #[cfg(target_os = "linux")]
    #[command(hide = true, name = "scriptlet-command")]
    Scriptlet(scriptlet_command::ScriptletCommandArgs),
}

/// How a step is started.
#[derive(Debug, Args)]
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "builds are refused")
)]
pub(crate) struct StepArgs {
    /// In a container, of which it is the first process
    #[arg(long)]
    in_container: bool,
    /// With a user namespace of its own, also for root
    #[arg(long)]
    users_apart: bool,
    /// Give the parent's user namespace its users, and nothing else
    #[arg(long)]
    map_users: bool,
    /// Not on the standard streams, but at this socket
    #[arg(long, value_name = "SOCKET")]
    call: Option<PathBuf>,
}

impl Command {
    /// Its name on the command line, for the log.
    fn name(&self) -> &'static str {
        match self {
            Command::Init(_) => "init",
            Command::Fetch(_) => "fetch",
            Command::Install(_) => "install",
            Command::Uninstall(_) => "uninstall",
            Command::Build(_) => "build",
            Command::Update => "update",
            Command::Unlock(_) => "unlock",
            Command::Lock(_) => "lock",
            Command::Config(_) => "config",
            Command::Schema => "schema",
            Command::Ext(_) => "ext",
            Command::Sdk(_) => "sdk",
            Command::Runtime(_) => "runtime",
            Command::Rootfs(_) => "rootfs",
            Command::Initramfs(_) => "initramfs",
            Command::Kernel(_) => "kernel",
            Command::SigningKeys(_) => "signing-keys",
            Command::Sbom(_) => "sbom",
            Command::Scan(_) => "scan",
            Command::Diff(_) => "diff",
            Command::Verify(_) => "verify",
            Command::Deploy(_) => "deploy",
            Command::Provision(_) => "provision",
            Command::Hitl(_) => "hitl",
            Command::Vm(_) => "vm",
            Command::Clean(_) => "clean",
            Command::Prune(_) => "prune",
            Command::Save(_) => "save",
            Command::Load(_) => "load",
            Command::Doctor => "doctor",
            Command::Completion(_) => "completion",
            Command::Manual(_) => "manual",
            Command::Step(_) => "step",
            #[cfg(target_os = "linux")]
            Command::Scriptlet(_) => "scriptlet-command",
        }
    }
}

/// Runs a command and reports a failure. The result is the exit code.
pub(crate) fn run(cli: Cli, environment: Environment) -> ExitCode {
    if let Command::Step(args) = cli.command {
        return step(args, &environment);
    }
    #[cfg(target_os = "linux")]
    if let Command::Scriptlet(args) = &cli.command {
        return scriptlet_command::run(args);
    }
    let session = Session {
        output: Arc::new(Output::new(&cli.global, &environment)),
        environment,
        global: cli.global,
        edited: OnceLock::new(),
        #[cfg(unix)]
        vm_name: OnceLock::new(),
    };
    match logging::install(
        &session.output,
        session.global.verbose,
        session.environment.log_filter(),
    )
    .and_then(|()| remote_options::check(&session.global, &cli.command))
    .and_then(|()| dispatch(&session, &cli.command))
    {
        Ok(code) => code,
        Err(failure) => {
            session.output.fail(&failure);
            ExitCode::from(failure.code as u8)
        }
    }
}

fn dispatch(session: &Session, command: &Command) -> Result<ExitCode> {
    let _span = tracing::info_span!("command", name = command.name()).entered();
    tracing::info!("avocado {}", env!("CARGO_PKG_VERSION"));
    tracing::debug!("begins");
    let done = match command {
        Command::Vm(args) => return vm::run(session, args),
        Command::Scan(args) => return scan::run(session, args),
        Command::Init(args) => init::run(session, args),
        Command::Fetch(args) => fetch::run(session, args),
        Command::Install(args) => install::run(session, args),
        Command::Uninstall(args) => install::uninstall(session, args),
        Command::Build(args) => build::run(session, args),
        Command::Config(command) => config::run(session, command),
        Command::Schema => config::schema(session),
        Command::Ext(command) => return ext::run(session, command),
        Command::Sdk(command) => return sdk::run(session, command),
        Command::Runtime(command) => return runtime::run(session, command),
        Command::Rootfs(command) => return os_image::rootfs(session, command),
        Command::Initramfs(command) => return os_image::initramfs(session, command),
        Command::Kernel(command) => kernel::run(session, command),
        Command::SigningKeys(command) => signing_keys::run(session, command),
        Command::Provision(args) => provision::run(session, args),
        Command::Doctor => return doctor::run(session),
        Command::Completion(args) => completion::run(args),
        Command::Sbom(args) => sbom::run(session, args),
        Command::Diff(args) => diff::run(session, args),
        Command::Verify(args) => verify::run(session, args),
        #[cfg(target_os = "linux")]
        Command::Update => update::run(session),
        #[cfg(target_os = "linux")]
        Command::Deploy(args) => deploy::run(session, args),
        #[cfg(target_os = "linux")]
        Command::Hitl(command) => hitl::run(session, command),
        #[cfg(target_os = "linux")]
        Command::Clean(args) => clean::run(session, args),
        #[cfg(target_os = "linux")]
        Command::Prune(args) => prune::run(session, args),
        #[cfg(target_os = "linux")]
        Command::Unlock(args) => unlock::run(session, args),
        Command::Lock(command) => lock::run(session, command),
        Command::Save(args) => save::run(session, args),
        Command::Load(args) => load::run(session, args),
        Command::Manual(args) => manual::run(args),
        #[cfg(not(target_os = "linux"))]
        Command::Unlock(_) => Err(only_on_linux("unlock")),
        #[cfg(not(target_os = "linux"))]
        Command::Update => Err(only_on_linux("update")),
        #[cfg(not(target_os = "linux"))]
        Command::Deploy(_) => Err(only_on_linux("deploy")),
        #[cfg(not(target_os = "linux"))]
        Command::Hitl(_) => Err(only_on_linux("hitl")),
        #[cfg(not(target_os = "linux"))]
        Command::Clean(_) => Err(only_on_linux("clean")),
        #[cfg(not(target_os = "linux"))]
        Command::Prune(_) => Err(only_on_linux("prune")),
        // Answered before there was a session.
        Command::Step(_) => Ok(()),
        #[cfg(target_os = "linux")]
        Command::Scriptlet(_) => Ok(()),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// `avocado step`: one step of a build, in a process of its own.
#[cfg(target_os = "linux")]
fn step(args: StepArgs, environment: &Environment) -> ExitCode {
    avocado_build::step_main(avocado_build::WorkerStart {
        in_container: args.in_container,
        users_apart: args.users_apart,
        maps_users: args.map_users,
        socket: args.call,
        search_path: environment.stated_search_path(),
    })
}

/// Builds are refused here, so no step is started.
#[cfg(not(target_os = "linux"))]
fn step(_args: StepArgs, _environment: &Environment) -> ExitCode {
    ExitCode::FAILURE
}

/// In place of what needs the tools of a Linux host, or what they left behind.
#[cfg(not(target_os = "linux"))]
fn only_on_linux(command: &str) -> Failure {
    Failure::usage(format!("`avocado {command}` runs on Linux only"))
        .hint("run it on a Linux machine")
}
