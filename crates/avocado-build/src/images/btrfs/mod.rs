//! The var partition: a btrfs with the published subvolume `lib/avocado`, and those of the project.

mod mkfs_version;
mod mounted;
mod spec;

use std::ffi::OsString;
use std::path::Path;

use avocado_backend::{Tool, ToolQuery};

use crate::containers;
use crate::error::{At as _, BuildError};
use crate::step_context::StepContext;
use crate::trees;

pub use mkfs_version::MkfsVersion;
pub(crate) use spec::{BtrfsSpec, BtrfsSubvolume};

pub(crate) const MKFS: ToolQuery = ToolQuery {
    tool: "mkfs.btrfs",
    arguments: &["--version"],
};

/// Writes the tree `root` to `image`.
pub(crate) fn write(
    context: &StepContext<'_>,
    spec: &BtrfsSpec,
    root: &Path,
    image: &Path,
) -> Result<(), BuildError> {
    trees::clear(image)?;
    let subvolumes = spec.all_subvolumes();
    for subvolume in &subvolumes {
        has_directory(root, &subvolume.path)?;
    }
    let told = Tool::new(MKFS.tool)
        .args(MKFS.arguments)
        .read(context.sink)?;
    if spec.has_containers {
        has_directory(root, Path::new(containers::PLACE))?;
    }
    let needs_mount = spec.has_containers || subvolumes.iter().any(BtrfsSubvolume::needs_mount);
    let needed = MkfsVersion::needed(spec);
    if !needs_mount && MkfsVersion::told(&told) >= Some(needed) {
        let tool = Tool::new(MKFS.tool).args(mkfs_arguments(spec, &subvolumes));
        let tool = tool.arg("--rootdir").arg(root);
        return Ok(tool.arg(image).run(context.sink)?);
    }
    let Some(loop_mounts) = context.loop_mounts else {
        return Err(BuildError::VarImageNeedsRoot { needed });
    };
    mounted::write(context, loop_mounts, spec, root, image)
}

/// What becomes a subvolume is a directory: another one behind a link would be a subvolume by
/// another name.
pub(crate) fn has_directory(root: &Path, path: &Path) -> Result<(), BuildError> {
    let mut above: Vec<&Path> = path.ancestors().collect();
    above.reverse();
    for path in above {
        let place = root.join(path);
        let found = place.symlink_metadata().at("look at", &place)?;
        if !found.is_dir() {
            return Err(BuildError::Invalid(format!(
                "/{} on the var partition is no directory and can be no subvolume: leave it out of \
                 `subvolumes`, or leave out the file of that name",
                path.display()
            )));
        }
    }
    Ok(())
}

/// For an mkfs.btrfs that is new enough.
fn mkfs_arguments(spec: &BtrfsSpec, subvolumes: &[BtrfsSubvolume]) -> Vec<OsString> {
    let mut arguments = vec!["--quiet".into(), "--force".into()];
    if let Some(compression) = spec.compressed_with() {
        arguments.push("--compress".into());
        arguments.push(compression.as_str().into());
    }
    for subvolume in subvolumes {
        let kind = if subvolume.writable { "rw:" } else { "ro:" };
        let mut argument = OsString::from(kind);
        argument.push(&subvolume.path);
        arguments.push("--subvol".into());
        arguments.push(argument);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subvolume(path: &str) -> BtrfsSubvolume {
        BtrfsSubvolume {
            path: path.into(),
            writable: true,
            compression: None,
            nodatacow: false,
            quota: None,
        }
    }

    #[test]
    fn mkfs_is_told_of_subvolumes_in_their_order() {
        let arguments = |spec: &BtrfsSpec| {
            let arguments = mkfs_arguments(spec, &spec.all_subvolumes()).into_iter();
            let arguments = arguments.map(|argument| argument.into_string().unwrap());
            arguments.collect::<Vec<_>>().join(" ")
        };
        let mut spec = BtrfsSpec::default();
        assert!(spec.is_plain());
        assert_eq!(arguments(&spec), "--quiet --force --subvol rw:lib/avocado");
        spec.compression = Some("zstd:3".parse().unwrap());
        spec.subvolumes = vec![subvolume("lib/b"), subvolume("lib-a"), subvolume("lib")];
        spec.subvolumes[0].writable = false;
        assert!(!spec.is_plain());
        assert_eq!(
            arguments(&spec),
            "--quiet --force --compress zstd:3 --subvol rw:lib --subvol rw:lib/avocado \
             --subvol ro:lib/b --subvol rw:lib-a"
        );
        spec.compression = Some("none".parse().unwrap());
        spec.subvolumes = vec![subvolume("lib/avocado")];
        assert_eq!(arguments(&spec), "--quiet --force --subvol rw:lib/avocado");
    }

    #[test]
    fn only_a_directory_becomes_a_subvolume() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("lib/app")).unwrap();
        std::fs::write(at("lib/file"), "").unwrap();
        std::os::unix::fs::symlink("lib", at("link")).unwrap();
        let check = |path: &str| has_directory(root.path(), Path::new(path));
        check("lib/app").unwrap();
        for wrong in ["lib/file", "lib/none", "link", "link/app"] {
            let error = check(wrong).unwrap_err();
            assert_eq!(
                matches!(error, BuildError::Invalid(_)),
                wrong != "lib/none",
                "{error}"
            );
        }
    }
}
