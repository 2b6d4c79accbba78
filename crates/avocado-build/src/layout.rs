//! Where everything lives in the state directory (the published layout).

use std::path::{Path, PathBuf};

use avocado_backend::Processor;
use avocado_manifest::Name;
use avocado_provenance::PROVENANCE_TARGET;

use crate::error::BuildError;

/// The paths of one target, below `<state>/<target>` on the host or `/opt/_avocado/<target>`
/// inside a step: the same layout from two places.
#[derive(Debug, Clone)]
pub struct Layout {
    state: PathBuf,
    prefix: PathBuf,
    target: Name,
    sdk_processor: Processor,
}

impl Layout {
    /// The layout of `target` below the state directory.
    pub fn new(state: &Path, target: &Name) -> Self {
        Layout {
            state: state.to_owned(),
            prefix: state.join(target),
            target: target.clone(),
            sdk_processor: Processor::HOST,
        }
    }

    /// The same with an SDK whose tools are for this processor, not for that of this machine.
    #[must_use]
    pub fn with_sdk_for(self, sdk_processor: Processor) -> Self {
        Layout {
            sdk_processor,
            ..self
        }
    }

    /// The same state, of another target.
    pub(crate) fn of_target(&self, target: &Name) -> Self {
        Layout::new(&self.state, target).with_sdk_for(self.sdk_processor)
    }

    /// The processor that the SDK's tools are for.
    pub(crate) fn sdk_processor(&self) -> Processor {
        self.sdk_processor
    }

    /// The layout as a step sees it.
    pub fn in_step(target: &Name) -> Self {
        Layout::new(Path::new(avocado_backend::STATE_MOUNT), target)
    }

    /// `AVOCADO_PREFIX`.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Trees that nobody outside of a step looks into, on the state's file system.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.prefix.join(".work").join(name)
    }

    /// What `avocado hitl server` exports, and the files of its server; there while it runs.
    pub fn hitl(&self) -> PathBuf {
        self.work("hitl")
    }

    /// The lock of that server.
    pub fn hitl_lock(&self) -> PathBuf {
        self.work("hitl.lock")
    }

    /// The locks of everything in the target's state that has one.
    pub(crate) fn locks(&self) -> Vec<PathBuf> {
        let runtimes = std::fs::read_dir(self.runtimes()).into_iter().flatten();
        let runtimes = runtimes.filter_map(Result::ok);
        let of_repositories = runtimes.map(|entry| entry.path().join(".repository.lock"));
        of_repositories
            .chain([self.hitl_lock(), self.kernel_lock()])
            .collect()
    }

    /// What is in the images that bills were made of.
    pub(crate) fn inventories(&self) -> PathBuf {
        self.work("inventories")
    }

    /// The same of one image, which is somewhere in the state.
    pub(crate) fn inventory(&self, image: &Path) -> PathBuf {
        let below = image.strip_prefix(&self.prefix).unwrap_or(image);
        let mut place = self.inventories().join(below).into_os_string();
        place.push(".json");
        place.into()
    }

    /// What is on its way from and to the cache of a team.
    pub(crate) fn cache_work(&self) -> PathBuf {
        self.work("cache")
    }

    /// Archives of container images, as they came from their registries.
    pub(crate) fn container_images(&self) -> PathBuf {
        self.work("container-images")
    }

    /// What devices find in place of pulling images: an archive for each runtime.
    pub(crate) fn container_stores(&self) -> PathBuf {
        self.work("container-stores")
    }

    /// That of one runtime.
    pub(crate) fn container_store(&self, runtime: &Name) -> PathBuf {
        self.container_stores().join(format!("{runtime}.tar"))
    }

    /// The lock of who puts a kernel where later steps look for it.
    pub(crate) fn kernel_lock(&self) -> PathBuf {
        self.work("kernel.lock")
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

    /// What is on its way from and to another machine, whatever the target; there while it moves.
    pub(crate) fn moving(&self) -> PathBuf {
        self.state.join(".moving")
    }

    /// What the tools of this host said of themselves; the same for all targets.
    pub(crate) fn tool_identities(&self) -> PathBuf {
        self.state.join(".tools.json")
    }

    /// The same of the tools of the SDK's container image.
    pub(crate) fn tool_identities_of_image(&self) -> PathBuf {
        self.state.join(".image-tools.json")
    }

    /// The same of the tools of the machine that steps ran on last, where that is another one.
    pub(crate) fn tool_identities_of_machine(&self) -> PathBuf {
        self.state.join(".machine-tools.json")
    }

    /// The directory of the socket at which a command in a container calls; there while it runs.
    pub(crate) fn command_socket(&self) -> PathBuf {
        self.state.join(".command")
    }

    /// The files of the NFS server by which another machine sees the project; there while it runs.
    pub(crate) fn nfs_server(&self) -> PathBuf {
        self.state.join(".nfs")
    }

    /// The digests of the project's files, as far as they are known; the same for all targets.
    pub(crate) fn known_files(&self) -> PathBuf {
        self.state.join(".known-files")
    }

    /// The digests of directories of the project, as far as they are known; the same for all targets.
    pub(crate) fn known_trees(&self) -> PathBuf {
        self.state.join(".known-trees")
    }

    /// `AVOCADO_SDK_PREFIX`.
    pub(crate) fn sdk(&self) -> PathBuf {
        self.sdk_for(self.sdk_processor)
    }

    /// The SDK whose tools are for this processor.
    pub(crate) fn sdk_for(&self, processor: Processor) -> PathBuf {
        self.prefix.join("sdk").join(processor.as_str())
    }

    /// Repository configuration for the target's packages.
    pub(crate) fn target_repoconf(&self) -> PathBuf {
        self.prefix.join("sdk/target-repoconf")
    }

    /// What the SDK compiles against.
    pub(crate) fn target_sysroot(&self) -> PathBuf {
        self.prefix.join("sdk/target-sysroot")
    }

    /// `AVOCADO_BUILD_DIR` of a section of `sdk.compile`.
    pub(crate) fn compile(&self, section: &str) -> PathBuf {
        self.sdk().join("build").join(section)
    }

    /// `DESTDIR` of a section of `sdk.compile`.
    pub(crate) fn staging(&self, section: &str) -> PathBuf {
        self.sdk().join("staging").join(section)
    }

    /// A package of what was compiled.
    pub(crate) fn compiled_package(&self, file: &str) -> PathBuf {
        self.prefix.join("output/packages").join(file)
    }

    /// What the section was compiled with.
    pub(crate) fn compiled_with(&self, section: &str) -> PathBuf {
        self.work("compiled-with").join(section)
    }

    /// All that the last run of a hook said.
    pub(crate) fn log(&self, hook: &str) -> PathBuf {
        let mut name = String::new();
        for c in hook.chars() {
            match c {
                ' ' => name.push('-'),
                c if c.is_alphanumeric() || "._-".contains(c) => name.push(c),
                c => name += &format!("%{:02X}", u32::from(c)),
            }
        }
        self.prefix.join("logs").join(format!("{name}.log"))
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

    /// What was fetched.
    pub(crate) fn includes(&self) -> PathBuf {
        self.prefix.join("includes")
    }

    /// The files of an extension that was fetched.
    pub(crate) fn include(&self, name: &Name) -> PathBuf {
        self.includes().join(name)
    }

    /// `AVOCADO_EXT_SYSROOTS`.
    pub(crate) fn extensions(&self) -> PathBuf {
        self.prefix.join("extensions")
    }

    /// The built sysroot of an extension.
    pub fn extension(&self, name: &Name) -> PathBuf {
        self.extensions().join(name)
    }

    /// The image of an extension.
    pub fn extension_image(&self, name: &Name, version: &Name) -> PathBuf {
        self.prefix
            .join("output/extensions")
            .join(format!("{name}-{version}.raw"))
    }

    /// A package of an extension's sources.
    pub(crate) fn extension_source_package(&self, file: &str) -> PathBuf {
        self.prefix.join("output/extensions").join(file)
    }

    /// `AVOCADO_RUNTIME_BUILD_DIR`.
    pub fn runtime(&self, name: &Name) -> PathBuf {
        self.prefix.join("runtimes").join(name)
    }

    /// What the scripts of a runtime's compiled packages and of its kernel installed.
    pub(crate) fn runtime_compiled(&self, name: &Name) -> PathBuf {
        self.work("runtimes-compiled").join(name)
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
        self.runtimes().join(runtime).join("manifest.json")
    }

    /// The statement of how a runtime was made, as it is published.
    pub fn provenance(&self, runtime: &Name) -> PathBuf {
        self.runtimes().join(runtime).join(PROVENANCE_TARGET)
    }

    /// What a device writes to its other slot, in one archive.
    pub fn os_bundle(&self, runtime: &Name) -> PathBuf {
        self.runtimes().join(runtime).join("os-bundle.aos")
    }

    /// Where the parts of that archive are in it.
    pub fn os_bundle_chunks(&self, runtime: &Name) -> PathBuf {
        self.runtimes().join(runtime).join("os-bundle.chunks")
    }

    /// Where the images of a runtime's disks are, and what else the target's own tools make of it.
    pub fn disk_images(&self, runtime: &Name) -> PathBuf {
        self.runtimes().join(runtime).join("stone")
    }

    /// The signed repository of a runtime: `metadata/` and `targets/`.
    pub fn repository(&self, runtime: &Name) -> PathBuf {
        self.runtimes().join(runtime).join("repository")
    }

    /// What `avocado vm` starts a runtime from: `manifest.json` and the files that it names.
    pub fn vm_image(&self, runtime: &Name) -> PathBuf {
        self.runtimes().join(runtime).join("vm")
    }

    /// Makes sure that the directories that the build itself writes to, outside of steps, are
    /// directories: what runs in a step can change the state, and a link would lead out of it.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        self.check_fixed()?;
        // Both are small: a directory for each runtime or component, and a few files.
        has_no_link(links_below(&self.stamps(), 4).chain(links_below(&self.runtimes(), 2)))
    }

    /// The same of those alone that every project has, whatever is in them: after a step, of which
    /// there may be as many as there are directories. Of stamps the engine looks at those that it
    /// uses, and who publishes a runtime asks [`Layout::check_runtime`].
    pub(crate) fn check_fixed(&self) -> Result<(), BuildError> {
        let own = [
            "output",
            "output/extensions",
            "output/packages",
            "output/runtimes",
            "runtimes",
            "extensions",
            "includes",
            "kernel",
            "sdk",
            ".work",
            ".stamps",
        ];
        let own = own.iter().map(|name| self.prefix.join(name));
        let fixed = std::iter::once(self.prefix.clone()).chain(own);
        has_no_link(fixed.filter(|path| path.is_symlink()))
    }

    /// The same of what is published of a runtime.
    pub(crate) fn check_runtime(&self, runtime: &Name) -> Result<(), BuildError> {
        self.check_fixed()?;
        // Down to `repository/targets`.
        has_no_link(links_below(&self.runtimes().join(runtime), 2))
    }

    fn runtimes(&self) -> PathBuf {
        self.prefix.join("output/runtimes")
    }

    /// All stamps of the target.
    pub fn stamps(&self) -> PathBuf {
        self.prefix.join(".stamps")
    }
}

/// The links from a directory on, so many levels down, as the directories say it: none of what is in
/// them is looked at.
fn links_below(directory: &Path, depth: usize) -> impl Iterator<Item = PathBuf> {
    let walk = walkdir::WalkDir::new(directory).max_depth(depth);
    let entries = walk.into_iter().filter_map(Result::ok);
    let links = entries.filter(|entry| entry.path_is_symlink());
    links.map(walkdir::DirEntry::into_path)
}

fn has_no_link(mut links: impl Iterator<Item = PathBuf>) -> Result<(), BuildError> {
    match links.next() {
        Some(path) => Err(BuildError::Invalid(format!(
            "{} is a symbolic link, which a hook or a tool of the SDK must have made: the build would follow it out of its state; remove it",
            path.display()
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_in_the_place_of_a_directory_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let layout = Layout::new(&directory.path().join("state"), &"t".parse().unwrap());
        layout.check().unwrap();
        for path in [
            "../t",
            "output",
            "output/runtimes",
            "output/runtimes/dev",
            "output/runtimes/dev/repository",
            ".work",
            ".stamps",
            ".stamps/ext/app",
            ".stamps/ext/app/build.stamp",
            "kernel",
        ] {
            let path = match path {
                "../t" => layout.prefix().to_owned(),
                path => layout.prefix().join(path),
            };
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(&outside, &path).unwrap();
            let error = layout.check().unwrap_err().to_string();
            assert!(error.starts_with(&*path.to_string_lossy()), "{error}");
            fs::remove_file(&path).unwrap();
            layout.check().unwrap();
            let _ = fs::remove_dir_all(layout.prefix());
        }
    }

    #[test]
    fn what_is_published_of_one_runtime_has_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), &"t".parse().unwrap());
        let [own, other] = ["dev", "prod"].map(|name| name.parse::<Name>().unwrap());
        for path in [
            "output",
            "output/runtimes",
            "output/runtimes/dev",
            "output/runtimes/dev/vm",
            "output/runtimes/dev/repository",
            "output/runtimes/dev/repository/targets",
        ] {
            let path = layout.prefix().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(directory.path(), &path).unwrap();
            let error = layout.check_runtime(&own).unwrap_err().to_string();
            assert!(error.starts_with(&*path.to_string_lossy()), "{error}");
            let is_shared = !path.starts_with(layout.runtimes().join("dev"));
            assert_eq!(layout.check_runtime(&other).is_err(), is_shared);
            fs::remove_file(&path).unwrap();
            layout.check_runtime(&own).unwrap();
        }
    }
}
