//! `avocado vm start`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use avocado_events::{Event, Sink};
use avocado_vm::channel;
use avocado_vm::dir::StateFile;
use avocado_vm::launch::VmLaunch;
use avocado_vm::status::{VmState, VmStatus};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::size::parse_size;
use super::{Session, failure, launch, logs, machine, state_dir, update};
use crate::failure::{Failure, Result};
use crate::output::{WorkStart, WorkSummary};

#[derive(Debug, Default, Args)]
pub(crate) struct StartArgs {
    /// Directory of the image to run: manifest.json and the files that it names [default:
    /// AVOCADO_VM_DIR, or the installed image, or that of the last start]
    #[arg(long, value_name = "DIR")]
    pub(crate) vm_source: Option<PathBuf>,

    /// Memory of the guest in MiB; kept for the next starts [default: 4096]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(128..=16_777_216))]
    pub(crate) memory_mib: Option<u32>,

    /// Virtual CPUs; kept for the next starts [default: 4]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) cpus: Option<u32>,

    /// Port on the loopback address for ssh; a connection wakes the guest [default: any free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) ssh_port: Option<u16>,

    /// Port for monitoring: it leads to the guest's ssh, and neither wakes it nor keeps it awake
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) infra_port: Option<u16>,

    /// Also serve docker-stream.sock, which neither wakes the guest nor keeps it awake
    #[arg(long)]
    pub(crate) docker_socket_stream: bool,

    /// Words to add to the kernel's command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub(crate) cmdline_extra: Option<String>,

    /// Directory that the guest sees at /run/workspace [default: AVOCADO_VM_WORKSPACE]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,

    /// Least size of the guest's /var, such as 50G; it grows and never shrinks [default: 50G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) var_size: Option<u64>,

    /// Name server for the guest, for this start only (repeatable)
    #[arg(long, value_name = "IP")]
    pub(crate) dns: Vec<IpAddr>,

    /// What executes the guest's instructions [default: the first that works]
    #[arg(long, value_name = "NAME")]
    pub(crate) accel: Option<AcceleratorChoice>,

    /// Pause the guest after so many seconds without activity; 0 never does [default:
    /// AVOCADO_VM_IDLE_HIBERNATE_SECS, or idle.hibernate_after_secs, or 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) idle_hibernate_secs: Option<u64>,

    /// Show the guest's console while it starts
    #[arg(short, long)]
    pub(crate) watch: bool,

    /// Stay until the VM ends; Ctrl-C stops it
    #[arg(long)]
    pub(crate) foreground: bool,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcceleratorChoice {
    Kvm,
    Hvf,
    Tcg,
}

impl AcceleratorChoice {
    /// Its name, as QEMU has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            AcceleratorChoice::Kvm => "kvm",
            AcceleratorChoice::Hvf => "hvf",
            AcceleratorChoice::Tcg => "tcg",
        }
    }
}

pub(super) fn run(session: &Session, args: &StartArgs) -> Result<()> {
    let dir = state_dir(session)?;
    let output = &session.output;
    output.start(&WorkStart {
        action: "vm start",
        target: None,
        runtime: None,
    });
    let before = machine::status(&dir)?;
    let not_now = match before.state {
        VmState::Starting => Some("the VM is being started already"),
        VmState::Stopping => Some("the VM is stopping"),
        _ => None,
    };
    if let Some(not_now) = not_now {
        return Err(Failure::new(not_now).hint("wait for it: see `avocado vm status`"));
    }
    if before.running && before.state != VmState::Unsupervised {
        let ignored = without_effect(args, machine::previous(&dir).as_ref());
        if !ignored.is_empty() {
            output.emit(Event::warning(format!(
                "the VM runs already, and these options have no effect: {}; they count only at a \
                 start after `avocado vm stop`",
                ignored.join(", ")
            )));
        }
        launch::persist(&dir, args)?;
        if args.cpus.is_some() || args.memory_mib.is_some() {
            output.emit(Event::info("the new values count from the next start"));
        }
        return done(session, &before, "the VM runs already");
    }
    update::finish_interrupted(session, &dir)?;
    let launch = launch::resolve(session, &dir, args)?;
    channel::forget_running(&dir).map_err(failure)?;

    // A guest that is taken over may be in use.
    let up = before.state == VmState::Unsupervised;
    let interrupt = machine::InterruptStop::new(session, &dir, up)?;
    let finished = AtomicBool::new(false);
    let console = dir.file(StateFile::SerialLog);
    let newer = update::newer(session, &dir, &launch.image);
    let started = std::thread::scope(|scope| {
        if args.watch {
            scope.spawn(|| {
                logs::watch(&console, &finished, &|line| {
                    let stage = "console".to_owned();
                    output.emit(Event {
                        stage,
                        ..Event::info(line)
                    });
                });
            });
        }
        let started = machine::start(session, &dir, &launch);
        finished.store(true, Ordering::SeqCst);
        started
    });
    let status = match started {
        Err(_) if interrupt.interrupted() => return Err(Failure::interrupted()),
        started => started?,
    };
    interrupt.is_up();
    // Not before: values with which the VM does not start must not be those of the next start.
    launch::persist(&dir, args)?;
    // Where the network is slow, the next start tells.
    if let Some(newer) = newer.and_then(|newer| newer.try_recv().ok()) {
        output.emit(Event::info(newer));
    }
    if args.foreground {
        output.emit(Event::info(
            "the VM runs; Ctrl-C stops it (and again leaves it alone)",
        ));
        machine::stay(&dir)?;
        let status = machine::status(&dir)?;
        let how_on = match status.running {
            true => "`avocado vm start` takes the VM over",
            false if machine::is_saved(&dir) => {
                "`avocado vm start` brings back the guest's saved memory"
            }
            false => return done(session, &status, "the VM has ended"),
        };
        return Err(Failure::new("the supervisor ended, and the VM did not").hint(how_on));
    }
    done(session, &status, "the VM runs")
}

/// The options that were given and have no effect on a VM that runs as `was` says: those that say
/// the same have none to miss.
fn without_effect(args: &StartArgs, was: Option<&VmLaunch>) -> Vec<&'static str> {
    // By name, so that none is forgotten.
    let StartArgs {
        vm_source,
        memory_mib: _,
        cpus: _,
        ssh_port,
        infra_port,
        docker_socket_stream,
        cmdline_extra,
        workspace,
        var_size,
        dns,
        accel,
        idle_hibernate_secs,
        watch,
        foreground,
    } = args;
    let real = |path: &Option<PathBuf>| path.as_deref().and_then(|path| path.canonicalize().ok());
    let same = |same: &dyn Fn(&VmLaunch) -> bool| was.is_some_and(same);
    let given = [
        (
            "--vm-source",
            vm_source.is_some() && !same(&|was| real(vm_source).as_ref() == Some(&was.image)),
        ),
        (
            "--ssh-port",
            ssh_port.is_some() && !same(&|was| was.ssh_port == *ssh_port),
        ),
        (
            "--infra-port",
            infra_port.is_some() && !same(&|was| was.infra_port == *infra_port),
        ),
        (
            "--docker-socket-stream",
            *docker_socket_stream && !same(&|was| was.docker_stream),
        ),
        (
            "--cmdline-extra",
            cmdline_extra.is_some() && !same(&|was| was.cmdline_extra == *cmdline_extra),
        ),
        (
            "--workspace",
            workspace.is_some() && !same(&|was| real(workspace) == was.workspace),
        ),
        (
            "--var-size",
            var_size.is_some() && !same(&|was| Some(was.var_size) == *var_size),
        ),
        ("--dns", !dns.is_empty() && !same(&|was| was.dns == *dns)),
        (
            "--accel",
            accel.is_some()
                && !same(&|was| was.accelerator.as_deref() == accel.map(|accel| accel.name())),
        ),
        (
            "--idle-hibernate-secs",
            idle_hibernate_secs.is_some()
                && !same(&|was| Some(was.idle.hibernate_after_secs) == *idle_hibernate_secs),
        ),
        ("--watch", *watch),
        ("--foreground", *foreground),
    ];
    let given = given.into_iter().filter(|(_, given)| *given);
    given.map(|(name, _)| name).collect()
}

fn done(session: &Session, status: &VmStatus, closing: &str) -> Result<()> {
    let mut summary = WorkSummary::default();
    if let Ok(Value::Object(fields)) = serde_json::to_value(status) {
        summary.fields.insert("status".into(), json!(fields));
    }
    let ssh = status.ports.ssh.filter(|_| status.running);
    let ssh = ssh.map(|port| format!("; ssh on port {port}, or `avocado vm shell`"));
    summary.closing = format!("{closing}{}", ssh.unwrap_or_default());
    session.output.complete(summary)
}
