//! A Linux for arm64 that boots in QEMU in seconds: Debian's kernel, and busybox.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::Error;
use crate::error::file;
use crate::tools::{Call, cache_dir};

/// How long the downloads may take, about 70 MB.
const DOWNLOAD: Duration = Duration::from_secs(300);

/// What a guest is made of, in the cache directory.
#[derive(Debug, Clone)]
pub struct Parts {
    /// An image that QEMU boots directly.
    pub kernel: PathBuf,
    busybox: PathBuf,
}

/// The parts, from Debian's packages. The first call loads them.
///
/// # Errors
/// They cannot be had: no network, or no Debian.
pub fn parts() -> Result<Parts, Error> {
    let place = cache_dir().join("arm64");
    fs::create_dir_all(&place).map_err(file("make", &place))?;
    let lock = place.join("lock");
    let held = fs::File::create(&lock).map_err(file("open", &lock))?;
    flock(&held, FlockOperation::LockExclusive).map_err(file("lock", &lock))?;
    let parts = Parts {
        kernel: place.join("kernel"),
        busybox: place.join("busybox"),
    };
    if !parts.kernel.exists() || !parts.busybox.exists() {
        let work = place.join("work");
        let _ = fs::remove_dir_all(&work);
        load(&work, &parts)?;
        fs::remove_dir_all(&work).map_err(file("remove", &work))?;
    }
    Ok(parts)
}

fn load(work: &Path, parts: &Parts) -> Result<(), Error> {
    let apt = Apt::new(work)?;
    // A source that has nothing for arm64, or nothing for this, may be unreachable: only the
    // downloads have to succeed.
    apt.call("apt-get").args(["-q", "update"]).run()?;
    let depends = apt.call("apt-cache").args(["depends", "linux-image-arm64"]);
    let depends = depends.ok()?.stdout;
    let kernel = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .unwrap_or("linux-image-arm64");
    let kernel = apt.unpack(kernel, "./boot")?.join("boot");
    let entries = fs::read_dir(&kernel).map_err(file("read", &kernel))?;
    let image = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains("/vmlinuz-"))
        .unwrap_or_else(|| kernel.join("vmlinuz"));
    fs::rename(&image, &parts.kernel).map_err(file("move", &image))?;
    let busybox = apt.unpack("busybox-static", "./bin/busybox")?;
    let busybox = busybox.join("bin/busybox");
    fs::rename(&busybox, &parts.busybox).map_err(file("move", &busybox))
}

/// apt for another architecture, with lists of its own: the system's stay as they are.
struct Apt<'a> {
    work: &'a Path,
}

impl<'a> Apt<'a> {
    fn new(work: &'a Path) -> Result<Self, Error> {
        for name in ["lists/partial", "cache/archives/partial"] {
            let path = work.join(name);
            fs::create_dir_all(&path).map_err(file("make", path))?;
        }
        Ok(Apt { work })
    }

    fn call(&self, program: &str) -> Call {
        let place = |name: &str| self.work.join(name).display().to_string();
        let options = [
            "APT::Architecture=arm64".to_owned(),
            "APT::Architectures::=arm64".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            format!("Dir::State::lists={}", place("lists")),
            format!("Dir::Cache={}", place("cache")),
        ];
        let call = Call::new(program).directory(self.work).limit(DOWNLOAD);
        options
            .iter()
            .fold(call, |call, option| call.args(["-o", option]))
    }

    /// Loads a package and takes one path out of it.
    fn unpack(&self, package: &str, path: &str) -> Result<PathBuf, Error> {
        let place = self.work.join(package);
        fs::create_dir(&place).map_err(file("make", &place))?;
        let download = self.call("apt-get").directory(&place);
        download.args(["-q", "download", package]).ok()?;
        let entries = fs::read_dir(&place).map_err(file("read", &place))?;
        for archive in entries.flatten() {
            let call = Call::new("ar").args(["x", "--output"]).arg(&place);
            call.arg(archive.path()).ok()?;
        }
        let entries = fs::read_dir(&place).map_err(file("read", &place))?;
        for data in entries.flatten() {
            if data.file_name().to_string_lossy().starts_with("data.tar") {
                let call = Call::new("tar").arg("-C").arg(&place).arg("-xf");
                call.arg(data.path()).arg(path).limit(DOWNLOAD).ok()?;
            }
        }
        Ok(place)
    }
}

impl Parts {
    /// An initial file system in `place`: busybox under the names of its programs that `init`
    /// uses, and that script as the first process. Gives its path.
    ///
    /// # Errors
    /// A file cannot be written, or cpio fails.
    pub fn initramfs(&self, place: &Path, init: &str, programs: &[&str]) -> Result<PathBuf, Error> {
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
        let cpio = Call::new("cpio").args(["--quiet", "-o", "-H", "newc", "-F"]);
        cpio.arg(&image).directory(&root).input(names).ok()?;
        Ok(image)
    }
}
