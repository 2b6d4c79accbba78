//! A machine with two slots and disks that lose data ([`crate::volatile_disk`]), which is there in seconds: Debian's
//! kernel, busybox, `avocadoctl`, and U-Boot's environment with the programs for it. This harness is its boot loader: it
//! reads the environment as U-Boot does, and starts the slot that it names.
//!
//! It has three disks, so that what one of them flushes says nothing of another: the environment, the
//! slots, and `/var`.

mod loader;
mod parked;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub use loader::{LostEnvironment, environment, started_slot};

use crate::HarnessError;
use crate::error::file;
use crate::feed::debian_parts;
use crate::nfs_guest::{copy, pack, write};
use crate::tools::{TestNeed, ToolCall, find, static_binary};
use crate::volatile_disk::{
    CutMoment, CutRandom, DiskEvent, DiskPower, LostWrites, MARKS, NamedDisks, VolatileDisk,
};
use crate::wait::until;

/// The disk of the boot loader's environment.
pub const ENVIRONMENT: &str = "environment";
/// The disk of both slots.
pub const SLOTS: &str = "slots";
/// The disk of `/var`.
pub const VAR: &str = "var";

/// The size of a slot in bytes, and where the first one is.
const SLOT: usize = 12 << 20;
const FIRST_SLOT: usize = 1 << 20;
/// The size of `/var` in bytes, and that of its blocks.
const VAR_SIZE: u64 = 64 << 20;
const VAR_BLOCK: usize = 4096;

/// The size of the disk of marks in bytes: more of them than there are.
const MARKS_SIZE: usize = 1 << 20;

/// Files in its place: both serial lines, and its memory where each run begins.
const CONSOLE: &str = "console";
const SAID: &str = "said";
const MEMORY: &str = "memory";

/// What is loaded, in this order. The rest is built in.
const MODULES: [&str; 10] = [
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/block/virtio_blk",
    "fs/squashfs/squashfs",
    "crypto/crc32c_generic",
    "lib/crc16",
    "fs/mbcache",
    "fs/jbd2/jbd2",
    "fs/ext4/ext4",
];

/// How long one run may take, emulated and on a busy machine.
const RUN: Duration = Duration::from_secs(240);

/// What a test with it needs.
pub fn needs() -> Vec<TestNeed> {
    let parts = debian_parts().unwrap_or_else(|missing| missing);
    let tools = [
        "busybox",
        "cpio",
        "fw_printenv",
        "fw_setenv",
        "ldd",
        "mkfs.ext4",
        "mksquashfs",
        "qemu-system-x86_64",
        "setpriv",
        "sfdisk",
    ];
    let tools = tools.map(TestNeed::Tool).into_iter();
    let own = [TestNeed::StaticBinary("avocadoctl"), TestNeed::File(parts)];
    tools.chain(own).collect()
}

/// One run of the machine, from its start to its end or to a cut.
#[derive(Debug)]
pub struct CutRun<'a> {
    /// The slot that the boot loader starts.
    pub slot: &'a str,
    /// A number for the files that it writes.
    pub number: u32,
    /// How long its writer rests between two files, in microseconds.
    pub pause: u64,
    /// What it does, as `cut_guest/init` understands it.
    pub work: &'a [String],
    /// When the power goes.
    pub moment: Option<CutMoment>,
}

/// What is left of a run.
#[derive(Debug)]
pub struct RunEnd {
    /// Its disks, as the next run finds them.
    pub disks: NamedDisks,
    /// Whether the power went.
    pub was_cut: bool,
    /// What became of writes that were not flushed.
    pub lost: LostWrites,
    /// What it did with its disks.
    pub events: Vec<DiskEvent>,
    /// What it told of itself.
    pub said: String,
    /// What its kernel said.
    pub console: String,
}

/// The machine without its disks.
#[derive(Debug)]
pub struct CutGuest {
    place: PathBuf,
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl CutGuest {
    /// Makes it in an empty directory.
    ///
    /// # Errors
    /// The parts are not there, or something cannot be written.
    pub fn create(place: &Path) -> Result<Self, HarnessError> {
        let parts = debian_parts().map_err(|_| HarnessError::NotBuilt {
            name: "the sample feed".to_owned(),
            hint: "examples/feed/build makes it".to_owned(),
        })?;
        let (kernel, modules) = kernel_of(&parts)?;
        let root = place.join("initramfs.d");
        for directory in ["dev", "proc", "sys", "root", "modules", "bin"] {
            make(&root.join(directory))?;
        }
        for (number, name) in MODULES.iter().enumerate() {
            let plain = modules.join(format!("kernel/{name}.ko"));
            let packed = plain.with_extension("ko.xz");
            let from = if plain.is_file() { plain } else { packed };
            let name = from.file_name().unwrap_or_default().to_string_lossy();
            let to = root.join(format!("modules/{number:02}-{name}"));
            copy(&from, &to)?;
            if name.ends_with(".xz") {
                ToolCall::new("xz").arg("-d").arg(&to).ok()?;
            }
        }
        busybox(&root.join("bin"))?;
        write(&root.join("init"), include_str!("start"), 0o755)?;
        Ok(CutGuest {
            place: place.to_owned(),
            kernel,
            initramfs: pack(&root, &place.join("initramfs.cpio"))?,
        })
    }

    /// The image of a root file system that says that it is this build.
    ///
    /// # Errors
    /// Something cannot be written.
    pub fn system(&self, build: &str) -> Result<Vec<u8>, HarnessError> {
        let root = self.place.join("system.d");
        for directory in [
            "dev",
            "proc",
            "sys",
            "run",
            "tmp",
            "var",
            "etc/avocado",
            "opt",
            "usr/bin",
            "usr/local/bin",
        ] {
            make(&root.join(directory))?;
        }
        for (link, target) in [
            ("bin", "usr/bin"),
            ("lib", "usr/lib"),
            ("lib64", "usr/lib64"),
        ] {
            make(&root.join(target))?;
            let link = root.join(link);
            std::os::unix::fs::symlink(target, &link).map_err(file("make", &link))?;
        }
        let bin = root.join("usr/bin");
        busybox(&bin)?;
        copy(&static_binary("avocadoctl")?, &bin.join("avocadoctl"))?;
        for name in ["fw_printenv", "fw_setenv"] {
            let program = find(name).unwrap_or_default();
            copy(&program, &bin.join(name))?;
            let libraries = ToolCall::new("ldd").arg(&program).ok()?.stdout;
            let libraries = libraries.split_whitespace();
            for library in libraries.filter(|word| word.starts_with('/')) {
                let below = library.strip_prefix("/usr").unwrap_or(library);
                copy(Path::new(library), &root.join(format!("usr{below}")))?;
            }
        }
        let files = [
            ("init", include_str!("init"), 0o755),
            ("usr/lib/mark", include_str!("mark"), 0o644),
            (
                "usr/local/bin/fw_printenv",
                include_str!("fw_printenv"),
                0o755,
            ),
            ("usr/local/bin/fw_setenv", include_str!("fw_setenv"), 0o755),
            ("etc/machine-id", "", 0o644),
            ("etc/fw_env.config", loader::CONFIG, 0o644),
            (
                "etc/avocado/stream.conf",
                "[avocado.update]\nstream_os_to_partition = true\n",
                0o644,
            ),
        ];
        for (name, text, mode) in files {
            write(&root.join(name), text, mode)?;
        }
        let says = format!("ID=cut\nVERSION_ID=1\nAVOCADO_OS_BUILD_ID={build}\n");
        write(&root.join("etc/os-release"), &says, 0o644)?;
        let image = self.place.join("system.squashfs");
        let squash = ToolCall::new("mksquashfs").arg(&root).arg(&image);
        let fast = ["-quiet", "-no-progress", "-all-root", "-noappend"];
        let squash = squash
            .args(fast)
            .args(["-comp", "gzip", "-Xcompression-level", "3"]);
        squash.ok()?;
        fs::remove_dir_all(&root).map_err(file("remove", &root))?;
        fs::read(&image).map_err(file("read", &image))
    }

    /// The disks of a machine that starts from slot a, in which there is this system. `/var` has the
    /// files of a directory.
    ///
    /// # Errors
    /// Something cannot be written.
    pub fn disks(&self, system: &[u8], var: &Path) -> Result<NamedDisks, HarnessError> {
        let place = self.place.join("disk");
        let blank = |size: u64| {
            let disk = fs::File::create(&place).map_err(file("make", &place))?;
            disk.set_len(size).map_err(file("write", &place))
        };
        let read = || fs::read(&place).map_err(file("read", &place));
        blank((FIRST_SLOT + 2 * SLOT + FIRST_SLOT) as u64)?;
        let sectors = |bytes: usize| bytes / 512;
        let line = |name: &str, start: usize| {
            let (start, size) = (sectors(start), sectors(SLOT));
            format!("start={start}, size={size}, name={name}\n")
        };
        let table = format!(
            "label: gpt\n{}{}",
            line("rootfs-a", FIRST_SLOT),
            line("rootfs-b", FIRST_SLOT + SLOT)
        );
        let partition = ToolCall::new("sfdisk").args(["--quiet", "--no-reread"]);
        partition.arg(&place).input(table).ok()?;
        let mut slots = read()?;
        slot_mut(&mut slots, "a")
            .get_mut(..system.len())
            .ok_or_else(|| file("fill", "slot a")(std::io::ErrorKind::StorageFull))?
            .copy_from_slice(system);
        blank(VAR_SIZE)?;
        let format = ToolCall::new("mkfs.ext4").args(["-q", "-b"]);
        let format = format.arg(VAR_BLOCK.to_string()).arg("-d").arg(var);
        format.arg(&place).ok()?;
        let disks = [
            (ENVIRONMENT, environment("a")),
            (SLOTS, slots),
            (VAR, read()?),
        ];
        fs::remove_file(&place).map_err(file("remove", &place))?;
        let disks = disks.map(|(name, content)| {
            let disk = VolatileDisk::new(content);
            let unit = if name == VAR { VAR_BLOCK } else { 512 };
            (name.to_owned(), disk.with_unit(unit))
        });
        Ok(disks.into())
    }

    /// Starts it with disks like these and stops it before it looks at them. Each run begins there.
    ///
    /// # Errors
    /// It does not come up.
    pub fn park(&self, disks: &NamedDisks) -> Result<(), HarnessError> {
        let monitor = self.place.join("monitor");
        let (power, command) = self.powered(disks.clone(), "parked", None)?;
        let mut command = command;
        command.arg("-qmp");
        command.arg(format!("unix:{},server=on,wait=off", monitor.display()));
        command.args(["-kernel".as_ref(), self.kernel.as_os_str()]);
        command.args(["-initrd".as_ref(), self.initramfs.as_os_str()]);
        let words = "console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests";
        command.args(["-append", words]);
        let qemu = Killed(command.spawn().map_err(file("start", "qemu"))?);
        let is_up = || Ok(self.text(SAID).contains("parked").then_some(()));
        until("the start of a guest", RUN, is_up, || self.text(CONSOLE))?;
        parked::park(&monitor, &self.place.join(MEMORY))?;
        drop(qemu);
        drop(power);
        Ok(())
    }

    /// Runs it, until it has done its work or the power goes.
    ///
    /// # Errors
    /// It does not come to an end.
    pub fn run(
        &self,
        run: &CutRun<'_>,
        disks: NamedDisks,
        random: &mut CutRandom,
    ) -> Result<RunEnd, HarnessError> {
        let (slot, number, pause) = (run.slot, run.number, run.pause);
        let orders = format!("go {slot} {number} {pause} {}", run.work.join(","));
        let (power, mut command) = self.powered(disks, &orders, run.moment)?;
        let memory = self.place.join(MEMORY);
        command.arg("-incoming");
        command.arg(format!("file:{}", memory.display()));
        let mut qemu = Killed(command.spawn().map_err(file("start", "qemu"))?);
        let ended = || {
            let ended = qemu.0.try_wait().map_err(file("wait for", "qemu"))?;
            Ok((power.is_cut() || ended.is_some()).then_some(()))
        };
        let ends = until("the end of a run", RUN, ended, || {
            format!("\n{}\n{}", self.text(CONSOLE), self.text(SAID))
        });
        let was_cut = power.is_cut();
        drop(qemu);
        ends?;
        let events = power.events();
        let (disks, lost) = power.off(random);
        Ok(RunEnd {
            disks,
            was_cut,
            lost,
            events,
            said: self.text(SAID),
            console: self.text(CONSOLE),
        })
    }

    /// Power for disks, and a QEMU that has them; what the guest reads first on the disk of marks.
    fn powered(
        &self,
        mut disks: NamedDisks,
        orders: &str,
        moment: Option<CutMoment>,
    ) -> Result<(DiskPower, Command), HarnessError> {
        let mut marks = format!("{orders}\n").into_bytes();
        marks.resize(MARKS_SIZE, 0);
        disks.insert(MARKS.to_owned(), VolatileDisk::new(marks));
        let names: Vec<String> = disks.keys().cloned().collect();
        let socket = self.place.join("disks");
        let power = DiskPower::on(&socket, disks, moment)?;
        let mut command = Command::new("setpriv");
        let qemu = find("qemu-system-x86_64").unwrap_or_default();
        command.args(["--pdeathsig", "KILL"]).arg(qemu);
        command.args(["-accel", "tcg", "-cpu", "max,la57=off", "-m", "256"]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        command.args(["-nic", "user,model=virtio-net-pci"]);
        for name in [CONSOLE, SAID] {
            let path = self.place.join(name);
            command
                .arg("-serial")
                .arg(format!("file:{}", path.display()));
        }
        for name in &names {
            let socket = socket.display();
            command.arg("-blockdev").arg(format!(
                "driver=nbd,node-name={name},server.type=unix,server.path={socket},export={name}"
            ));
            command.arg("-device").arg(format!(
                "virtio-blk-pci,drive={name},serial={name},write-cache=on"
            ));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok((power, command))
    }

    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.place.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }
}

/// What is in a slot for good.
pub fn slot_content<'a>(disks: &'a NamedDisks, slot: &str) -> &'a [u8] {
    let disk = disks
        .get(SLOTS)
        .map(VolatileDisk::lasting)
        .unwrap_or_default();
    let start = slot_start(slot);
    disk.get(start..start + SLOT).unwrap_or_default()
}

fn slot_mut<'a>(disk: &'a mut [u8], slot: &str) -> &'a mut [u8] {
    let start = slot_start(slot);
    disk.get_mut(start..start + SLOT).unwrap_or_default()
}

fn slot_start(slot: &str) -> usize {
    FIRST_SLOT + if slot == "a" { 0 } else { SLOT }
}

/// A process that ends with its owner, at once.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's kernel, and the directory of its modules.
fn kernel_of(parts: &Path) -> Result<(PathBuf, PathBuf), HarnessError> {
    let all = parts.join("kernel/usr/lib/modules");
    let mut entries = fs::read_dir(&all).map_err(file("read", &all))?;
    let Some(Ok(modules)) = entries.next() else {
        return Err(file("read", &all)(std::io::ErrorKind::NotFound));
    };
    let version = modules.file_name().to_string_lossy().into_owned();
    let kernel = parts.join(format!("kernel/boot/vmlinuz-{version}"));
    Ok((kernel, modules.path()))
}

/// Busybox under all its names.
fn busybox(bin: &Path) -> Result<(), HarnessError> {
    let program = find("busybox").unwrap_or_default();
    copy(&program, &bin.join("busybox"))?;
    let names = ToolCall::new(program).arg("--list").ok()?.stdout;
    for name in names.lines().filter(|name| *name != "busybox") {
        let link = bin.join(name);
        std::os::unix::fs::symlink("busybox", &link).map_err(file("make", &link))?;
    }
    Ok(())
}

fn make(directory: &Path) -> Result<(), HarnessError> {
    fs::create_dir_all(directory).map_err(file("make", directory))
}
