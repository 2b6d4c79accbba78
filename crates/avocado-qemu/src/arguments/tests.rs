use std::path::PathBuf;

use super::*;
use crate::spec::{Drive, DriveFormat, MachineSockets};
use crate::tpm::SoftwareTpm;

fn full(architecture: Architecture, accelerator: Accelerator) -> MachineSpec {
    let drive = |path: &str, format, read_only| Drive {
        path: path.into(),
        format,
        read_only,
    };
    MachineSpec {
        binary: PathBuf::from("/usr/bin/qemu"),
        architecture,
        accelerator,
        cpus: 4,
        memory_mib: 4096,
        kernel: Some("/i/kernel".into()),
        initrd: Some("/i/initrd".into()),
        cmdline: "root=/dev/vda a=b,c".to_owned(),
        drives: vec![
            drive("/i/rootfs", DriveFormat::Raw, true),
            drive("/s/var.btrfs", DriveFormat::Raw, false),
            drive("/s/data,1.qcow2", DriveFormat::Qcow2, false),
        ],
        workspace: Some("/home/me/a, b".into()),
        sockets: MachineSockets {
            supervisor: "/s/qmp-supervisor.sock".into(),
            public: "/s/qmp.sock".into(),
            agent: "/s/qga.sock".into(),
            control: "/s/control.sock".into(),
        },
        serial_log: "/s/serial.log".into(),
        error_log: "/s/qemu.log".into(),
        pid_file: "/s/qemu.pid".into(),
        tpm: Some(SoftwareTpm {
            binary: "/bin/swtpm".into(),
            directory: "/s/tpm".into(),
        }),
        panic_device: true,
        gives_back: true,
        device_tree: None,
    }
}

/// One option with its value per line.
fn shown(spec: &MachineSpec, start: StartMode) -> String {
    let mut text = String::new();
    for word in arguments(spec, start) {
        let word = word.into_string().unwrap();
        let separator = if word.starts_with('-') { "\n" } else { " " };
        text.push_str(separator);
        text.push_str(&word);
    }
    text.trim().to_owned()
}

#[test]
fn a_pc_with_everything() {
    let spec = full(Architecture::X86_64, Accelerator::Kvm);
    assert_eq!(
        shown(&spec, StartMode::Boot),
        "\
-machine q35
-accel kvm
-cpu host
-smp 4
-m 4096
-nographic
-monitor none
-chardev file,id=serial,path=/s/serial.log,append=on
-serial chardev:serial
-pidfile /s/qemu.pid
-kernel /i/kernel
-initrd /i/initrd
-append root=/dev/vda a=b,c
-drive file=/i/rootfs,format=raw,if=virtio,readonly=on
-drive file=/s/var.btrfs,format=raw,if=virtio,discard=unmap,detect-zeroes=unmap
-drive file=/s/data,,1.qcow2,format=qcow2,if=virtio,discard=unmap,detect-zeroes=unmap
-netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22
-device virtio-net-pci,netdev=net0
-device qemu-xhci,id=xhci
-fsdev local,id=workspace,path=/home/me/a,, b,security_model=mapped-xattr
-device virtio-9p-pci,fsdev=workspace,mount_tag=workspace
-chardev socket,id=supervisor,path=/s/qmp-supervisor.sock,server=on,wait=off
-mon chardev=supervisor,mode=control
-chardev socket,id=public,path=/s/qmp.sock,server=on,wait=off
-mon chardev=public,mode=control
-device virtio-serial-pci
-chardev socket,id=agent,path=/s/qga.sock,server=on,wait=off
-device virtserialport,chardev=agent,name=org.qemu.guest_agent.0
-chardev socket,id=control,path=/s/control.sock,server=on,wait=off
-device virtserialport,chardev=control,name=avocado.control
-chardev socket,id=tpm,path=/s/tpm/swtpm-sock
-tpmdev emulator,id=tpm0,chardev=tpm
-device tpm-tis,tpmdev=tpm0
-device pvpanic-pci,events=3
-action panic=none
-device virtio-balloon-pci,free-page-reporting=on"
    );
}

#[test]
fn what_differs() {
    type Case<'a> = (
        Architecture,
        Accelerator,
        fn(&mut MachineSpec),
        &'a [&'a str],
        &'a [&'a str],
    );
    let table: [Case<'_>; 10] = [
        (
            Architecture::X86_64,
            Accelerator::Kvm,
            |spec| spec.panic_device = false,
            &[],
            &["panic"],
        ),
        (
            Architecture::X86_64,
            Accelerator::Kvm,
            |spec| spec.gives_back = false,
            &[],
            &["discard", "zeroes", "balloon"],
        ),
        (
            Architecture::X86_64,
            Accelerator::Tcg,
            |_| {},
            &["-accel tcg,thread=multi", "-cpu max", "-machine q35"],
            &["-cpu host", "-dtb"],
        ),
        (
            Architecture::Aarch64,
            Accelerator::Tcg,
            |_| {},
            &[
                "-machine virt",
                "-cpu max",
                "-device tpm-tis-device,tpmdev=tpm0",
            ],
            &["q35"],
        ),
        (
            Architecture::Aarch64,
            Accelerator::Hvf,
            |spec| spec.device_tree = Some("/s/dtb/a.dtb".into()),
            &["-accel hvf", "-cpu host", "-dtb /s/dtb/a.dtb"],
            &[],
        ),
        (
            Architecture::X86_64,
            Accelerator::Kvm,
            |spec| spec.tpm = None,
            &[],
            &["tpm"],
        ),
        (
            Architecture::X86_64,
            Accelerator::Kvm,
            |spec| spec.workspace = None,
            &[],
            &["9p", "-fsdev"],
        ),
        (
            Architecture::X86_64,
            Accelerator::Kvm,
            |spec| spec.kernel = None,
            &[],
            &["-kernel", "-initrd", "-append"],
        ),
        (
            Architecture::X86_64,
            Accelerator::Kvm,
            |spec| spec.initrd = None,
            &["-kernel", "-append"],
            &["-initrd"],
        ),
        (
            Architecture::X86_64,
            Accelerator::Kvm,
            |spec| spec.drives.clear(),
            &[],
            &["-drive"],
        ),
    ];
    for (architecture, accelerator, change, with, without) in table {
        let mut spec = full(architecture, accelerator);
        change(&mut spec);
        let text = shown(&spec, StartMode::Boot);
        for part in with {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        for part in without {
            assert!(!text.contains(part), "{part} in\n{text}");
        }
        let incoming = shown(&spec, StartMode::Incoming);
        assert_eq!(incoming, format!("{text}\n-S\n-incoming defer"));
    }
}
