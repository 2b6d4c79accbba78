//! The child's side of an install.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use avocado_events::{Event, Sink};
use avocado_manifest::{Digest, Name};
use avocado_project::{Late, LateValues, PackageHeader, PackageHeaders, Packages, VersionSpec};
use serde::{Deserialize, Serialize};

use super::PackageTree;
use super::include::{self, IncludePlace};
use super::kernel::{KERNEL_PACKAGE, kernel_of, stage_kernel};
use super::publish;
use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::packages::dnf::{DATABASE, DatabasePlace, Dnf, RepositoryView, put_database};
use crate::packages::feed::FeedAccess;
use crate::packages::{installed, version};
use crate::scriptlets::{self, BorrowedAccounts, PackageScriptlets, SkippedScriptlets};
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, Tree};

/// What an install is to bring, and what it has to know for that.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct InstallSpec {
    pub(super) tree: PackageTree,
    /// What the project asks for.
    pub(super) packages: Late<Packages>,
    /// The only repository that is asked, where one is stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) repository: Option<String>,
    /// What the lock says: name → `version-release.arch`.
    pub(super) locked: BTreeMap<String, String>,
    /// What the lock says that these packages are; empty or not whole in a lock that has only
    /// their versions.
    #[serde(default, skip_serializing_if = "PackageHeaders::is_empty")]
    pub(super) headers: PackageHeaders,
    pub(super) weak_dependencies: bool,
    /// The rootfs whose packages count as present.
    pub(super) base: Option<Name>,
    /// The kernel of that rootfs, where the packages hang on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base_kernel: Option<String>,
    /// Whether to add the newest kernel of the feed, and which one the lock has.
    pub(super) kernel: Option<KernelChoice>,
    /// Whether the scriptlets of the packages run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) scriptlets: bool,
    /// Nothing that is made for another kernel may be installed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) one_kernel: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// That a kernel of the feed is wanted, the newest one where the lock has none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KernelChoice {
    /// The package that brings it, where it is another one than every feed has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) package: Option<String>,
    /// The version in the lock.
    pub(super) pinned: Option<String>,
    /// Which ones are meant, where that is stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wanted: Option<VersionSpec>,
}

/// What every SDK has.
pub(super) const SDK_PACKAGE: &str = "avocado-sdk-bootstrap";

/// The package with the repository configuration of a target.
pub(super) fn repositories_package(target: &Name) -> String {
    format!("avocado-sdk-{target}")
}

/// An install, as it travels to the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstallRequest {
    pub(super) spec: InstallSpec,
    pub(super) access: FeedAccess,
    /// Where the project says which kernels are meant: for an error, so no part of the inputs.
    #[serde(default)]
    pub(super) kernels_stated_at: Option<String>,
}

/// What an install brought.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstallResult {
    pub(super) packages: PackageHeaders,
    pub(super) digest: Digest,
    pub(super) kernel: Option<String>,
    /// The tree is not at its place yet: these scriptlets come first, then a [`FinishInstallRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unfinished: Option<UnfinishedTree>,
    /// Scriptlets that do not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) skipped: Vec<SkippedScriptlets>,
}

/// What the scriptlets of a tree need.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnfinishedTree {
    /// When its install began.
    pub(super) began: SystemTime,
    pub(super) scriptlets: Vec<PackageScriptlets>,
    pub(super) accounts: BorrowedAccounts,
}

/// Puts a tree at its place once its scriptlets have run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FinishInstallRequest {
    pub(super) spec: InstallSpec,
    pub(super) packages: PackageHeaders,
    /// [`UnfinishedTree::began`].
    pub(super) began: SystemTime,
    /// The one that was chosen.
    pub(super) kernel: Option<String>,
}

impl StepRequest for FinishInstallRequest {
    const KIND: &'static str = "finish_install";
    /// The kernel that it has.
    type Result = Option<String>;

    fn work(self, context: &StepContext<'_>) -> Result<Option<String>, BuildError> {
        let root = self.spec.tree.root(&context.layout);
        let tree = Tree::open(&trees::unfinished(&root))?;
        put_database(&tree, &database_aside(&root))?;
        let spec = &self.spec;
        spec.finish(
            context,
            &tree,
            &self.packages,
            self.began,
            self.kernel,
            None,
        )
    }
}

/// Where rpm's database is while scriptlets run, which have no business there.
fn database_aside(root: &Path) -> PathBuf {
    trees::hidden(root, ".rpm")
}

impl StepRequest for InstallRequest {
    const KIND: &'static str = "install";
    const INSTALLS: bool = true;
    type Result = InstallResult;

    fn work(self, context: &StepContext<'_>) -> Result<InstallResult, BuildError> {
        let stated_at = self.kernels_stated_at.as_deref();
        self.spec.work(context, &self.access, stated_at)
    }
}

impl InstallSpec {
    pub(super) fn work(
        self,
        context: &StepContext<'_>,
        access: &FeedAccess,
        kernels_stated_at: Option<&str>,
    ) -> Result<InstallResult, BuildError> {
        let began = SystemTime::now();
        let layout = &context.layout;
        if self.tree == PackageTree::Repositories {
            let packages = self.bootstrap(context, access)?;
            return Ok(InstallResult {
                digest: Digest::of(content(&packages).as_bytes()),
                packages,
                kernel: None,
                unfinished: None,
                skipped: Vec::new(),
            });
        }
        let root = self.tree.root(layout);
        let new = trees::unfinished(&root);
        let tree = Tree::fresh(&new)?;
        let mut brought = PackageHeaders::new();
        if self.tree == PackageTree::Sdk {
            brought.extend(self.bootstrap(context, access)?);
        }
        let view = match self.tree {
            PackageTree::Sdk => RepositoryView::Sdk,
            PackageTree::Include(_) => RepositoryView::Includes,
            _ => RepositoryView::Target,
        };
        let mut dnf = Dnf::new(layout, access, view, &new, self.weak_dependencies)?;
        if let Some(repository) = &self.repository {
            dnf = dnf.only_from(repository);
        }
        self.prepare(layout, &tree, dnf.database())?;
        let before = dnf.installed(context.sink)?;
        let kernels = match (&self.kernel, self.one_kernel) {
            (
                None
                | Some(KernelChoice {
                    pinned: Some(_), ..
                }),
                false,
            ) => Vec::new(),
            _ => dnf.kernels(context.sink)?,
        };
        let package = self
            .kernel
            .as_ref()
            .and_then(|kernel| kernel.package.as_deref());
        let wished = match package {
            None => self.choose_kernel(&kernels, kernels_stated_at)?,
            Some(package) => {
                let kernels = dnf.kernels_of(package, context.sink)?;
                self.choose_kernel(&kernels, kernels_stated_at)?
            }
        };
        let package = self.kernel_package();
        let kernel_version = wished.as_deref().or(self.base_kernel.as_deref());
        if let (true, Some(version)) = (self.one_kernel, kernel_version) {
            let others = kernels.iter().filter(|other| *other != version);
            dnf.exclude(others.flat_map(|other| packages_for(other)));
        }
        let mut packages = self.packages.bind(&LateValues { kernel_version })?;
        if let PackageTree::Include(_) = self.tree {
            packages = include::in_versions_of_feed(&dnf, packages, context.sink)?;
        }
        let mut specs = self.specs(&packages);
        if let Some(version) = &wished {
            specs.push(self.spec(&format!("{package}-{version}"), "*"));
        }
        dnf.install(&specs, context.sink)?;
        self.install_locked_dependencies(&dnf, &packages, context.sink)?;
        let after = dnf.installed(context.sink)?;
        // Before anything looks into the tree.
        installed::check(&after, &self.headers)?;
        let mut own = after;
        own.retain(|name, package| before.get(name) != Some(package));
        let digest = Digest::of(content(&own).as_bytes());
        brought.extend(own);
        let included = match &self.tree {
            PackageTree::Include(name) => {
                let target = &context.target;
                let place = include::place_of(&dnf, name, &packages, target, context.sink)?;
                Some(place)
            }
            _ => None,
        };
        if self.tree.becomes_image()
            && let Some(told) = dnf.lost_owners(&brought, context.sink)?
        {
            context.sink.emit(Event::warning(told));
        }
        let found = if self.tree.becomes_image() {
            let found = dnf.scriptlets(context.sink)?.into_iter();
            found.filter(|p| brought.contains_key(&p.package)).collect()
        } else {
            Vec::new()
        };
        let (scriptlets, skipped) = scriptlets::part(&self.tree.label(), found, self.scriptlets);
        let is_unfinished = !scriptlets.is_empty();
        dnf.finish(&if is_unfinished {
            DatabasePlace::Aside(database_aside(&root))
        } else {
            DatabasePlace::Tree
        })?;
        let (kernel, unfinished) = if is_unfinished {
            let accounts = self.prepare_for_scriptlets(layout, &tree)?;
            let unfinished = UnfinishedTree {
                began,
                scriptlets,
                accounts,
            };
            (wished, Some(unfinished))
        } else {
            let kernel = self.finish(context, &tree, &brought, began, wished, included)?;
            (kernel, None)
        };
        if let Some(last) = brought.keys().next_back() {
            let count = brought.len() as u64;
            context
                .sink
                .emit(Event::items("", last, count, Some(count)));
        }
        Ok(InstallResult {
            packages: brought,
            digest,
            kernel,
            unfinished,
            skipped,
        })
    }

    /// Puts the tree at its place; answers with the version of the kernel that is in it.
    fn finish(
        &self,
        context: &StepContext<'_>,
        tree: &Tree,
        packages: &PackageHeaders,
        began: SystemTime,
        wished: Option<String>,
        included: Option<IncludePlace>,
    ) -> Result<Option<String>, BuildError> {
        let layout = &context.layout;
        let root = self.tree.root(layout);
        let kernel = match (wished, &self.tree) {
            (None, PackageTree::Rootfs(_)) => kernel_of(packages, tree)?,
            (wished, _) => wished,
        };
        if let Some(kernel) = &kernel {
            stage_kernel(layout, tree, self.kernel_package(), kernel)?;
        }
        match included {
            Some(place) => place.put(tree, &root)?,
            None => {
                trees::began_at(tree.path(), began)?;
                trees::replace(tree.path(), &root)?;
            }
        }
        if let PackageTree::Runtime(name) = &self.tree {
            publish::packages(&Tree::open(&root)?, &layout.runtime(name))?;
        }
        Ok(kernel)
    }

    fn kernel_package(&self) -> &str {
        let kernel = self.kernel.as_ref();
        let package = kernel.and_then(|kernel| kernel.package.as_deref());
        package.unwrap_or(KERNEL_PACKAGE)
    }

    /// What scriptlets take for granted: that `/bin` and its like lead somewhere, and that whoever
    /// is in the rootfs is known to what is laid over it.
    fn prepare_for_scriptlets(
        &self,
        layout: &Layout,
        tree: &Tree,
    ) -> Result<BorrowedAccounts, BuildError> {
        for name in ["bin", "sbin", "lib"].iter().filter(|name| !tree.has(name)) {
            let directory = Path::new("usr").join(name);
            tree.make_directories(&directory)?;
            tree.symlink(&directory, name)?;
        }
        // They put locks there.
        tree.make_directories("etc")?;
        match (&self.tree, &self.base) {
            (PackageTree::Extension(_), Some(base)) => {
                let rootfs = Tree::open(&layout.os_tree("rootfs", base))?;
                BorrowedAccounts::lend(&rootfs, tree)
            }
            _ => Ok(BorrowedAccounts::default()),
        }
    }

    /// The repository configuration of the target comes in a package, which comes first.
    fn bootstrap(
        &self,
        context: &StepContext<'_>,
        access: &FeedAccess,
    ) -> Result<PackageHeaders, BuildError> {
        let layout = &context.layout;
        let root = layout.work("bootstrap");
        trees::fresh(&root)?;
        let dnf = Dnf::new(layout, access, RepositoryView::Bootstrap, &root, false)?;
        let package = repositories_package(&context.target);
        dnf.install(&[self.spec(&package, "*")], context.sink)?;
        let brought = dnf.installed(context.sink)?;
        installed::check(&brought, &self.headers)?;
        dnf.finish(&DatabasePlace::Tree)?;
        let root = Tree::open(&root)?;
        if !root.is_directory("target-repoconf") {
            return Err(BuildError::Invalid(format!(
                "package {package} holds no target-repoconf directory"
            )));
        }
        let conf = root.resolve("target-repoconf")?;
        refuse_links(&package, &conf)?;
        let place = layout.target_repoconf();
        let new = Tree::fresh(&trees::unfinished(&place))?;
        trees::copy(&conf, &new, Path::new(""), trees::CopyModes::Keep)?;
        trees::replace(new.path(), &place)?;
        Ok(brought)
    }

    /// What has to be in a tree before its first package.
    fn prepare(&self, layout: &Layout, root: &Tree, database: &Path) -> Result<(), BuildError> {
        if !matches!(
            self.tree,
            PackageTree::Extension(_) | PackageTree::Runtime(_)
        ) {
            return Ok(());
        }
        // Packages may still say /bin or /lib; the merged directories are where they belong.
        for name in trees::MERGED_DIRECTORIES {
            let directory = Path::new("usr").join(name);
            root.make_directories(&directory)?;
            root.symlink(&directory, name)?;
        }
        if let Some(base) = &self.base {
            let base = Tree::open(&layout.os_tree("rootfs", base))?;
            let from = base.resolve(DATABASE)?;
            trees::copy(&from, root, database, trees::CopyModes::Keep)?;
        }
        Ok(())
    }

    fn spec(&self, name: &str, version: &str) -> String {
        match (self.locked.get(name), version) {
            (Some(locked), "*") => self.locked_spec(name, locked),
            (_, "*") => name.to_owned(),
            (_, version) => format!("{name}-{version}"),
        }
    }

    /// Without an epoch dnf takes any, and of several the highest.
    fn locked_spec(&self, name: &str, version: &str) -> String {
        match self.headers.get(name) {
            Some(header) => format!("{name}-{}:{version}", header.epoch),
            None => format!("{name}-{version}"),
        }
    }

    fn specs(&self, packages: &Packages) -> Vec<String> {
        let mut packages = packages.clone();
        if self.tree == PackageTree::Sdk {
            packages
                .entry(SDK_PACKAGE.into())
                .or_insert_with(|| "*".into());
        }
        packages
            .iter()
            .map(|(name, version)| self.spec(name, version))
            .collect()
    }

    /// The kernel of the lock, or the newest of the feed's that are meant.
    fn choose_kernel(
        &self,
        kernels: &[String],
        stated_at: Option<&str>,
    ) -> Result<Option<String>, BuildError> {
        let Some(wish) = &self.kernel else {
            return Ok(None);
        };
        if let Some(version) = &wish.pinned {
            return Ok(Some(version.clone()));
        }
        let is_meant = |version: &&String| {
            let wanted = wish.wanted.as_ref();
            wanted.is_none_or(|wanted| wanted.matches(version))
        };
        let meant = kernels.iter().filter(is_meant);
        let newest = meant.max_by(|a, b| version::compare(a, b));
        let wanted = match (&wish.wanted, &wish.package) {
            (Some(wanted), Some(package)) => Some(format!("{package}-{wanted}")),
            (Some(wanted), None) => Some(wanted.to_string()),
            (None, package) => package.clone(),
        };
        match (newest, wanted) {
            (Some(version), _) => Ok(Some(version.clone())),
            (None, None) => Ok(None),
            (None, Some(wanted)) => Err(BuildError::NoKernel {
                wanted,
                stated_at: stated_at.unwrap_or_default().to_owned(),
                available: kernels.to_vec(),
            }),
        }
    }

    /// Dependencies are locked too. Within a snapshot dnf chooses the same ones again; where the
    /// head of a channel is followed it may not, and is told.
    fn install_locked_dependencies(
        &self,
        dnf: &Dnf<'_>,
        packages: &Packages,
        sink: &dyn Sink,
    ) -> Result<(), BuildError> {
        let installed = dnf.installed(sink)?;
        let is_another = |name: &String, version: &String| {
            installed.get(name).is_some_and(|found| {
                let locked = self.headers.get(name);
                found.version != *version || locked.is_some_and(|l| l.epoch != found.epoch)
            })
        };
        let moved: Vec<String> = self
            .locked
            .iter()
            .filter(|(name, version)| {
                let asked = packages.get(*name).is_some_and(|v| v != "*");
                !asked && is_another(name, version)
            })
            .map(|(name, version)| self.locked_spec(name, version))
            .collect();
        if moved.is_empty() {
            return Ok(());
        }
        dnf.install(&moved, sink)
    }
}

/// The names of the packages that are made for a kernel, as dnf's patterns.
fn packages_for(kernel: &str) -> [String; 3] {
    ["kernel-", "kernel-*-", "nv-kernel-module-*-"].map(|start| format!("{start}{kernel}"))
}

/// What is consumed of packages, as a text.
fn content(packages: &PackageHeaders) -> String {
    let line = |(name, package): (&String, &PackageHeader)| {
        format!("{name} {} {}\n", package.version, package.digest)
    };
    packages.iter().map(line).collect()
}

/// dnf reads these files itself, from where a link would lead it on this host.
fn refuse_links(package: &str, conf: &Path) -> Result<(), BuildError> {
    for entry in walkdir::WalkDir::new(conf) {
        let entry = entry.map_err(std::io::Error::from).at("read", conf)?;
        if !entry.file_type().is_dir() && !entry.file_type().is_file() {
            let path = entry.path().strip_prefix(conf).unwrap_or(entry.path());
            return Err(BuildError::Invalid(format!(
                "package {package} has a link or a device at target-repoconf/{}, where only files may be",
                path.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn repository_configuration_is_made_of_files() {
        let directory = tempfile::tempdir().unwrap();
        let conf = Tree::fresh(&directory.path().join("conf")).unwrap();
        conf.write("etc/yum.repos.d/a.repo", "[a]\n", 0o644)
            .unwrap();
        refuse_links("p", conf.path()).unwrap();
        for path in ["etc/dnf/vars/arch", "etc/yum.repos.d/b.repo", "etc/pki"] {
            conf.symlink("/etc/hostname", path).unwrap();
            let error = refuse_links("p", conf.path()).unwrap_err().to_string();
            assert!(
                error.contains(path) && error.contains("package p"),
                "{error}"
            );
            conf.clear(path).unwrap();
        }
    }

    #[test]
    fn a_tree_that_is_laid_over_an_os_has_its_merged_directories() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), &"t".parse().unwrap());
        let name: Name = "app".parse().unwrap();
        for (tree, merged) in [
            (PackageTree::Extension(name.clone()), true),
            (PackageTree::Runtime(name.clone()), true),
            (PackageTree::Rootfs(name.clone()), false),
            (PackageTree::Initramfs(name), false),
            (PackageTree::Sdk, false),
        ] {
            let spec = InstallSpec {
                tree: tree.clone(),
                packages: serde_json::from_str("{\"template\": {}}").unwrap(),
                locked: BTreeMap::new(),
                headers: PackageHeaders::new(),
                repository: None,
                weak_dependencies: true,
                base: None,
                base_kernel: None,
                kernel: None,
                scriptlets: true,
                one_kernel: false,
            };
            let root = tempfile::tempdir().unwrap();
            let (tree, database) = (Tree::open(root.path()).unwrap(), Path::new("db"));
            spec.prepare(&layout, &tree, database).unwrap();
            for name in ["bin", "sbin", "lib", "lib64"] {
                let target = fs::read_link(root.path().join(name)).ok();
                let expected = merged.then(|| Path::new("usr").join(name));
                assert_eq!(target, expected, "{tree:?} {name}");
            }
        }
    }
}
