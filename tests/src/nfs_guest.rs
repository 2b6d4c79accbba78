//! A guest with a client of NFS, systemd-sysext and `avocadoctl`: what a device needs to run
//! extensions from the machine where they are written. This machine's own kernel may have no such
//! client. It is Debian's kernel, and for everything else an initial file system in which `/usr` holds
//! all programs, as on a device.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::HarnessError;
use crate::debian_packages::{Apt, find, keep};
use crate::error::file;
use crate::tools::{TestNeed, ToolCall, cache_dir, find as find_program, static_binary};
use crate::wait::until;

/// What is loaded, with all that it needs.
const MODULES: [&str; 6] = [
    "virtio_pci",
    "virtio_net",
    "loop",
    "squashfs",
    "overlay",
    "nfsv4",
];

/// Where in the package they are.
const PLACES: [&str; 13] = [
    "/drivers/block/loop.",
    "/drivers/net/net_failover.",
    "/drivers/net/virtio_net.",
    "/drivers/virtio/",
    "/fs/fscache/",
    "/fs/lockd/",
    "/fs/netfs/",
    "/fs/nfs/",
    "/fs/nfs_common/",
    "/fs/overlayfs/",
    "/fs/squashfs/",
    "/net/core/failover.",
    "/net/",
];

/// How long the guest may take to be there, emulated and on a busy machine.
const BOOT: Duration = Duration::from_secs(120);

/// How long a command in it may take.
const COMMAND: Duration = Duration::from_secs(60);

/// How long one look may take of those that are repeated: programs may not start for a while.
const LOOK: Duration = Duration::from_secs(8);

/// What a test with it needs, besides [`kernel`].
pub fn needs() -> Vec<TestNeed> {
    let tools = [
        "ar",
        "busybox",
        "cpio",
        "depmod",
        "ldd",
        "qemu-system-x86_64",
        "systemd-sysext",
    ];
    let tools = tools.map(TestNeed::Tool).into_iter();
    tools
        .chain([TestNeed::StaticBinary("avocadoctl")])
        .collect()
}

/// A kernel and its modules, in the cache directory.
#[derive(Debug, Clone)]
pub struct GuestKernel {
    image: PathBuf,
    /// In the order in which they can be loaded.
    modules: Vec<PathBuf>,
}

/// The kernel, from Debian's package. The first call loads it.
///
/// # Errors
/// It cannot be had: no network, or no Debian.
pub fn kernel() -> Result<GuestKernel, HarnessError> {
    let place = cache_dir().join("nfs-guest");
    fs::create_dir_all(&place).map_err(file("make", &place))?;
    let lock = place.join("lock");
    let held = fs::File::create(&lock).map_err(file("open", &lock))?;
    flock(&held, FlockOperation::LockExclusive).map_err(file("lock", &lock))?;
    let parts = place.join("parts");
    if !parts.exists() {
        let work = place.join("work");
        let _ = fs::remove_dir_all(&work);
        load(&work, &work.join("parts"))?;
        fs::rename(work.join("parts"), &parts).map_err(file("move", &parts))?;
        fs::remove_dir_all(&work).map_err(file("remove", &work))?;
    }
    let directory = parts.join("modules");
    let entries = fs::read_dir(&directory).map_err(file("read", &directory))?;
    let mut modules: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    Ok(GuestKernel {
        image: parts.join("kernel"),
        modules,
    })
}

fn load(work: &Path, parts: &Path) -> Result<(), HarnessError> {
    let apt = Apt::new(work, "amd64")?;
    let package = apt.newest_kernel("linux-image-amd64")?;
    let is_image = |name: &str| name.contains("/boot/vmlinuz-");
    let is_list =
        |name: &str| name.ends_with("/modules.builtin") || name.ends_with("/modules.order");
    let is_module = |name: &str| PLACES.iter().any(|place| name.contains(place));
    let files = apt.unpack(&package, |name| {
        !name.ends_with('/') && (is_image(name) || is_list(name) || is_module(name))
    })?;
    let place = parts.join("modules");
    fs::create_dir_all(&place).map_err(file("make", &place))?;
    keep(find(&files, "kernel", is_image)?, &parts.join("kernel"))?;
    let list = find(&files, "modules.builtin", |name| {
        name.ends_with("/modules.builtin")
    })?;
    let tree = list.parent().unwrap_or(work);
    // `depmod` wants the directory above `lib/modules`.
    let root = tree.ancestors().nth(3).unwrap_or(work);
    let version = tree.file_name().unwrap_or_default();
    ToolCall::new("depmod")
        .arg("-b")
        .arg(root)
        .arg(version)
        .ok()?;
    let needs = tree.join("modules.dep");
    let text = fs::read_to_string(&needs).map_err(file("read", &needs))?;
    let mut by_path = BTreeMap::new();
    for (path, needs) in text.lines().filter_map(|line| line.split_once(':')) {
        by_path.insert(path, needs.split_whitespace().collect::<Vec<_>>());
    }
    let mut order = Vec::new();
    for module in MODULES {
        let is_it = |path: &&&str| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.split('.').next() == Some(module)
        };
        // Else it is built in.
        if let Some(path) = by_path.keys().find(is_it) {
            // Of what a module needs, the last has to come first.
            let needs = by_path.get(path).into_iter().flatten().rev();
            order.extend(needs.chain([path]).copied());
        }
    }
    let mut known = BTreeSet::new();
    for path in order {
        if !known.insert(path) {
            continue;
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let to = place.join(format!("{:02}-{name}", known.len()));
        fs::copy(tree.join(path), &to).map_err(file("copy", path))?;
        if name.ends_with(".xz") {
            ToolCall::new("xz").arg("-d").arg(&to).ok()?;
        }
    }
    Ok(())
}

/// A guest that runs until this is dropped.
#[derive(Debug)]
pub struct NfsGuest {
    qemu: Child,
    port: u16,
    console: PathBuf,
}

impl NfsGuest {
    /// Boots a guest with files in its store: each the name below `/var/lib/avocado/images`, and where
    /// it is here. `place` is an empty directory.
    ///
    /// # Errors
    /// It cannot be made, or is not there in time.
    pub fn boot(
        place: &Path,
        kernel: &GuestKernel,
        images: &[(&str, &Path)],
    ) -> Result<Self, HarnessError> {
        let initramfs = initramfs(place, kernel, images)?;
        NfsGuest::start(place, kernel, &initramfs, "768", &[])
    }

    /// Starts a guest that says on its console that it is up, and then runs what is written to its port
    /// 22. It has this many MiB, and QEMU these arguments more.
    pub(crate) fn start(
        place: &Path,
        kernel: &GuestKernel,
        initramfs: &Path,
        memory: &str,
        more: &[String],
    ) -> Result<Self, HarnessError> {
        let port = free_port()?;
        let console = place.join("console");
        let program = find_program("qemu-system-x86_64").unwrap_or_default();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command.args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-m",
            memory,
            "-smp",
            "2",
        ]);
        command.arg("-kernel").arg(&kernel.image);
        command.arg("-initrd").arg(initramfs);
        command.args([
            "-append",
            "console=ttyS0 quiet panic=-1",
            "-display",
            "none",
        ]);
        command
            .arg("-serial")
            .arg(format!("file:{}", console.display()));
        let forward = format!("user,model=virtio,hostfwd=tcp:127.0.0.1:{port}-:22");
        command.args(["-nic", &forward, "-no-reboot"]).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let qemu = command.spawn().map_err(file("start", "qemu"))?;
        let guest = NfsGuest {
            qemu,
            port,
            console,
        };
        let up = || guest.log().contains("nfs guest: up").then_some(());
        until("the guest to boot", BOOT, || Ok(up()), || guest.log())?;
        let hears = || (guest.run("echo yes") == "yes").then_some(());
        until(
            "the guest to listen",
            COMMAND,
            || Ok(hears()),
            || guest.log(),
        )?;
        Ok(guest)
    }

    /// What the guest said on its console.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs commands in a shell of the guest; what they print on either stream. While programs cannot
    /// be started there, nothing.
    pub fn run(&self, commands: &str) -> String {
        self.try_run(commands, COMMAND).unwrap_or_default()
    }

    fn try_run(&self, commands: &str, limit: Duration) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(format!("exec 2>&1\n{commands}\nexit\n").as_bytes())?;
        let mut said = Vec::new();
        // A guest that resets the connection has said what it said.
        let _ = stream.read_to_end(&mut said);
        let _ = stream.shutdown(Shutdown::Both);
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// Runs commands until what they print is as it should be.
    ///
    /// # Errors
    /// It is not in time; what they printed last is told.
    pub fn until(
        &self,
        what: &str,
        commands: &str,
        is: impl Fn(&str) -> bool,
    ) -> Result<String, HarnessError> {
        let last = std::cell::RefCell::new(String::new());
        let look = || {
            let said = self.try_run(commands, LOOK).unwrap_or_default();
            last.replace(said.clone());
            Ok(is(&said).then_some(said))
        };
        until(what, COMMAND, look, || last.borrow().clone())
    }
}

impl Drop for NfsGuest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// A port of the loopback address at which nothing listens now.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16, HarnessError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(file("open", "a port"))?;
    let address = listener.local_addr().map_err(file("open", "a port"))?;
    Ok(address.port())
}

fn initramfs(
    place: &Path,
    kernel: &GuestKernel,
    images: &[(&str, &Path)],
) -> Result<PathBuf, HarnessError> {
    let root = place.join("root");
    small_tree(&root, kernel)?;
    let bin = root.join("usr/bin");
    let program = |name: &str| find_program(name).ok_or_else(|| not_found(name));
    let sysext = program("systemd-sysext")?;
    copy(&sysext, &bin.join("systemd-sysext"))?;
    let libraries = ToolCall::new("ldd").arg(&sysext).ok()?.stdout;
    let libraries = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for library in libraries {
        let below = library.strip_prefix("/usr").unwrap_or(library);
        copy(Path::new(library), &root.join(format!("usr{below}")))?;
    }
    copy(&static_binary("avocadoctl")?, &bin.join("avocadoctl"))?;
    for (name, image) in images {
        copy(image, &root.join("var/lib/avocado/images").join(name))?;
    }
    write(
        &root.join("usr/lib/os-release"),
        "ID=guest\nVERSION_ID=1\n",
        0o644,
    )?;
    write(&root.join("etc/machine-id"), "", 0o644)?;
    write(&root.join("init"), include_str!("nfs_guest/init"), 0o755)?;
    pack(&root, &place.join("initramfs.cpio"))
}

/// A tree with busybox and the modules of the kernel.
pub(crate) fn small_tree(root: &Path, kernel: &GuestKernel) -> Result<(), HarnessError> {
    let make = |path: &str| {
        let path = root.join(path);
        fs::create_dir_all(&path).map_err(file("make", &path))
    };
    for path in [
        "proc", "sys", "dev", "run", "tmp", "opt", "etc", "modules", "usr/bin", "usr/sbin",
    ] {
        make(path)?;
    }
    make("var/lib/avocado/images")?;
    for (link, target) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        make(target)?;
        symlink(target, root.join(link)).map_err(file("make", link))?;
    }
    let bin = root.join("usr/bin");
    let busybox = find_program("busybox").ok_or_else(|| not_found("busybox"))?;
    copy(&busybox, &bin.join("busybox"))?;
    let applets = ToolCall::new("busybox").arg("--list").ok()?.stdout;
    for applet in applets.lines().filter(|name| *name != "busybox") {
        symlink("busybox", bin.join(applet)).map_err(file("make", applet))?;
    }
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default();
        copy(module, &root.join("modules").join(name))?;
    }
    Ok(())
}

/// Packs a tree as an initial file system, and removes it.
pub(crate) fn pack(root: &Path, image: &Path) -> Result<PathBuf, HarnessError> {
    let names = ToolCall::new("find").arg(".").directory(root).ok()?.stdout;
    let cpio = ToolCall::new("cpio").args(["--quiet", "-o", "-H", "newc", "-F"]);
    cpio.arg(image).directory(root).input(names).ok()?;
    fs::remove_dir_all(root).map_err(file("remove", root))?;
    Ok(image.to_owned())
}

fn not_found(name: &str) -> HarnessError {
    file("find", name)(std::io::ErrorKind::NotFound)
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), HarnessError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(file("make", parent))?;
    }
    fs::copy(from, to).map_err(file("copy", from))?;
    Ok(())
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), HarnessError> {
    fs::write(path, text).map_err(file("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(file("change", path))
}
