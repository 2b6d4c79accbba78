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
    /// What updates of the operating system look at.
    pub os: OsPlaces,
    /// The programs.
    pub tools: DeviceTools,
}

/// What the kernel and the firmware say about disks, boot loaders and this boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsPlaces {
    /// The nodes of block devices.
    pub device_nodes: PathBuf,
    /// Whether files are taken for such nodes, as tests have them.
    pub files_are_nodes: bool,
    /// Partitions by their UUIDs.
    pub partition_uuids: PathBuf,
    /// Block devices by their numbers, as the kernel tells of them.
    pub block_devices: PathBuf,
    /// What is mounted.
    pub mounts: PathBuf,
    /// The variables of UEFI firmware.
    pub efi_variables: PathBuf,
    /// Where the environment of U-Boot is, for its programs.
    pub uboot_environment: PathBuf,
    /// What the kernel was started with.
    pub kernel_command_line: PathBuf,
    /// The device tree that the kernel was started with.
    pub device_tree: PathBuf,
    /// Another text at each boot.
    pub boot_id: PathBuf,
    /// `AVOCADO_OS_BUILD_ID` of the initial RAM file system that started the operating system.
    pub initramfs_build_id: PathBuf,
    /// Where programs are looked for before an update, to know that none is missing.
    pub programs: Vec<PathBuf>,
    /// Directories of programs that have to succeed for a system to be well.
    pub health_required: Vec<PathBuf>,
    /// Directories of programs that should, and are only told where they do not.
    pub health_wanted: Vec<PathBuf>,
    /// Where boot partitions are mounted. None: each is mounted when it is needed.
    pub mounted_boot: Option<PathBuf>,
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
    /// `systemd-analyze`
    pub systemd_analyze: PathBuf,
    /// `mount`
    pub mount: PathBuf,
    /// `modprobe`
    pub modprobe: PathBuf,
    /// `depmod`
    pub depmod: PathBuf,
    /// `fw_printenv`
    pub fw_printenv: PathBuf,
    /// `fw_setenv`
    pub fw_setenv: PathBuf,
    /// `efibootmgr`
    pub efibootmgr: PathBuf,
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
            os: OsPlaces::default(),
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

impl Default for OsPlaces {
    fn default() -> Self {
        OsPlaces {
            device_nodes: "/dev".into(),
            files_are_nodes: false,
            partition_uuids: "/dev/disk/by-partuuid".into(),
            block_devices: "/sys/dev/block".into(),
            mounts: "/proc/self/mountinfo".into(),
            efi_variables: "/sys/firmware/efi/efivars".into(),
            uboot_environment: "/etc/fw_env.config".into(),
            kernel_command_line: "/proc/cmdline".into(),
            device_tree: "/proc/device-tree".into(),
            boot_id: "/proc/sys/kernel/random/boot_id".into(),
            initramfs_build_id: "/run/avocado/initramfs-build-id".into(),
            programs: [
                "/usr/local/sbin",
                "/usr/local/bin",
                "/usr/sbin",
                "/usr/bin",
                "/sbin",
                "/bin",
            ]
            .map(PathBuf::from)
            .into(),
            health_required: [
                "/etc/avocado/health.d",
                "/etc/greenboot/check/required.d",
                "/usr/lib/greenboot/check/required.d",
            ]
            .map(PathBuf::from)
            .into(),
            health_wanted: [
                "/etc/greenboot/check/wanted.d",
                "/usr/lib/greenboot/check/wanted.d",
            ]
            .map(PathBuf::from)
            .into(),
            mounted_boot: None,
        }
    }
}

impl Default for DeviceTools {
    fn default() -> Self {
        DeviceTools {
            sysext: "systemd-sysext".into(),
            confext: "systemd-confext".into(),
            systemctl: "systemctl".into(),
            systemd_analyze: "systemd-analyze".into(),
            mount: "mount".into(),
            modprobe: "modprobe".into(),
            depmod: "depmod".into(),
            fw_printenv: "fw_printenv".into(),
            fw_setenv: "fw_setenv".into(),
            efibootmgr: "efibootmgr".into(),
        }
    }
}
