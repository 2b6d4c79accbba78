//! The kernel that a rootfs brings.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use avocado_fs::LockPlace;
use avocado_manifest::Name;
use avocado_project::PackageHeaders;

use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::packages::version;
use crate::trees::{self, Tree};

/// The package of the feed's own kernels: the version is part of the name.
pub(super) const KERNEL_PACKAGE: &str = "kernel-image";

/// The kernel that a rootfs brought by itself: the newest, where it has several.
pub(super) fn kernel_of(
    packages: &PackageHeaders,
    root: &Tree,
) -> Result<Option<String>, BuildError> {
    let versions = packages
        .keys()
        .filter_map(|p| p.strip_prefix("kernel-image-"));
    let versions = versions.filter(|v| v.starts_with(|c: char| c.is_ascii_digit()));
    let mut versions: Vec<&str> = versions.collect();
    versions.sort_by(|a, b| version::compare(b, a));
    if versions.is_empty() {
        return Ok(None);
    }
    let files = root.names("boot")?;
    // What a kernel has beside itself, its `-dbg` say, has such a name too.
    let is_there = |version: &&&str| {
        let mut names = files.iter().map(|file| file.to_string_lossy());
        names.any(|name| is_image(&name, version))
    };
    let kernel = versions.iter().find(is_there).or(versions.first());
    Ok(kernel.map(|version| (*version).to_owned()))
}

/// What kernels are called in /boot, before their versions: what is there by several names, packed
/// and unpacked say, is known by the first of these.
const IMAGE_NAMES: [&str; 4] = ["vmlinuz", "bzImage", "Image", "zImage"];

/// Whether a file of /boot is the kernel of that version.
fn is_image(file: &str, version: &str) -> bool {
    rank(file, version).is_some()
}

/// The smaller, the rather is this file the kernel of that version; none where it is not.
fn rank(file: &str, version: &str) -> Option<(usize, usize)> {
    let mut names = IMAGE_NAMES.iter();
    let name = names.position(|name| file.starts_with(name))?;
    file.contains(version).then_some((name, file.len()))
}

/// Puts the kernel's files where later steps look for them, with the published name `Image`.
pub(super) fn stage_kernel(
    layout: &Layout,
    root: &Tree,
    package: &str,
    version: &str,
) -> Result<(), BuildError> {
    // It was part of a package's name, and becomes one of a directory.
    let version: Name = version.parse().map_err(|e| {
        BuildError::Invalid(format!(
            "a kernel package of the feed has a strange version: {e}"
        ))
    })?;
    // Another rootfs may bring the same kernel at the same time.
    let _lock = LockPlace::file(&layout.kernel_lock()).lock()?;
    let place = layout.kernel(version.as_str());
    let new = Tree::fresh(&trees::unfinished(&place))?;
    let boot = Path::new("boot");
    let mut images = Vec::new();
    for name in root.names(boot)? {
        let from = boot.join(&name);
        let name = name.to_string_lossy().into_owned();
        if !name.contains(version.as_str()) {
            continue;
        }
        let Some(mut file) = root.file(&from)? else {
            continue;
        };
        let shown = root.shown(&from);
        io::copy(&mut file, &mut new.create(&name)?).at("copy", &shown)?;
        let mode = file.metadata().at("look at", &shown)?.mode();
        new.set_mode(&name, mode & 0o7777)?;
        if let Some(rank) = rank(&name, version.as_str()) {
            images.push((rank, name));
        }
    }
    let Some((_, image)) = images.into_iter().min() else {
        return Err(BuildError::Invalid(format!(
            "package {package}-{version} put no kernel into /boot"
        )));
    };
    new.symlink(image, "Image")?;
    trees::replace(new.path(), &place)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use avocado_project::PackageHeader;

    fn packages(names: &[&str]) -> PackageHeaders {
        let header = || PackageHeader {
            version: "1-r0.x".into(),
            epoch: 0,
            digest: "sha256:aa".into(),
        };
        let names = names.iter().map(|name| (name.to_string(), header()));
        names.collect()
    }

    #[test]
    fn the_newest_kernel_counts() {
        let directory = tempfile::tempdir().unwrap();
        let root = Tree::fresh(&directory.path().join("root")).unwrap();
        let kernel = |names: &[&str]| kernel_of(&packages(names), &root).unwrap();
        let none = ["kernel-image", "kernel-image-bzimage", "kernel-6.1"];
        assert_eq!(kernel(&none), None);
        for version in ["6.9.0", "6.12.0"] {
            let file = format!("boot/vmlinuz-{version}");
            root.write(&file, "kernel", 0o644).unwrap();
        }
        let both = ["kernel-image-6.9.0", "kernel-image-6.12.0", "kernel-image"];
        assert_eq!(kernel(&both).as_deref(), Some("6.12.0"));
        let part = ["kernel-image-6.12.0", "kernel-image-6.12.0-dbg"];
        assert_eq!(kernel(&part).as_deref(), Some("6.12.0"));
        // Which is told when it is staged.
        assert_eq!(kernel(&["kernel-image-7.0"]).as_deref(), Some("7.0"));
    }

    #[test]
    fn a_kernel_is_staged_with_its_published_name() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), &"t".parse().unwrap());
        fs::create_dir_all(layout.work("")).unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("boot")).unwrap();
        for name in ["bzImage-6.12.0", "System.map-6.12.0", "bzImage-6.9.0"] {
            fs::write(root.join("boot").join(name), name).unwrap();
        }
        let root = Tree::open(&root).unwrap();
        stage_kernel(&layout, &root, KERNEL_PACKAGE, "6.12.0").unwrap();
        let staged = layout.kernel("6.12.0");
        assert_eq!(fs::read(staged.join("Image")).unwrap(), b"bzImage-6.12.0");
        let link = fs::read_link(staged.join("Image")).unwrap();
        assert_eq!(link, Path::new("bzImage-6.12.0"));
        assert!(staged.join("System.map-6.12.0").is_file());
        assert!(!staged.join("bzImage-6.9.0").exists());

        let error = stage_kernel(&layout, &root, KERNEL_PACKAGE, "7.0").unwrap_err();
        assert!(error.to_string().contains("no kernel into /boot"));
    }

    #[test]
    fn a_kernel_of_arm64_is_an_image_packed_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), &"t".parse().unwrap());
        fs::create_dir_all(layout.work("")).unwrap();
        let root = Tree::fresh(&directory.path().join("root")).unwrap();
        let image = || {
            stage_kernel(&layout, &root, KERNEL_PACKAGE, "6.6.1").unwrap();
            let link = fs::read_link(layout.kernel("6.6.1").join("Image")).unwrap();
            link.into_os_string().into_string().unwrap()
        };
        for name in ["Image.gz-6.6.1", "System.map-6.6.1"] {
            root.write(format!("boot/{name}"), name, 0o644).unwrap();
        }
        assert_eq!(image(), "Image.gz-6.6.1");
        root.write("boot/Image-6.6.1", "plain", 0o644).unwrap();
        assert_eq!(image(), "Image-6.6.1");
    }

    #[test]
    fn a_kernel_package_reads_and_writes_nothing_of_the_host() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), &"t".parse().unwrap());
        fs::create_dir_all(layout.work("")).unwrap();
        let secret = directory.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let root = Tree::fresh(&directory.path().join("root")).unwrap();
        root.symlink(&secret, "boot/vmlinuz-6.12.0").unwrap();
        let error = stage_kernel(&layout, &root, KERNEL_PACKAGE, "6.12.0").unwrap_err();
        assert!(matches!(error, BuildError::Tree { .. }), "{error}");
        assert!(!layout.kernel("6.12.0").exists());
        // A link within the tree is one kernel's other name.
        root.write("boot/real-6.12.0", "kernel", 0o644).unwrap();
        root.symlink("real-6.12.0", "boot/vmlinuz-6.12.0").unwrap();
        stage_kernel(&layout, &root, KERNEL_PACKAGE, "6.12.0").unwrap();
        let staged = layout.kernel("6.12.0").join("Image");
        assert_eq!(fs::read(staged).unwrap(), b"kernel");

        for version in ["../../../x", "6/7", "", ".."] {
            let error = stage_kernel(&layout, &root, KERNEL_PACKAGE, version).unwrap_err();
            assert!(error.to_string().contains("strange version"), "{error}");
        }
    }
}
