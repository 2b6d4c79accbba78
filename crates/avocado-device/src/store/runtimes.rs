use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use avocado_manifest::{Manifest, RuntimeId, is_mergeable};
use rustix::fs::{Mode, OFlags};

use super::files;
use super::manifest_cache::ManifestCache;
use super::reserve::with_reserve;
use super::signed::SignedTargets;
use crate::error::{DeviceError, FailureReason};

/// The file in a runtime's directory.
const MANIFEST: &str = "manifest.json";

/// The largest manifest that is read, in bytes.
pub(crate) const MANIFEST_LIMIT: u64 = 4 << 20;

/// The staged runtimes and the active one.
#[derive(Debug)]
pub(crate) struct RuntimeStore {
    dir: PathBuf,
    active: PathBuf,
    cache: ManifestCache,
}

/// A directory of a runtime.
#[derive(Debug)]
pub(crate) enum StoredRuntime {
    Whole(Arc<Manifest>),
    /// Its name, and why it cannot be used.
    Unreadable(String, FailureReason),
}

impl RuntimeStore {
    pub(crate) fn new(base: &Path, cache: ManifestCache) -> Self {
        RuntimeStore {
            dir: base.join("runtimes"),
            active: base.join("active"),
            cache,
        }
    }

    /// Every runtime, by id.
    pub(crate) fn everything(&self) -> Result<Vec<StoredRuntime>, FailureReason> {
        let names = files::names(&self.dir)?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&self.dir, flags, Mode::empty())
            .map_err(|e| FailureReason::file("open", &self.dir)(e.into()))?;
        let mut found = Vec::with_capacity(names.len());
        let names = names.into_iter();
        for name in names.filter(|name| !name.starts_with('.') && name != files::LOST_AND_FOUND) {
            found.push(match name.parse::<RuntimeId>() {
                Ok(id) => match self
                    .cache
                    .get(&dir, &Path::new(&name).join(MANIFEST), &id, || {
                        self.read(&id)
                    }) {
                    Ok(manifest) => StoredRuntime::Whole(manifest),
                    Err(reason) => StoredRuntime::Unreadable(name, reason),
                },
                Err(e) => {
                    let invalid = io::Error::new(io::ErrorKind::InvalidInput, e);
                    let reason = FailureReason::file("use", &self.dir.join(&name))(invalid);
                    StoredRuntime::Unreadable(name, reason)
                }
            });
        }
        Ok(found)
    }

    /// Every whole runtime, by id.
    pub(crate) fn all(&self) -> Result<Vec<Arc<Manifest>>, FailureReason> {
        let everything = self.everything()?.into_iter();
        Ok(everything
            .filter_map(|found| match found {
                StoredRuntime::Whole(manifest) => Some(manifest),
                StoredRuntime::Unreadable(..) => None,
            })
            .collect())
    }

    /// The manifest of a runtime.
    pub(crate) fn read(&self, id: &RuntimeId) -> Result<Manifest, FailureReason> {
        let path = self.manifest(id);
        let bytes = files::read(&path, MANIFEST_LIMIT)?;
        let mut manifest =
            Manifest::parse(&bytes).map_err(|source| FailureReason::Manifest { path, source })?;
        if manifest.extensions.iter().any(|e| e.image_id.is_none()) {
            SignedTargets::load(&self.dir.join(id))?.complete(&mut manifest);
        }
        if manifest.id != *id {
            return Err(FailureReason::Contradiction {
                why: format!("is kept as that of {id}"),
                id: manifest.id,
            });
        }
        Ok(manifest)
    }

    /// The runtime that `text` means: its id, or the beginning of no other one's id.
    pub(crate) fn resolve(&self, text: &str) -> Result<Arc<Manifest>, DeviceError> {
        let mut all = Vec::new();
        for found in self.everything().map_err(DeviceError::Store)? {
            match found {
                StoredRuntime::Whole(manifest) if manifest.id.as_str() == text => {
                    return Ok(manifest);
                }
                StoredRuntime::Whole(manifest) => all.push(manifest),
                StoredRuntime::Unreadable(name, reason) if name == text => {
                    return Err(DeviceError::Store(reason));
                }
                StoredRuntime::Unreadable(..) => {}
            }
        }
        all.retain(|m| m.id.as_str().starts_with(text));
        let id = text.to_owned();
        match all.pop() {
            Some(only) if all.is_empty() && !text.is_empty() => Ok(only),
            Some(last) if !all.is_empty() => {
                all.push(last);
                let candidates = all.iter().map(|m| m.id.to_string()).collect();
                Err(DeviceError::AmbiguousRuntimeId { id, candidates })
            }
            _ => Err(DeviceError::RuntimeNotFound { id }),
        }
    }

    /// Where `active` points to; none when it does not exist.
    pub(crate) fn active_id(&self) -> Result<Option<RuntimeId>, FailureReason> {
        let target = match fs::read_link(&self.active) {
            Ok(target) => target,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(FailureReason::file("read", &self.active)(e)),
        };
        let id = target
            .strip_prefix(&self.dir)
            .or_else(|_| target.strip_prefix("runtimes"))
            .ok()
            .and_then(|name| name.to_str()?.parse().ok());
        match id {
            Some(id) => Ok(Some(id)),
            None => Err(FailureReason::Active {
                path: self.active.clone(),
                why: format!("it points to {}", target.display()),
            }),
        }
    }

    /// The active runtime; none when `active` does not exist, an error when it leads nowhere.
    pub(crate) fn active(&self) -> Result<Option<Arc<Manifest>>, FailureReason> {
        let Some(id) = self.active_id()? else {
            return Ok(None);
        };
        match self.read(&id) {
            Err(FailureReason::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(FailureReason::Active {
                    path: self.active.clone(),
                    why: format!("there is no runtime {id}"),
                })
            }
            other => other.map(|manifest| Some(manifest.into())),
        }
    }

    /// Makes every name that is seen here last: a process that was killed may have left it unsynced.
    pub(crate) fn sync_to_disk(&self) -> Result<(), FailureReason> {
        if self.dir.is_dir() {
            files::sync_dir(&self.dir)?;
            files::sync_dir(self.base())?;
        }
        Ok(())
    }

    /// Makes a runtime the active one by one rename.
    pub(crate) fn activate(&self, id: &RuntimeId) -> Result<(), FailureReason> {
        self.sync_to_disk()?;
        let target = Path::new("runtimes").join(id);
        with_reserve(self.base(), || files::point(&self.active, &target))
    }

    /// Makes no runtime the active one.
    pub(crate) fn deactivate(&self) -> Result<(), FailureReason> {
        files::remove(&self.active)
    }

    /// Adds a runtime, whose images are in the pool and last. The bytes are kept as they came, and
    /// what was signed of the images with them.
    pub(crate) fn add(
        &self,
        manifest: &Manifest,
        bytes: &[u8],
        signed: &SignedTargets,
    ) -> Result<(), FailureReason> {
        let id = &manifest.id;
        let path = self.manifest(id);
        let kept = self.dir.join(id);
        if self.read(id).is_ok() {
            let differs = |why: &str| FailureReason::Contradiction {
                id: id.clone(),
                why: why.to_owned(),
            };
            if files::read(&path, MANIFEST_LIMIT)? != bytes {
                return Err(differs(
                    "differs from the one that this device already has under that id",
                ));
            }
            let known = SignedTargets::load(&kept)?;
            if signed.is_empty() || known == *signed {
                return self.sync_to_disk();
            }
            if !known.is_empty() {
                return Err(differs(
                    "is now signed with other images than those that this device has for it",
                ));
            }
            // An older agent added it, which did not keep this. The manifest is written again so
            // that whoever remembers it reads it again.
            signed.save(&kept)?;
            return files::write(&path, bytes);
        }
        files::create_dir(&self.dir)?;
        if kept.exists() {
            // The runtime is damaged; its manifest is put back in place.
            signed.save(&kept)?;
            return files::write(&path, bytes);
        }
        let temporary = self.dir.join(format!(".{id}.new"));
        files::remove_all(&temporary)?;
        files::create_dir(&temporary)?;
        signed.save(&temporary)?;
        files::write(&temporary.join(MANIFEST), bytes)?;
        files::rename(&temporary, &kept)?;
        self.sync_to_disk()
    }

    /// Whether what lies among the runtimes under this name and cannot be read may be one, so that
    /// it is not known which images it needs. What has no manifest is none.
    pub(crate) fn may_need_images(&self, name: &str) -> bool {
        let manifest = self.dir.join(name).join(MANIFEST);
        let nothing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        match fs::symlink_metadata(manifest) {
            Err(e) => !nothing.contains(&e.kind()),
            Ok(_) => true,
        }
    }

    /// The directory of a runtime.
    pub(crate) fn directory(&self, id: &RuntimeId) -> PathBuf {
        self.dir.join(id)
    }

    /// Whether there is a directory for a runtime, whatever is in it.
    pub(crate) fn exists(&self, id: &RuntimeId) -> bool {
        self.dir.join(id).symlink_metadata().is_ok()
    }

    /// When the runtime came to this device, as far as its clock was right.
    pub(crate) fn added(&self, id: &RuntimeId) -> (i64, i64) {
        let meta = fs::metadata(self.manifest(id));
        meta.map_or((0, 0), |meta| (meta.mtime(), meta.mtime_nsec()))
    }

    /// Removes a runtime: it is gone with one rename, its files follow.
    pub(crate) fn remove(&self, id: &RuntimeId) -> Result<(), FailureReason> {
        let gone = self.dir.join(format!(".{id}.gone"));
        files::remove_all(&gone)?;
        with_reserve(self.base(), || files::rename(&self.dir.join(id), &gone))?;
        files::remove_all(&gone)
    }

    /// What interrupted operations left.
    pub(crate) fn leftovers(&self) -> Result<Vec<PathBuf>, FailureReason> {
        let names = files::names(&self.dir)?.into_iter();
        let left = names.filter(|name| name.starts_with('.'));
        Ok(left.map(|name| self.dir.join(name)).collect())
    }

    /// Removes what interrupted operations left.
    pub(crate) fn remove_leftovers(&self) -> Result<(), FailureReason> {
        let left = self.leftovers()?;
        if !left.is_empty() {
            // A name that a killed process gave may not last yet: a runtime without its files would be back.
            self.sync_to_disk()?;
        }
        for path in left {
            files::remove_all(&path)?;
        }
        Ok(())
    }

    fn base(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    fn manifest(&self, id: &RuntimeId) -> PathBuf {
        self.dir.join(id).join(MANIFEST)
    }
}

/// Refuses a manifest that contradicts itself, before anything is done for it.
pub(crate) fn check_consistency(manifest: &Manifest) -> Result<(), FailureReason> {
    let fail = |why| {
        Err(FailureReason::Contradiction {
            id: manifest.id.clone(),
            why,
        })
    };
    let mut names = BTreeSet::new();
    let mut directories = BTreeSet::new();
    for extension in &manifest.extensions {
        let (name, version) = (&extension.name, &extension.version);
        if !names.insert(name) {
            return fail(format!("lists the extension {name} twice"));
        }
        // `a-b` in version `c` and `a` in version `b-c` would share a mount point.
        if !directories.insert(format!("{name}-{version}")) {
            return fail(format!("has two extensions that would be {name}-{version}"));
        }
        if !is_mergeable(name, version, manifest.extensions.len()) {
            return fail(format!(
                "has an extension whose name and version are too long together: {name} {version}"
            ));
        }
        match extension.image_type.as_deref() {
            None | Some("raw") => {}
            Some(other) => {
                return fail(format!(
                    "has {name} as an image of type `{}`, which this version cannot use",
                    other.escape_debug()
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(id: &str) -> (Manifest, Vec<u8>) {
        let text = format!(
            r#"{{"manifest_version":2,"id":"{id}","built_at":"2026-01-01T00:00:00Z",
                "runtime":{{"name":"r","version":"1"}},"extensions":[]}}"#
        );
        (Manifest::parse(text.as_bytes()).unwrap(), text.into_bytes())
    }

    fn nothing() -> SignedTargets {
        SignedTargets::default()
    }

    fn store(ids: &[&str]) -> (tempfile::TempDir, RuntimeStore) {
        let dir = tempfile::tempdir().unwrap();
        let runtimes = RuntimeStore::new(dir.path(), ManifestCache::default());
        for id in ids {
            let (manifest, bytes) = manifest(id);
            runtimes.add(&manifest, &bytes, &nothing()).unwrap();
        }
        (dir, runtimes)
    }

    #[test]
    fn a_runtime_is_found_by_id_or_by_what_begins_only_its_id() {
        let (_dir, runtimes) = store(&["aa11", "aa1", "ab", "c"]);
        for (text, id) in [("aa1", "aa1"), ("aa11", "aa11"), ("ab", "ab"), ("c", "c")] {
            assert_eq!(runtimes.resolve(text).unwrap().id.as_str(), id);
        }
        for text in ["b", "aa12", "../runtimes/c", "C", "\0"] {
            let error = runtimes.resolve(text).unwrap_err();
            assert!(
                matches!(&error, DeviceError::RuntimeNotFound { id } if id == text),
                "{error}"
            );
        }
        for (text, expected) in [
            ("a", &["aa1", "aa11", "ab"][..]),
            ("aa", &["aa1", "aa11"]),
            ("", &["aa1", "aa11", "ab", "c"]),
        ] {
            let Err(DeviceError::AmbiguousRuntimeId { candidates, .. }) = runtimes.resolve(text)
            else {
                panic!("{text:?} is ambiguous");
            };
            assert_eq!(candidates, expected);
        }
    }

    #[test]
    fn nothing_matches_the_empty_id() {
        for ids in [&[][..], &["only"]] {
            let (_dir, runtimes) = store(ids);
            let error = runtimes.resolve("").unwrap_err();
            assert!(matches!(error, DeviceError::RuntimeNotFound { .. }));
        }
    }

    #[test]
    fn only_whole_runtimes_are_listed() {
        let (dir, runtimes) = store(&["good"]);
        let base = dir.path().join("runtimes");
        for (name, content) in [
            ("empty", None),
            ("torn", Some("{\"manif")),
            (".x.new", Some("")),
        ] {
            fs::create_dir(base.join(name)).unwrap();
            if let Some(content) = content {
                fs::write(base.join(name).join("manifest.json"), content).unwrap();
            }
        }
        fs::create_dir(base.join("alias")).unwrap();
        fs::copy(
            base.join("good/manifest.json"),
            base.join("alias/manifest.json"),
        )
        .unwrap();
        let ids: Vec<_> = runtimes
            .all()
            .unwrap()
            .into_iter()
            .map(|m| m.id.to_string())
            .collect();
        assert_eq!(ids, ["good"]);
        let everything = runtimes.everything().unwrap();
        let names: Vec<_> = everything
            .iter()
            .filter_map(|found| match found {
                StoredRuntime::Whole(_) => None,
                StoredRuntime::Unreadable(name, _) => Some(name.as_str()),
            })
            .collect();
        assert_eq!(names, ["alias", "empty", "torn"]);
        assert!(matches!(
            runtimes.resolve("torn"),
            Err(DeviceError::Store(_))
        ));
        assert!(matches!(
            runtimes.resolve("tor"),
            Err(DeviceError::RuntimeNotFound { .. })
        ));
        runtimes.remove_leftovers().unwrap();
        assert!(!base.join(".x.new").exists());

        // Adding a damaged one again repairs it.
        let (manifest, bytes) = manifest("torn");
        runtimes.add(&manifest, &bytes, &nothing()).unwrap();
        assert_eq!(runtimes.all().unwrap().len(), 2);
    }

    #[test]
    fn active_is_a_runtime_or_an_error() {
        let (dir, runtimes) = store(&["a"]);
        assert!(runtimes.active().unwrap().is_none());
        runtimes.activate(&"a".parse().unwrap()).unwrap();
        let link = dir.path().join("active");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("runtimes/a"));
        assert_eq!(runtimes.active().unwrap().unwrap().id.as_str(), "a");

        for target in [
            "runtimes/b",
            "a",
            "/etc",
            "runtimes/../x",
            "runtimes/a/manifest.json",
        ] {
            fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink(target, &link).unwrap();
            let error = runtimes.active().unwrap_err();
            assert!(
                matches!(error, FailureReason::Active { .. }),
                "{target}: {error}"
            );
        }
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        assert!(runtimes.active().is_err());
    }

    #[test]
    fn what_was_read_is_read_again_when_it_changes() {
        let (dir, runtimes) = store(&["a", "b"]);
        let first = runtimes.all().unwrap();
        let again = runtimes.all().unwrap();
        assert!(Arc::ptr_eq(&first[0], &again[0]), "not even parsed");
        let path = dir.path().join("runtimes/a/manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("2026", "2025")).unwrap();
        let changed = runtimes.all().unwrap();
        assert!(changed[0].built_at.starts_with("2025"));
        assert!(Arc::ptr_eq(&first[1], &changed[1]));
        fs::write(&path, "{").unwrap();
        assert_eq!(runtimes.all().unwrap().len(), 1);
    }

    #[test]
    fn the_same_id_is_the_same_runtime() {
        let (_dir, runtimes) = store(&["a"]);
        let (manifest, bytes) = manifest("a");
        runtimes.add(&manifest, &bytes, &nothing()).unwrap();
        let other = String::from_utf8(bytes).unwrap().replace("2026", "2025");
        let error = runtimes
            .add(&manifest, other.as_bytes(), &nothing())
            .unwrap_err();
        assert!(matches!(error, FailureReason::Contradiction { .. }));
    }

    #[test]
    fn contradictions_are_found() {
        let with = |extensions: &str| {
            let (_, bytes) = manifest("a");
            let text = String::from_utf8(bytes).unwrap();
            let text = text.replace(
                "\"extensions\":[]",
                &format!("\"extensions\":[{extensions}]"),
            );
            check_consistency(&Manifest::parse(text.as_bytes()).unwrap())
        };
        let ext =
            |name: &str, version: &str| format!(r#"{{"name":"{name}","version":"{version}"}}"#);
        with(&format!("{},{}", ext("a", "1"), ext("b", "1"))).unwrap();
        // The longest file that merging makes is `extension-release.00-<name>-<version>`.
        with(&ext(&"a".repeat(120), &"1".repeat(113))).unwrap();
        for bad in [
            ext(&"a".repeat(120), &"1".repeat(114)),
            format!("{},{}", ext("a", "1"), ext("a", "2")),
            format!("{},{}", ext("a-b", "c"), ext("a", "b-c")),
            r#"{"name":"a","version":"1","image_type":"kab"}"#.to_owned(),
        ] {
            assert!(
                matches!(with(&bad), Err(FailureReason::Contradiction { .. })),
                "{bad}"
            );
        }
    }
}
