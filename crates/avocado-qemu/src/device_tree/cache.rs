//! What QEMU had to be asked for, kept by what it depends on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use avocado_fs::{Durability, PathError, WriteOptions};

use crate::binary::BinaryIdentity;
use crate::error::QemuError;
use crate::spec::MachineSpec;

/// The machine type of arm64 guests.
pub(super) const MACHINE: &str = "virt";
/// Raised whenever the trees that are made change.
const FORMAT: u32 = 1;
/// How many files are kept. Each is about 10 KB.
const KEPT: usize = 16;

/// A directory of small files, each complete or not there.
pub(super) struct DeviceTreeCache<'a> {
    directory: &'a Path,
}

/// The name for the device tree of a machine.
pub(super) fn tree_key(identity: &BinaryIdentity, spec: &MachineSpec) -> String {
    let MachineSpec {
        accelerator,
        cpus,
        memory_mib,
        ..
    } = spec;
    // The processor follows from the accelerator, but is what the tree depends on.
    let processor = crate::arguments::processor(*accelerator);
    let hash = hash(&format!("{FORMAT} {identity:?} {MACHINE} {processor:?}"));
    format!("{MACHINE}-{accelerator}-smp{cpus}-m{memory_mib}-{hash:016x}.dtb")
}

/// The name for the version of a QEMU.
pub(super) fn version_key(identity: &BinaryIdentity) -> String {
    format!("qemu-{:016x}.version", hash(&format!("{identity:?}")))
}

/// FNV-1a: the same in every build of this program. The cache is the user's own.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl<'a> DeviceTreeCache<'a> {
    /// The cache in this directory, which is made if it is missing.
    pub(super) fn open(directory: &'a Path) -> Result<Self, QemuError> {
        fs::create_dir_all(directory).map_err(failed("make", directory))?;
        Ok(DeviceTreeCache { directory })
    }

    pub(super) fn directory(&self) -> &'a Path {
        self.directory
    }

    /// The file with this name, if its content is `good`. Looking for it keeps it for longer.
    pub(super) fn find(&self, key: &str, good: impl Fn(&[u8]) -> bool) -> Option<PathBuf> {
        let path = self.directory.join(key);
        if !good(&fs::read(&path).ok()?) {
            return None;
        }
        // A file that cannot be marked as used is only thrown away sooner.
        let file = fs::File::options().append(true).open(&path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        Some(path)
    }

    /// The content of a file that was found.
    pub(super) fn read(&self, path: &Path) -> Result<String, QemuError> {
        fs::read_to_string(path).map_err(failed("read", path))
    }

    /// Puts a file there, whole or not at all, and removes those that were not used for longest.
    pub(super) fn keep(&self, key: &str, content: &[u8]) -> Result<PathBuf, QemuError> {
        let path = self.directory.join(key);
        let options = WriteOptions::new().durability(Durability::Content);
        options.write(&path, content).map_err(|error| {
            let PathError {
                action,
                path,
                source,
            } = error;
            failed(action, &path)(source)
        })?;
        self.evict(&path);
        Ok(path)
    }

    /// A name that no other running process uses, for a file that QEMU writes. [`Self::evict`]
    /// takes it when this process is killed.
    pub(super) fn temporary(&self, key: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{key}.{}-{next}.tmp", std::process::id());
        self.directory.join(name)
    }

    /// Also takes what a crash left half done. Whatever else is in the directory stays.
    fn evict(&self, new: &Path) {
        let Ok(entries) = fs::read_dir(self.directory) else {
            return;
        };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|entry| is_ours(&entry.path()) && entry.path() != new)
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = (files.len() + 1).saturating_sub(KEPT);
        for (_, path) in files.into_iter().take(surplus) {
            // Another process may be faster.
            let _ = fs::remove_file(path);
        }
    }
}

fn is_ours(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("dtb" | "version" | "tmp"))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> QemuError {
    move |source| QemuError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn everything_that_matters_is_in_the_name() {
        let spec = super::super::tests::spec("/bin/qemu".as_ref());
        let identity = BinaryIdentity {
            path: "/bin/qemu".into(),
            mtime: 1,
            size: 2,
        };
        let mut keys = vec![tree_key(&identity, &spec)];
        let mut add = |change: &dyn Fn(&mut BinaryIdentity, &mut MachineSpec)| {
            let (mut identity, mut spec) = (identity.clone(), spec.clone());
            change(&mut identity, &mut spec);
            keys.push(tree_key(&identity, &spec));
        };
        add(&|identity, _| identity.path = "/sbin/qemu".into());
        add(&|identity, _| identity.mtime = 2);
        add(&|identity, _| identity.size = 1);
        add(&|_, spec| spec.accelerator = crate::Accelerator::Hvf);
        add(&|_, spec| spec.accelerator = crate::Accelerator::Kvm);
        add(&|_, spec| spec.cpus += 1);
        add(&|_, spec| spec.memory_mib += 1);
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
        // What the tree does not depend on.
        let other = MachineSpec {
            cmdline: "quiet".into(),
            serial_log: "/elsewhere".into(),
            ..spec.clone()
        };
        assert_eq!(tree_key(&identity, &other), tree_key(&identity, &spec));
    }

    #[test]
    fn what_is_kept_is_whole_and_found() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("new/dtb");
        let cache = DeviceTreeCache::open(&place).unwrap();
        assert_eq!(cache.find("a.dtb", |_| true), None);
        let path = cache.keep("a.dtb", b"one").unwrap();
        assert_eq!(cache.find("a.dtb", |content| content == b"one"), Some(path));
        assert_eq!(cache.find("a.dtb", |content| content == b"two"), None);
        let path = cache.keep("a.dtb", b"two").unwrap();
        assert_eq!(cache.read(&path).unwrap(), "two");
        assert_eq!(names(&place), ["a.dtb"]);
    }

    #[test]
    fn the_least_used_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        let cache = DeviceTreeCache::open(place).unwrap();
        let old = |name: &str, age: u64| {
            let file = fs::File::create(place.join(name)).unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(then).unwrap();
        };
        for number in 0..KEPT as u64 {
            old(&format!("{number:02}.dtb"), 1000 - number);
        }
        old("qemu.version", 2000);
        old("crashed.dtb.77-0.tmp", 3000);
        old("of-another-program", 4000);
        // The oldest is used once more.
        assert!(cache.find("00.dtb", |_| true).is_some());
        cache.keep("new.dtb", b"").unwrap();

        let numbers = [0].into_iter().chain(2..KEPT);
        let mut expected: Vec<_> = numbers.map(|number| format!("{number:02}.dtb")).collect();
        expected.extend(["new.dtb", "of-another-program"].map(String::from));
        assert_eq!(names(place), expected);
    }
}
