//! Another machine for steps: a guest with an ssh server, the tools of a build, and no `avocado`. It has
//! two networks. One is that of its ssh server, and can be cut; over the other a test looks at it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use avocado_manifest::Digest;
use rustix::fs::{FlockOperation, flock};

use crate::HarnessError;
use crate::error::file;
use crate::nfs_guest::{GuestKernel, NfsGuest, copy, free_port, pack, small_tree, write};
use crate::tools::{TestNeed, ToolCall, cache_dir};

/// The release that this project's machines run, so that both have the same tools.
const RELEASE: &str = "bookworm";
/// What a build step calls, as in `scripts/setup`, and what makes it another machine.
const PACKAGES: [&str; 14] = [
    "btrfs-progs",
    "busybox-static",
    "ca-certificates",
    "cpio",
    "dnf",
    "erofs-utils",
    "iproute2",
    "kmod",
    "openssh-server",
    "rpm",
    "squashfs-tools",
    "sudo",
    "systemd",
    "zstd",
];
/// How long it may take to make it on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);
/// In MiB: the system is in memory, packed, and what is written there too.
const MEMORY: &str = "2048";

/// What a test with it needs, besides [`kernel`](crate::nfs_guest::kernel).
pub fn needs() -> Vec<TestNeed> {
    let tools = [
        "ar",
        "busybox",
        "cpio",
        "debootstrap",
        "depmod",
        "ganesha.nfsd",
        "mksquashfs",
        "qemu-system-x86_64",
        "ssh",
        "ssh-keygen",
    ];
    let tools = tools.map(TestNeed::Tool).into_iter();
    let own = [TestNeed::Root, TestNeed::StaticBinary("avocado")];
    tools.chain(own).collect()
}

/// The system in such a guest, packed. The first call makes it, which takes minutes.
///
/// # Errors
/// Debian cannot be reached.
pub fn system() -> Result<PathBuf, HarnessError> {
    let digest = Digest::of(format!("{RELEASE} {}", PACKAGES.join(" ")).as_bytes());
    let key: String = digest.to_string().chars().take(12).collect();
    let place = cache_dir().join("remote-guest");
    fs::create_dir_all(&place).map_err(file("make", &place))?;
    let path = place.join("lock");
    let lock = File::create(&path).map_err(file("make", &path))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(file("lock", &path))?;
    let image = place.join(format!("{key}.squashfs"));
    if !image.exists() {
        make(&place.join("tree"), &image)?;
    }
    Ok(image)
}

fn make(tree: &Path, image: &Path) -> Result<(), HarnessError> {
    let new = image.with_extension("new");
    let remove = |path: &Path| ToolCall::new("rm").arg("-rf").arg(path).limit(LIMIT).ok();
    remove(tree)?;
    remove(&new)?;
    ToolCall::new("debootstrap")
        .arg("--variant=minbase")
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(RELEASE)
        .arg(tree)
        .args(std::env::var_os("DEBIAN_MIRROR"))
        .limit(LIMIT)
        .ok()?;
    ToolCall::new("mksquashfs")
        .arg(tree)
        .arg(&new)
        .args([
            "-quiet",
            "-no-progress",
            "-comp",
            "zstd",
            "-Xcompression-level",
            "3",
        ])
        .args(["-wildcards", "-e", "var/cache/apt/*", "var/lib/apt/lists/*"])
        .limit(LIMIT)
        .ok()?;
    fs::rename(&new, image).map_err(file("move", &new))?;
    remove(tree).map(drop)
}

/// A guest that runs until this is dropped.
#[derive(Debug)]
pub struct RemoteGuest {
    guest: NfsGuest,
    control: PathBuf,
    bin: PathBuf,
}

impl RemoteGuest {
    /// Boots a guest with `system`. `place` is an empty directory. Its ports `forwarded` lead to those
    /// of this machine as long as there is a connection.
    ///
    /// # Errors
    /// It cannot be made, or is not there in time.
    pub fn boot(
        place: &Path,
        kernel: &GuestKernel,
        system: &Path,
        forwarded: &[u16],
    ) -> Result<Self, HarnessError> {
        fs::create_dir_all(place).map_err(file("make", place))?;
        let root = place.join("root");
        small_tree(&root, kernel)?;
        copy(system, &root.join("root.squashfs"))?;
        write(&root.join("init"), include_str!("remote_guest/init"), 0o755)?;
        let seed = root.join("seed");
        let (key, host_key) = (place.join("key"), place.join("host-key"));
        for path in [&key, &host_key] {
            ToolCall::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path)
                .ok()?;
        }
        for directory in [
            "usr/sbin",
            "etc/ssh",
            "etc/sudoers.d",
            "root/.ssh",
            "home/me/.ssh",
        ] {
            let path = seed.join(directory);
            fs::create_dir_all(&path).map_err(file("make", &path))?;
        }
        write(
            &seed.join("usr/sbin/guest"),
            include_str!("remote_guest/guest"),
            0o755,
        )?;
        write(
            &seed.join("etc/ssh/guest"),
            include_str!("remote_guest/sshd"),
            0o644,
        )?;
        copy(&host_key, &seed.join("etc/ssh/key"))?;
        for home in ["root", "home/me"] {
            let keys = seed.join(home).join(".ssh/authorized_keys");
            copy(&key.with_extension("pub"), &keys)?;
        }
        let initramfs = pack(&root, &place.join("initramfs.cpio"))?;

        let port = free_port()?;
        let control = place.join("qmp");
        let more = [
            "-nic".to_owned(),
            format!(
                "user,id=work,model=virtio-net-pci,net=10.0.3.0/24,\
                 hostfwd=tcp:127.0.0.1:{port}-10.0.3.15:2222"
            ),
            "-qmp".to_owned(),
            format!("unix:{},server=on,wait=off", control.display()),
        ];
        let guest = NfsGuest::start(place, kernel, &initramfs, MEMORY, &more)?;
        fs::remove_file(&initramfs).map_err(file("remove", &initramfs))?;
        let bin = place.join("bin");
        fs::create_dir(&bin).map_err(file("make", &bin))?;
        let mut configuration = format!(
            "Host builder\nHostName 127.0.0.1\nPort {port}\nIdentityFile {}\nIdentitiesOnly yes\n\
             UserKnownHostsFile {}\n",
            key.display(),
            place.join("known").display()
        );
        for port in forwarded {
            configuration += &format!("RemoteForward 127.0.0.1:{port} 127.0.0.1:{port}\n");
        }
        let settings = place.join("ssh-config");
        write(&settings, &configuration, 0o600)?;
        // ssh reads the configuration of the user, whatever HOME says.
        let script = format!(
            "#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n",
            settings.display()
        );
        write(&bin.join("ssh"), &script, 0o755)?;
        Ok(RemoteGuest {
            guest,
            control,
            bin,
        })
    }

    /// A directory for PATH: its `ssh` knows the guest as `builder`.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Its shell, and its console.
    pub fn guest(&self) -> &NfsGuest {
        &self.guest
    }

    /// Cuts the network of its ssh server, or connects it again: nothing is closed, and nothing comes
    /// through.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn cut(&self, is_cut: bool) -> Result<(), HarnessError> {
        let control = &self.control;
        let stream = UnixStream::connect(control).map_err(file("connect to", control))?;
        let mut lines = BufReader::new(stream.try_clone().map_err(file("use", control))?).lines();
        let mut stream = stream;
        for command in [
            r#"{"execute": "qmp_capabilities"}"#.to_owned(),
            format!(
                r#"{{"execute": "set_link", "arguments": {{"name": "work", "up": {}}}}}"#,
                !is_cut
            ),
        ] {
            stream
                .write_all(format!("{command}\n").as_bytes())
                .map_err(file("write to", control))?;
            for line in lines.by_ref() {
                let line = line.map_err(file("read from", control))?;
                if line.contains("\"error\"") {
                    return Err(file("use", control)(std::io::Error::other(line)));
                }
                if line.contains("\"return\"") {
                    break;
                }
            }
        }
        Ok(())
    }
}
