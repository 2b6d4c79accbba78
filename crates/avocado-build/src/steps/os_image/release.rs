//! The release files of an OS, by which it is known.

use avocado_manifest::{LONGEST_MANIFEST_TEXT, release_file};
use rustix::fs::{FileType, Stat};

use super::{OsImageRequest, OsPart};
use crate::error::BuildError;
use crate::trees::{Tree, is};

/// The release files of an initramfs; the first that is there says its version.
const INITRAMFS_RELEASES: [&str; 2] = ["usr/lib/initrd-release", "usr/lib/os-release-initrd"];

impl OsPart {
    pub(crate) fn releases(self) -> &'static [&'static str] {
        match self {
            OsPart::Rootfs => &["usr/lib/os-release"],
            OsPart::Initramfs => &INITRAMFS_RELEASES,
        }
    }

    /// Where whoever asks a system what it is looks first. It is a link to one of the others, as a rule.
    fn first_asked(self) -> &'static str {
        match self {
            OsPart::Rootfs => "etc/os-release",
            OsPart::Initramfs => "etc/initrd-release",
        }
    }

    /// The release files that a tree has, each once.
    pub(super) fn release_files(self, root: &Tree) -> Result<Vec<&'static str>, BuildError> {
        let there = self.releases().iter().filter(|file| root.has(file));
        let mut files: Vec<&str> = there.copied().collect();
        let first = self.first_asked();
        let is_file = |found: &Stat| is(found, FileType::RegularFile);
        if root.look(first)?.is_some_and(|found| is_file(&found)) {
            files.push(first);
        }
        Ok(files)
    }
}

impl OsImageRequest {
    /// Adds our keys to a release file of the tree.
    pub(super) fn extend_release(
        &self,
        root: &Tree,
        file: &str,
        build_id: &str,
    ) -> Result<(), BuildError> {
        let Some(mut text) = root.read(file)? else {
            return Ok(());
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text += &format!("AVOCADO_OS_BUILD_ID={build_id}\n");
        text += &format!("AVOCADO_RUNTIME_NAME={}\n", self.runtime);
        if let Some(version) = &self.runtime_version {
            text += &format!("AVOCADO_RUNTIME_VERSION=\"{}\"\n", version.replace('"', ""));
        }
        root.rewrite(file, text, 0o644)
    }
}

/// The value of a key in a release file, as it goes into a manifest.
pub(super) fn release_value(
    root: &Tree,
    file: &str,
    key: &str,
) -> Result<Option<String>, BuildError> {
    let text = root.read(file)?.unwrap_or_default();
    match release_file::value(&text, key) {
        Some(value) if value.len() > LONGEST_MANIFEST_TEXT => Err(BuildError::Invalid(format!(
            "{} of {} has {} bytes: a device takes {LONGEST_MANIFEST_TEXT} at most",
            key,
            root.shown(file).display(),
            value.len()
        ))),
        value => Ok(value.map(ToOwned::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_a_device_reads() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let version = || release_value(&tree, "usr/lib/os-release", "VERSION_ID").unwrap();
        assert_eq!(version(), None);
        let text = "#VERSION_ID=0\nVERSION_ID=1\nID=x\nVERSION_ID=\"2\"\n";
        tree.write("usr/lib/os-release", text, 0o644).unwrap();
        assert_eq!(version().as_deref(), Some("2"));
        let long = |length| format!("VERSION_ID={}\n", "1".repeat(length));
        tree.write("usr/lib/os-release", long(255), 0o644).unwrap();
        assert_eq!(version().unwrap().len(), 255);
        tree.write("usr/lib/os-release", long(256), 0o644).unwrap();
        let error = release_value(&tree, "usr/lib/os-release", "VERSION_ID").unwrap_err();
        let said = error.to_string();
        assert!(said.contains("usr/lib/os-release has 256 bytes"), "{said}");
    }

    #[test]
    fn what_is_asked_first_says_the_build_too_where_it_is_a_file_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        for (part, first, usual) in [
            (OsPart::Rootfs, "etc/os-release", "usr/lib/os-release"),
            (
                OsPart::Initramfs,
                "etc/initrd-release",
                "usr/lib/initrd-release",
            ),
        ] {
            let files = || part.release_files(&tree).unwrap();
            assert_eq!(files(), [""; 0]);
            tree.write(first, "ID=x\n", 0o644).unwrap();
            assert_eq!(files(), [first]);
            tree.write(usual, "ID=x\n", 0o644).unwrap();
            assert_eq!(files(), [usual, first]);
            tree.clear(first).unwrap();
            tree.symlink(format!("../{usual}"), first).unwrap();
            assert_eq!(files(), [usual]);
        }
    }

    #[test]
    fn the_release_files_of_each_part_are_those_that_systemd_reads() {
        assert_eq!(OsPart::Rootfs.releases(), ["usr/lib/os-release"]);
        assert_eq!(OsPart::Initramfs.releases()[0], "usr/lib/initrd-release");
    }
}
