//! The digest of a tree.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, DigestHasher};
use walkdir::WalkDir;

use super::attributes::{attributes, content_of_attributes};
use super::checkout::refuse_special;
use super::state::state_of_project;
use super::{CopiedFiles, CopyModes};
use crate::error::{At as _, BuildError};
use crate::known_files::KnownFiles;

/// Digest of names, kinds, modes, extended attributes and contents of everything below `path`,
/// which may be a file or a link, and of which names are hard links of one another, where copying
/// keeps them so. Owners are left out, for no image of ours holds them, and times, which no clone has.
pub(crate) fn digest(path: &Path, modes: CopyModes) -> Result<Digest, BuildError> {
    digest_of(path, modes, false, &mut read_files())
}

/// The same of files of the project; those that are known are not read, and of a directory that is
/// known nothing is but what the file system says of it.
pub(crate) fn digest_of_project(
    path: &Path,
    modes: CopyModes,
    known: &KnownFiles,
) -> Result<Digest, BuildError> {
    let Some(state) = state_of_project(path, modes, known.settled())? else {
        return digest_by_files(path, modes, known);
    };
    if let Some(digest) = known.trees.find(state) {
        return Ok(digest);
    }
    let digest = digest_by_files(path, modes, known)?;
    known.trees.add(state, digest);
    Ok(digest)
}

fn digest_by_files(
    path: &Path,
    modes: CopyModes,
    known: &KnownFiles,
) -> Result<Digest, BuildError> {
    let mut read = read_files();
    digest_of(path, modes, false, &mut |path, metadata| {
        let mut unlimited = u64::MAX;
        match known.digest(path, metadata, &mut unlimited)? {
            Some(digest) => Ok((digest, metadata.len())),
            None => read(path, metadata),
        }
    })
}

/// The same, with the times of files: of a tree whose times are settled, as images hold them.
pub(crate) fn digest_with_times(path: &Path) -> Result<Digest, BuildError> {
    digest_of(path, CopyModes::Keep, true, &mut read_files())
}

/// The same of a tree of which the contents of some files are known since they were copied there.
pub(crate) fn digest_of_copied(path: &Path, copied: &CopiedFiles) -> Result<Digest, BuildError> {
    let mut read = read_files();
    digest_of(
        path,
        CopyModes::Keep,
        true,
        &mut |path, metadata| match copied.content(metadata) {
            Some(content) => Ok(content),
            None => read(path, metadata),
        },
    )
}

/// Tells the digest of a file, and how long it is.
type ReadFile<'r> = dyn FnMut(&Path, &fs::Metadata) -> io::Result<(Digest, u64)> + 'r;

/// Reads one file after the other.
fn read_files() -> impl FnMut(&Path, &fs::Metadata) -> io::Result<(Digest, u64)> {
    let mut buffer = vec![0; Digest::BUFFER_LENGTH];
    move |path, _metadata| Digest::of_reader_by(&mut buffer, fs::File::open(path)?)
}

fn digest_of(
    path: &Path,
    modes: CopyModes,
    with_times: bool,
    read: &mut ReadFile<'_>,
) -> Result<Digest, BuildError> {
    let mut hasher = DigestHasher::default();
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let walk = WalkDir::new(path).follow_root_links(false);
    for entry in walk.sort_by_file_name() {
        let entry = entry.map_err(io::Error::from).at("read", path)?;
        let relative = entry.path().strip_prefix(path).unwrap_or(entry.path());
        let metadata = entry
            .metadata()
            .map_err(io::Error::from)
            .at("look at", entry.path())?;
        let kind = metadata.file_type();
        if modes.is_checkout() {
            refuse_special(entry.path(), kind)?;
        }
        let linked = kind.is_file() && metadata.nlink() > 1 && modes.keeps_hard_links();
        let inode = (metadata.dev(), metadata.ino());
        let mut content = if linked && let Some(first) = links.get(&inode) {
            [b"same ", first.as_os_str().as_bytes()].concat()
        } else if kind.is_file() {
            let (digest, length) = read(entry.path(), &metadata).at("read", entry.path())?;
            content_of_file(digest, length)
        } else {
            content_of_other(entry.path(), &metadata).at("read", entry.path())?
        };
        let attributes = attributes(entry.path(), &metadata).at("read", entry.path())?;
        content.extend(content_of_attributes(&attributes));
        if with_times && kind.is_file() {
            content.extend_from_slice(format!(" at {}", metadata.mtime()).as_bytes());
        }
        if linked {
            links.entry(inode).or_insert_with(|| relative.to_owned());
        }
        add_entry(&mut hasher, relative, modes, &metadata, &content);
    }
    Ok(hasher.finish())
}

/// What of a regular file counts.
pub(crate) fn content_of_file(digest: Digest, length: u64) -> Vec<u8> {
    format!("file {digest} {length}").into_bytes()
}

/// What of an entry counts that is no regular file.
pub(crate) fn content_of_other(path: &Path, metadata: &fs::Metadata) -> io::Result<Vec<u8>> {
    let kind = metadata.file_type();
    Ok(if kind.is_symlink() {
        // Byte for byte: what is not UTF-8 is not all the same.
        [b"link ", fs::read_link(path)?.as_os_str().as_bytes()].concat()
    } else if kind.is_dir() {
        b"directory".to_vec()
    } else {
        format!("special {} {}", metadata.mode(), metadata.rdev()).into_bytes()
    })
}

/// Adds an entry to the digest of a tree.
pub(crate) fn add_entry(
    hasher: &mut DigestHasher,
    relative: &Path,
    modes: CopyModes,
    metadata: &fs::Metadata,
    content: &[u8],
) {
    let mode = if metadata.is_symlink() {
        0
    } else {
        modes.of(metadata)
    };
    hasher.update(relative.as_os_str().as_bytes());
    hasher.update(format!("\0{mode:o} ").as_bytes());
    hasher.update(content);
    hasher.update(b"\0");
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::trees::modes::set_mode;
    use crate::trees::{Tree, copy, set_attribute};

    #[test]
    fn a_digest_sees_content_mode_and_name_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "1").unwrap();
        let first = digest(dir.path(), CopyModes::Keep).unwrap();
        let copied = tempfile::tempdir().unwrap();
        let other = copied.path().join("c");
        let tree = Tree::fresh(&other).unwrap();
        copy(dir.path(), &tree, Path::new(""), CopyModes::Keep).unwrap();
        assert_eq!(digest(&other, CopyModes::Keep).unwrap(), first);
        set_mode(&other.join("f"), 0o755).unwrap();
        assert_ne!(digest(&other, CopyModes::Keep).unwrap(), first);
        fs::write(&file, "2").unwrap();
        assert_ne!(digest(dir.path(), CopyModes::Keep).unwrap(), first);
    }

    /// The digest of a project's directory, which is right, and whether something had to be looked at for it.
    fn of_project(path: &Path, known: &KnownFiles) -> bool {
        let modes = CopyModes::Checkout(0o644);
        let right = digest(path, modes).unwrap();
        let state = state_of_project(path, modes, i64::MAX).unwrap().unwrap();
        let was_known = known.trees.find(state).is_some();
        assert_eq!(digest_of_project(path, modes, known).unwrap(), right);
        let is_known = known.trees.find(state) == Some(right);
        assert!(is_known || !was_known);
        !was_known
    }

    /// The clock of a file system has steps, and in this one nothing is left to change.
    fn wait_for_another_time(directory: &Path) {
        let written = || {
            let probe = directory.join("probe");
            fs::write(&probe, "").unwrap();
            let found = fs::metadata(&probe).unwrap();
            (found.ctime(), found.ctime_nsec())
        };
        let now = written();
        while written() == now {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_directory_of_the_project_that_did_not_change_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = dir.path().join("overlay");
        let (file, below) = (overlay.join("d/f"), overlay.join("d"));
        fs::create_dir_all(&below).unwrap();
        for name in ["f", "g"] {
            fs::write(below.join(name), "12345").unwrap();
        }
        symlink("f", below.join("l")).unwrap();
        let known = KnownFiles::settling_at_once(&dir.path().join("known"));
        assert!(of_project(&overlay, &known));
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        let same_time = |text: &str| {
            fs::write(&file, text).unwrap();
            let open = fs::File::options().write(true).open(&file).unwrap();
            open.set_modified(time).unwrap();
        };
        let changes: [&dyn Fn(); 8] = [
            &|| same_time("54321"),
            &|| set_mode(&file, 0o755).unwrap(),
            &|| set_mode(&below, 0o700).unwrap(),
            &|| set_attribute(&file, "user.x", b"1").unwrap(),
            &|| set_attribute(&overlay, "user.x", b"1").unwrap(),
            &|| fs::rename(&file, below.join("g")).unwrap(),
            &|| fs::create_dir(below.join("empty")).unwrap(),
            &|| {
                fs::remove_file(below.join("l")).unwrap();
                symlink("g", below.join("l")).unwrap();
            },
        ];
        for (nth, change) in changes.iter().enumerate() {
            wait_for_another_time(dir.path());
            change();
            assert!(of_project(&overlay, &known), "{nth}");
            assert!(!of_project(&overlay, &known), "{nth}");
        }
        // As it is digested is part of it.
        let other = CopyModes::Checkout(0o600);
        let digested = digest_of_project(&overlay, other, &known).unwrap();
        assert_eq!(digested, digest(&overlay, other).unwrap());
    }

    #[test]
    fn a_directory_that_changed_just_now_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = dir.path().join("overlay");
        fs::create_dir(&overlay).unwrap();
        let known = KnownFiles::new(dir.path().join("known"), dir.path().join("trees"));
        assert!(of_project(&overlay, &known));
        assert!(of_project(&overlay, &known));
    }

    #[test]
    fn every_byte_of_a_name_and_of_a_link_counts() {
        let of = |name: &[u8], link: &[u8]| {
            let dir = tempfile::tempdir().unwrap();
            let link = OsStr::from_bytes(link);
            symlink(link, dir.path().join(OsStr::from_bytes(name))).unwrap();
            digest(dir.path(), CopyModes::Keep).unwrap()
        };
        let all = [
            of(b"n", b"a\xff"),
            of(b"n", b"a\xfe"),
            of(b"n", "a\u{fffd}".as_bytes()),
            of(b"n\xff", b"a"),
            of(b"n\n", b"a"),
            of(b"n", b"a\n"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one), "{at}");
        }
    }

    #[test]
    fn hard_links_count_where_an_image_would_have_them() {
        let of = |links: &[(&str, &str)], modes| {
            let dir = tempfile::tempdir().unwrap();
            for name in ["a", "b", "c"] {
                fs::write(dir.path().join(name), "same").unwrap();
            }
            for (first, second) in links {
                fs::remove_file(dir.path().join(second)).unwrap();
                fs::hard_link(dir.path().join(first), dir.path().join(second)).unwrap();
            }
            digest(dir.path(), modes).unwrap()
        };
        let structures: [&[(&str, &str)]; 4] =
            [&[], &[("a", "b")], &[("a", "c")], &[("a", "b"), ("a", "c")]];
        let kept = structures.map(|links| of(links, CopyModes::Keep));
        for (at, one) in kept.iter().enumerate() {
            assert!(!kept[at + 1..].contains(one), "{at}");
        }
        let project = structures.map(|links| of(links, CopyModes::Checkout(0o644)));
        assert!(project.iter().all(|one| *one == project[0]));
        assert_eq!(project[0], kept[0]);
    }

    #[test]
    fn a_link_to_what_is_elsewhere_is_a_file_like_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("f"), "1").unwrap();
        let alone = digest(&tree, CopyModes::Keep).unwrap();
        fs::hard_link(tree.join("f"), dir.path().join("elsewhere")).unwrap();
        assert_eq!(digest(&tree, CopyModes::Keep).unwrap(), alone);
    }

    #[test]
    fn holes_of_a_file_are_zeroes_like_any_others() {
        let of = |file: &dyn Fn(&Path)| {
            let dir = tempfile::tempdir().unwrap();
            file(&dir.path().join("f"));
            digest(dir.path(), CopyModes::Keep).unwrap()
        };
        let sparse = of(&|f| fs::File::create(f).unwrap().set_len(1 << 20).unwrap());
        let dense = of(&|f| fs::write(f, vec![0; 1 << 20]).unwrap());
        assert_eq!(sparse, dense);
    }
}
