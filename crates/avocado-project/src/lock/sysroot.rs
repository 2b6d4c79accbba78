use avocado_manifest::Name;

/// A tree that packages are installed into.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sysroot {
    /// The tools, for an architecture of the build host.
    Sdk(String),
    /// What the SDK compiles against: packages of the target.
    TargetSysroot,
    /// The root file system `default`.
    Rootfs,
    /// The initramfs `default`.
    Initramfs,
    /// Another root file system. Its packages are below `rootfs-named`, which other writers of
    /// the format keep or drop but do not misread.
    NamedRootfs(Name),
    /// Another initramfs, below `initramfs-named`.
    NamedInitramfs(Name),
    /// An extension.
    Extension(Name),
    /// The own tree of a runtime.
    Runtime(Name),
    /// The package that an extension is fetched as, and what it needs.
    Include(Name),
}

impl Sysroot {
    /// The root file system of that name.
    pub fn rootfs(name: &Name) -> Self {
        match name.as_str() {
            "default" => Sysroot::Rootfs,
            _ => Sysroot::NamedRootfs(name.clone()),
        }
    }

    /// The initramfs of that name.
    pub fn initramfs(name: &Name) -> Self {
        match name.as_str() {
            "default" => Sysroot::Initramfs,
            _ => Sysroot::NamedInitramfs(name.clone()),
        }
    }

    /// Its name: the key below `kernel-versions` and `package-headers`.
    pub fn key(&self) -> String {
        match self {
            Sysroot::Sdk(arch) => format!("sdk/{arch}"),
            Sysroot::TargetSysroot => "target-sysroot".to_owned(),
            Sysroot::Rootfs => "rootfs".to_owned(),
            Sysroot::Initramfs => "initramfs".to_owned(),
            Sysroot::NamedRootfs(name) => format!("rootfs/{name}"),
            Sysroot::NamedInitramfs(name) => format!("initramfs/{name}"),
            Sysroot::Extension(name) => format!("extensions/{name}"),
            Sysroot::Runtime(name) => format!("runtimes/{name}"),
            Sysroot::Include(name) => format!("includes/{name}"),
        }
    }
}
