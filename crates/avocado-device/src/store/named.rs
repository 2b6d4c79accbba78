//! Extensions that belong to no runtime: images and directories of the pool that have a name of
//! their own, as devices had them before there were runtimes. Which of them are wanted with a
//! release of the operating system is said by links in `os-releases/<VERSION_ID>`.

use std::fs;
use std::path::{Path, PathBuf};

use avocado_manifest::Name;

use super::files;
use crate::Reason;

/// An extension that belongs to no runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The name of its file, without `.raw`. It may include a version.
    pub(crate) name: Name,
    /// The image or directory, or a link to it.
    pub(crate) path: PathBuf,
}

impl Named {
    /// What a path is the image or directory of; none where it cannot be either. Images of
    /// runtimes, and everything else that goes by an id, have no name.
    fn new(path: PathBuf) -> Option<Self> {
        let file = path.file_name()?.to_str()?;
        let name = file.strip_suffix(".raw").unwrap_or(file);
        match is_image_id(name) {
            true => None,
            false => Some(Named {
                name: name.parse().ok()?,
                path,
            }),
        }
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
pub(crate) fn in_pool(base: &Path) -> Result<Vec<Named>, Reason> {
    let images = base.join("images");
    let names = files::names(&images)?.into_iter();
    let paths = names.map(|name| images.join(name));
    Ok(unique(paths.filter(|path| is_image(path) || path.is_dir())))
}

/// The extensions that are wanted with one release of the operating system.
#[derive(Debug)]
pub(crate) struct Marks {
    dir: PathBuf,
}

impl Marks {
    pub(crate) fn new(base: &Path, release: &Name) -> Self {
        Marks {
            dir: base.join("os-releases").join(release.as_str()),
        }
    }

    /// The extensions, in order; none where nobody has ever said which ones.
    pub(crate) fn all(&self) -> Result<Option<Vec<Named>>, Reason> {
        if !self.dir.is_dir() {
            return Ok(None);
        }
        let paths = files::names(&self.dir)?.into_iter();
        let paths = paths.map(|name| self.dir.join(name));
        // A link that leads nowhere says what is wanted as well as any other.
        let counts = |path: &PathBuf| is_image(path) || path.is_dir() || !path.exists();
        Ok(Some(unique(paths.filter(counts))))
    }

    /// Marks something of the pool. The link is relative, as the store may be mounted elsewhere;
    /// one that leads elsewhere is replaced.
    pub(crate) fn add(&self, named: &Named) -> Result<(), Reason> {
        let name = named.path.file_name().unwrap_or_default();
        let target = Path::new("../../images").join(name);
        let link = self.dir.join(name);
        files::create_dir(&self.dir)?;
        if fs::read_link(&link).is_ok_and(|there| there == target) {
            return Ok(());
        }
        files::point(&link, &target)
    }

    /// Ends what [`Marks::add`] did. What is no link was put there by hand, and stays.
    pub(crate) fn remove(&self, named: &Named) -> Result<(), Reason> {
        files::remove(&named.path)
    }

    /// Makes everything last that is seen here. Somebody who was killed may have left it without.
    pub(crate) fn settle(&self) -> Result<(), Reason> {
        let up_to_base = self.dir.ancestors().take(3);
        up_to_base
            .filter(|dir| dir.is_dir())
            .try_for_each(files::sync_dir)
    }
}

/// Of an image and a directory of the same name, which cannot both be merged, the directory.
fn unique(paths: impl Iterator<Item = PathBuf>) -> Vec<Named> {
    let mut all: Vec<_> = paths.filter_map(Named::new).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.path.cmp(&b.path)));
    all.dedup_by(|a, b| a.name == b.name);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(all: &[Named]) -> Vec<&str> {
        all.iter().map(|named| named.name.as_str()).collect()
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
    fn marks_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("images");
        fs::create_dir_all(&images).unwrap();
        for file in ["a.raw", "b.raw"] {
            fs::write(images.join(file), file).unwrap();
        }
        let marks = Marks::new(dir.path(), &"7".parse().unwrap());
        assert_eq!(marks.all().unwrap(), None);
        let all = in_pool(dir.path()).unwrap();
        // Somebody's link of this name leads nowhere.
        fs::create_dir_all(dir.path().join("os-releases/7")).unwrap();
        symlink("gone", dir.path().join("os-releases/7/b.raw")).unwrap();
        for named in all.iter().chain(&all) {
            marks.add(named).unwrap();
        }
        let marked = marks.all().unwrap().unwrap();
        assert_eq!(names(&marked), ["a", "b"]);
        for (named, bytes) in marked.iter().zip(["a.raw", "b.raw"]) {
            assert_eq!(fs::read_to_string(&named.path).unwrap(), bytes);
        }
        for named in &marked {
            marks.remove(named).unwrap();
        }
        assert_eq!(marks.all().unwrap(), Some(Vec::new()));
        assert_eq!(files::names(&images).unwrap(), ["a.raw", "b.raw"]);
    }
}
