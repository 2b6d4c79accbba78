//! For what mkfs.btrfs cannot make: before 6.12 no subvolume, before 6.13 nothing that is compressed, and
//! in none of its versions all that a subvolume can be.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_backend::{LoopMount, LoopMounts, Tool};
use avocado_project::Quota;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use walkdir::WalkDir;

use super::{BtrfsSpec, BtrfsSubvolume, MKFS};
use crate::containers;
use crate::error::{At as _, BuildError};
use crate::step_context::StepContext;
use crate::trees::{self, CopyModes, Tree};

/// Writes the tree `root` to `image` through a mount.
pub(super) fn write(
    context: &StepContext<'_>,
    loop_mounts: &LoopMounts,
    spec: &BtrfsSpec,
    root: &Path,
    image: &Path,
) -> Result<(), BuildError> {
    let subvolumes = spec.all_subvolumes();
    for subvolume in &subvolumes {
        fits_its_quota(spec, subvolume, &subvolumes, root)?;
    }
    let file = File::create(image).at("create", image)?;
    let room = size_of(root, &[], Metadata::len)?;
    file.set_len(size_for(room)).at("enlarge", image)?;
    drop(file);
    Tool::new(MKFS.tool)
        .args(["--quiet", "--force"])
        .arg(image)
        .run(context.sink)?;
    // Beside the image, so that two runtimes never share one.
    let point = image.with_extension("mount");
    trees::fresh(&point)?;
    let compression = spec.compression.as_ref();
    let compression = compression.map(|compression| format!("compress={}", compression.as_str()));
    let options: Vec<&str> = compression.iter().map(String::as_str).collect();
    let mount = loop_mounts.mount("btrfs", image, &point, &options, context.sink)?;
    fill(context, loop_mounts, &mount, spec, root, &point)
        .map_err(|error| of_quota(error, &subvolumes, root, &point))?;
    mount.unmount()?;
    trees::clear(&point)
}

fn fill(
    context: &StepContext<'_>,
    loop_mounts: &LoopMounts,
    mount: &LoopMount,
    spec: &BtrfsSpec,
    root: &Path,
    point: &Path,
) -> Result<(), BuildError> {
    let subvolumes = spec.all_subvolumes();
    if subvolumes.iter().any(|s| s.quota.is_some()) {
        mount.count_for_quotas(context.sink)?;
    }
    for subvolume in &subvolumes {
        make(context, subvolume, point)?;
    }
    // Behind all of them, since one within another takes something there as well.
    for subvolume in &subvolumes {
        if let Some(quota) = subvolume.quota {
            mount.set_quota(&subvolume.path, quota.bytes(), context.sink)?;
        }
    }
    let store = Path::new(containers::PLACE);
    let tree = Tree::open(point)?;
    trees::copy_without(root, &tree, Path::new(""), CopyModes::Keep, |path| {
        spec.has_containers && path == store
    })?;
    if spec.has_containers {
        let (from, to) = (root.join(store), point.join(store));
        containers::copy(loop_mounts, &from, &to, context.sink)?;
    }
    for subvolume in subvolumes.iter().filter(|s| !s.writable) {
        set_property(context, &point.join(&subvolume.path), "ro", "true")?;
    }
    Ok(())
}

/// What a subvolume is like is what its files are from when they are created on.
fn make(
    context: &StepContext<'_>,
    subvolume: &BtrfsSubvolume,
    point: &Path,
) -> Result<(), BuildError> {
    let place = point.join(&subvolume.path);
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    Tool::new("btrfs")
        .args(["subvolume", "create"])
        .arg(&place)
        .run(context.sink)?;
    if subvolume.nodatacow {
        write_in_place(&place).at("set nodatacow of", &place)?;
    }
    match &subvolume.compression {
        Some(compression) => set_property(context, &place, "compression", compression.as_str()),
        None => Ok(()),
    }
}

fn write_in_place(directory: &Path) -> io::Result<()> {
    let directory = File::open(directory)?;
    let flags = ioctl_getflags(&directory)?;
    // What it has from the subvolume that it is in goes first: the kernel refuses to do both at once.
    let flags = flags - IFlags::COMPRESSED;
    ioctl_setflags(&directory, flags)?;
    Ok(ioctl_setflags(&directory, flags | IFlags::NOCOW)?)
}

fn set_property(
    context: &StepContext<'_>,
    place: &Path,
    name: &str,
    value: &str,
) -> Result<(), BuildError> {
    let tool = Tool::new("btrfs").args(["property", "set"]).arg(place);
    Ok(tool.args([name, value]).run(context.sink)?)
}

/// Before the kernel says it of one of the files.
fn fits_its_quota(
    spec: &BtrfsSpec,
    subvolume: &BtrfsSubvolume,
    all: &[BtrfsSubvolume],
    root: &Path,
) -> Result<(), BuildError> {
    let Some(quota) = subvolume.quota.filter(|_| spec.leaves_as_is(subvolume)) else {
        return Ok(());
    };
    let content = content_of(subvolume, all, root)?;
    if content <= quota.bytes() {
        return Ok(());
    }
    Err(no_place(subvolume, quota, content))
}

/// How many bytes it gets, without those of subvolumes in it.
fn content_of(
    subvolume: &BtrfsSubvolume,
    all: &[BtrfsSubvolume],
    root: &Path,
) -> Result<u64, BuildError> {
    let within = all.iter().filter(|other| other.path != subvolume.path);
    let within: Vec<PathBuf> = within.map(|other| root.join(&other.path)).collect();
    size_of(&root.join(&subvolume.path), &within, without_holes)
}

/// What the kernel says where a quota is full, in the words of this program.
fn of_quota(
    error: BuildError,
    subvolumes: &[BtrfsSubvolume],
    root: &Path,
    point: &Path,
) -> BuildError {
    let BuildError::Io { path, source, .. } = &error else {
        return error;
    };
    if source.kind() != io::ErrorKind::QuotaExceeded {
        return error;
    }
    let of_tree = path.strip_prefix(root).or(path.strip_prefix(point));
    let path = of_tree.unwrap_or(path);
    // Of those that it is in the last is the innermost.
    let mut inmost = subvolumes.iter().rev();
    let Some(full) = inmost.find(|subvolume| path.starts_with(&subvolume.path)) else {
        return error;
    };
    match (full.quota, content_of(full, subvolumes, root)) {
        (Some(quota), Ok(content)) => no_place(full, quota, content),
        _ => error,
    }
}

fn no_place(subvolume: &BtrfsSubvolume, quota: Quota, content: u64) -> BuildError {
    BuildError::Invalid(format!(
        "the subvolume {} gets {content} bytes from the start, which with what btrfs adds have no place \
         in its `quota` of {quota}: state a larger one, or leave something out",
        subvolume.path.display()
    ))
}

/// How many bytes the files there have by `of_file`, but for those in `left_out`.
fn size_of(
    root: &Path,
    left_out: &[PathBuf],
    of_file: impl Fn(&Metadata) -> u64,
) -> Result<u64, BuildError> {
    let mut size = 0;
    let walk = WalkDir::new(root).into_iter();
    let walk = walk.filter_entry(|entry| {
        entry.depth() == 0 || !left_out.iter().any(|path| path == entry.path())
    });
    for entry in walk {
        let entry = entry.map_err(io::Error::from).at("read", root)?;
        if entry.file_type().is_file() {
            size += entry.metadata().map_or(0, |m| of_file(&m));
        }
    }
    Ok(size)
}

/// A hole takes nothing. Where this host compresses it is less than what the file takes elsewhere, so that
/// it is no measure for the room of an image.
fn without_holes(file: &Metadata) -> u64 {
    file.len().min(file.blocks() * 512)
}

/// Room for this content, for the file system's own structures, and to start working with.
fn size_for(content: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    (content + content / 4 + 256 * MIB).next_multiple_of(MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A tree with files of these sizes.
    fn tree(files: &[(&str, u64)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, size) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap().set_len(*size).unwrap();
        }
        root
    }

    #[test]
    fn there_is_room_for_the_content_of_all_files() {
        let root = tree(&[("a", 300 * MIB), ("b/c", 100 * MIB)]);
        let content = size_of(root.path(), &[], Metadata::len).unwrap();
        assert_eq!(content, 400 * MIB);
        assert_eq!(size_for(0), 256 * MIB);
        assert_eq!(size_for(content), 756 * MIB);
        assert_eq!(size_for(1), 257 * MIB);
    }

    fn subvolume(path: &str, compression: Option<&str>, nodatacow: bool) -> BtrfsSubvolume {
        BtrfsSubvolume {
            path: path.into(),
            writable: true,
            compression: compression.map(|text| text.parse().unwrap()),
            nodatacow,
            quota: Some("2M".parse().unwrap()),
        }
    }

    #[test]
    fn content_that_has_no_place_in_a_quota_is_told() {
        let root = tree(&[("lib/db/sparse", 9 * MIB)]);
        fs::create_dir(root.path().join("lib/db/inner")).unwrap();
        // Of which the first is as large as the quota.
        for (name, size) in [("lib/db/a", 2 << 20), ("lib/db/inner/b", (2 << 20) + 1)] {
            fs::write(root.path().join(name), vec![1; size]).unwrap();
        }
        for (stated, of_partition, fits) in [
            (subvolume("lib/db", None, false), None, true),
            (subvolume("lib/db", None, true), None, true),
            (subvolume("lib/db/inner", None, false), None, false),
            (subvolume("lib/db/inner", Some("zstd"), false), None, true),
            (subvolume("lib/db/inner", None, false), Some("zstd"), true),
            (subvolume("lib/db/inner", None, true), Some("zstd"), false),
            (
                subvolume("lib/db/inner", Some("none"), false),
                Some("zstd"),
                false,
            ),
        ] {
            let spec = BtrfsSpec {
                compression: of_partition.map(|text| text.parse().unwrap()),
                subvolumes: Vec::new(),
                ..BtrfsSpec::default()
            };
            let inner = subvolume("lib/db/inner", None, false);
            let told = fits_its_quota(&spec, &stated, &[stated.clone(), inner], root.path());
            assert_eq!(told.is_ok(), fits, "{stated:?} {told:?}");
        }
    }

    #[test]
    fn a_full_quota_is_told_in_the_same_words() {
        let root = tree(&[]);
        let point = Path::new("/point");
        fs::create_dir_all(root.path().join("lib/db/inner/free")).unwrap();
        fs::write(root.path().join("lib/db/inner/b"), "twelve bytes").unwrap();
        let mut subvolumes = ["lib/db", "lib/db/inner", "lib/db/inner/free"]
            .map(|path| subvolume(path, None, false));
        subvolumes[2].quota = None;
        let told = |path: &Path, errno: rustix::io::Errno| {
            let error = Err::<(), _>(io::Error::from(errno)).at("copy", path);
            of_quota(error.unwrap_err(), &subvolumes, root.path(), point).to_string()
        };
        let full = "the subvolume lib/db/inner gets 12 bytes from the start, which with what btrfs adds \
                    have no place in its `quota` of 2M: state a larger one, or leave something out";
        let of_tree = root.path().join("lib/db/inner/b");
        assert_eq!(told(&of_tree, rustix::io::Errno::DQUOT), full);
        assert_eq!(
            told(&point.join("lib/db/inner"), rustix::io::Errno::DQUOT),
            full
        );
        let other = format!("cannot copy {}", of_tree.display());
        assert_eq!(told(&of_tree, rustix::io::Errno::NOSPC), other);
        for of_no_quota in ["/point/lib/db/inner/free/a", "/point/lib/other"] {
            let said = told(Path::new(of_no_quota), rustix::io::Errno::DQUOT);
            assert_eq!(said, format!("cannot copy {of_no_quota}"));
        }
    }
}
