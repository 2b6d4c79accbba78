//! The VMs of one user: what they are called, and where each has its state.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use avocado_qemu::ProcessIdentity;

use crate::dir::{StateDir, StateFile};
use crate::error::VmError;
use crate::files;
use crate::launch::VmLaunch;

/// The name of the VM that needs none.
const DEFAULT: &str = "default";
/// The longest name: with it, sockets still have their place in a home directory of the usual length.
const LONGEST: usize = 32;

/// The name of a VM. It is safe in a path, in the name of a systemd unit, and on file systems
/// that take capital letters for small ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VmName(String);

/// What cannot name a VM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a VM: a name has up to {LONGEST} small letters of ASCII, digits, `-` and `_`, and begins \
     with a letter or a digit"
)]
pub struct BadVmName(String);

impl VmName {
    /// The VM that needs no name.
    pub fn default_vm() -> VmName {
        VmName(DEFAULT.to_owned())
    }

    /// Whether it is that one.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VmName {
    type Err = BadVmName;

    fn from_str(name: &str) -> Result<Self, BadVmName> {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = name.starts_with(letter)
            && name.len() <= LONGEST
            && name.chars().all(|c| letter(c) || c == '-' || c == '_');
        if good {
            Ok(VmName(name.to_owned()))
        } else {
            let shown: String = name.escape_debug().take(2 * LONGEST).collect();
            Err(BadVmName(shown))
        }
    }
}

/// What the VM in `dir` is called by other programs, such as ssh: `avocado-vm`, and with its name behind
/// it where it has one.
pub fn outside_name(dir: &StateDir) -> String {
    let root = dir.root();
    let in_vms = root.parent().and_then(Path::file_name) == Some("vms".as_ref());
    let name = root.file_name().and_then(|name| name.to_str());
    let name = name.and_then(|name| name.parse::<VmName>().ok());
    match name.filter(|_| in_vms) {
        Some(name) => format!("avocado-vm-{}", name.as_str()),
        None => "avocado-vm".to_owned(),
    }
}

/// The directory of a user's VMs: `~/.avocado`.
#[derive(Debug, Clone)]
pub struct UserVms {
    root: PathBuf,
}

impl UserVms {
    /// The VMs below `root`.
    pub fn new(root: impl Into<PathBuf>) -> UserVms {
        UserVms { root: root.into() }
    }

    /// Where a VM has its state, whether there is one of that name or not.
    pub fn dir(&self, name: &VmName) -> StateDir {
        StateDir::new(if name.is_default() {
            self.root.join("vm")
        } else {
            self.root.join("vms").join(name.as_str())
        })
    }

    /// Every VM that there is, by name; first the one that needs none.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn all(&self) -> Result<Vec<(VmName, StateDir)>, VmError> {
        let place = self.root.join("vms");
        let entries = match fs::read_dir(&place) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let entries = entries.map_err(VmError::file("read", &place))?;
        let mut names: Vec<VmName> = entries
            .iter()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|name: &VmName| !name.is_default())
            .collect();
        names.sort();
        names.insert(0, VmName::default_vm());
        let all = names.into_iter().map(|name| (self.dir(&name), name));
        let there = all.filter(|(dir, _)| dir.root().is_dir());
        Ok(there.map(|(dir, name)| (name, dir)).collect())
    }

    /// Ports that another VM than that in `own` had at its last start, and wants again. What cannot be
    /// read is not avoided.
    pub fn ports_of_others(&self, own: &StateDir) -> Vec<u16> {
        let all = self.all().unwrap_or_default();
        let others = all.iter().filter(|(_, dir)| dir != own);
        let launches = others.filter_map(|(_, dir)| last_launch(dir));
        launches
            .flat_map(|last| [last.ssh_port, last.last_ssh_port, last.infra_port])
            .flatten()
            .collect()
    }
}

/// How the VM of a directory was last started.
pub fn last_launch(dir: &StateDir) -> Option<VmLaunch> {
    let text = dir.read(StateFile::Launch).ok()??;
    serde_json::from_slice(&text).ok()
}

/// What everything in a directory takes up on the disk, in bytes; holes take nothing.
///
/// # Errors
/// Something of it cannot be looked at.
pub fn disk_use(dir: &StateDir) -> Result<u64, VmError> {
    tree_use(dir.root())
}

fn tree_use(path: &Path) -> Result<u64, VmError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        // Gone meanwhile: files of a VM that runs come and go.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(VmError::file("look at", path)(error)),
    };
    let mut sum = taken(&found);
    if found.is_dir() {
        for entry in fs::read_dir(path).map_err(VmError::file("read", path))? {
            let entry = entry.map_err(VmError::file("read", path))?;
            sum += tree_use(&entry.path())?;
        }
    }
    Ok(sum)
}

#[cfg(unix)]
fn taken(found: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    found.blocks() * 512
}

#[cfg(not(unix))]
fn taken(found: &fs::Metadata) -> u64 {
    found.len()
}

/// What the name of a directory begins with whose VM is deleted: no VM is called so.
const DELETED: &str = ".deleted-";

/// Removes a VM with everything that it has. To be called with its lock. At once it is no VM any more:
/// a start of the same name makes another one, of which nothing is removed.
///
/// # Errors
/// It cannot be moved aside, and nothing was removed; or something of it cannot be removed, which the next VM that
/// is deleted takes along.
pub fn remove(dir: &StateDir) -> Result<(), VmError> {
    let root = dir.root();
    let (Some(place), Some(name)) = (root.parent(), root.file_name()) else {
        let error = ErrorKind::InvalidInput.into();
        return Err(VmError::file("remove", root)(error));
    };
    let mut aside = OsString::from(DELETED);
    aside.push(name);
    aside.push(format!("-{}", std::process::id()));
    let aside = place.join(aside);
    files::remove_tree(&aside)?;
    fs::rename(root, &aside).map_err(VmError::file("move aside", root))?;
    files::sync_directory(place)?;
    files::remove_tree(&aside)?;
    remove_left(place);
    files::sync_directory(place)
}

/// Removes what processes left that ended before they had removed a VM. What stays is told by nobody: it is
/// not what was to be removed.
fn remove_left(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let by = name
            .strip_prefix(DELETED)
            .and_then(|name| name.rsplit_once('-'));
        let by = by.and_then(|(_, by)| by.parse().ok());
        if by.is_some_and(|by| ProcessIdentity::of(by).is_none()) {
            let _ = files::remove_tree(&entry.path());
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe() {
        for good in ["a", "0", "web-1", "a_b", "default", &"x".repeat(LONGEST)] {
            assert_eq!(good.parse::<VmName>().unwrap().as_str(), good);
        }
        let long = "x".repeat(LONGEST + 1);
        for bad in [
            "", "-a", "_a", "A", "a b", "a/b", "..", ".", "a.b", "a\n", "ä", "a@b", &long,
        ] {
            let error = bad.parse::<VmName>().unwrap_err().to_string();
            assert!(
                error.contains("cannot name a VM") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    #[test]
    fn each_vm_has_its_place_and_its_ports() {
        let place = tempfile::tempdir().unwrap();
        let vms = UserVms::new(place.path());
        assert!(vms.all().unwrap().is_empty());
        let name = |name: &str| name.parse::<VmName>().unwrap();
        let first = vms.dir(&VmName::default_vm());
        assert_eq!(first.root(), place.path().join("vm"));
        let second = vms.dir(&name("b"));
        assert_eq!(second.root(), place.path().join("vms/b"));
        for dir in [&first, &second, &vms.dir(&name("a"))] {
            dir.create().unwrap();
        }
        fs::write(place.path().join("vms/file"), "").unwrap();
        fs::create_dir(place.path().join("vms/No VM")).unwrap();
        // It would be taken for the other one.
        fs::create_dir(place.path().join("vms/default")).unwrap();
        let all: Vec<_> = vms
            .all()
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(all, [VmName::default_vm(), name("a"), name("b")]);

        let launch = VmLaunch {
            last_ssh_port: Some(2222),
            infra_port: Some(2223),
            ..crate::supervisor::test_launch()
        };
        second.write_json(StateFile::Launch, &launch).unwrap();
        assert_eq!(vms.ports_of_others(&first), [2222, 2223]);
        assert!(vms.ports_of_others(&second).is_empty());

        fs::write(second.file(StateFile::Var), vec![1; 1 << 20]).unwrap();
        assert!(disk_use(&second).unwrap() >= 1 << 20);
        remove(&second).unwrap();
        assert!(!second.root().exists());
        assert_eq!(disk_use(&second).unwrap(), 0);
        assert_eq!(vms.all().unwrap().len(), 2);
    }

    #[test]
    fn what_is_left_of_a_deletion_is_no_vm_and_goes_with_the_next() {
        let place = tempfile::tempdir().unwrap();
        let vms = UserVms::new(place.path());
        let web = vms.dir(&"web".parse().unwrap());
        web.create().unwrap();
        let left = |name: &str| {
            let left = place.path().join("vms").join(name);
            fs::create_dir(&left).unwrap();
            fs::write(left.join("var.btrfs"), "").unwrap();
            left
        };
        // Of a process that is no more, and of one that is at it.
        let dead = left(&format!(".deleted-b-c-{}", i32::MAX));
        let parent = std::os::unix::process::parent_id();
        let alive = left(&format!(".deleted-web-{parent}"));
        let other = left(".deleted-web");
        let own = left(&format!(".deleted-web-{}", std::process::id()));
        assert_eq!(vms.all().unwrap().len(), 1);
        let lock = crate::lock::VmLock::take(&web, "avocado vm delete").unwrap();
        remove(&web).unwrap();
        drop(lock);
        assert!(!web.root().exists() && !dead.exists() && !own.exists());
        assert!(alive.exists() && other.exists());
        assert!(vms.all().unwrap().is_empty());
    }
}
