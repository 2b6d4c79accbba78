//! The child's side of an install.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use avocado_events::{Event, Sink};
use avocado_manifest::{Digest, Name};
use avocado_project::{LateValues, PackageHeader, PackageHeaders, Packages};
use serde::{Deserialize, Serialize};

use super::PackageTree;
use super::include::{self, IncludePlace};
use super::kernel::{kernel_of, stage_kernel};
use super::publish;
use super::spec::{InstallSpec, KernelChoice, packages_for};
use crate::error::BuildError;
use crate::layout::Layout;
use crate::packages::dnf::{DATABASE, DatabasePlace, Dnf, RepositoryView, put_database};
use crate::packages::feed::FeedAccess;
use crate::packages::installed;
use crate::scriptlets::{self, BorrowedAccounts, PackageScriptlets, SkippedScriptlets};
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, Tree};

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

/// Publishes the packages of a runtime whose tree another machine made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PublishRequest {
    pub(super) name: Name,
}

impl StepRequest for PublishRequest {
    const KIND: &'static str = "publish_packages";
    type Result = ();

    fn work(self, context: &StepContext<'_>) -> Result<(), BuildError> {
        let layout = &context.layout;
        let tree = PackageTree::Runtime(self.name.clone());
        let tree = Tree::open(&tree.root(layout))?;
        publish::packages(&tree, &layout.runtime(&self.name))
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

/// What is consumed of packages, as a text.
fn content(packages: &PackageHeaders) -> String {
    let line = |(name, package): (&String, &PackageHeader)| {
        format!("{name} {} {}\n", package.version, package.digest)
    };
    packages.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

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
