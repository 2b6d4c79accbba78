//! A machine whose disk is one that `avocado provision` made, with the firmware that starts it.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::HarnessError;
use crate::error::file;
use crate::keys::SshKeys;
use crate::nfs_guest::free_port;
use crate::tools::{TestNeed, ToolCall, find};
use crate::wait::until;

/// Debian's build of UEFI firmware, and what its variables are at first.
const UEFI: [&str; 2] = [
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_VARS_4M.fd",
];

/// Debian's build of U-Boot for a machine of QEMU.
const UBOOT: &str = "/usr/lib/u-boot/qemu-x86/u-boot.rom";

/// What starts the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFirmware {
    /// UEFI, whose variables are the machine's own.
    Uefi,
    /// U-Boot, which runs the script on the first partition.
    Uboot,
}

impl DiskFirmware {
    fn files(self) -> &'static [&'static str] {
        match self {
            DiskFirmware::Uefi => &UEFI,
            DiskFirmware::Uboot => &[UBOOT],
        }
    }

    /// The arguments of QEMU for it. What it keeps is in `place`.
    fn arguments(self, place: &Path) -> Result<Vec<String>, HarnessError> {
        match self {
            DiskFirmware::Uefi => {
                let [code, variables] = UEFI;
                let own = place.join("variables.fd");
                fs::copy(variables, &own).map_err(file("copy", variables))?;
                let flash = "if=pflash,format=raw";
                let code = format!("{flash},readonly=on,file={code}");
                let own = format!("{flash},file={}", own.display());
                let all = ["-machine", "q35", "-drive", &code, "-drive", &own];
                Ok(all.map(ToOwned::to_owned).into())
            }
            // It finds the disk on this machine only. Its script knows where the watchdog is.
            DiskFirmware::Uboot => {
                let machine = ["-machine", "pc", "-bios", UBOOT];
                let all = [machine.as_slice(), &["-device", "i6300esb,addr=2"]].concat();
                Ok(all.into_iter().map(ToOwned::to_owned).collect())
            }
        }
    }
}

/// How long a boot may take, emulated and on a busy machine; with one that fails before it.
const BOOT: Duration = Duration::from_secs(900);

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(600);

/// How long one look may take of those that are repeated: a login alone takes seconds.
const LOOK: Duration = Duration::from_secs(60);

/// The end of the console that an error shows, in bytes.
const SHOWN: usize = 6000;

/// What a test with it needs.
pub fn needs(firmware: DiskFirmware) -> Vec<TestNeed> {
    let tools = ["qemu-system-x86_64", "setpriv", "ssh", "ssh-keygen"];
    let tools = tools.map(TestNeed::Tool).into_iter();
    let files = firmware.files().iter();
    tools
        .chain(files.map(|path| TestNeed::File(path.into())))
        .collect()
}

/// A machine that runs until this is dropped. It is reached by ssh, and reaches servers of this machine
/// at [`DiskGuest::HOST`].
#[derive(Debug)]
pub struct DiskGuest {
    qemu: Child,
    port: u16,
    console: PathBuf,
    /// What QEMU complains of.
    errors: PathBuf,
    keys: SshKeys,
}

impl DiskGuest {
    /// The address of this machine's loopback interface in the guest.
    pub const HOST: &'static str = "10.0.2.2";

    /// Starts a machine with this firmware and disk, and waits until ssh lets `keys` in. `place` is an
    /// empty directory.
    ///
    /// # Errors
    /// It does not come up in time.
    pub fn boot(
        place: &Path,
        firmware: DiskFirmware,
        disk: &Path,
        keys: SshKeys,
    ) -> Result<Self, HarnessError> {
        fs::create_dir_all(place).map_err(file("make", place))?;
        let console = place.join("console");
        let port = free_port()?;
        let program = find("qemu-system-x86_64").unwrap_or_default();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command.args(firmware.arguments(place)?);
        // With pages of five levels kernels do not start on what U-Boot leaves them.
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"]);
        command.args([
            "-m", "1024", "-smp", "2", "-display", "none", "-vga", "none",
        ]);
        let drive = "if=none,id=disk,format=raw,cache=unsafe";
        let drive = format!("{drive},file={}", disk.display());
        command.args(["-drive", &drive]);
        command.args(["-device", "virtio-blk-pci,drive=disk,bootindex=0"]);
        let network = format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22");
        command.args(["-netdev", &network, "-device", "virtio-net-pci,netdev=net"]);
        command
            .arg("-serial")
            .arg(format!("file:{}", console.display()));
        command.args(["-device", "virtio-rng-pci"]);
        let errors = place.join("qemu");
        let log = OpenOptions::new().create(true).append(true).open(&errors);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(log.map_err(file("make", &errors))?);
        let qemu = command.spawn().map_err(file("start", "qemu"))?;
        let guest = DiskGuest {
            qemu,
            port,
            console,
            errors,
            keys,
        };
        guest.until_booted("")?;
        Ok(guest)
    }

    /// What it said on its console.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs commands in a shell of it, as root; what they print.
    ///
    /// # Errors
    /// They fail, or it does not answer.
    pub fn run(&self, commands: &str) -> Result<String, HarnessError> {
        Ok(self.call(commands).ok()?.stdout)
    }

    /// The same for commands that may fail.
    pub fn call(&self, commands: &str) -> ToolCall {
        self.ssh().arg(commands).limit(COMMAND)
    }

    fn ssh(&self) -> ToolCall {
        let options = [
            "BatchMode=yes",
            "ConnectTimeout=5",
            "IdentitiesOnly=yes",
            "LogLevel=ERROR",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
        ];
        let options = options.iter().flat_map(|option| ["-o", option]);
        let call = ToolCall::new("ssh").args(["-F", "/dev/null"]).args(options);
        let call = call.arg("-i").arg(&self.keys.private);
        call.args(["-p", &self.port.to_string(), "root@127.0.0.1"])
    }

    /// Another text at each boot.
    ///
    /// # Errors
    /// It does not answer.
    pub fn boot_id(&self) -> Result<String, HarnessError> {
        self.run("cat /proc/sys/kernel/random/boot_id")
    }

    /// Waits for a boot that is not `before`, in which everything was started; its id.
    ///
    /// # Errors
    /// There is none in time; the end of the console is told.
    pub fn until_booted(&self, before: &str) -> Result<String, HarnessError> {
        let commands = "cat /proc/sys/kernel/random/boot_id; systemctl is-system-running";
        let look = || {
            self.runs()?;
            let said = self.ssh().arg(commands).limit(LOOK).run();
            let said = said.map(|output| output.stdout).unwrap_or_default();
            let (id, state) = said.split_once('\n').unwrap_or_default();
            let is_up = matches!(state.trim(), "running" | "degraded");
            let is_other = !id.is_empty() && id != before.trim();
            Ok((is_up && is_other).then(|| format!("{id}\n")))
        };
        until("the machine to boot", BOOT, look, || self.end_of_log())
    }

    /// Waits until commands succeed, however often it reboots meanwhile; what they print.
    ///
    /// # Errors
    /// They do not in the time of a boot; the end of the console is told.
    pub fn until_succeeds(&self, what: &str, commands: &str) -> Result<String, HarnessError> {
        let look = || {
            self.runs()?;
            let said = self.ssh().arg(commands).limit(LOOK).run();
            Ok(said.ok().filter(|s| s.status.success()).map(|s| s.stdout))
        };
        until(what, BOOT, look, || self.end_of_log())
    }

    /// # Errors
    /// QEMU has ended: nothing has to be waited for.
    fn runs(&self) -> Result<(), HarnessError> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(Pid::from_child(&self.qemu)), options) {
            Ok(None) => Ok(()),
            _ => Err(HarnessError::Gone {
                what: "run".to_owned(),
                console: self.end_of_log() + &fs::read_to_string(&self.errors).unwrap_or_default(),
            }),
        }
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let mut start = log.len().saturating_sub(SHOWN);
        while !log.is_char_boundary(start) {
            start += 1;
        }
        log.get(start..).unwrap_or_default().to_owned()
    }

    /// Has it reboot, and waits until it is there again; the id of the boot.
    ///
    /// # Errors
    /// It does not come up again.
    pub fn reboot(&self) -> Result<String, HarnessError> {
        let before = self.boot_id()?;
        self.begin_reboot();
        self.until_booted(&before)
    }

    /// Has it reboot, and waits for nothing.
    pub fn begin_reboot(&self) {
        // The connection may end before the answer.
        let _ = self.ssh().arg("systemctl reboot").limit(LOOK).run();
    }
}

impl Drop for DiskGuest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
