//! Extensions that belong to no runtime: images and directories of the pool that have a name of
//! their own, as devices had them before there were runtimes. Which of them are wanted with a
//! release of the operating system is said by links in `os-releases/<VERSION_ID>`.

use std::fs;
use std::path::{Path, PathBuf};

use avocado_manifest::Name;

use super::files;
use crate::error::FailureReason;

/// An extension that belongs to no runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StandaloneExtension {
    /// The name of its file, without `.raw`. It may include a version.
    pub(crate) name: Name,
    /// The image or directory, or a link to it.
    pub(crate) path: PathBuf,
}

impl StandaloneExtension {
    /// What a path is the image or directory of; none where it cannot be either. Images of
    /// runtimes, and everything else that goes by an id, have no name.
    fn new(path: PathBuf) -> Option<Self> {
        let file = path.file_name()?.to_str()?;
        let name = file.strip_suffix(".raw").unwrap_or(file);
        if is_image_id(name) {
            return None;
        }
        let name = name.parse().ok()?;
        Some(StandaloneExtension { name, path })
    }
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_image_id(text: &str) -> bool {
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn is_image(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "raw")
}

/// Everything in the pool of the store at `base` that can be merged by its name, in order.
pub(crate) fn in_pool(base: &Path) -> Result<Vec<StandaloneExtension>, FailureReason> {
    let images = base.join("images");
    let names = files::names(&images)?.into_iter();
    let paths = names.map(|name| images.join(name));
    Ok(unique(paths.filter(|path| is_image(path) || path.is_dir())))
}

/// The extensions that are wanted with one release of the operating system.
#[derive(Debug)]
pub(crate) struct EnabledExtensions {
    dir: PathBuf,
}

impl EnabledExtensions {
    pub(crate) fn new(base: &Path, release: &Name) -> Self {
        EnabledExtensions {
            dir: base.join("os-releases").join(release.as_str()),
        }
    }

    /// The extensions, in order; none where none was ever enabled.
    pub(crate) fn all(&self) -> Result<Option<Vec<StandaloneExtension>>, FailureReason> {
        if !self.dir.is_dir() {
            return Ok(None);
        }
        let paths = files::names(&self.dir)?.into_iter();
        let paths = paths.map(|name| self.dir.join(name));
        // A link that leads nowhere says what is wanted as well as any other.
        let counts = |path: &PathBuf| is_image(path) || path.is_dir() || !path.exists();
        Ok(Some(unique(paths.filter(counts))))
    }

    /// EnabledExtensions something of the pool. The link is relative, as the store may be mounted elsewhere;
    /// one that leads elsewhere is replaced.
    pub(crate) fn add(&self, extension: &StandaloneExtension) -> Result<(), FailureReason> {
        let name = extension.path.file_name().unwrap_or_default();
        let target = Path::new("../../images").join(name);
        let link = self.dir.join(name);
        files::create_dir(&self.dir)?;
        if fs::read_link(&link).is_ok_and(|there| there == target) {
            return Ok(());
        }
        files::point(&link, &target)
    }

    /// Ends what [`EnabledExtensions::add`] did. What is no link was put there by hand, and stays.
    pub(crate) fn remove(&self, extension: &StandaloneExtension) -> Result<(), FailureReason> {
        files::remove(&extension.path)
    }

    /// Makes every name that is seen here last: a process that was killed may have left it unsynced.
    pub(crate) fn sync_to_disk(&self) -> Result<(), FailureReason> {
        let up_to_base = self.dir.ancestors().take(3);
        up_to_base
            .filter(|dir| dir.is_dir())
            .try_for_each(files::sync_dir)
    }
}

/// The files of the pool that are enabled for any release: the one that runs may be left for
/// another one, and come back.
pub(crate) fn files_of_all_releases(base: &Path) -> Result<Vec<String>, FailureReason> {
    let releases = base.join("os-releases");
    let mut found = Vec::new();
    for release in files::names(&releases)? {
        let dir = releases.join(release);
        if !dir.is_dir() {
            continue;
        }
        for name in files::names(&dir)? {
            let target = fs::read_link(dir.join(&name)).ok();
            let target = target.as_deref().and_then(Path::file_name);
            found.extend(target.and_then(|target| Some(target.to_str()?.to_owned())));
            found.push(name);
        }
    }
    Ok(found)
}

/// What is enabled for a release and not there any more: the name, and the release.
pub(crate) fn gone_of_all_releases(base: &Path) -> Result<Vec<(Name, Name)>, FailureReason> {
    let mut gone = Vec::new();
    for release in files::names(&base.join("os-releases"))? {
        // What has no name that a release can have is not asked for.
        let Ok(release) = release.parse::<Name>() else {
            continue;
        };
        let enabled = EnabledExtensions::new(base, &release).all()?;
        let enabled = enabled.unwrap_or_default().into_iter();
        let missing = enabled.filter(|extension| !extension.path.exists());
        gone.extend(missing.map(|extension| (extension.name, release.clone())));
    }
    Ok(gone)
}

/// Whether something was ever enabled.
pub(crate) fn is_any_release_known(base: &Path) -> bool {
    files::names(&base.join("os-releases")).is_ok_and(|releases| !releases.is_empty())
}

/// Of an image and a directory of the same name, which cannot both be merged, the directory.
fn unique(paths: impl Iterator<Item = PathBuf>) -> Vec<StandaloneExtension> {
    let mut all: Vec<_> = paths.filter_map(StandaloneExtension::new).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.path.cmp(&b.path)));
    all.dedup_by(|a, b| a.name == b.name);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(all: &[StandaloneExtension]) -> Vec<&str> {
        all.iter()
            .map(|extension| extension.name.as_str())
            .collect()
    }

    #[test]
    fn what_has_a_name_and_what_has_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(in_pool(dir.path()).unwrap(), []);
        let images = dir.path().join("images");
        for directory in [
            "tree",
            "both",
            ".hidden",
            "7488fa35-6390-425b-bbbf-b156cfe1eed2",
        ] {
            fs::create_dir_all(images.join(directory)).unwrap();
        }
        for file in [
            "app-1.0.raw",
            "both.raw",
            "notes.txt",
            "a b.raw",
            ".x.raw",
            "7488fa35-6390-425b-bbbf-b156cfe1eed2.raw",
        ] {
            fs::write(images.join(file), "").unwrap();
        }
        let all = in_pool(dir.path()).unwrap();
        assert_eq!(names(&all), ["app-1.0", "both", "tree"]);
        assert_eq!(all[1].path, images.join("both"));
    }

    #[test]
    fn extensions_are_enabled_and_disabled() {
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("images");
        fs::create_dir_all(&images).unwrap();
        for file in ["a.raw", "b.raw"] {
            fs::write(images.join(file), file).unwrap();
        }
        let enabled = EnabledExtensions::new(dir.path(), &"7".parse().unwrap());
        assert_eq!(enabled.all().unwrap(), None);
        let all = in_pool(dir.path()).unwrap();
        // A link of this name, made by hand, leads nowhere.
        fs::create_dir_all(dir.path().join("os-releases/7")).unwrap();
        symlink("gone", dir.path().join("os-releases/7/b.raw")).unwrap();
        for extension in all.iter().chain(&all) {
            enabled.add(extension).unwrap();
        }
        let marked = enabled.all().unwrap().unwrap();
        assert_eq!(names(&marked), ["a", "b"]);
        for (extension, bytes) in marked.iter().zip(["a.raw", "b.raw"]) {
            assert_eq!(fs::read_to_string(&extension.path).unwrap(), bytes);
        }
        for extension in &marked {
            enabled.remove(extension).unwrap();
        }
        assert_eq!(enabled.all().unwrap(), Some(Vec::new()));
        assert_eq!(files::names(&images).unwrap(), ["a.raw", "b.raw"]);
    }
}
