//! The image of a container for the SDK, made from Debian once and kept in the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use avocado_manifest::Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, getrlimit};

use crate::HarnessError;
use crate::error::file;
use crate::tools::{ToolCall, cache_dir};

/// The release that this project's machines run, so that both have the same tools.
const RELEASE: &str = "bookworm";
/// What a build step calls: as in `scripts/setup`.
const PACKAGES: [&str; 10] = [
    "btrfs-progs",
    "ca-certificates",
    "cpio",
    "dnf",
    "erofs-utils",
    "kmod",
    "rpm",
    "squashfs-tools",
    "systemd",
    "zstd",
];
/// How long it may take to make it on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);
/// More processes and files than a build needs, and less than any machine has.
const MOST_LIMIT: u64 = 16_384;

/// An image with the tools of a build, as podman knows it.
#[derive(Debug)]
pub struct SdkImage {
    name: String,
    configuration: PathBuf,
    archive: PathBuf,
}

impl SdkImage {
    /// The image of the cache, or else a new one. The first takes minutes.
    ///
    /// # Errors
    /// Debian cannot be reached, or podman does not work.
    pub fn ensure() -> Result<Self, HarnessError> {
        let digest = Digest::of(format!("{RELEASE} {}", PACKAGES.join(" ")).as_bytes());
        let key: String = digest.to_string().chars().take(12).collect();
        let place = cache_dir().join("sdk-image");
        fs::create_dir_all(&place).map_err(file("make", &place))?;
        let path = place.join("lock");
        let lock = File::create(&path).map_err(file("make", &path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(file("lock", &path))?;

        let archive = place.join(format!("{key}.tar"));
        if !archive.exists() {
            make(&place, &archive)?;
        }
        let image = SdkImage {
            name: format!("localhost/avocado-testbed-sdk:{key}"),
            configuration: place.join("containers.conf"),
            archive,
        };
        let text = configuration();
        fs::write(&image.configuration, text).map_err(file("write", &image.configuration))?;
        let known = image.podman(&["image", "exists", &image.name]).run()?;
        if !known.status.success() {
            let archive = image.archive.to_string_lossy();
            image
                .podman(&["import", "--quiet", &archive, &image.name])
                .ok()?;
        }
        Ok(image)
    }

    /// What `sdk.image` says.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What CONTAINERS_CONF has to name where podman runs.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Its files, as `ENGINE import` takes them.
    pub fn archive(&self) -> &Path {
        &self.archive
    }

    /// A call of podman.
    pub fn podman(&self, arguments: &[&str]) -> ToolCall {
        ToolCall::new("podman")
            .env("CONTAINERS_CONF", &self.configuration)
            .args(arguments)
            .limit(LIMIT)
    }
}

fn make(place: &Path, archive: &Path) -> Result<(), HarnessError> {
    let (tree, new) = (place.join("tree"), archive.with_extension("new"));
    let remove = || ToolCall::new("rm").arg("-rf").arg(&tree).limit(LIMIT).ok();
    remove()?;
    ToolCall::new("debootstrap")
        .arg("--variant=minbase")
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(RELEASE)
        .arg(&tree)
        .args(std::env::var_os("DEBIAN_MIRROR"))
        .limit(LIMIT)
        .ok()?;
    ToolCall::new("tar")
        .arg("-C")
        .arg(&tree)
        .args(["--exclude=./var/cache/apt/archives/*.deb", "-cf"])
        .arg(&new)
        .arg(".")
        .limit(LIMIT)
        .ok()?;
    fs::rename(&new, archive).map_err(file("move", &new))?;
    remove().map(drop)
}

/// Where this process may not raise its own limits, neither may podman, which does by default. And
/// of the two programs that it starts containers with only one works beside both kinds of control
/// groups.
fn configuration() -> String {
    let limit = |resource| {
        let hard = getrlimit(resource).maximum;
        hard.map_or(MOST_LIMIT, |hard| hard.min(MOST_LIMIT))
    };
    let (files, processes) = (limit(Resource::Nofile), limit(Resource::Nproc));
    format!(
        "[containers]\ndefault_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n\
         [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n"
    )
}
