//! The machine that a launch asks for, as QEMU is told.

use std::path::PathBuf;

use avocado_manifest::VmRole;
use avocado_qemu::{
    Accelerator, Architecture, Drive, DriveFormat, MachineSockets, MachineSpec, SoftwareTpm,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::error::SupervisorError;
use crate::dir::{StateDir, StateFile};
use crate::image::ImageDir;
use crate::launch::VmLaunch;

/// `key`: the user's public key for the guest.
pub(super) fn machine_spec(
    dir: &StateDir,
    launch: &VmLaunch,
    image: &ImageDir,
    (binary, architecture, accelerator, tpm): (
        PathBuf,
        Architecture,
        Accelerator,
        Option<SoftwareTpm>,
    ),
    key: &str,
) -> Result<MachineSpec, SupervisorError> {
    let drive = |path, format, read_only| Drive {
        path,
        format,
        read_only,
    };
    // The order is the order of the guest's names: /dev/vda, /dev/vdb, …
    let mut drives = vec![
        drive(image.path(VmRole::Rootfs)?, DriveFormat::Raw, true),
        drive(dir.file(StateFile::Var), DriveFormat::Raw, false),
    ];
    let data = dir.file(StateFile::Data);
    if data.exists() {
        drives.push(drive(data, DriveFormat::Qcow2, false));
    }
    let mut words = vec![image.manifest().cmdline_default.clone()];
    words.extend(launch.cmdline_extra.clone());
    if tpm.is_none() {
        // systemd would wait a minute and a half for one.
        words.push("systemd.tpm2_wait=false".to_owned());
    }
    let keys = BASE64.encode(format!("{key}\n"));
    let credential = "systemd.set_credential_binary=ssh.authorized_keys.root";
    words.push(format!("{credential}:{keys}"));
    Ok(MachineSpec {
        binary,
        architecture,
        accelerator,
        cpus: launch.cpus,
        memory_mib: launch.memory_mib,
        kernel: Some(image.path(VmRole::Kernel)?),
        initrd: Some(image.path(VmRole::Initramfs)?),
        cmdline: words.join(" "),
        drives,
        workspace: launch.workspace.clone(),
        sockets: MachineSockets {
            supervisor: dir.file(StateFile::SupervisorQmp),
            public: dir.file(StateFile::Qmp),
            agent: dir.file(StateFile::Agent),
            control: dir.file(StateFile::Control),
        },
        serial_log: dir.file(StateFile::SerialLog),
        error_log: dir.file(StateFile::QemuLog),
        pid_file: dir.file(StateFile::QemuPid),
        tpm,
        panic_device: true,
        gives_back: true,
        device_tree: launch.device_tree.clone(),
    })
}
