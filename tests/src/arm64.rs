//! A Linux for arm64 that boots in QEMU in seconds: Debian's kernel, and busybox.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::HarnessError;
use crate::debian_packages::{Apt, find, is_module, keep};
use crate::error::file;
use crate::tools::{ToolCall, cache_dir};

/// What the kernel needs for the devices that a VM has, in this order: virtio over PCI, the
/// network, the ports of the agent.
const MODULES: [&str; 7] = [
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/char/virtio_console",
];

/// What a guest is made of, in the cache directory.
#[derive(Debug, Clone)]
pub struct Parts {
    /// An image that QEMU boots directly.
    pub kernel: PathBuf,
    pub(crate) busybox: PathBuf,
    /// In the order in which they can be loaded.
    pub(crate) modules: Vec<PathBuf>,
}

/// The parts, from Debian's packages. The first call loads them.
///
/// # Errors
/// They cannot be had: no network, or no Debian.
pub fn parts() -> Result<Parts, HarnessError> {
    let place = cache_dir().join("arm64");
    fs::create_dir_all(&place).map_err(file("make", &place))?;
    let lock = place.join("lock");
    let held = fs::File::create(&lock).map_err(file("open", &lock))?;
    flock(&held, FlockOperation::LockExclusive).map_err(file("lock", &lock))?;
    let parts = place.join("parts");
    // Modules fit only the kernel that they were made with: what lacks some is loaded anew, whole.
    let known = fs::read_to_string(parts.join("list")).ok();
    if known != Some(MODULES.join("\n")) {
        let (work, new) = (place.join("work"), place.join("work/parts"));
        let _ = fs::remove_dir_all(&work);
        load(&work, &new)?;
        let _ = fs::remove_dir_all(&parts);
        fs::rename(&new, &parts).map_err(file("move", &new))?;
        fs::remove_dir_all(&work).map_err(file("remove", &work))?;
        // Where they were before there were modules.
        for old in ["kernel", "busybox"] {
            let _ = fs::remove_file(place.join(old));
        }
    }
    let modules = parts.join("modules");
    let entries = fs::read_dir(&modules).map_err(file("read", &modules))?;
    let mut modules: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    Ok(Parts {
        kernel: parts.join("kernel"),
        busybox: parts.join("busybox"),
        modules,
    })
}

/// Makes the directory `parts`.
fn load(work: &Path, parts: &Path) -> Result<(), HarnessError> {
    let apt = Apt::new(work, "arm64")?;
    let kernel = apt.newest_kernel("linux-image-arm64")?;
    let image = |name: &str| name.contains("/boot/vmlinuz-");
    let built_in = |name: &str| name.ends_with("/modules.builtin");
    let modules = |name: &str| MODULES.iter().any(|module| is_module(name, module));
    let kernel = apt.unpack(&kernel, |name| {
        image(name) || built_in(name) || modules(name)
    })?;
    let busybox = apt.unpack("busybox-static", |name| name.ends_with("/bin/busybox"))?;

    let place = parts.join("modules");
    fs::create_dir_all(&place).map_err(file("make", &place))?;
    keep(find(&kernel, "kernel", image)?, &parts.join("kernel"))?;
    keep(find(&busybox, "busybox", |_| true)?, &parts.join("busybox"))?;
    let names = find(&kernel, "modules.builtin", built_in)?;
    let names = fs::read_to_string(names).map_err(file("read", names))?;
    for (number, module) in MODULES.iter().enumerate() {
        if names.lines().any(|name| is_module(name, module)) {
            continue;
        }
        let found = find(&kernel, module, |name| is_module(name, module))?;
        let name = found.file_name().unwrap_or_default().to_string_lossy();
        keep(found, &place.join(format!("{number}-{name}")))?;
    }
    let list = parts.join("list");
    fs::write(&list, MODULES.join("\n")).map_err(file("write", &list))
}

impl Parts {
    /// An initial file system in `place`: busybox under the names of its programs that `init`
    /// uses, and that script as the first process. Gives its path.
    ///
    /// # Errors
    /// A file cannot be written, or cpio fails.
    pub fn initramfs(
        &self,
        place: &Path,
        init: &str,
        programs: &[&str],
    ) -> Result<PathBuf, HarnessError> {
        let root = place.join("initramfs");
        let bin = root.join("bin");
        fs::create_dir_all(&bin).map_err(file("make", &bin))?;
        fs::copy(&self.busybox, bin.join("busybox")).map_err(file("copy", &self.busybox))?;
        let mut names = ["bin", "bin/busybox", "init"].join("\n");
        for program in programs {
            let link = bin.join(program);
            symlink("busybox", &link).map_err(file("make", link))?;
            names = format!("{names}\nbin/{program}");
        }
        let script = root.join("init");
        fs::write(&script, init).map_err(file("write", &script))?;
        for path in [&script, &bin.join("busybox")] {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(path, mode).map_err(file("change", path))?;
        }
        let image = place.join("initramfs.cpio");
        let cpio = ToolCall::new("cpio").args(["--quiet", "-o", "-H", "newc", "-F"]);
        cpio.arg(&image).directory(&root).input(names).ok()?;
        Ok(image)
    }
}
