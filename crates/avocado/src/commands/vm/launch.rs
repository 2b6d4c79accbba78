//! What to start: options, environment, configuration and defaults, in this order.

use std::path::{Path, PathBuf};

use avocado_vm::config::{VmConfig, VmConfigFile};
use avocado_vm::control;
use avocado_vm::dir::{StateDir, StateFile};
use avocado_vm::disk::DEFAULT_VAR_SIZE;
use avocado_vm::image::{ImageDir, MANIFEST};
use avocado_vm::launch::{DEFAULT_CPUS, DEFAULT_MEMORY_MIB, IdleSettings, VmLaunch};

use super::remembered::Remembered;
use super::start_args::StartArgs;
use super::{failure, machine};
use crate::failure::{Context, Failure, Result};
use crate::session::Session;

/// How long the guest may take until it answers. Under emulation it is slow; a QEMU that ends is
/// noticed at once.
const READY_SECS: u64 = 300;

/// Everything that a start needs, with every choice made.
pub(super) fn resolve(session: &Session, dir: &StateDir, args: &StartArgs) -> Result<VmLaunch> {
    let last = machine::previous(dir);
    let remembered = Remembered::of(args, last.as_ref());
    if let Some(port) = args
        .ssh_port
        .filter(|_| args.ssh_port == remembered.infra_port)
    {
        let what = match args.infra_port {
            Some(_) => format!("--ssh-port and --infra-port are both {port}"),
            None => format!("--ssh-port is {port}, and so is the infra port of the last start"),
        };
        return Err(Failure::usage(what).hint("choose a port of its own for each"));
    }
    let environment = &session.environment;
    let config = VmConfigFile::load(&dir.file(StateFile::Config)).map_err(failure)?;
    let config = config.config();
    let image = ImageDir::load(&image_dir(session, dir, args)?).map_err(failure)?;
    // A saved memory fits only a machine like the one that it was saved from: what is not said
    // otherwise is as it was.
    let saved = control::saved_launch(dir);
    let was = saved.as_ref();
    let workspace = match &args.workspace {
        Some(dir) => Some(dir.clone()),
        None => environment.vm_workspace()?,
    };
    let workspace = workspace.as_deref().map(directory).transpose()?;
    let workspace = workspace.or_else(|| was.and_then(|was| was.workspace.clone()));
    let workspace = workspace.or_else(|| remembered.workspace(&*session.output));
    let cpus = args.cpus.or(was.map(|was| was.cpus)).or(config.cpus);
    let memory_mib = args.memory_mib.or(was.map(|was| was.memory_mib));
    let var_size = args.var_size.or(was.map(|was| was.var_size));
    let told_accel = args.accel.map(|accel| accel.name().to_owned());
    Ok(VmLaunch {
        image: image.dir().to_owned(),
        cpus: cpus.unwrap_or(DEFAULT_CPUS),
        memory_mib: memory_mib
            .or(config.memory_mib)
            .unwrap_or(DEFAULT_MEMORY_MIB),
        var_size: var_size.unwrap_or(DEFAULT_VAR_SIZE),
        ssh_port: args.ssh_port,
        last_ssh_port: remembered.ssh_port,
        ports_of_others: ports_of_others(session, dir),
        infra_port: remembered.infra_port,
        docker_stream: remembered.docker_stream,
        forward_published: true,
        cmdline_extra: (args.cmdline_extra.clone())
            .or_else(|| was.and_then(|was| was.cmdline_extra.clone())),
        workspace,
        dns: if args.dns.is_empty() {
            config.dns.clone()
        } else {
            args.dns.clone()
        },
        dns_search: config.dns_search.clone(),
        idle: idle(session, args, config)?,
        // The supervisor looks for it.
        qemu: None,
        accelerator: told_accel.or_else(|| was.and_then(|was| was.accelerator.clone())),
        device_tree: (environment.vm_device_tree()?)
            .or_else(|| was.and_then(|was| was.device_tree.clone())),
        notify: environment.desktop_socket()?,
        ready_timeout_secs: READY_SECS,
    })
}

/// The last start once more, with the configuration and the environment of now.
pub(super) fn again(session: &Session, dir: &StateDir) -> Result<VmLaunch> {
    let Some(last) = machine::previous(dir).filter(|last| last.image.join(MANIFEST).exists())
    else {
        return resolve(session, dir, &StartArgs::default());
    };
    let environment = &session.environment;
    let config = VmConfigFile::load(&dir.file(StateFile::Config)).map_err(failure)?;
    let config = config.config();
    let image = named_image(session, None)?.unwrap_or_else(|| last.image.clone());
    let workspace = environment.vm_workspace()?;
    let workspace = workspace.as_deref().map(directory).transpose()?;
    Ok(VmLaunch {
        image: ImageDir::load(&image).map_err(failure)?.dir().to_owned(),
        cpus: config.cpus.unwrap_or(DEFAULT_CPUS),
        memory_mib: config.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB),
        workspace: workspace.or_else(|| last.workspace.clone()),
        dns: config.dns.clone(),
        dns_search: config.dns_search.clone(),
        ports_of_others: ports_of_others(session, dir),
        idle: idle(session, &StartArgs::default(), config)?,
        device_tree: environment
            .vm_device_tree()?
            .or_else(|| last.device_tree.clone()),
        notify: environment.desktop_socket()?,
        ..last
    })
}

fn ports_of_others(session: &Session, dir: &StateDir) -> Vec<u16> {
    let vms = session.environment.user_vms();
    vms.map(|vms| vms.ports_of_others(dir)).unwrap_or_default()
}

/// Keeps the options that count for the next starts as well.
pub(super) fn persist(dir: &StateDir, args: &StartArgs) -> Result<()> {
    let path = dir.file(StateFile::Config);
    for (key, value) in [
        ("runtime.cpus", args.cpus),
        ("runtime.memory_mib", args.memory_mib),
    ] {
        if let Some(value) = value {
            VmConfigFile::set(&path, key, &[value.to_string()]).map_err(failure)?;
        }
    }
    Ok(())
}

fn idle(session: &Session, args: &StartArgs, config: &VmConfig) -> Result<IdleSettings> {
    let default = IdleSettings::default();
    let told = match args.idle_hibernate_secs {
        Some(secs) => Some(secs),
        None => session.environment.vm_idle_hibernate_secs()?,
    };
    let or = |set: Option<u64>, default| set.unwrap_or(default);
    Ok(IdleSettings {
        hibernate_after_secs: or(
            told.or(config.hibernate_after_secs),
            default.hibernate_after_secs,
        ),
        release_memory_after_secs: or(
            config.release_memory_after_secs,
            default.release_memory_after_secs,
        ),
        silent_connection_secs: or(
            config.silent_connection_secs,
            default.silent_connection_secs,
        ),
        containers_keep_awake: config
            .containers_keep_awake
            .unwrap_or(default.containers_keep_awake),
    })
}

/// The image: `--vm-source`, `AVOCADO_VM_DIR`, the installed one, that of the last start.
fn image_dir(session: &Session, dir: &StateDir, args: &StartArgs) -> Result<PathBuf> {
    if let Some(told) = named_image(session, args.vm_source.as_deref())? {
        return Ok(told);
    }
    let install = dir.file(StateFile::Install);
    if install.join(MANIFEST).exists() {
        return Ok(install);
    }
    let last = dir.read_line(StateFile::ArtifactDir).map(PathBuf::from);
    last.filter(|last| last.join(MANIFEST).exists())
        .ok_or_else(|| {
            Failure::new("there is no image for the VM").hint(
                "`avocado vm update` installs one; --vm-source or AVOCADO_VM_DIR names one that \
                 was built here",
            )
        })
}

/// The image that the user names: `--vm-source`, or `AVOCADO_VM_DIR`.
pub(super) fn named_image(session: &Session, option: Option<&Path>) -> Result<Option<PathBuf>> {
    let named = match option {
        Some(option) => Some(option.to_owned()),
        None => session.environment.vm_image()?,
    };
    named.map(|named| directory(&named)).transpose()
}

/// The same, loaded, for a command that works with no other.
pub(super) fn load_named_image(session: &Session, option: Option<&Path>) -> Result<ImageDir> {
    let named = named_image(session, option)?.ok_or_else(|| {
        Failure::usage("no image is named")
            .hint("--vm-source or AVOCADO_VM_DIR names the directory of one")
    })?;
    ImageDir::load(&named).map_err(failure)
}

/// A directory that is there, by its real name: QEMU and the next start have another current one.
fn directory(path: &Path) -> Result<PathBuf> {
    let cannot = || format!("cannot use {}", path.display());
    let real = path.canonicalize().context(cannot)?;
    if real.is_dir() {
        Ok(real)
    } else {
        Err(Failure::new(format!(
            "{} is not a directory",
            path.display()
        )))
    }
}
