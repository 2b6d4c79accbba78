//! Where everything lives in the state directory (the published layout).

use std::path::{Path, PathBuf};

use avocado_manifest::Name;

/// The paths of one target, below `<state>/<target>` on the host or `/opt/_avocado/<target>`
/// inside a step: the same layout from two places.
#[derive(Debug, Clone)]
pub struct Layout {
    state: PathBuf,
    prefix: PathBuf,
    target: Name,
}

impl Layout {
    /// The layout of `target` below the state directory.
    pub fn new(state: &Path, target: &Name) -> Self {
        Layout {
            state: state.to_owned(),
            prefix: state.join(target),
            target: target.clone(),
        }
    }

    /// The layout as a step sees it.
    pub(crate) fn in_step(target: &Name) -> Self {
        Layout::new(Path::new(avocado_sdk::STATE_MOUNT), target)
    }

    /// `AVOCADO_PREFIX`.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Trees that nobody outside of a step looks into, on the state's file system.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.prefix.join(".work").join(name)
    }

    /// dnf's cache of metadata and packages, shared by all trees.
    pub(crate) fn dnf_cache(&self) -> PathBuf {
        self.prefix.join(".work/dnf-cache")
    }

    /// One lock for everything that changes the project's state or its lock file, whatever the
    /// target.
    pub fn lock(&self) -> PathBuf {
        self.state.join(".lock")
    }

    /// `AVOCADO_SDK_PREFIX`.
    pub(crate) fn sdk(&self, arch: &str) -> PathBuf {
        self.prefix.join("sdk").join(arch)
    }

    /// Repository configuration for the target's packages.
    pub(crate) fn target_repoconf(&self) -> PathBuf {
        self.prefix.join("sdk/target-repoconf")
    }

    /// The installed tree of a named rootfs or initramfs: `rootfs`, `rootfs-<name>`.
    pub(crate) fn os_tree(&self, kind: &str, name: &Name) -> PathBuf {
        if name.as_str() == "default" {
            self.prefix.join(kind)
        } else {
            self.prefix.join(format!("{kind}-{name}"))
        }
    }

    /// The kernels that a rootfs brought: `<kver>/Image`.
    pub(crate) fn kernel(&self, version: &str) -> PathBuf {
        self.prefix.join("kernel").join(version)
    }

    /// The packages of an extension, before overlay and metadata.
    pub(crate) fn extension_packages(&self, name: &Name) -> PathBuf {
        self.work("extensions").join(name)
    }

    /// The built sysroot of an extension.
    pub(crate) fn extension(&self, name: &Name) -> PathBuf {
        self.prefix.join("extensions").join(name)
    }

    /// The image of an extension.
    pub fn extension_image(&self, name: &Name, version: &Name) -> PathBuf {
        self.prefix
            .join("output/extensions")
            .join(format!("{name}-{version}.raw"))
    }

    /// `AVOCADO_RUNTIME_BUILD_DIR`.
    pub(crate) fn runtime(&self, name: &Name) -> PathBuf {
        self.prefix.join("runtimes").join(name)
    }

    /// The `rootfs` or `initramfs` image of a runtime.
    pub(crate) fn os_image(&self, part: &str, runtime: &Name, extension: &str) -> PathBuf {
        self.runtime(runtime)
            .join(format!("avocado-image-{part}-{}.{extension}", self.target))
    }

    /// The content of the var partition of a runtime.
    pub fn var_tree(&self, runtime: &Name) -> PathBuf {
        self.runtime(runtime).join("var-staging")
    }

    /// The var partition of a runtime.
    pub(crate) fn var_image(&self, runtime: &Name) -> PathBuf {
        self.runtime(runtime)
            .join(format!("avocado-image-var-{}.btrfs", self.target))
    }

    /// The manifest of a runtime, as it is published.
    pub fn manifest(&self, runtime: &Name) -> PathBuf {
        self.prefix
            .join("output/runtimes")
            .join(runtime)
            .join("manifest.json")
    }

    /// The signed repository of a runtime: `metadata/` and `targets/`.
    pub fn repository(&self, runtime: &Name) -> PathBuf {
        self.prefix
            .join("output/runtimes")
            .join(runtime)
            .join("repository")
    }

    /// What `avocado vm` starts a runtime from: `manifest.json` and the files that it names.
    pub fn vm_image(&self, runtime: &Name) -> PathBuf {
        self.prefix.join("output/runtimes").join(runtime).join("vm")
    }

    /// All stamps of the target.
    pub fn stamps(&self) -> PathBuf {
        self.prefix.join(".stamps")
    }
}
