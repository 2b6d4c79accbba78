//! Installing packages with dnf into one tree: the SDK, a rootfs, an initramfs, an extension or
//! a runtime. Every install starts from an empty tree, so what is in the tree follows from the
//! request, the lock and the snapshot alone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use avocado_events::{Event, Sink};
use avocado_manifest::{Digest, Name};
use avocado_project::Packages;
use avocado_project::Sysroot;
use serde::{Deserialize, Serialize};

use super::{Bench, Context, HOST_ARCH, Step};
use crate::dnf::{Dnf, View};
use crate::error::At as _;
use crate::feed::Access;
use crate::graph::{Done, Task, TaskId};
use crate::layout::Layout;
use crate::stamp::{Outcome, Slot};
use crate::{Error, tree};

/// The rootfs package that brings a whole system, and with it a kernel.
const ROOTFS_PACKAGE: &str = "avocado-pkg-rootfs";

/// A tree that packages are installed into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tree {
    Sdk,
    Rootfs(Name),
    Initramfs(Name),
    Extension(Name),
    Runtime(Name),
}

/// An install, as it travels to the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Install {
    pub(crate) tree: Tree,
    /// What the project asks for.
    pub(crate) packages: Packages,
    /// What the lock says: name → `version-release.arch`.
    pub(crate) locked: BTreeMap<String, String>,
    pub(crate) weak_dependencies: bool,
    /// The rootfs whose packages count as present.
    pub(crate) base: Option<Name>,
    /// Whether to add the newest kernel of the feed, and which one the lock has.
    pub(crate) kernel: Option<KernelWish>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KernelWish {
    pinned: Option<String>,
}

/// What an install brought.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Installed {
    packages: BTreeMap<String, String>,
    digest: Digest,
    kernel: Option<String>,
}

/// What the next steps want to know of an install.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct InstallDetail {
    pub(crate) kernel: Option<String>,
    pub(crate) packages: usize,
}

/// The parent's side of an install.
pub(crate) struct InstallTask<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) tree: Tree,
    pub(crate) packages: Packages,
    /// The install of the rootfs whose packages count as present.
    pub(crate) base: Option<(Name, TaskId)>,
}

impl InstallTask<'_> {
    fn request(&self) -> Install {
        let lock = self
            .context
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let lock = lock.target(&self.context.project.target);
        let sysroot = self.tree.sysroot();
        let explicit_kernel = self.packages.keys().any(|p| p.starts_with("kernel-image"));
        let wants_kernel = matches!(self.tree, Tree::Rootfs(_))
            && self.packages.contains_key(ROOTFS_PACKAGE)
            && !explicit_kernel;
        Install {
            tree: self.tree.clone(),
            packages: self.packages.clone(),
            locked: lock
                .and_then(|l| l.packages(&sysroot))
                .cloned()
                .unwrap_or_default(),
            weak_dependencies: !self.context.project.sdk.disable_weak_dependencies,
            base: self.base.as_ref().map(|(name, _)| name.clone()),
            kernel: wants_kernel.then(|| KernelWish {
                pinned: lock
                    .and_then(|l| l.kernel_version(&sysroot))
                    .map(ToOwned::to_owned),
            }),
        }
    }
}

impl Task for InstallTask<'_> {
    fn name(&self) -> String {
        self.tree.label()
    }

    fn slot(&self) -> Slot {
        let (component, name) = match &self.tree {
            Tree::Sdk => ("sdk", Some(HOST_ARCH.to_owned())),
            Tree::Rootfs(name) => ("rootfs", other_than_default(name)),
            Tree::Initramfs(name) => ("initramfs", other_than_default(name)),
            Tree::Extension(name) => ("extension", Some(name.to_string())),
            Tree::Runtime(name) => ("runtime", Some(name.to_string())),
        };
        Slot {
            component,
            name,
            command: "install",
        }
    }

    fn inputs(&self, done: &Done<'_>) -> Result<serde_json::Value, Error> {
        let base = match &self.base {
            Some((_, id)) => Some(done.get(*id)?.digest),
            None => None,
        };
        let request = self.request();
        let lock = self
            .context
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(serde_json::json!({
            "install": request,
            "base": base,
            "feed": self.context.feed.identity(&lock),
            "dnf_args": self.context.options.dnf_args,
        }))
    }

    fn settled(&self, mut before: serde_json::Value) -> serde_json::Value {
        let request = self.request();
        before["install"]["locked"] = serde_json::json!(request.locked);
        before["install"]["kernel"] = serde_json::json!(request.kernel);
        let lock = self
            .context
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        before["feed"] = serde_json::json!(self.context.feed.identity(&lock));
        before
    }

    fn outputs(&self, outcome: &Outcome) -> Vec<PathBuf> {
        let layout = &self.context.layout;
        let mut outputs = vec![self.tree.root(layout)];
        let detail = super::detail::<InstallDetail>(outcome).unwrap_or_default();
        outputs.extend(detail.kernel.map(|version| layout.kernel(&version)));
        if self.tree == Tree::Sdk {
            outputs.push(layout.target_repoconf());
        }
        outputs
    }

    fn run(&self, _done: &Done<'_>, sink: &dyn Sink) -> Result<Outcome, Error> {
        let context = self.context;
        let access = context
            .feed
            .access(&context.lock, &context.options.dnf_args, sink)?;
        let request = self.request();
        let step = Step::Install(request);
        let feed = format!("{}/{}", access.url, access.releasever);
        let installed: Installed = context
            .step(&self.name(), step, Some(access), sink)
            .map_err(|source| Error::Install {
                feed,
                source: Box::new(source),
            })?;
        let mut lock = context.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = lock.target_mut(&context.project.target);
        let sysroot = self.tree.sysroot();
        let detail = InstallDetail {
            kernel: installed.kernel.clone(),
            packages: installed.packages.len(),
        };
        locked.set_packages(&sysroot, installed.packages);
        if installed.kernel.is_some() {
            locked.set_kernel_version(&sysroot, installed.kernel);
        }
        lock.save()?;
        Ok(Outcome {
            digest: installed.digest,
            detail: serde_json::to_value(detail).unwrap_or_default(),
        })
    }
}

fn other_than_default(name: &Name) -> Option<String> {
    (name.as_str() != "default").then(|| name.to_string())
}

impl Tree {
    fn label(&self) -> String {
        match self {
            Tree::Sdk => "sdk install".into(),
            Tree::Rootfs(name) if name.as_str() == "default" => "rootfs install".into(),
            Tree::Initramfs(name) if name.as_str() == "default" => "initramfs install".into(),
            Tree::Rootfs(name) => format!("rootfs install {name}"),
            Tree::Initramfs(name) => format!("initramfs install {name}"),
            Tree::Extension(name) => format!("ext install {name}"),
            Tree::Runtime(name) => format!("runtime install {name}"),
        }
    }

    fn sysroot(&self) -> Sysroot {
        match self.clone() {
            Tree::Sdk => Sysroot::Sdk(HOST_ARCH.to_owned()),
            Tree::Rootfs(name) => Sysroot::rootfs(&name),
            Tree::Initramfs(name) => Sysroot::initramfs(&name),
            Tree::Extension(name) => Sysroot::Extension(name),
            Tree::Runtime(name) => Sysroot::Runtime(name),
        }
    }

    /// The installed tree.
    fn root(&self, layout: &Layout) -> PathBuf {
        match self {
            Tree::Sdk => layout.sdk(HOST_ARCH),
            Tree::Rootfs(name) => layout.os_tree("rootfs", name),
            Tree::Initramfs(name) => layout.os_tree("initramfs", name),
            Tree::Extension(name) => layout.extension_packages(name),
            Tree::Runtime(name) => layout.work("runtimes").join(name),
        }
    }
}

impl Install {
    pub(crate) fn work(self, bench: &Bench<'_>, access: &Access) -> Result<Installed, Error> {
        let layout = &bench.layout;
        let root = self.tree.root(layout);
        let new = tree::unfinished(&root);
        tree::fresh(&new)?;
        let mut brought = Packages::new();
        if self.tree == Tree::Sdk {
            brought.extend(self.bootstrap(bench, access)?);
        }
        let view = match self.tree {
            Tree::Sdk => View::Sdk,
            _ => View::Target,
        };
        let dnf = Dnf::new(layout, access, view, &new, self.weak_dependencies)?;
        self.prepare(layout, &new)?;
        let before = dnf.installed(bench.sink)?;
        let mut specs = self.specs();
        let wished = self.choose_kernel(&dnf, &mut specs, bench.sink)?;
        dnf.install(&specs, bench.sink)?;
        self.settle(&dnf, bench.sink)?;
        let after = dnf.installed(bench.sink)?;
        let mut content = String::new();
        for (name, package) in &after {
            if before.get(name) != Some(package) {
                content += &format!("{name} {} {}\n", package.version, package.header);
                brought.insert(name.clone(), package.version.clone());
            }
        }
        dnf.finish()?;
        let kernel = wished.or_else(|| match self.tree {
            Tree::Rootfs(_) => kernel_of(&brought),
            _ => None,
        });
        if let Some(kernel) = &kernel {
            stage_kernel(layout, &new, kernel)?;
        }
        tree::replace(&new, &root)?;
        if let Tree::Runtime(name) = &self.tree {
            publish(&root, &layout.runtime(name))?;
        }
        if let Some(last) = brought.keys().next_back() {
            let count = brought.len() as u64;
            bench.sink.emit(Event::items("", last, count, Some(count)));
        }
        Ok(Installed {
            packages: brought,
            digest: Digest::of(content.as_bytes()),
            kernel,
        })
    }

    /// The repository configuration of the target comes in a package, which comes first.
    fn bootstrap(&self, bench: &Bench<'_>, access: &Access) -> Result<Packages, Error> {
        let layout = &bench.layout;
        let root = layout.work("bootstrap");
        tree::fresh(&root)?;
        let dnf = Dnf::new(layout, access, View::Bootstrap, &root, false)?;
        let package = format!("avocado-sdk-{}", bench.target);
        dnf.install(&[self.spec(&package, "*")], bench.sink)?;
        let brought = dnf.installed(bench.sink)?;
        dnf.finish()?;
        let conf = root.join("target-repoconf");
        if !conf.is_dir() {
            return Err(Error::Invalid(format!(
                "package {package} holds no target-repoconf directory"
            )));
        }
        let place = layout.target_repoconf();
        let new = tree::unfinished(&place);
        tree::clear(&new)?;
        tree::copy(&conf, &new, tree::Modes::Keep)?;
        tree::replace(&new, &place)?;
        Ok(brought
            .into_iter()
            .map(|(name, p)| (name, p.version))
            .collect())
    }

    /// What has to be in a tree before its first package.
    fn prepare(&self, layout: &Layout, root: &Path) -> Result<(), Error> {
        if !matches!(self.tree, Tree::Extension(_) | Tree::Runtime(_)) {
            return Ok(());
        }
        // Packages may still say /bin or /lib; the merged directories are where they belong.
        for name in ["bin", "sbin", "lib", "lib64"] {
            fs::create_dir_all(root.join("usr").join(name)).at("create", root)?;
            symlink(Path::new("usr").join(name), root.join(name)).at("create", &root.join(name))?;
        }
        if let Some(base) = &self.base {
            let database = layout.os_tree("rootfs", base).join("var/lib/rpm");
            tree::copy(&database, &root.join("var/lib/rpm"), tree::Modes::Keep)?;
        }
        Ok(())
    }

    fn spec(&self, name: &str, version: &str) -> String {
        match (self.locked.get(name), version) {
            (Some(locked), "*") => format!("{name}-{locked}"),
            (_, "*") => name.to_owned(),
            (_, version) => format!("{name}-{version}"),
        }
    }

    fn specs(&self) -> Vec<String> {
        let mut packages = self.packages.clone();
        if self.tree == Tree::Sdk {
            packages
                .entry("avocado-sdk-bootstrap".into())
                .or_insert_with(|| "*".into());
        }
        packages
            .iter()
            .map(|(name, version)| self.spec(name, version))
            .collect()
    }

    fn choose_kernel(
        &self,
        dnf: &Dnf<'_>,
        specs: &mut Vec<String>,
        sink: &dyn Sink,
    ) -> Result<Option<String>, Error> {
        let Some(wish) = &self.kernel else {
            return Ok(None);
        };
        let version = match &wish.pinned {
            Some(version) => Some(version.clone()),
            None => dnf.newest_kernel(sink)?,
        };
        if let Some(version) = &version {
            specs.push(self.spec(&format!("kernel-image-{version}"), "*"));
        }
        Ok(version)
    }

    /// Dependencies are locked too. Within a snapshot dnf chooses the same ones again; where the
    /// head of a channel is followed it may not, and is told.
    fn settle(&self, dnf: &Dnf<'_>, sink: &dyn Sink) -> Result<(), Error> {
        let installed = dnf.installed(sink)?;
        let moved: Vec<String> = self
            .locked
            .iter()
            .filter(|(name, version)| {
                let asked = self.packages.get(*name).is_some_and(|v| v != "*");
                !asked && installed.get(*name).is_some_and(|p| p.version != **version)
            })
            .map(|(name, version)| format!("{name}-{version}"))
            .collect();
        if moved.is_empty() {
            return Ok(());
        }
        dnf.install(&moved, sink)
    }
}

/// The kernel that a rootfs brought by itself.
fn kernel_of(packages: &Packages) -> Option<String> {
    let mut versions = packages
        .keys()
        .filter_map(|p| p.strip_prefix("kernel-image-"));
    versions
        .rfind(|v| v.starts_with(|c: char| c.is_ascii_digit()))
        .map(ToOwned::to_owned)
}

/// Puts the kernel's files where later steps look for them, with the published name `Image`.
fn stage_kernel(layout: &Layout, root: &Path, version: &str) -> Result<(), Error> {
    // Another rootfs may bring the same kernel at the same time.
    let turn = layout.work("kernel.lock");
    let turn = fs::File::create(&turn).at("create", &turn)?;
    rustix::fs::flock(&turn, rustix::fs::FlockOperation::LockExclusive)
        .map_err(std::io::Error::from)
        .at("lock", &layout.work("kernel.lock"))?;
    let place = layout.kernel(version);
    let new = tree::unfinished(&place);
    tree::fresh(&new)?;
    let boot = root.join("boot");
    let mut image = None;
    for entry in fs::read_dir(&boot).at("read", &boot)? {
        let entry = entry.at("read", &boot)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.contains(version) {
            continue;
        }
        fs::copy(entry.path(), new.join(&name)).at("copy", &entry.path())?;
        if ["vmlinuz", "bzImage", "Image", "zImage"]
            .iter()
            .any(|k| name.starts_with(k))
        {
            image = Some(name);
        }
    }
    let Some(image) = image else {
        return Err(Error::Invalid(format!(
            "package kernel-image-{version} put no kernel into /boot"
        )));
    };
    symlink(image, new.join("Image")).at("create", &new)?;
    tree::replace(&new, &place)
}

/// A runtime's packages appear in its build directory, beside what later steps put there.
fn publish(root: &Path, directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).at("create", directory)?;
    // What earlier packages put there has to go with them.
    let list = directory.join(".packages.json");
    let before: Vec<Name> = fs::read(&list)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    for name in before {
        tree::clear(&directory.join(name))?;
    }
    let mut published = Vec::new();
    for entry in fs::read_dir(root).at("read", root)? {
        let entry = entry.at("read", root)?;
        let kind = entry.file_type().at("look at", &entry.path())?;
        if kind.is_symlink() || entry.file_name() == "var" {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(name) = name.parse::<Name>() else {
            continue;
        };
        let place = directory.join(&name);
        tree::clear(&place)?;
        tree::copy(&entry.path(), &place, tree::Modes::Keep)?;
        published.push(name);
    }
    tree::write(&list, serde_json::to_vec(&published).unwrap_or_default())
}
