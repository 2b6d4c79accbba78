//! Directory trees: copying, overlaying, digesting, replacing.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, Hasher};
use rustix::fs::{CWD, FileType, Mode};
use walkdir::WalkDir;

use crate::Error;
use crate::error::At as _;

/// How the permission bits of copied files come about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Modes {
    /// As they are.
    Keep,
    /// As they would be in a checkout with umask 022. A version control system stores no more
    /// than the executable bit, so the rest would let the umask of whoever cloned the project
    /// into an image. Where avocado.yaml itself (whose mode this is) can be read by group or
    /// others and a file cannot, somebody meant that, and it stays so.
    Checkout(u32),
}

impl Modes {
    fn of(self, metadata: &Metadata) -> u32 {
        let mode = metadata.mode() & 0o7777;
        match self {
            Modes::Keep => mode,
            Modes::Checkout(witness) => {
                let full = mode & 0o7700 | (mode & 0o500) >> 3 | (mode & 0o500) >> 6;
                let meant = [0o070, 0o007]
                    .into_iter()
                    .filter(|class| witness & class & 0o444 != 0 && mode & class & 0o444 == 0);
                meant.fold(full, |full, class| full & !class | mode & class & 0o111)
            }
        }
    }
}

/// Copies the tree `from` into `to`, which may exist: directories merge, everything else is
/// replaced. Hard links within the tree stay hard links.
pub(crate) fn copy(from: &Path, to: &Path, modes: Modes) -> Result<(), Error> {
    // The tree itself may be named by a link; links in it stay links.
    let from = &fs::canonicalize(from).at("find", from)?;
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut directories = Vec::new();
    for entry in WalkDir::new(from).sort_by_file_name() {
        let entry = entry.map_err(io::Error::from).at("read", from)?;
        let relative = entry.path().strip_prefix(from).unwrap_or(entry.path());
        let target = match (relative.parent(), relative.file_name()) {
            (Some(parent), Some(name)) => inside(to, parent).join(name),
            _ => to.to_owned(),
        };
        let metadata = entry
            .metadata()
            .map_err(io::Error::from)
            .at("look at", entry.path())?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            // A tree may have a link to a directory where the overlay has the directory
            // (`/lib` → `usr/lib`): its content belongs behind the link.
            if !inside(to, relative).is_dir() {
                clear(&target)?;
                fs::create_dir_all(&target).at("create", &target)?;
            } else if target.is_symlink() {
                continue;
            }
            directories.push((target, modes.of(&metadata)));
            continue;
        }
        clear(&target)?;
        if metadata.nlink() > 1
            && let Some(first) = links.get(&(metadata.dev(), metadata.ino()))
        {
            fs::hard_link(first, &target).at("create", &target)?;
            continue;
        }
        copy_one(entry.path(), &target, &metadata, modes)?;
        if metadata.nlink() > 1 {
            links.insert((metadata.dev(), metadata.ino()), target);
        }
    }
    // Last, since a directory may well be one that its owner cannot write to.
    for (path, mode) in directories.into_iter().rev() {
        set_mode(&path, mode)?;
    }
    Ok(())
}

fn copy_one(from: &Path, to: &Path, metadata: &Metadata, modes: Modes) -> Result<(), Error> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        let link = fs::read_link(from).at("read", from)?;
        return symlink(link, to).at("create", to);
    }
    if kind.is_file() {
        fs::copy(from, to).at("copy", from)?;
        return set_mode(to, modes.of(metadata));
    }
    let kind = if kind.is_fifo() {
        FileType::Fifo
    } else if kind.is_char_device() {
        FileType::CharacterDevice
    } else if kind.is_block_device() {
        FileType::BlockDevice
    } else {
        // A socket is somebody's running program, never part of a tree.
        return Ok(());
    };
    let mode = Mode::from_raw_mode(modes.of(metadata));
    rustix::fs::mknodat(CWD, to, kind, mode, metadata.rdev())
        .map_err(io::Error::from)
        .at("create", to)
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("set the mode of", path)
}

/// Makes the directories above `relative` in `to`, those that are not there with the modes that
/// they have in `from`.
pub(crate) fn make_parents(from: &Path, to: &Path, relative: &Path) -> Result<(), Error> {
    let parents: Vec<&Path> = relative.ancestors().skip(1).collect();
    for parent in parents.into_iter().rev() {
        let place = to.join(parent);
        if !place.exists() {
            let source = from.join(parent);
            let mode = fs::metadata(&source).at("look at", &source)?.mode();
            fs::create_dir_all(&place).at("create", &place)?;
            set_mode(&place, mode & 0o7777)?;
        }
    }
    Ok(())
}

/// Removes whatever is at `path`; nothing there is fine.
pub(crate) fn clear(path: &Path) -> Result<(), Error> {
    let result = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => Err(e),
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    result.at("remove", path)
}

/// Makes an empty directory at `path`, whatever was there.
pub(crate) fn fresh(path: &Path) -> Result<(), Error> {
    clear(path)?;
    fs::create_dir_all(path).at("create", path)
}

/// The name under which a result is made before it takes its place.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    hidden(path, ".new")
}

/// A name beside `path` that nothing of a project can have: those never start with a dot.
pub(crate) fn hidden(path: &Path, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

/// Puts the finished directory or file `new` in the place of `path`. An interruption leaves the
/// old, the new or nothing there, never a part.
pub(crate) fn replace(new: &Path, path: &Path) -> Result<(), Error> {
    let old = hidden(path, ".old");
    clear(&old)?;
    match fs::rename(path, &old) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).at("move", path),
        _ => {}
    }
    fs::rename(new, path).at("move", new)?;
    clear(&old)
}

/// Writes a file in one step: a reader sees the old content or the new.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    let new = unfinished(path);
    fs::write(&new, bytes).at("write", path)?;
    fs::rename(&new, path).at("write", path)
}

/// Digest of names, kinds, modes and contents of everything below `path`, which may be a file.
/// Time stamps and owners are left out: no image of ours holds them.
pub(crate) fn digest(path: &Path, modes: Modes) -> Result<Digest, Error> {
    let path = &fs::canonicalize(path).at("find", path)?;
    let mut hasher = Hasher::default();
    for entry in WalkDir::new(path).sort_by_file_name() {
        let entry = entry.map_err(io::Error::from).at("read", path)?;
        let relative = entry.path().strip_prefix(path).unwrap_or(entry.path());
        let metadata = entry
            .metadata()
            .map_err(io::Error::from)
            .at("look at", entry.path())?;
        let kind = metadata.file_type();
        let content = if kind.is_file() {
            let file = fs::File::open(entry.path()).at("open", entry.path())?;
            let (digest, length) = Digest::of_reader(file).at("read", entry.path())?;
            format!("file {digest} {length}")
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path()).at("read", entry.path())?;
            format!("link {}", link.display())
        } else if kind.is_dir() {
            "directory".to_owned()
        } else {
            format!("special {} {}", metadata.mode(), metadata.rdev())
        };
        let mode = if kind.is_symlink() {
            0
        } else {
            modes.of(&metadata)
        };
        use std::os::unix::ffi::OsStrExt as _;
        hasher.update(relative.as_os_str().as_bytes());
        hasher.update(format!("\0{mode:o} {content}\0").as_bytes());
    }
    Ok(hasher.finish())
}

/// Joins a path that is meant to be inside of a tree to that tree, link by link: a link that
/// leads out of the tree leads back to its root, as it would for a process inside.
pub(crate) fn inside(root: &Path, path: &Path) -> PathBuf {
    let mut result = root.to_owned();
    for part in path.components() {
        if let std::path::Component::Normal(name) = part {
            result.push(name);
            if let Ok(link) = fs::read_link(&result) {
                let base = result.parent().unwrap_or(root).to_owned();
                result = match link.strip_prefix("/") {
                    Ok(absolute) => root.join(absolute),
                    Err(_) => {
                        let joined = base.join(&link);
                        fs::canonicalize(&joined)
                            .ok()
                            .filter(|p| p.starts_with(root))
                            .unwrap_or(result)
                    }
                };
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(modes: Modes, mode: u32) -> u32 {
        let file = tempfile::NamedTempFile::new().unwrap();
        set_mode(file.path(), mode).unwrap();
        modes.of(&fs::metadata(file.path()).unwrap())
    }

    #[test]
    fn the_umask_of_a_checkout_does_not_matter() {
        for (under_022, under_077, under_002) in [(0o644, 0o600, 0o664), (0o755, 0o700, 0o775)] {
            assert_eq!(mode(Modes::Checkout(0o644), under_022), under_022);
            assert_eq!(mode(Modes::Checkout(0o600), under_077), under_022);
            assert_eq!(mode(Modes::Checkout(0o664), under_002), under_022);
        }
    }

    #[test]
    fn what_was_meant_stays() {
        assert_eq!(mode(Modes::Checkout(0o644), 0o600), 0o600);
        assert_eq!(mode(Modes::Checkout(0o644), 0o640), 0o640);
        assert_eq!(mode(Modes::Checkout(0o644), 0o440), 0o440);
        assert_eq!(mode(Modes::Checkout(0o644), 0o4755), 0o4755);
        assert_eq!(mode(Modes::Checkout(0o644), 0o4711), 0o4711);
        assert_eq!(mode(Modes::Checkout(0o644), 0o2750), 0o2750);
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
        copy(&overlay, &tree, Modes::Keep).unwrap();
        assert_eq!(fs::read(tree.join("usr/lib/x/f")).unwrap(), b"1");
        assert!(tree.join("lib").is_symlink());
        assert!(!Path::new("/etc/avocado-test").exists());
        assert_eq!(fs::read(tree.join("out/avocado-test")).unwrap(), b"2");
    }

    #[test]
    fn a_digest_sees_content_mode_and_name_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "1").unwrap();
        let first = digest(dir.path(), Modes::Keep).unwrap();
        let copied = tempfile::tempdir().unwrap();
        let other = copied.path().join("c");
        copy(dir.path(), &other, Modes::Keep).unwrap();
        assert_eq!(digest(&other, Modes::Keep).unwrap(), first);
        set_mode(&other.join("f"), 0o755).unwrap();
        assert_ne!(digest(&other, Modes::Keep).unwrap(), first);
        fs::write(&file, "2").unwrap();
        assert_ne!(digest(dir.path(), Modes::Keep).unwrap(), first);
    }
}
