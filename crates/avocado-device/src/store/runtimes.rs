use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use avocado_manifest::{Manifest, RuntimeId};
use rustix::fs::{Mode, OFlags};

use super::cache::Cache;
use super::files;
use crate::{Error, Reason};

/// The file in a runtime's directory.
pub(super) const MANIFEST: &str = "manifest.json";

/// The largest manifest that is read, in bytes.
pub(crate) const MANIFEST_LIMIT: u64 = 4 << 20;

/// The staged runtimes and the active one.
#[derive(Debug)]
pub(crate) struct Runtimes {
    dir: PathBuf,
    active: PathBuf,
    cache: Cache,
}

/// A directory of a runtime.
#[derive(Debug)]
pub(crate) enum Found {
    Whole(Arc<Manifest>),
    /// Its name, and why it cannot be used.
    Unreadable(String, Reason),
}

impl Runtimes {
    pub(crate) fn new(base: &Path, cache: Cache) -> Self {
        Runtimes {
            dir: base.join("runtimes"),
            active: base.join("active"),
            cache,
        }
    }

    /// Every runtime, by id.
    pub(crate) fn everything(&self) -> Result<Vec<Found>, Reason> {
        let names = files::names(&self.dir)?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&self.dir, flags, Mode::empty())
            .map_err(|e| Reason::file("open", &self.dir)(e.into()))?;
        let mut found = Vec::with_capacity(names.len());
        for name in names.into_iter().filter(|name| !name.starts_with('.')) {
            found.push(match name.parse::<RuntimeId>() {
                Ok(id) => match self.cache.get(&dir, &id, || self.read(&id)) {
                    Ok(manifest) => Found::Whole(manifest),
                    Err(reason) => Found::Unreadable(name, reason),
                },
                Err(e) => {
                    let invalid = io::Error::new(io::ErrorKind::InvalidInput, e);
                    let reason = Reason::file("use", &self.dir.join(&name))(invalid);
                    Found::Unreadable(name, reason)
                }
            });
        }
        Ok(found)
    }

    /// Every whole runtime, by id.
    pub(crate) fn all(&self) -> Result<Vec<Arc<Manifest>>, Reason> {
        let everything = self.everything()?.into_iter();
        Ok(everything
            .filter_map(|found| match found {
                Found::Whole(manifest) => Some(manifest),
                Found::Unreadable(..) => None,
            })
            .collect())
    }

    /// The manifest of a runtime.
    pub(crate) fn read(&self, id: &RuntimeId) -> Result<Manifest, Reason> {
        let path = self.manifest(id);
        let bytes = files::read(&path, MANIFEST_LIMIT)?;
        let manifest =
            Manifest::parse(&bytes).map_err(|source| Reason::Manifest { path, source })?;
        if manifest.id != *id {
            return Err(Reason::Contradiction {
                why: format!("is kept as that of {id}"),
                id: manifest.id,
            });
        }
        Ok(manifest)
    }

    /// The runtime that `text` means: its id, or the beginning of no other one's id.
    pub(crate) fn resolve(&self, text: &str) -> Result<Arc<Manifest>, Error> {
        let mut all = Vec::new();
        for found in self.everything().map_err(Error::Store)? {
            match found {
                Found::Whole(manifest) if manifest.id.as_str() == text => return Ok(manifest),
                Found::Whole(manifest) => all.push(manifest),
                Found::Unreadable(name, reason) if name == text => {
                    return Err(Error::Store(reason));
                }
                Found::Unreadable(..) => {}
            }
        }
        all.retain(|m| m.id.as_str().starts_with(text));
        let id = text.to_owned();
        match all.pop() {
            Some(only) if all.is_empty() && !text.is_empty() => Ok(only),
            Some(last) if !all.is_empty() => {
                all.push(last);
                let candidates = all.iter().map(|m| m.id.to_string()).collect();
                Err(Error::AmbiguousRuntimeId { id, candidates })
            }
            _ => Err(Error::RuntimeNotFound { id }),
        }
    }

    /// Where `active` points to; none when it does not exist.
    pub(crate) fn active_id(&self) -> Result<Option<RuntimeId>, Reason> {
        let target = match fs::read_link(&self.active) {
            Ok(target) => target,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Reason::file("read", &self.active)(e)),
        };
        let id = target
            .strip_prefix(&self.dir)
            .or_else(|_| target.strip_prefix("runtimes"))
            .ok()
            .and_then(|name| name.to_str()?.parse().ok());
        match id {
            Some(id) => Ok(Some(id)),
            None => Err(Reason::Active {
                path: self.active.clone(),
                why: format!("it points to {}", target.display()),
            }),
        }
    }

    /// The active runtime; none when `active` does not exist, an error when it leads nowhere.
    pub(crate) fn active(&self) -> Result<Option<Arc<Manifest>>, Reason> {
        let Some(id) = self.active_id()? else {
            return Ok(None);
        };
        match self.read(&id) {
            Err(Reason::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(Reason::Active {
                    path: self.active.clone(),
                    why: format!("there is no runtime {id}"),
                })
            }
            other => other.map(|manifest| Some(manifest.into())),
        }
    }

    /// Makes everything last that is seen here. Somebody who was killed may have left it without.
    pub(crate) fn settle(&self) -> Result<(), Reason> {
        if self.dir.is_dir() {
            files::sync_dir(&self.dir)?;
            files::sync_dir(self.dir.parent().unwrap_or(&self.dir))?;
        }
        Ok(())
    }

    /// Makes a runtime the active one by one rename.
    pub(crate) fn activate(&self, id: &RuntimeId) -> Result<(), Reason> {
        self.settle()?;
        files::point(&self.active, &Path::new("runtimes").join(id))
    }

    /// Makes no runtime the active one.
    pub(crate) fn deactivate(&self) -> Result<(), Reason> {
        files::remove(&self.active)
    }

    /// Adds a runtime, whose images are in the pool and last. The bytes are kept as they came.
    pub(crate) fn add(&self, manifest: &Manifest, bytes: &[u8]) -> Result<(), Reason> {
        let id = &manifest.id;
        let path = self.manifest(id);
        if self.read(id).is_ok() {
            if files::read(&path, MANIFEST_LIMIT)? == bytes {
                return self.settle();
            }
            return Err(Reason::Contradiction {
                id: id.clone(),
                why: "differs from the one that this device already has under that id".to_owned(),
            });
        }
        files::create_dir(&self.dir)?;
        let kept = self.dir.join(id);
        if kept.exists() {
            // Somebody damaged this runtime; its manifest is put back in place.
            return files::write(&path, bytes);
        }
        let temporary = self.dir.join(format!(".{id}.new"));
        files::remove_all(&temporary)?;
        files::create_dir(&temporary)?;
        files::write(&temporary.join(MANIFEST), bytes)?;
        files::rename(&temporary, &kept)?;
        self.settle()
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
    pub(crate) fn remove(&self, id: &RuntimeId) -> Result<(), Reason> {
        let gone = self.dir.join(format!(".{id}.gone"));
        files::remove_all(&gone)?;
        files::rename(&self.dir.join(id), &gone)?;
        files::remove_all(&gone)
    }

    /// What interrupted operations left.
    pub(crate) fn leftovers(&self) -> Result<Vec<PathBuf>, Reason> {
        let names = files::names(&self.dir)?.into_iter();
        let left = names.filter(|name| name.starts_with('.'));
        Ok(left.map(|name| self.dir.join(name)).collect())
    }

    /// Removes what interrupted operations left.
    pub(crate) fn tidy(&self) -> Result<(), Reason> {
        for path in self.leftovers()? {
            files::remove_all(&path)?;
        }
        Ok(())
    }

    fn manifest(&self, id: &RuntimeId) -> PathBuf {
        self.dir.join(id).join(MANIFEST)
    }
}

/// Refuses a manifest that contradicts itself, before anything is done for it.
pub(crate) fn check(manifest: &Manifest) -> Result<(), Reason> {
    let fail = |why| {
        Err(Reason::Contradiction {
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

    fn store(ids: &[&str]) -> (tempfile::TempDir, Runtimes) {
        let dir = tempfile::tempdir().unwrap();
        let runtimes = Runtimes::new(dir.path(), Cache::default());
        for id in ids {
            let (manifest, bytes) = manifest(id);
            runtimes.add(&manifest, &bytes).unwrap();
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
                matches!(&error, Error::RuntimeNotFound { id } if id == text),
                "{error}"
            );
        }
        for (text, expected) in [
            ("a", &["aa1", "aa11", "ab"][..]),
            ("aa", &["aa1", "aa11"]),
            ("", &["aa1", "aa11", "ab", "c"]),
        ] {
            let Err(Error::AmbiguousRuntimeId { candidates, .. }) = runtimes.resolve(text) else {
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
            assert!(matches!(error, Error::RuntimeNotFound { .. }));
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
                Found::Whole(_) => None,
                Found::Unreadable(name, _) => Some(name.as_str()),
            })
            .collect();
        assert_eq!(names, ["alias", "empty", "torn"]);
        assert!(matches!(runtimes.resolve("torn"), Err(Error::Store(_))));
        assert!(matches!(
            runtimes.resolve("tor"),
            Err(Error::RuntimeNotFound { .. })
        ));
        runtimes.tidy().unwrap();
        assert!(!base.join(".x.new").exists());

        // Adding a damaged one again repairs it.
        let (manifest, bytes) = manifest("torn");
        runtimes.add(&manifest, &bytes).unwrap();
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
            assert!(matches!(error, Reason::Active { .. }), "{target}: {error}");
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
        runtimes.add(&manifest, &bytes).unwrap();
        let other = String::from_utf8(bytes).unwrap().replace("2026", "2025");
        let error = runtimes.add(&manifest, other.as_bytes()).unwrap_err();
        assert!(matches!(error, Reason::Contradiction { .. }));
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
            check(&Manifest::parse(text.as_bytes()).unwrap())
        };
        let ext =
            |name: &str, version: &str| format!(r#"{{"name":"{name}","version":"{version}"}}"#);
        with(&format!("{},{}", ext("a", "1"), ext("b", "1"))).unwrap();
        for bad in [
            format!("{},{}", ext("a", "1"), ext("a", "2")),
            format!("{},{}", ext("a-b", "c"), ext("a", "b-c")),
            r#"{"name":"a","version":"1","image_type":"kab"}"#.to_owned(),
        ] {
            assert!(
                matches!(with(&bad), Err(Reason::Contradiction { .. })),
                "{bad}"
            );
        }
    }
}
