//! A VM's image whose guest is there in seconds, for tests of everything around a guest: Debian's
//! kernel, and busybox, for x86-64 or arm64. It has the address that QEMU expects, says
//! `SSH-2.0-small` on port 22 with the id of its boot and a count of connections, then repeats what
//! it hears; it has an agent that knows the time, its network and its processes, pretends to mount the
//! workspace, and can power off.
//! With `sessions` on the kernel's command line a connection has a program of its own, as a session
//! of ssh has; with `fetch=PORT` it downloads from that port of the host, with
//! `fill` it writes 8 MiB to its second disk, and a trim discards all of that; with `docker` it has
//! containers that publish ports.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, UpdatePolicy, VmArtifact, VmImage, VmRole};

use crate::HarnessError;
use crate::arm64;
use crate::error::file;
use crate::feed::debian_parts;
use crate::tools::{TestNeed, ToolCall};

/// Busybox under these names.
const PROGRAMS: [&str; 21] = [
    "base64",
    "blkdiscard",
    "cat",
    "date",
    "dd",
    "echo",
    "find",
    "grep",
    "insmod",
    "ip",
    "mount",
    "nc",
    "poweroff",
    "printf",
    "rm",
    "sh",
    "sleep",
    "sync",
    "true",
    "umount",
    "usleep",
];

/// Modules that network and disks need on x86-64, in this order. The rest is built in.
const MODULES: [&str; 4] = [
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/block/virtio_blk",
];

/// Modules by which it tells of a panic. A sample feed of before has none.
const PANIC_MODULES: [&str; 2] = [
    "drivers/misc/pvpanic/pvpanic",
    "drivers/misc/pvpanic/pvpanic-pci",
];

const SCRIPTS: [(&str, &str); 4] = [
    ("init", include_str!("small_guest/init")),
    ("serve", include_str!("small_guest/serve")),
    ("agent", include_str!("small_guest/agent")),
    ("docker", include_str!("small_guest/docker")),
];

/// What a test with it needs.
pub fn needs() -> Vec<TestNeed> {
    let parts = debian_parts().unwrap_or_else(|missing| missing);
    vec![
        TestNeed::Tool("qemu-system-x86_64"),
        TestNeed::Tool("cpio"),
        TestNeed::Tool("xz"),
        TestNeed::File(parts),
    ]
}

/// What a test with it needs that runs it on arm64, besides [`arm64::parts`].
pub fn needs_for_arm64() -> Vec<TestNeed> {
    ["qemu-system-aarch64", "cpio", "xz"]
        .map(TestNeed::Tool)
        .into()
}

/// What a test with it needs that lets its kernel panic, besides [`needs`].
pub fn needs_for_panics() -> Vec<TestNeed> {
    let parts = debian_parts().unwrap_or_else(|missing| missing);
    let tree = only(&parts.join("kernel/usr/lib/modules")).unwrap_or(parts);
    let needed = PANIC_MODULES.iter().map(|name| module(&tree, name));
    needed.map(TestNeed::File).collect()
}

/// The file of a module, plain or packed.
fn module(tree: &Path, name: &str) -> PathBuf {
    let plain = tree.join(format!("kernel/{name}.ko"));
    let packed = plain.with_extension("ko.xz");
    if plain.is_file() { plain } else { packed }
}

/// Makes the image in `directory`, for x86-64.
///
/// # Errors
/// The parts are not there, or something cannot be written.
pub fn image(directory: &Path) -> Result<(), HarnessError> {
    let parts = debian_parts().map_err(|_| HarnessError::NotBuilt {
        name: "the sample feed".to_owned(),
        hint: "examples/feed/build makes it".to_owned(),
    })?;
    let tree = only(&parts.join("kernel/usr/lib/modules"))?;
    let mut kernel = OsString::from("vmlinuz-");
    kernel.push(tree.file_name().unwrap_or_default());
    let panic_modules = PANIC_MODULES.iter().map(|name| module(&tree, name));
    let panic_modules = panic_modules.filter(|module| module.is_file());
    let guest = Guest {
        platform: "avocado-qemux86-64",
        architecture: "x86_64",
        console: "ttyS0",
        kernel: parts.join("kernel/boot").join(kernel),
        busybox: parts.join("busybox/usr/bin/busybox"),
        modules: (MODULES.iter().map(|name| module(&tree, name)))
            .chain(panic_modules)
            .collect(),
    };
    guest.image(directory)
}

/// Makes the image in `directory`, for arm64.
///
/// # Errors
/// Something cannot be written.
pub fn image_for_arm64(directory: &Path, parts: &arm64::Parts) -> Result<(), HarnessError> {
    let guest = Guest {
        platform: "avocado-qemuarm64",
        architecture: "arm64",
        console: "ttyAMA0",
        kernel: parts.kernel.clone(),
        busybox: parts.busybox.clone(),
        modules: parts.modules.clone(),
    };
    guest.image(directory)
}

/// What differs from one processor to another.
struct Guest {
    platform: &'static str,
    architecture: &'static str,
    console: &'static str,
    kernel: PathBuf,
    busybox: PathBuf,
    /// Files, plain or packed, in the order in which they can be loaded.
    modules: Vec<PathBuf>,
}

impl Guest {
    fn image(&self, directory: &Path) -> Result<(), HarnessError> {
        fs::create_dir_all(directory).map_err(file("make", directory))?;
        copy(&self.kernel, &directory.join("kernel"))?;
        self.initramfs(directory)?;
        for disk in ["rootfs", "var"] {
            let path = directory.join(disk);
            fs::write(&path, vec![0; 1 << 20]).map_err(file("write", &path))?;
        }
        let cmdline = format!("console={} quiet panic=-1", self.console);
        let mut image = VmImage::new(self.platform.to_owned(), self.architecture, cmdline);
        image.version = Some("small".to_owned());
        for role in VmRole::ALL {
            let path = directory.join(role.as_str());
            let bytes = fs::read(&path).map_err(file("read", &path))?;
            let name = role.as_str().parse();
            let Ok(name) = name else { continue };
            let artifact = VmArtifact {
                file: name,
                sha256: Digest::of(&bytes),
                size: Some(bytes.len() as u64),
                update_policy: match role {
                    VmRole::Var => UpdatePolicy::SeedOnly,
                    _ => UpdatePolicy::Replace,
                },
                kind: None,
                role_link: None,
            };
            image.artifacts.insert(role.as_str().to_owned(), artifact);
        }
        let path = directory.join("manifest.json");
        fs::write(&path, image.to_json().unwrap()).map_err(file("write", &path))
    }

    fn initramfs(&self, directory: &Path) -> Result<(), HarnessError> {
        let root = directory.join("initramfs.d");
        for place in [
            "bin",
            "containers/by-name",
            "counted",
            "dev",
            "modules",
            "proc",
            "sys",
        ] {
            let place = root.join(place);
            fs::create_dir_all(&place).map_err(file("make", &place))?;
        }
        copy(&self.busybox, &root.join("bin/busybox"))?;
        for program in PROGRAMS {
            let link = root.join("bin").join(program);
            symlink("busybox", &link).map_err(file("make", &link))?;
        }
        for (number, module) in self.modules.iter().enumerate() {
            // The guest loads them in the order of their names.
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            let place = root.join(format!("modules/{number:02}-{name}"));
            copy(module, &place)?;
            if name.ends_with(".xz") {
                ToolCall::new("xz").arg("-d").arg(&place).ok()?;
            }
        }
        for (name, text) in SCRIPTS {
            let path = root.join(name);
            fs::write(&path, text).map_err(file("write", &path))?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, mode).map_err(file("change", &path))?;
        }
        let mut names = String::new();
        list(&root, Path::new(""), &mut names)?;
        let image = directory.join("initramfs");
        let cpio = ToolCall::new("cpio").args(["--quiet", "-o", "-H", "newc", "-F"]);
        cpio.arg(&image).directory(&root).input(names).ok()?;
        fs::remove_dir_all(&root).map_err(file("remove", &root))
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), HarnessError> {
    fs::copy(from, to).map_err(file("copy", from))?;
    Ok(())
}

/// Puts a program named `ssh` in `directory`. In the place of the real one it pretends to be a
/// tunnel: the guest has no ssh.
///
/// # Errors
/// It cannot be written.
pub fn ssh(directory: &Path) -> Result<(), HarnessError> {
    let path = directory.join("ssh");
    let text = include_str!("small_guest/ssh");
    fs::write(&path, text).map_err(file("write", &path))?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&path, mode).map_err(file("change", &path))
}

/// The only entry of a directory.
fn only(directory: &Path) -> Result<PathBuf, HarnessError> {
    let mut entries = fs::read_dir(directory).map_err(file("read", directory))?;
    match entries.next() {
        Some(Ok(entry)) => Ok(entry.path()),
        _ => Err(file("read", directory)(std::io::ErrorKind::NotFound)),
    }
}

/// Every name below `root`, directories before what is in them.
fn list(root: &Path, below: &Path, names: &mut String) -> Result<(), HarnessError> {
    let directory = root.join(below);
    for entry in fs::read_dir(&directory)
        .map_err(file("read", &directory))?
        .flatten()
    {
        let name = below.join(entry.file_name());
        names.push_str(&format!("{}\n", name.display()));
        if entry.file_type().is_ok_and(|found| found.is_dir()) {
            list(root, &name, names)?;
        }
    }
    Ok(())
}
