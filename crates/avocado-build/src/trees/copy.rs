//! Copying a tree, and laying one over another.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, DigestHasher};
use rustix::fs::FileType;
use walkdir::{DirEntry, WalkDir};

use super::attributes::{attributes, content_of_attributes};
use super::checkout::refuse_special;
use super::content::{copy_and_digest, copy_content};
use super::digest::{add_entry, content_of_file, content_of_other};
use super::{CopiedFiles, CopyModes, Tree, is};
use crate::error::{At as _, BuildError};

/// Where something of the project really is: its author may name it by a link.
pub(crate) fn of_project(path: &Path) -> Result<PathBuf, BuildError> {
    fs::canonicalize(path).at("find", path)
}

/// Copies what is at `from`, be it a link, to `at` in a tree: directories merge, everything else is
/// replaced. Hard links within it stay hard links and files keep their times, but for project files.
pub(crate) fn copy(from: &Path, to: &Tree, at: &Path, modes: CopyModes) -> Result<(), BuildError> {
    copy_without(from, to, at, modes, |_| false)
}

/// The same without what is `left_out`, which is asked with each path below `from`, and with nothing for
/// that itself. Of a directory that is left out all that is in it is.
pub(crate) fn copy_without(
    from: &Path,
    to: &Tree,
    at: &Path,
    modes: CopyModes,
    left_out: impl FnMut(&Path) -> bool,
) -> Result<(), BuildError> {
    copy_by(from, to, at, modes, left_out, None)
}

/// Lays a directory of the project over a tree, and reads each file once for that. Returns the digest of
/// what was copied, as that of a project's files is; none where these are not what is copied. Where `copied` is wanted, the contents are known from
/// then on; the times of files in the tree say so until it is settled.
pub(crate) fn copy_of_project(
    from: &Path,
    to: &Tree,
    modes: CopyModes,
    copied: Option<&mut CopiedFiles>,
) -> Result<Option<Digest>, BuildError> {
    if !modes.is_checkout() {
        copy(from, to, Path::new(""), modes)?;
        return Ok(None);
    }
    let mut digest = DigestOfCopied {
        hasher: DigestHasher::default(),
        buffer: vec![0; Digest::BUFFER_LENGTH],
        files: copied,
    };
    copy_by(from, to, Path::new(""), modes, |_| false, Some(&mut digest))?;
    Ok(Some(digest.hasher.finish()))
}

/// The digest of what is copied, while it is.
struct DigestOfCopied<'c> {
    hasher: DigestHasher,
    /// For one file after the other.
    buffer: Vec<u8>,
    files: Option<&'c mut CopiedFiles>,
}

fn copy_by(
    from: &Path,
    to: &Tree,
    at: &Path,
    modes: CopyModes,
    mut left_out: impl FnMut(&Path) -> bool,
    mut digest: Option<&mut DigestOfCopied<'_>>,
) -> Result<(), BuildError> {
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut directories = Vec::new();
    let walk = WalkDir::new(from).follow_root_links(false);
    let walk = walk.sort_by_file_name().into_iter().filter_entry(|entry| {
        let relative = entry.path().strip_prefix(from);
        !left_out(relative.unwrap_or(entry.path()))
    });
    for entry in walk {
        let entry = entry.map_err(io::Error::from).at("read", from)?;
        let relative = entry.path().strip_prefix(from).unwrap_or(entry.path());
        let target = at.join(relative);
        let metadata = entry
            .metadata()
            .map_err(io::Error::from)
            .at("look at", entry.path())?;
        let kind = metadata.file_type();
        if modes.is_checkout() {
            refuse_special(entry.path(), kind)?;
        }
        if let (Some(digest), false) = (&mut digest, kind.is_file()) {
            let content = content_of_other(entry.path(), &metadata);
            let content = content.at("read", entry.path())?;
            digest.add(&entry, relative, &metadata, modes, content)?;
        }
        if kind.is_dir() {
            // A tree may have a link to a directory where the overlay has the directory
            // (`/lib` → `usr/lib`): its content belongs behind the link.
            if !to.is_directory(&target) {
                to.clear(&target)?;
                to.make_directories(&target)?;
            } else if to
                .look(&target)?
                .is_some_and(|found| is(&found, FileType::Symlink))
            {
                continue;
            }
            let attributes = attributes(entry.path(), &metadata).at("read", entry.path())?;
            to.set_attributes(&target, &attributes)?;
            directories.push((target, modes.of(&metadata)));
            continue;
        }
        to.clear(&target)?;
        let linked = modes.keeps_hard_links() && metadata.nlink() > 1;
        if linked
            && let Some(first) = links.get(&(metadata.dev(), metadata.ino()))
            && to.hard_link(first, &target)?
        {
            continue;
        }
        if let (Some(digest), true) = (&mut digest, kind.is_file()) {
            let content = digest.copy_file(entry.path(), to, &target, &metadata, modes)?;
            digest.add(&entry, relative, &metadata, modes, content)?;
            continue;
        }
        copy_one(entry.path(), to, &target, &metadata, modes)?;
        if linked {
            links.insert((metadata.dev(), metadata.ino()), target);
        }
    }
    // Last, since a directory may well be one that its owner cannot write to.
    for (path, mode) in directories.into_iter().rev() {
        to.set_mode(&path, mode)?;
    }
    Ok(())
}

impl DigestOfCopied<'_> {
    fn add(
        &mut self,
        entry: &DirEntry,
        relative: &Path,
        metadata: &Metadata,
        modes: CopyModes,
        mut content: Vec<u8>,
    ) -> Result<(), BuildError> {
        let attributes = attributes(entry.path(), metadata).at("read", entry.path())?;
        content.extend(content_of_attributes(&attributes));
        add_entry(&mut self.hasher, relative, modes, metadata, &content);
        Ok(())
    }

    /// Copies a file, whose content is known from then on.
    fn copy_file(
        &mut self,
        from: &Path,
        to: &Tree,
        at: &Path,
        metadata: &Metadata,
        modes: CopyModes,
    ) -> Result<Vec<u8>, BuildError> {
        let mut content = (Digest::of(b""), 0);
        let buffer = &mut self.buffer;
        let file = copy_file(from, to, at, metadata, modes, |source, file| {
            content = copy_and_digest(source, file, buffer)?;
            Ok(())
        })?;
        if let Some(files) = &mut self.files {
            files.add(&file, content).at("copy", from)?;
        }
        Ok(content_of_file(content.0, content.1))
    }
}

/// Copies a regular file, with all that is kept of it.
fn copy_file(
    from: &Path,
    to: &Tree,
    at: &Path,
    metadata: &Metadata,
    modes: CopyModes,
    copy_content: impl FnOnce(&mut File, &mut File) -> io::Result<()>,
) -> Result<File, BuildError> {
    let mut source = File::open(from).at("copy", from)?;
    let mut file = to.create(at)?;
    copy_content(&mut source, &mut file).at("copy", from)?;
    let mode = Permissions::from_mode(modes.of(metadata));
    file.set_permissions(mode).at("copy", from)?;
    // Last but for the time: to write to a file takes its capabilities away.
    let attributes = attributes(from, metadata).at("read", from)?;
    to.set_attributes(at, &attributes)?;
    if modes.keeps_times() {
        let modified = metadata.modified().at("look at", from)?;
        file.set_modified(modified).at("copy", from)?;
    }
    Ok(file)
}

fn copy_one(
    from: &Path,
    to: &Tree,
    at: &Path,
    metadata: &Metadata,
    modes: CopyModes,
) -> Result<(), BuildError> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        let link = fs::read_link(from).at("read", from)?;
        return to.symlink(link, at);
    }
    if kind.is_file() {
        copy_file(from, to, at, metadata, modes, copy_content)?;
        return Ok(());
    }
    let kind = if kind.is_fifo() {
        FileType::Fifo
    } else if kind.is_char_device() {
        FileType::CharacterDevice
    } else if kind.is_block_device() {
        FileType::BlockDevice
    } else {
        // A socket belongs to a running process and is never part of a tree.
        return Ok(());
    };
    to.make_node(at, kind, modes.of(metadata), metadata.rdev())
}

/// Makes the directories above `at` in `to`, those that are not there with the modes that they have
/// in `from`, where they are above `relative`.
pub(crate) fn make_parents(
    from: &Tree,
    relative: &Path,
    to: &Tree,
    at: &Path,
) -> Result<(), BuildError> {
    let parents: Vec<_> = at
        .ancestors()
        .skip(1)
        .zip(relative.ancestors().skip(1))
        .collect();
    for (place, source) in parents.into_iter().rev() {
        if !to.is_directory(place) {
            let found = from.look(source)?;
            to.make_directories(place)?;
            if let Some(found) = found {
                to.set_mode(place, found.st_mode & 0o7777)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, UNIX_EPOCH};

    use rustix::fs::{CWD, Mode};

    use super::*;
    use crate::trees::modes::set_mode;
    use crate::trees::{digest, digest_of_copied, digest_with_times, set_attribute, settle_copied};

    fn copy(from: &Path, to: &Path, modes: CopyModes) -> Result<(), BuildError> {
        fs::create_dir_all(to).unwrap();
        super::copy(from, &Tree::open(to).unwrap(), Path::new(""), modes)
    }

    #[test]
    fn an_overlay_goes_through_links_that_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, overlay) = (dir.path().join("tree"), dir.path().join("overlay"));
        fs::create_dir_all(tree.join("usr/lib")).unwrap();
        symlink("usr/lib", tree.join("lib")).unwrap();
        symlink("/etc", tree.join("out")).unwrap();
        fs::create_dir_all(overlay.join("lib/x")).unwrap();
        fs::create_dir_all(overlay.join("out")).unwrap();
        fs::write(overlay.join("lib/x/f"), "1").unwrap();
        fs::write(overlay.join("out/avocado-test"), "2").unwrap();
        copy(&overlay, &tree, CopyModes::Keep).unwrap();
        assert_eq!(fs::read(tree.join("usr/lib/x/f")).unwrap(), b"1");
        assert!(tree.join("lib").is_symlink());
        assert!(!Path::new("/etc/avocado-test").exists());
        assert_eq!(fs::read(tree.join("out/avocado-test")).unwrap(), b"2");
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_was_copied_is_known_until_it_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = dir.path().join("overlay");
        fs::create_dir_all(overlay.join("d")).unwrap();
        for name in ["a", "b", "c", "d/e"] {
            fs::write(overlay.join(name), "12345").unwrap();
        }
        symlink("a", overlay.join("l")).unwrap();
        set_mode(&overlay.join("b"), 0o755).unwrap();
        set_attribute(&overlay.join("c"), "user.x", b"1").unwrap();
        let modes = CopyModes::Checkout(0o644);
        let of_overlay = digest(&overlay, modes).unwrap();
        // What is done to the tree after the copy, and before it is settled or after that.
        type Change<'c> = &'c dyn Fn(&Tree);
        let nothing: Change<'_> = &|_| ();
        let in_place: Change<'_> = &|tree| fs::write(tree.shown("a"), "54321").unwrap();
        let another: Change<'_> = &|tree| tree.write("a", "54321", 0o644).unwrap();
        let again: Change<'_> = &|tree| {
            tree.clear("a").unwrap();
            fs::write(tree.shown("a"), "54321").unwrap();
        };
        for (nth, (before, after)) in [
            (nothing, nothing),
            (in_place, nothing),
            (another, nothing),
            (again, nothing),
            (nothing, in_place),
            (nothing, another),
            (nothing, again),
        ]
        .into_iter()
        .enumerate()
        {
            let tree = Tree::fresh(&dir.path().join("tree")).unwrap();
            let mut copied = CopiedFiles::default();
            let told = copy_of_project(&overlay, &tree, modes, Some(&mut copied)).unwrap();
            assert_eq!(told, Some(of_overlay));
            before(&tree);
            settle_copied(&tree, None, 2000, &mut copied).unwrap();
            after(&tree);
            let right = digest_with_times(tree.path()).unwrap();
            assert_eq!(
                digest_of_copied(tree.path(), &copied).unwrap(),
                right,
                "{nth}"
            );
            // One that is known is not read.
            let known = |name: &str| {
                let found = fs::metadata(tree.shown(name)).unwrap();
                copied.content(&found).is_some()
            };
            let is_same = nth == 0;
            assert_eq!([known("a"), known("d/e")], [is_same, true], "{nth}");
            let found = fs::metadata(tree.shown("b")).unwrap();
            copied.set_content(&found, Digest::of(b"another"));
            assert_ne!(
                digest_of_copied(tree.path(), &copied).unwrap(),
                right,
                "{nth}"
            );
        }
    }

    #[test]
    fn what_changed_before_the_copy_is_what_was_copied() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = dir.path().join("overlay");
        fs::create_dir(&overlay).unwrap();
        fs::write(overlay.join("a"), "1").unwrap();
        let modes = CopyModes::Checkout(0o644);
        let before = digest(&overlay, modes).unwrap();
        fs::write(overlay.join("a"), "2").unwrap();
        let tree = Tree::fresh(&dir.path().join("tree")).unwrap();
        let copied = copy_of_project(&overlay, &tree, modes, None).unwrap();
        assert_ne!(copied, Some(before));
        assert_eq!(copied, Some(digest(&overlay, modes).unwrap()));
    }

    #[test]
    fn every_kind_of_file_arrives_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("d/sealed")).unwrap();
        fs::write(from.join("d/f"), "content").unwrap();
        set_mode(&from.join("d/f"), 0o4751).unwrap();
        let packaged = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let file = File::options().append(true).open(from.join("d/f")).unwrap();
        file.set_modified(packaged).unwrap();
        fs::hard_link(from.join("d/f"), from.join("d/same")).unwrap();
        symlink("nowhere", from.join("d/l")).unwrap();
        rustix::fs::mknodat(CWD, from.join("p"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("s")).unwrap();
        fs::write(from.join("d/sealed/f"), "").unwrap();
        set_mode(&from.join("d/sealed"), 0o555).unwrap();
        set_mode(&from.join("d"), 0o1700).unwrap();
        // The tree may be named by a link.
        let link = dir.path().join("link");
        symlink("from", &link).unwrap();
        copy(&of_project(&link).unwrap(), &to, CopyModes::Keep).unwrap();
        assert_eq!(fs::read(to.join("d/f")).unwrap(), b"content");
        assert_eq!(mode(&to.join("d/f")), 0o4751);
        let modified = fs::metadata(to.join("d/f")).unwrap().modified().unwrap();
        assert_eq!(modified, packaged);
        let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
        assert_eq!(inode("d/f"), inode("d/same"));
        assert_ne!(inode("d/f"), fs::metadata(from.join("d/f")).unwrap().ino());
        assert_eq!(fs::read_link(to.join("d/l")).unwrap(), Path::new("nowhere"));
        let pipe = fs::symlink_metadata(to.join("p")).unwrap();
        assert!(pipe.file_type().is_fifo());
        assert_eq!((mode(&to.join("p")), mode(&to.join("d"))), (0o600, 0o1700));
        assert!(to.join("d/sealed/f").is_file());
        assert_eq!(mode(&to.join("d/sealed")), 0o555);
        assert!(!to.join("s").exists());
        for sealed in [&from, &to] {
            set_mode(&sealed.join("d/sealed"), 0o755).unwrap();
        }
    }

    #[test]
    fn each_hard_link_of_the_project_becomes_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("a"), "content").unwrap();
        fs::hard_link(from.join("a"), from.join("b")).unwrap();
        copy(&from, &to, CopyModes::Checkout(0o644)).unwrap();
        for name in ["a", "b"] {
            assert_eq!(fs::read(to.join(name)).unwrap(), b"content");
            assert_eq!(fs::metadata(to.join(name)).unwrap().nlink(), 1);
        }
    }

    #[test]
    fn directories_merge_and_everything_else_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (under, over) = (dir.path().join("under"), dir.path().join("over"));
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(under.join("d/kept"), "under");
        write(under.join("d/f"), "under");
        write(under.join("was_directory/f"), "under");
        write(under.join("was_file"), "under");
        symlink("/etc/hostname", under.join("was_link")).unwrap();
        write(over.join("d/f"), "over");
        write(over.join("was_directory"), "over");
        write(over.join("was_file/f"), "over");
        write(over.join("was_link"), "over");
        copy(&over, &under, CopyModes::Keep).unwrap();
        let read = |name: &str| fs::read_to_string(under.join(name)).unwrap();
        assert_eq!(read("d/kept"), "under");
        for name in ["d/f", "was_directory", "was_file/f", "was_link"] {
            assert_eq!(read(name), "over", "{name}");
            assert!(!under.join(name).is_symlink(), "{name}");
        }
    }

    #[test]
    fn parents_have_the_modes_of_the_tree_that_they_come_from() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir_all(to.join("a")).unwrap();
        set_mode(&from.join("a"), 0o700).unwrap();
        set_mode(&from.join("a/b"), 0o2750).unwrap();
        set_mode(&to.join("a"), 0o711).unwrap();
        let (source, tree) = (Tree::open(&from).unwrap(), Tree::open(&to).unwrap());
        let path = Path::new("a/b/file");
        make_parents(&source, path, &tree, path).unwrap();
        assert_eq!(mode(&to.join("a")), 0o711, "it was there");
        assert_eq!(mode(&to.join("a/b")), 0o2750);
        assert!(!to.join("a/b/file").exists());
    }
}
