use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use avocado_events::Cancel;
use avocado_fs::crash::{CrashState, Disk, Op, Recorder};
use avocado_manifest::{Digest, Manifest};
use serde_json::Value;

use crate::config::DeviceConfig;
use crate::device::Device;
use crate::error::DeviceError;
use crate::fallback::ways_back;
use crate::paths::DevicePaths;
use crate::store::pool::{ImagePool, PoolFile, RequiredImage};
use crate::store::standalone::EnabledExtensions;

/// Something that is done to a store, and what is right before and after it.
pub(crate) struct Scenario<'a> {
    pub(crate) name: &'static str,
    /// Done again, it ends as done once.
    pub(crate) work: &'a (dyn Fn(&Device) -> Result<(), DeviceError> + Sync),
    /// The runtimes that may be seen, whole.
    pub(crate) known: &'a [Manifest],
    /// The bytes of the images, by name in the pool.
    pub(crate) images: &'a BTreeMap<String, Vec<u8>>,
    /// The versions of the runtimes that have to be seen at any time.
    pub(crate) always: &'a [&'a str],
    /// The versions of the runtimes that are seen in the end.
    pub(crate) finally: &'a [&'a str],
    /// The version of the runtime that is active before and in the end; none if none is.
    pub(crate) active: (Option<&'a str>, Option<&'a str>),
    /// The extensions that are enabled in the end, for release 7.
    pub(crate) enabled: &'a [&'a str],
    /// Whether everything in the pool is right and needed in the end.
    pub(crate) clean: bool,
    /// The most states that are made of what one step leaves: of a first attempt, and of one after
    /// a killed one.
    pub(crate) limits: (usize, usize),
    /// It is killed after every so many steps, and done again in every so many states.
    pub(crate) every: (usize, usize),
}

/// A device that stands on nothing but `base`.
pub(crate) fn device(base: &Path) -> Device {
    let mut paths = DevicePaths::new(base);
    let beside = |name: &str| base.with_extension(name);
    paths.run = beside("run");
    paths.extensions = beside("run-extensions");
    paths.confexts = beside("run-confexts");
    paths.systemd = beside("no-systemd");
    paths.initrd_release = beside("no-initrd");
    paths.os_release = vec![beside("os-release")];
    Device::with_paths(DeviceConfig::default(), paths)
}

/// A directory in memory, if there is such a place.
pub(crate) fn memory() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        tempfile::tempdir_in(shm).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&from, &to);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from).unwrap(), to).unwrap();
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// What was looked at.
#[derive(Default)]
pub(crate) struct CrashCount {
    pub(crate) steps: AtomicUsize,
    pub(crate) states: AtomicUsize,
}

/// The same numbers each time.
pub(crate) fn random(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

impl Scenario<'_> {
    /// Looks at everything that can come of doing it to the store at `start`.
    pub(crate) fn run(&self, start: &Path, count: &CrashCount) {
        let work = memory();
        let begun = Instant::now();
        let mut seen = HashSet::new();

        let base = work.path().join("whole");
        let disk = begin(start, &base);
        let (result, ops) = Recorder::new(&base).run(|| (self.work)(&device(&base)));
        result.unwrap();
        self.is_done(&device(&base), "done without a crash");
        assert!(!ops.is_empty(), "{}: nothing was recorded", self.name);
        self.replay(disk, &ops, 0, self.limits.0, &mut seen, work.path(), count);

        // Killed after each step, and done again on what the file system had by then, synced or
        // not.
        for limit in (0..ops.len()).step_by(self.every.0) {
            let base = work.path().join("killed");
            let disk = begin(start, &base);
            let work_on = || (self.work)(&device(&base));
            let (result, mut ops) = Recorder::new(&base).limit(limit).run(work_on);
            let killed = ops.len();
            let when = format!("killed after {killed} steps");
            assert!(result.is_err() || killed < limit, "{}, {when}", self.name);
            self.is_right(&device(&base), &when);
            let (result, again) = Recorder::new(&base).run(work_on);
            result.unwrap();
            ops.extend(again);
            self.replay(
                disk,
                &ops,
                killed,
                self.limits.1,
                &mut seen,
                work.path(),
                count,
            );
            fs::remove_dir_all(&base).unwrap();
        }
        let states = seen.len();
        let took = begun.elapsed().as_millis();
        eprintln!(
            "{}: {} steps, {states} states ({took} ms)",
            self.name,
            ops.len()
        );
    }

    /// Whether it would be noticed if steps of one kind were not made.
    pub(crate) fn needs(&self, start: &Path, kind: impl Fn(&Op) -> bool) -> bool {
        let work = memory();
        let base = work.path().join("whole");
        let disk = begin(start, &base);
        let (result, mut ops) = Recorder::new(&base).run(|| (self.work)(&device(&base)));
        result.unwrap();
        ops.retain(|op| !kind(op));
        let replay = || {
            let (mut seen, count) = (HashSet::new(), CrashCount::default());
            self.replay(disk, &ops, 0, 100, &mut seen, work.path(), &count);
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(replay)).is_err()
    }

    /// Looks at what can be left after each of `ops` from the `from`th on.
    #[expect(clippy::too_many_arguments, reason = "of one caller")]
    fn replay(
        &self,
        mut disk: Disk,
        ops: &[Op],
        from: usize,
        limit: usize,
        seen: &mut HashSet<(Digest, bool)>,
        work: &Path,
        count: &CrashCount,
    ) {
        let mut random = random(0x9e37_79b9_7f4a_7c15);
        for done in 0..=ops.len() {
            if done >= from {
                count.steps.fetch_add(1, Ordering::Relaxed);
                let last = done == ops.len();
                disk.crash(limit, &mut random, |left| {
                    if seen.insert((Digest::of(&left.key()), last)) {
                        let number = count.states.fetch_add(1, Ordering::Relaxed);
                        let again = number.is_multiple_of(self.every.1);
                        self.look_at(left, &ops[..done], (last, again), work);
                    }
                });
            }
            if let Some(op) = ops.get(done) {
                disk.apply(op);
            }
        }
    }

    fn look_at(
        &self,
        left: &CrashState<'_>,
        history: &[Op],
        (last, again): (bool, bool),
        work: &Path,
    ) {
        let base = work.join("state");
        fs::create_dir(&base).unwrap();
        let numbers = left.restore(&base);
        renumber(&base, &numbers);
        let judge = || {
            self.is_right(&device(&base), "after the crash");
            if last {
                // What was said to be done lasts.
                self.is_reached(&device(&base), "after a crash in the end");
            }
            if again {
                (self.work)(&device(&base)).unwrap();
                self.is_done(&device(&base), "done again after the crash");
            }
        };
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(judge)) {
            eprintln!(
                "{}: after {history:#?}\nleft was\n{}",
                self.name,
                left.describe()
            );
            std::panic::resume_unwind(panic);
        }
        fs::remove_dir_all(&base).unwrap();
        let _ = fs::remove_dir_all(base.with_extension("run"));
    }

    /// What holds at any time.
    fn is_right(&self, device: &Device, when: &str) {
        let name = self.name;
        let listing = device.listing().unwrap();
        assert_eq!(listing.unreadable, [], "{name}, {when}");
        let base = &device.paths().base;
        for entry in &listing.runtimes {
            let manifest = &entry.manifest;
            assert!(
                self.known.contains(manifest),
                "{name}, {when}: {manifest:?}"
            );
            for wanted in RequiredImage::of(manifest) {
                let there = fs::read(base.join("images").join(&wanted.file)).ok();
                let right = self.images.get(&wanted.file);
                assert!(
                    there.as_ref() == right,
                    "{name}, {when}: {} of runtime {}",
                    wanted.label,
                    manifest.runtime.version
                );
            }
        }
        for version in self.always {
            let mut versions = listing.runtimes.iter().map(|e| &e.manifest.runtime.version);
            assert!(
                versions.any(|v| v == version),
                "{name}, {when}: no {version}"
            );
        }
        let active = device.context().runtimes().active().unwrap();
        let active = active.as_ref().map(|m| m.runtime.version.as_str());
        let allowed = [self.active.0, self.active.1];
        assert!(
            allowed.contains(&active),
            "{name}, {when}: {active:?} is active"
        );
        // Should the new one turn out not to work at the next boot, there is a way back.
        if let (Some(before), Some(after)) = self.active
            && before != after
            && active == Some(after)
        {
            let id = device.context().runtimes().active_id().unwrap();
            let ways = ways_back(device.context(), id.as_ref());
            let version = ways.first().map(|m| m.runtime.version.as_str());
            assert_eq!(version, Some(before), "{name}, {when}");
        }
        // What is remembered of an image is true.
        let mut pool = ImagePool::open(base);
        for file in pool.names().unwrap() {
            let bytes = fs::read(pool.file(&file)).unwrap();
            let known = pool.digest(&file).unwrap();
            let right = PoolFile::Regular(Digest::of(&bytes));
            assert_eq!(known, right, "{name}, {when}: {file}");
        }
    }

    fn is_done(&self, device: &Device, when: &str) {
        self.is_right(device, when);
        self.is_reached(device, when);
        let found = device
            .verify(&Cancel::new(), &avocado_events::Silent)
            .unwrap();
        assert!(found.is_good(), "{}, {when}: {found:?}", self.name);
        if self.clean {
            assert_eq!(found.problems, [], "{}, {when}", self.name);
        }
    }

    fn is_reached(&self, device: &Device, when: &str) {
        let listing = device.listing().unwrap();
        let versions = listing
            .runtimes
            .iter()
            .map(|e| e.manifest.runtime.version.clone());
        let mut versions: Vec<_> = versions.collect();
        versions.sort();
        assert_eq!(versions, self.finally, "{}, {when}", self.name);
        let active = device.context().runtimes().active().unwrap();
        let active = active.as_ref().map(|m| m.runtime.version.as_str());
        assert_eq!(active, self.active.1, "{}, {when}", self.name);
        let enabled = EnabledExtensions::new(&device.paths().base, &"7".parse().unwrap());
        let enabled = enabled.all().unwrap().unwrap_or_default();
        let enabled: Vec<_> = enabled.iter().map(|named| named.name.as_str()).collect();
        assert_eq!(enabled, self.enabled, "{}, {when}", self.name);
    }
}

/// Makes a copy of `start` in which every image was hashed, all of it lasting.
fn begin(start: &Path, base: &Path) -> Disk {
    copy(start, base);
    let verified = device(base).verify(&Cancel::new(), &avocado_events::Silent);
    verified.unwrap();
    Disk::of(base)
}

/// Lets the record of hashed images name the files that are there now, where it named the same
/// ones before: as if the file system had kept their numbers and times.
fn renumber(base: &Path, numbers: &BTreeMap<u64, PathBuf>) {
    use std::os::unix::fs::MetadataExt;
    let path = base.join(".verified.json");
    let Ok(text) = fs::read(&path) else { return };
    let Ok(mut record) = serde_json::from_slice::<Value>(&text) else {
        return;
    };
    let files = record["files"].as_object_mut();
    for seen in files.into_iter().flat_map(|files| files.values_mut()) {
        let inode = seen["inode"].as_u64().unwrap_or_default();
        let Some(meta) = numbers.get(&inode).and_then(|p| fs::metadata(p).ok()) else {
            continue;
        };
        if seen["size"].as_u64() == Some(meta.len()) {
            seen["inode"] = meta.ino().into();
            seen["changed"] = vec![meta.ctime(), meta.ctime_nsec()].into();
        }
    }
    fs::write(path, serde_json::to_vec(&record).unwrap()).unwrap();
}
