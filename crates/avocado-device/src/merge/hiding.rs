//! What must not be merged because it would hide the operating system.
//!
//! Merged, a directory of an extension lies over a directory of the same name; over anything else
//! it takes the place. Where `/usr/sbin` is a link to `bin`, an extension with a directory of that
//! name, even an empty one, hides everything that programs look for in `/usr/sbin`; and where
//! `/usr/lib64` is one, the loader, so that nothing can be started any more. An image can also carry
//! the marks by which overlayfs itself hides what lies below, as one that was made of the upper layer
//! of an overlay does: a device 0/0 in the place of a file or directory, and attributes of directories.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};

use super::release::open_in;
use super::state::MergedExtension;
use crate::error::FailureReason;

/// What everything hangs on, below `/usr`. Of other names it is not known whether the operating
/// system has them or an extension that is merged at the moment.
const VITAL: [&str; 10] = [
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "libexec",
    "share",
    "lib/systemd",
    "lib/systemd/system",
];

/// Refuses an extension that would take the place of a directory of the operating system at `os`, or
/// of a link to one. Its image is mounted at `root`.
pub(super) fn refuse_hiding(
    os: &Path,
    extension: &MergedExtension,
    root: &Path,
) -> Result<(), FailureReason> {
    if !extension.sysext {
        return Ok(());
    }
    for name in VITAL {
        let part = Path::new("usr").join(name);
        let failed = |e: io::Error| FailureReason::file("look at", &root.join(&part))(e);
        let how = OFlags::PATH | OFlags::NOFOLLOW;
        let Some(over) = open_in(root, &part, how).map_err(failed)? else {
            continue;
        };
        let refuse = |attribute| FailureReason::HidesOs {
            extension: extension.image.full_name(),
            path: Path::new("/").join(&part),
            attribute,
        };
        let below = os.join(&part);
        if takes_the_place(&below, &over).map_err(failed)? {
            return Err(refuse(None));
        }
        if let Some(attribute) = cut_off(&over).filter(|_| below.is_dir()) {
            return Err(refuse(Some(attribute)));
        }
    }
    Ok(())
}

/// Whether `over`, merged, takes the place of the directory that `below` is or leads to.
fn takes_the_place(below: &Path, over: &OwnedFd) -> io::Result<bool> {
    let Ok(there) = fs::symlink_metadata(below) else {
        return Ok(false);
    };
    let ours = FileType::from_raw_mode(rustix::fs::fstat(over)?.st_mode);
    if !there.is_symlink() {
        return Ok(there.is_dir() && ours != FileType::Directory);
    }
    let same = || -> io::Result<bool> {
        let target = rustix::fs::readlinkat(over, "", Vec::new())?;
        Ok(fs::read_link(below)?.as_os_str().as_encoded_bytes() == target.as_bytes())
    };
    Ok(below.is_dir() && !(ours == FileType::Symlink && same()?))
}

/// The attribute of a directory, if it has one, by which overlayfs does not look for it below.
fn cut_off(directory: &OwnedFd) -> Option<&'static str> {
    const OPAQUE: &str = "trusted.overlay.opaque";
    const REDIRECT: &str = "trusted.overlay.redirect";
    let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    // Of an opaque directory it is a `y`; other values mean something else.
    let mut value = [0; 2];
    if rustix::fs::getxattr(&path, OPAQUE, &mut value) == Ok(1) && value[0] == b'y' {
        return Some(OPAQUE);
    }
    // Whatever the name is under which it is looked for: it is not this one.
    let redirected = rustix::fs::getxattr(&path, REDIRECT, &mut value);
    matches!(redirected, Ok(_) | Err(rustix::io::Errno::RANGE)).then_some(REDIRECT)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::merge::state::LayerImage;

    #[test]
    fn what_hides_the_operating_system_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let os = dir.path().join("os");
        for path in ["usr/bin", "usr/lib"] {
            fs::create_dir_all(os.join(path)).unwrap();
        }
        symlink("bin", os.join("usr/sbin")).unwrap();
        symlink("lib", os.join("usr/lib64")).unwrap();
        symlink("nowhere", os.join("usr/libexec")).unwrap();
        let check = |prepare: fn(&Path)| {
            let root = dir.path().join("extension");
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(root.join("usr")).unwrap();
            prepare(&root.join("usr"));
            let extension = |sysext| MergedExtension {
                image: LayerImage {
                    name: "app".parse().unwrap(),
                    version: Some("1".parse().unwrap()),
                    image_id: None,
                    file: root.clone(),
                    sha256: None,
                    hitl: None,
                },
                link: "00-app-1".to_owned(),
                sysext,
                confext: false,
                on_merge: Vec::new(),
                on_unmerge: Vec::new(),
                modules: Vec::new(),
                services: Vec::new(),
                systemd: Default::default(),
            };
            refuse_hiding(&os, &extension(false), &root).unwrap();
            refuse_hiding(&os, &extension(true), &root)
        };
        let hides = |prepare, at: &str| match check(prepare) {
            Err(FailureReason::HidesOs {
                extension,
                path,
                attribute: None,
            }) => {
                assert_eq!(
                    (extension.as_str(), path.as_path()),
                    ("app-1", Path::new(at))
                );
            }
            other => panic!("{at}: {other:?}"),
        };
        check(|_| {}).unwrap();
        check(|usr| fs::create_dir_all(usr.join("bin/more")).unwrap()).unwrap();
        check(|usr| fs::create_dir_all(usr.join("share/more")).unwrap()).unwrap();
        check(|usr| fs::create_dir_all(usr.join("libexec")).unwrap()).unwrap();
        check(|usr| symlink("lib", usr.join("lib64")).unwrap()).unwrap();
        hides(|usr| fs::create_dir(usr.join("sbin")).unwrap(), "/usr/sbin");
        hides(
            |usr| fs::create_dir(usr.join("lib64")).unwrap(),
            "/usr/lib64",
        );
        hides(
            |usr| symlink("bin", usr.join("lib64")).unwrap(),
            "/usr/lib64",
        );
        hides(|usr| symlink("bin", usr.join("lib")).unwrap(), "/usr/lib");
        hides(|usr| fs::write(usr.join("bin"), "").unwrap(), "/usr/bin");
        // Links of the image lead nowhere but into it.
        check(|usr| {
            fs::remove_dir(usr).unwrap();
            symlink("/usr", usr).unwrap();
        })
        .unwrap();
    }
}
