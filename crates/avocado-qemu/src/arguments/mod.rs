//! The arguments that QEMU gets for a [`MachineSpec`].

use std::ffi::OsString;
use std::path::Path;

use crate::spec::{Accelerator, Architecture, MachineSpec};

/// How a machine comes to life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartMode {
    /// From the power button.
    Boot,
    /// From saved memory that it will be told about; it stands still until it is resumed.
    Incoming,
}

/// The whole line after the program's name.
///
/// The order of the drives is their order in the guest, and none of them may be an explicit
/// device: that one would take a lower slot and become `/dev/vda`.
pub(crate) fn arguments(spec: &MachineSpec, start: StartMode) -> Vec<OsString> {
    let mut line = ArgumentList(Vec::new());
    line.option("-machine", machine(spec.architecture));
    line.processor(spec.accelerator);
    line.option("-smp", spec.cpus.to_string());
    line.option("-m", spec.memory_mib.to_string());
    line.flag("-nographic");
    line.option("-monitor", "none");
    // At its end, wherever that is: the log may be shortened meanwhile.
    line.option(
        "-chardev",
        with_path("file,id=serial,path=", &spec.serial_log, ",append=on"),
    );
    line.option("-serial", "chardev:serial");
    line.option("-pidfile", &spec.pid_file);
    if let Some(kernel) = &spec.kernel {
        line.option("-kernel", kernel);
        if let Some(initrd) = &spec.initrd {
            line.option("-initrd", initrd);
        }
        line.option("-append", &spec.cmdline);
    }
    if let Some(tree) = &spec.device_tree {
        line.option("-dtb", tree);
    }
    for drive in &spec.drives {
        let read_only = if drive.read_only { ",readonly=on" } else { "" };
        // Zeros that the guest writes take no place either.
        let gives_back = spec.gives_back && !drive.read_only;
        let give_back = if gives_back {
            ",discard=unmap,detect-zeroes=unmap"
        } else {
            ""
        };
        let format = drive.format.name();
        let rest = format!(",format={format},if=virtio{read_only}{give_back}");
        line.option("-drive", with_path("file=", &drive.path, &rest));
    }
    line.option("-netdev", "user,id=net0,hostfwd=tcp:127.0.0.1:0-:22");
    line.option("-device", "virtio-net-pci,netdev=net0");
    line.option("-device", "qemu-xhci,id=xhci");
    if let Some(workspace) = &spec.workspace {
        let rest = ",security_model=mapped-xattr";
        line.option(
            "-fsdev",
            with_path("local,id=workspace,path=", workspace, rest),
        );
        line.option(
            "-device",
            "virtio-9p-pci,fsdev=workspace,mount_tag=workspace",
        );
    }
    for (id, socket) in [
        ("supervisor", &spec.sockets.supervisor),
        ("public", &spec.sockets.public),
    ] {
        line.serve_socket(id, socket);
        line.option("-mon", format!("chardev={id},mode=control"));
    }
    line.option("-device", "virtio-serial-pci");
    for (id, socket, name) in [
        ("agent", &spec.sockets.agent, "org.qemu.guest_agent.0"),
        ("control", &spec.sockets.control, "avocado.control"),
    ] {
        line.serve_socket(id, socket);
        line.option(
            "-device",
            format!("virtserialport,chardev={id},name={name}"),
        );
    }
    if let Some(tpm) = &spec.tpm {
        let socket = tpm.socket();
        line.option("-chardev", with_path("socket,id=tpm,path=", &socket, ""));
        line.option("-tpmdev", "emulator,id=tpm0,chardev=tpm");
        let device = match spec.architecture {
            Architecture::X86_64 => "tpm-tis",
            Architecture::Aarch64 => "tpm-tis-device",
        };
        line.option("-device", format!("{device},tpmdev=tpm0"));
    }
    if spec.panic_device {
        // Panics and crash kernels, not what newer versions add.
        line.option("-device", "pvpanic-pci,events=3");
        line.option("-action", "panic=none");
    }
    if spec.gives_back {
        // The last one, so that all others have the slots that they have without it.
        line.option("-device", "virtio-balloon-pci,free-page-reporting=on");
    }
    if start == StartMode::Incoming {
        line.flag("-S");
        line.option("-incoming", "defer");
    }
    line.0
}

/// QEMU's name for the machine around a processor.
pub(crate) fn machine(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "q35",
        Architecture::Aarch64 => "virt",
    }
}

/// Arguments that choose the accelerator and the processor that the guest sees.
pub(crate) fn processor(accelerator: Accelerator) -> Vec<OsString> {
    let mut line = ArgumentList(Vec::new());
    line.processor(accelerator);
    line.0
}

struct ArgumentList(Vec<OsString>);

impl ArgumentList {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn processor(&mut self, accelerator: Accelerator) {
        let (accelerator, cpu) = match accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Hvf => ("hvf", "host"),
            Accelerator::Tcg => ("tcg,thread=multi", "max"),
        };
        self.option("-accel", accelerator);
        self.option("-cpu", cpu);
    }

    /// A socket that QEMU serves from its start on.
    fn serve_socket(&mut self, id: &str, socket: &Path) {
        let start = format!("socket,id={id},path=");
        let value = with_path(&start, socket, ",server=on,wait=off");
        self.option("-chardev", value);
    }
}

/// A value with a path in it. QEMU separates the parts of a value with commas, and reads two of
/// them as one that is meant.
fn with_path(start: &str, path: &Path, end: &str) -> OsString {
    let mut value = OsString::from(start);
    value.push(escape_commas(path));
    value.push(end);
    value
}

#[cfg(unix)]
fn escape_commas(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(not(unix))]
fn escape_commas(path: &Path) -> OsString {
    path.to_string_lossy().replace(',', ",,").into()
}

#[cfg(test)]
mod tests;
