//! Which part of the project a command is about.

use avocado_manifest::Name;
use avocado_project::PackageScope;
use clap::Args;

use super::build_run::Goal;

/// At most one of them.
#[derive(Debug, Args)]
#[group(id = "scope", multiple = false)]
pub(crate) struct ScopeArgs {
    /// The extension of this name
    #[arg(short, long, value_name = "EXTENSION")]
    extension: Option<Name>,

    /// The runtime of this name
    #[arg(short, long, value_name = "RUNTIME")]
    runtime: Option<Name>,

    /// The tools
    #[arg(long)]
    sdk: bool,

    /// The root file system
    #[arg(long)]
    rootfs: bool,

    /// The initial RAM file system
    #[arg(long)]
    initramfs: bool,
}

impl ScopeArgs {
    /// The part that was named.
    pub(crate) fn scope(&self) -> Option<PackageScope> {
        let flags = [
            (self.sdk, PackageScope::Sdk),
            (self.rootfs, PackageScope::Rootfs),
            (self.initramfs, PackageScope::Initramfs),
        ];
        let flag = flags
            .into_iter()
            .find_map(|(is, scope)| is.then_some(scope));
        let extension = self.extension.clone().map(PackageScope::Extension);
        let runtime = self.runtime.clone().map(PackageScope::Runtime);
        extension.or(runtime).or(flag)
    }
}

/// What installs the packages of a part, or of everything.
pub(super) fn install_goal(scope: Option<&PackageScope>) -> Goal {
    match scope {
        None => Goal::Install,
        Some(PackageScope::Extension(name)) => Goal::ExtInstall(Some(name.clone())),
        Some(PackageScope::Runtime(name)) => Goal::RuntimeInstall(Some(name.clone())),
        Some(PackageScope::Sdk) => Goal::SdkInstall,
        Some(PackageScope::Rootfs) => Goal::RootfsInstall,
        Some(PackageScope::Initramfs) => Goal::InitramfsInstall,
    }
}

/// How a part is called in messages.
pub(super) fn shown(scope: &PackageScope) -> String {
    match scope {
        PackageScope::Extension(name) => format!("extension {name}"),
        PackageScope::Runtime(name) => format!("runtime {name}"),
        PackageScope::Sdk => "the SDK".to_owned(),
        PackageScope::Rootfs => "the rootfs".to_owned(),
        PackageScope::Initramfs => "the initramfs".to_owned(),
    }
}
