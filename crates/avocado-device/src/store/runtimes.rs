use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use avocado_manifest::{Manifest, RuntimeId};

use super::files;
use crate::{Error, Reason};

/// The largest manifest that is read, in bytes.
pub(crate) const MANIFEST_LIMIT: u64 = 4 << 20;

/// The staged runtimes and the active one.
#[derive(Debug)]
pub(crate) struct Runtimes {
    dir: PathBuf,
    active: PathBuf,
}

impl Runtimes {
    pub(crate) fn new(base: &Path) -> Self {
        Runtimes {
            dir: base.join("runtimes"),
            active: base.join("active"),
        }
    }

    /// Every whole runtime, by id. What is not whole (there should be no such thing) is not
    /// listed.
    pub(crate) fn all(&self) -> Result<Vec<Manifest>, Reason> {
        let ids = files::names(&self.dir)?
            .into_iter()
            .filter_map(|n| n.parse().ok());
        Ok(ids.filter_map(|id| self.read(&id).ok()).collect())
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
    pub(crate) fn resolve(&self, text: &str) -> Result<Manifest, Error> {
        let mut all = self.all().map_err(Error::Store)?;
        if let Some(at) = all.iter().position(|m| m.id.as_str() == text) {
            return Ok(all.swap_remove(at));
        }
        all.retain(|m| m.id.as_str().starts_with(text));
        let id = text.to_owned();
        match all.pop() {
            Some(only) if all.is_empty() && !text.is_empty() => Ok(only),
            Some(last) if !all.is_empty() => {
                all.push(last);
                let candidates = all.into_iter().map(|m| m.id.into()).collect();
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
    pub(crate) fn active(&self) -> Result<Option<Manifest>, Reason> {
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
            other => other.map(Some),
        }
    }

    /// Makes a runtime the active one by one rename.
    pub(crate) fn activate(&self, id: &RuntimeId) -> Result<(), Reason> {
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
                return Ok(());
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
        files::write(&temporary.join("manifest.json"), bytes)?;
        files::rename(&temporary, &kept)
    }

    /// Removes a runtime: it is gone with one rename, its files follow.
    pub(crate) fn remove(&self, id: &RuntimeId) -> Result<(), Reason> {
        let gone = self.dir.join(format!(".{id}.gone"));
        files::remove_all(&gone)?;
        files::rename(&self.dir.join(id), &gone)?;
        files::remove_all(&gone)
    }

    /// Removes what interrupted operations left.
    pub(crate) fn tidy(&self) -> Result<(), Reason> {
        for name in files::names(&self.dir)? {
            if name.starts_with('.') {
                files::remove_all(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    fn manifest(&self, id: &RuntimeId) -> PathBuf {
        self.dir.join(id).join("manifest.json")
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
        let runtimes = Runtimes::new(dir.path());
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
