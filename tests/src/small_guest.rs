//! A VM's image whose guest is there in seconds, for tests of everything around a guest: Debian's
//! kernel, and busybox. It has the address that QEMU expects, says `SSH-2.0-small` on port 22 with
//! the id of its boot and a count of connections, then repeats what it hears; it has an agent that
//! knows the time and can power off. It has no disks to speak of.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, UpdatePolicy, VmArtifact, VmImage, VmRole};

use crate::Error;
use crate::error::file;
use crate::tools::{Call, Need, cache_dir};

/// Busybox under these names.
const PROGRAMS: [&str; 16] = [
    "adjtimex", "cat", "date", "echo", "insmod", "ip", "mount", "nc", "poweroff", "printf", "sh",
    "sleep", "sync", "true", "umount", "usleep",
];

/// Modules that the network needs, in this order.
const MODULES: [&str; 3] = [
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];

const SCRIPTS: [(&str, &str); 3] = [
    ("init", include_str!("small_guest/init")),
    ("serve", include_str!("small_guest/serve")),
    ("agent", include_str!("small_guest/agent")),
];

/// What a test with it needs.
pub fn needs() -> Vec<Need> {
    let parts = parts().unwrap_or_else(|| cache_dir().join("feed-parts/debian-*"));
    vec![
        Need::Tool("qemu-system-x86_64"),
        Need::Tool("cpio"),
        Need::Tool("xz"),
        Need::File(parts),
    ]
}

/// Parts of Debian that the sample feed was made from, the newest.
fn parts() -> Option<PathBuf> {
    let entries = fs::read_dir(cache_dir().join("feed-parts")).ok()?;
    let whole = |path: &PathBuf| {
        // One in the making has another extension.
        path.extension().is_none()
            && path.join("kernel/usr/lib/modules").is_dir()
            && path.join("busybox/usr/bin/busybox").is_file()
    };
    let paths = entries.flatten().map(|entry| entry.path()).filter(whole);
    paths.max_by_key(|path| path.metadata().and_then(|found| found.modified()).ok())
}

/// Makes the image in `directory`.
///
/// # Errors
/// The parts are not there, or something cannot be written.
pub fn image(directory: &Path) -> Result<(), Error> {
    let parts = parts().ok_or_else(|| Error::NotBuilt {
        name: "the sample feed".to_owned(),
        hint: "examples/feed/build makes it".to_owned(),
    })?;
    fs::create_dir_all(directory).map_err(file("make", directory))?;
    let modules = only(&parts.join("kernel/usr/lib/modules"))?;
    let name = modules.file_name().unwrap_or_default();
    let mut kernel = std::ffi::OsString::from("vmlinuz-");
    kernel.push(name);
    let kernel = parts.join("kernel/boot").join(kernel);
    fs::copy(&kernel, directory.join("kernel")).map_err(file("copy", &kernel))?;
    let busybox = parts.join("busybox/usr/bin/busybox");
    initramfs(directory, &busybox, &modules.join("kernel"))?;
    for disk in ["rootfs", "var"] {
        let path = directory.join(disk);
        fs::write(&path, vec![0; 1 << 20]).map_err(file("write", &path))?;
    }
    let cmdline = "console=ttyS0 quiet panic=-1".to_owned();
    let mut image = VmImage::new("avocado-qemux86-64".to_owned(), "x86_64", cmdline);
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
    fs::write(&path, image.to_json()).map_err(file("write", &path))
}

/// Puts a program named `ssh` in `directory`. In the place of the real one it pretends to be a
/// tunnel: the guest has no ssh.
///
/// # Errors
/// It cannot be written.
pub fn ssh(directory: &Path) -> Result<(), Error> {
    let path = directory.join("ssh");
    let text = include_str!("small_guest/ssh");
    fs::write(&path, text).map_err(file("write", &path))?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&path, mode).map_err(file("change", &path))
}

/// The only entry of a directory.
fn only(directory: &Path) -> Result<PathBuf, Error> {
    let mut entries = fs::read_dir(directory).map_err(file("read", directory))?;
    match entries.next() {
        Some(Ok(entry)) => Ok(entry.path()),
        _ => Err(file("read", directory)(std::io::ErrorKind::NotFound)),
    }
}

fn initramfs(directory: &Path, busybox: &Path, modules: &Path) -> Result<(), Error> {
    let root = directory.join("initramfs.d");
    for place in ["bin", "dev", "modules", "proc", "sys"] {
        let place = root.join(place);
        fs::create_dir_all(&place).map_err(file("make", &place))?;
    }
    let place = root.join("bin/busybox");
    fs::copy(busybox, &place).map_err(file("copy", busybox))?;
    for program in PROGRAMS {
        let link = root.join("bin").join(program);
        symlink("busybox", &link).map_err(file("make", &link))?;
    }
    for module in MODULES {
        let name = module.rsplit('/').next().unwrap_or(module);
        let module = modules.join(format!("{module}.ko"));
        let copy = root.join("modules").join(format!("{name}.ko"));
        if module.is_file() {
            fs::copy(&module, &copy).map_err(file("copy", &module))?;
            continue;
        }
        let (packed, copy) = (module.with_extension("ko.xz"), copy.with_extension("ko.xz"));
        fs::copy(&packed, &copy).map_err(file("copy", &packed))?;
        Call::new("xz").arg("-d").arg(&copy).ok()?;
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
    let cpio = Call::new("cpio").args(["--quiet", "-o", "-H", "newc", "-F"]);
    cpio.arg(&image).directory(&root).input(names).ok()?;
    fs::remove_dir_all(&root).map_err(file("remove", &root))
}

/// Every name below `root`, directories before what is in them.
fn list(root: &Path, below: &Path, names: &mut String) -> Result<(), Error> {
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
