//! Where everything lives in the state directory (the published layout).

use std::path::{Path, PathBuf};

use avocado_manifest::Name;

use crate::architecture::HOST_ARCH;
use crate::error::BuildError;

/// The paths of one target, below `<state>/<target>` on the host or `/opt/_avocado/<target>`
/// inside a step: the same layout from two places.
#[derive(Debug, Clone)]
pub struct Layout {
    state: PathBuf,
    prefix: PathBuf,
    target: Name,
}

impl Layout {
    /// The layout of `target` below the state directory.
    pub fn new(state: &Path, target: &Name) -> Self {
        Layout {
            state: state.to_owned(),
            prefix: state.join(target),
            target: target.clone(),
        }
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

    /// dnf's cache of metadata and packages, shared by all trees.
    pub(crate) fn dnf_cache(&self) -> PathBuf {
        self.prefix.join(".work/dnf-cache")
    }

    /// One lock for everything that changes the project's state or its lock file, whatever the
    /// target.
    pub fn lock(&self) -> PathBuf {
        self.state.join(".lock")
    }

    /// What the tools of this host said of themselves; the same for all targets.
    pub(crate) fn tool_identities(&self) -> PathBuf {
        self.state.join(".tools.json")
    }

    /// The digests of the project's files, as far as they are known; the same for all targets.
    pub(crate) fn known_files(&self) -> PathBuf {
        self.state.join(".known-files")
    }

    /// `AVOCADO_SDK_PREFIX`.
    pub(crate) fn sdk(&self, arch: &str) -> PathBuf {
        self.prefix.join("sdk").join(arch)
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
        self.sdk(HOST_ARCH).join("build").join(section)
    }

    /// `DESTDIR` of a section of `sdk.compile`.
    pub(crate) fn staging(&self, section: &str) -> PathBuf {
        self.sdk(HOST_ARCH).join("staging").join(section)
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
        self.prefix
            .join("output/runtimes")
            .join(runtime)
            .join("manifest.json")
    }

    /// The signed repository of a runtime: `metadata/` and `targets/`.
    pub fn repository(&self, runtime: &Name) -> PathBuf {
        self.prefix
            .join("output/runtimes")
            .join(runtime)
            .join("repository")
    }

    /// What `avocado vm` starts a runtime from: `manifest.json` and the files that it names.
    pub fn vm_image(&self, runtime: &Name) -> PathBuf {
        self.prefix.join("output/runtimes").join(runtime).join("vm")
    }

    /// Makes sure that the directories that the build itself writes to, outside of steps, are
    /// directories: what runs in a step can change the state, and a link would lead out of it.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
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
        let below = |name: &str, depth| {
            let walk = walkdir::WalkDir::new(self.prefix.join(name)).max_depth(depth);
            let entries = walk.into_iter().filter_map(Result::ok);
            // As the directory says it: none of them is looked at.
            let links = entries.filter(|entry| entry.path_is_symlink());
            links.map(walkdir::DirEntry::into_path)
        };
        // Both are small: a directory for each runtime or component, and a few files.
        let links = below(".stamps", 4).chain(below("output/runtimes", 2));
        match fixed.filter(|path| path.is_symlink()).chain(links).next() {
            Some(path) => Err(BuildError::Invalid(format!(
                "{} is a symbolic link, which a hook or a tool of the SDK must have made: the build would follow it out of its state; remove it",
                path.display()
            ))),
            None => Ok(()),
        }
    }

    /// All stamps of the target.
    pub fn stamps(&self) -> PathBuf {
        self.prefix.join(".stamps")
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
}
