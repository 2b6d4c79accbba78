//! What systemd and its helpers find in an extension: units, and settings that somebody has to read.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::release::open_in;

/// What an extension brings for systemd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SystemdContent {
    /// The names of its units.
    #[serde(default)]
    pub(crate) units: BTreeSet<String>,
    /// What of [`READERS`] it has something for.
    #[serde(default)]
    pub(crate) readers: BTreeSet<String>,
}

/// Where units are.
const UNITS: [&str; 3] = [
    "usr/lib/systemd/system",
    "usr/local/lib/systemd/system",
    "etc/systemd/system",
];

/// What ends when its extension goes. (A slice would take along what is in it.)
const KINDS: [&str; 7] = [
    "service",
    "socket",
    "timer",
    "path",
    "mount",
    "automount",
    "swap",
];

/// Directories, below `usr/lib` or `etc`, whose content is read once, and how it is read again: a
/// job of systemd's, and the unit.
pub(crate) const READERS: [(&str, &str, &str); 5] = [
    ("sysctl.d", "try-restart", "systemd-sysctl.service"),
    (
        "modules-load.d",
        "try-restart",
        "systemd-modules-load.service",
    ),
    ("binfmt.d", "try-restart", "systemd-binfmt.service"),
    (
        "udev/rules.d",
        "try-reload-or-restart",
        "systemd-udevd.service",
    ),
    ("dbus-1/system.d", "try-reload-or-restart", "dbus.service"),
];

impl SystemdContent {
    /// What the image that is mounted at `root` brings.
    pub(crate) fn of(root: &Path) -> Self {
        let mut content = SystemdContent::default();
        for directory in UNITS {
            let units = files(root, directory).into_iter();
            content.units.extend(units.filter(|name| is_unit(name)));
        }
        for (directory, ..) in READERS {
            let places =
                ["usr/lib", "usr/share", "etc"].map(|place| format!("{place}/{directory}"));
            if places.iter().any(|place| !files(root, place).is_empty()) {
                content.readers.insert(directory.to_owned());
            }
        }
        content
    }
}

pub(crate) fn is_unit(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(name, kind)| !name.is_empty() && KINDS.contains(&kind))
}

/// The names of the files, links not counted, in a directory of an image.
fn files(root: &Path, directory: &str) -> Vec<String> {
    let how = OFlags::PATH | OFlags::DIRECTORY;
    let Ok(Some(directory)) = open_in(root, Path::new(directory), how) else {
        return Vec::new();
    };
    let entries = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_count_and_links_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let units = dir.path().join("usr/lib/systemd/system");
        fs::create_dir_all(units.join("multi-user.target.wants")).unwrap();
        for name in [
            "a.service",
            "b@.service",
            "c.socket",
            "d.target",
            "README",
            ".service",
        ] {
            fs::write(units.join(name), "").unwrap();
        }
        symlink("a.service", units.join("alias.service")).unwrap();
        symlink("/dev/null", units.join("masked.service")).unwrap();
        fs::create_dir_all(dir.path().join("etc/sysctl.d")).unwrap();
        fs::create_dir_all(dir.path().join("usr/lib/udev/rules.d")).unwrap();
        fs::write(dir.path().join("usr/lib/udev/rules.d/9-x.rules"), "").unwrap();
        let content = SystemdContent::of(dir.path());
        let names: Vec<_> = content.units.iter().map(String::as_str).collect();
        assert_eq!(names, ["a.service", "b@.service", "c.socket"]);
        let readers: Vec<_> = content.readers.iter().map(String::as_str).collect();
        assert_eq!(readers, ["udev/rules.d"]);
    }
}
