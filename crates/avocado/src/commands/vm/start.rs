//! `avocado vm start`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use avocado_events::{Event, Sink};
use avocado_vm::channel;
use avocado_vm::dir::StateFile;
use avocado_vm::launch::VmLaunch;
use avocado_vm::status::{VmState, VmStatus};
use serde_json::{Value, json};

use super::start_args::StartArgs;
use super::{boot_progress, docker_context, failure, launch, logs, machine, state_dir, update};
use crate::failure::{Failure, Result};
use crate::output::{WorkStart, WorkSummary};
use crate::session::Session;

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
        let was = machine::previous(&dir);
        let ignored = without_effect(args, was.as_ref());
        if !ignored.is_empty() {
            output.emit(Event::warning(format!(
                "the VM runs already, and these options have no effect: {}; they count only at a \
                 start after `avocado vm stop`",
                ignored.join(", ")
            )));
        }
        let variables = variables_without_effect(session, args, was.as_ref())?;
        if !variables.is_empty() {
            output.emit(Event::warning(format!(
                "the VM runs already, with other values than these variables have: {}; \
                 `avocado vm restart` takes them",
                variables.join(", ")
            )));
        }
        launch::persist(&dir, args)?;
        if args.cpus.is_some() || args.memory_mib.is_some() {
            output.emit(Event::info("the new values count from the next start"));
        }
        return done(session, &before, "the VM runs already");
    }
    update::finish_interrupted(session, &dir)?;
    // A saved memory fits the machine that it was saved from alone, which `resolve` knows.
    let launch = if args.again && !machine::is_saved(&dir) {
        launch::again(session, &dir)?
    } else {
        launch::resolve(session, &dir, args)?
    };
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
        let started = if args.watch {
            machine::start(session, &dir, &launch)
        } else {
            boot_progress::start(session, &dir, &launch)
        };
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
        forget,
        watch,
        foreground,
        again: _,
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
            ssh_port.is_some()
                && !same(&|was| was.ssh_port == *ssh_port || was.last_ssh_port == *ssh_port),
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
        ("--forget", *forget),
        ("--watch", *watch),
        ("--foreground", *foreground),
    ];
    let given = given.into_iter().filter(|(_, given)| *given);
    given.map(|(name, _)| name).collect()
}

/// The variables that say something else than what the VM runs with, as `was` says. An option that was
/// given goes before its variable.
fn variables_without_effect(
    session: &Session,
    args: &StartArgs,
    was: Option<&VmLaunch>,
) -> Result<Vec<&'static str>> {
    let environment = &session.environment;
    let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let same = |same: &dyn Fn(&VmLaunch) -> bool| was.is_some_and(same);
    let image = environment.vm_image()?.filter(|_| args.vm_source.is_none());
    let workspace = environment
        .vm_workspace()?
        .filter(|_| args.workspace.is_none());
    let secs = environment.vm_idle_hibernate_secs()?;
    let secs = secs.filter(|_| args.idle_hibernate_secs.is_none());
    let tree = environment.vm_device_tree()?;
    let differs = [
        (
            "AVOCADO_VM_DIR",
            image.is_some_and(|image| !same(&|was| was.image == real(image.clone()))),
        ),
        (
            "AVOCADO_VM_WORKSPACE",
            workspace.is_some_and(|path| !same(&|was| was.workspace == Some(real(path.clone())))),
        ),
        (
            "AVOCADO_VM_IDLE_HIBERNATE_SECS",
            secs.is_some_and(|secs| !same(&|was| was.idle.hibernate_after_secs == secs)),
        ),
        (
            "AVOCADO_VM_DTB",
            tree.is_some() && !same(&|was| was.device_tree == tree),
        ),
    ];
    let differs = differs.into_iter().filter(|(_, differs)| *differs);
    Ok(differs.map(|(name, _)| name).collect())
}

pub(super) fn done(session: &Session, status: &VmStatus, closing: &str) -> Result<()> {
    let mut summary = WorkSummary::default();
    if let Ok(Value::Object(fields)) = serde_json::to_value(status) {
        summary.fields.insert("status".into(), json!(fields));
    }
    let ssh = status.ports.ssh.filter(|_| status.running);
    let ssh = ssh.map(|port| format!("; ssh on port {port}, or `avocado vm shell`"));
    summary.closing = format!("{closing}{}", ssh.unwrap_or_default());
    if let Some(socket) = status.docker_socket.as_deref().filter(|_| status.running) {
        let host = docker_context::host_of(socket).ok();
        summary.fields.insert("docker_host".into(), json!(host));
        let docker = docker_context::way_in(session, socket);
        summary.closing.push_str(&format!("\n{docker}"));
    }
    session.output.complete(summary)
}
