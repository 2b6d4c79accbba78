use avocado_manifest::Name;

/// The part of a project whose list of packages is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageScope {
    /// Those of an extension.
    Extension(Name),
    /// Those of a runtime's own tree.
    Runtime(Name),
    /// The tools.
    Sdk,
    /// Those of the default root file system.
    Rootfs,
    /// Those of the default initramfs.
    Initramfs,
}
