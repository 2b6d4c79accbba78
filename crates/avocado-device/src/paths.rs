use std::path::PathBuf;

/// Every place on the device that the agent reads or writes, and every program that it calls.
/// The default is a real device; tests give it a private directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePaths {
    /// The store.
    pub base: PathBuf,
    /// Our own directory for what does not outlive the boot: mounted images, the merged state.
    pub run: PathBuf,
    /// Where systemd looks for system extensions.
    pub extensions: PathBuf,
    /// Where systemd looks for configuration extensions.
    pub confexts: PathBuf,
    /// Exists when systemd is the running service manager.
    pub systemd: PathBuf,
    /// The operating system's description; the first that exists counts.
    pub os_release: Vec<PathBuf>,
    /// The id of the machine, which a merge of `/etc` must not lose.
    pub machine_id: PathBuf,
    /// Exists in an initial RAM file system.
    pub initrd_release: PathBuf,
    /// The programs.
    pub tools: DeviceTools,
}

/// The programs that the agent calls: a name to be found on `PATH`, or a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceTools {
    /// `systemd-sysext`
    pub sysext: PathBuf,
    /// `systemd-confext`
    pub confext: PathBuf,
    /// `systemctl`
    pub systemctl: PathBuf,
    /// `mount`
    pub mount: PathBuf,
    /// `modprobe`
    pub modprobe: PathBuf,
    /// `depmod`
    pub depmod: PathBuf,
}

impl DevicePaths {
    /// The paths of a device whose store is at `base`.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        DevicePaths {
            base: base.into(),
            run: "/run/avocado".into(),
            extensions: "/run/extensions".into(),
            confexts: "/run/confexts".into(),
            systemd: "/run/systemd/system".into(),
            os_release: vec!["/etc/os-release".into(), "/usr/lib/os-release".into()],
            machine_id: "/etc/machine-id".into(),
            initrd_release: "/etc/initrd-release".into(),
            tools: DeviceTools::default(),
        }
    }

    /// Where images are mounted, one directory per extension.
    pub fn mounts(&self) -> PathBuf {
        self.run.join("extensions")
    }

    /// Where the release files are kept that systemd gets to see.
    pub(crate) fn releases(&self) -> PathBuf {
        self.run.join("ext-release-staging")
    }

    /// What is merged at the moment.
    pub(crate) fn merged(&self) -> PathBuf {
        self.run.join("merged.json")
    }
}

impl Default for DeviceTools {
    fn default() -> Self {
        DeviceTools {
            sysext: "systemd-sysext".into(),
            confext: "systemd-confext".into(),
            systemctl: "systemctl".into(),
            mount: "mount".into(),
            modprobe: "modprobe".into(),
            depmod: "depmod".into(),
        }
    }
}
