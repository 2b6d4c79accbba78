//! The project, resolved for one target: what the rest of the programs see of avocado.yaml.
//!
//! Everything here is interpolated, overridden and validated. Paths are absolute unless a field
//! says otherwise. Maps keep the order of the file.

mod cache;
mod compile;
mod extension;
mod image;
mod kernel;
mod package_scope;
mod packages;
mod permissions;
mod repository;
mod runtime;
mod sdk;
mod var;

use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, Name};
use serde::Serialize;

use crate::diagnostic::Diagnostic;
use crate::interpolate::Templates;
use crate::late::Late;
use crate::phases::ExtensionSource;

pub use crate::place::{Needed, Placed, SourcePlace};
pub use cache::{CacheBucket, CachePlace, SharedCache};
pub use compile::{
    CompilePackage, CompileSection, PackageOrigin, ProjectPackage, RpmMetadata, SplitPackage,
};
pub use extension::{DockerImage, Extension, ExtensionDependency};
pub use image::{Filesystem, OsImageConfig, Overlay, OverlayMode, PreprocessedFiles};
pub use kernel::{KernelConfig, KernelOrigin};
pub use package_scope::PackageScope;
pub use packages::Packages;

pub use permissions::{Group, Permissions, User};
pub use repository::{PackageRepository, RepositoryCredentials};
pub use runtime::{ExtensionInclusion, Runtime, VarFile};
pub use sdk::{ProvisionProfile, Sdk};
pub use var::{Quota, Subvolume, VarCompression, VarPartition};

/// One avocado.yaml, resolved for one target.
#[derive(Debug, Clone, Serialize)]
pub struct Project {
    /// The avocado.yaml that was read.
    pub config_path: PathBuf,
    /// The SHA-256 of its text, as it was read.
    #[serde(skip)]
    pub config_digest: Digest,
    /// `src_dir`, or the directory of avocado.yaml: sources, the lock file and the state are here.
    pub src_dir: PathBuf,
    /// What is wrong with it, for what needs it.
    #[serde(skip)]
    pub unusable_src_dir: Option<Diagnostic>,
    /// The target that everything below is resolved for, for example `qemux86-64`.
    pub target: Name,
    /// `source_date_epoch`: seconds since 1970 for every time stamp in a result. Default 0.
    pub source_date_epoch: u64,
    /// The package feed.
    pub distro: Distro,
    /// `repos`: where packages come from beside the feed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<PackageRepository>,
    /// Tools that run on the build host.
    pub sdk: Sdk,
    /// The named root file systems. Never empty; holds `default` unless the file names others
    /// only. One that a runtime has inline is called `runtime-<runtime>`.
    pub rootfs: Vec<(Name, OsImageConfig)>,
    /// The named initial RAM file systems, under the same rules.
    pub initramfs: Vec<(Name, OsImageConfig)>,
    /// Every extension of the file, in its order; of those that come from elsewhere the ones that
    /// are here.
    pub extensions: Vec<Extension>,
    /// Where extensions and sections come from that are not in this project, whether or not they
    /// are here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<ExtensionSource>,
    /// The runtimes whose `target` is absent or is the current one, in file order.
    pub runtimes: Vec<Runtime>,
    /// `default_runtime`, where the file states one.
    pub default_runtime: Option<Name>,
    /// `default_target`, where the file states one.
    pub default_target: Option<String>,
    /// `default_target_board`, where the file states one.
    pub default_target_board: Option<String>,
    /// `supported_targets`; empty for all.
    pub supported_targets: Vec<String>,
    /// `provision_profiles`.
    pub provision_profiles: Vec<ProvisionProfile>,
    /// `connect`, where the file has it.
    pub connect: Option<Connect>,
    /// `signing_keys`: name in the project → key id or name in the registry.
    pub signing_keys: Vec<(String, String)>,
    /// `cache`, where the file has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<SharedCache>,
    /// What references in files refer to.
    #[serde(skip)]
    pub templates: Templates,
    /// The state directory, where it is not that of the project.
    #[serde(skip)]
    pub(crate) other_state_dir: Option<PathBuf>,
    /// Whether it is the whole project: everything that comes from elsewhere is here. What is not in
    /// it the project does not have.
    #[serde(skip)]
    pub is_complete: bool,
}

/// The package feed and where the project stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Distro {
    /// `distro.release`, for example `2024`.
    pub release: Option<String>,
    /// `distro.channel`, for example `edge`.
    pub channel: Option<String>,
    /// The effective repository URL, without a final slash.
    pub repo_url: String,
    /// Who asks the feed, where it does not answer everybody.
    #[serde(skip)]
    pub credentials: Option<Needed<RepositoryCredentials>>,
    /// Set where the releasever is given outright (environment or `distro.repo.releasever`):
    /// snapshots are not used then. Otherwise the releasever is `<release>/<channel>`.
    pub releasever: Option<String>,
    /// PEM file of a private CA for the feed.
    pub ca: Option<PathBuf>,
    /// False: do not verify the feed's certificate.
    pub tls_verify: bool,
    /// File of the public keys that may sign packages; `None`: signatures are not checked.
    pub gpg_key: Option<PathBuf>,
    /// What is wrong with it, for what is to be installed from it.
    #[serde(skip)]
    pub unusable: Vec<Diagnostic>,
}

/// Where the project is in Peridio's service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Connect {
    /// `org`.
    pub org: Option<String>,
    /// `project`.
    pub project: Option<String>,
    /// `server_key`: the public key of the service, in hexadecimal.
    pub server_key: Option<String>,
}

impl Project {
    /// The extension of that name.
    pub fn extension(&self, name: &Name) -> Option<&Extension> {
        self.extensions.iter().find(|e| e.name == *name)
    }

    /// The runtime of that name.
    pub fn runtime(&self, name: &Name) -> Option<&Runtime> {
        self.runtimes.iter().find(|r| r.name == *name)
    }

    /// `<src_dir>/.avocado/state`, unless it was given another one: what is `/opt/_avocado` inside a step.
    pub fn state_dir(&self) -> PathBuf {
        let other = self.other_state_dir.clone();
        other.unwrap_or_else(|| state_dir(&self.src_dir))
    }

    /// The same project with another state directory, to be built from nothing beside what is there.
    #[must_use]
    pub fn with_state(self, state_dir: PathBuf) -> Self {
        Project {
            other_state_dir: Some(state_dir),
            ..self
        }
    }

    /// What is installed into the SDK: its own packages, and what the extensions of the runtimes
    /// add to them. Without any runtime every extension counts.
    pub fn sdk_packages(&self) -> Late<Packages> {
        let mut packages = self.sdk.packages.clone();
        for extension in &self.extensions {
            let has = |r: &Runtime| r.extensions.iter().any(|e| e.name == extension.name);
            if self.runtimes.is_empty() || self.runtimes.iter().any(has) {
                packages.fill(&extension.sdk_packages);
            }
        }
        packages
    }

    /// The source that an avocado.yaml came from: what is written in it is relative to where that
    /// was fetched to. `None`: it is the project's own.
    pub fn source_of_file(&self, config: &Path) -> Option<&ExtensionSource> {
        let directory = config.parent()?;
        let mut sources = self.sources.iter();
        sources.find(|source| source.fetched_to.as_deref() == Some(directory))
    }

    /// Where the extension of that name comes from, if it is not in this project.
    pub fn source(&self, name: &Name) -> Option<&ExtensionSource> {
        self.sources.iter().find(|s| s.extension == *name)
    }
}

/// The state directory of a project.
pub(crate) fn state_dir(src_dir: &Path) -> PathBuf {
    src_dir.join(".avocado/state")
}
