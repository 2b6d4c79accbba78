//! Taking a reference project: one of the directories of a repository becomes a project of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::Name;
use avocado_project::SourceKind;
use walkdir::{DirEntry, WalkDir};

use crate::error::{At as _, BuildError};
use crate::steps::fetch::Checkout;
use crate::trees::{self, CopyModes, Tree};

/// Where reference projects are.
#[derive(Debug, Clone)]
pub enum ReferenceSource {
    /// In a directory of this machine, as they are there.
    Directory(PathBuf),
    /// In a git repository.
    Git {
        /// Its URL, or its path on this machine, absolute.
        url: String,
        /// The branch, tag or commit; what the repository itself points to where it is absent.
        reference: Option<String>,
    },
}

/// Which one is to be taken, and to where.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceWish<'a> {
    /// Where they are.
    pub source: &'a ReferenceSource,
    /// The name of its directory.
    pub name: &'a Name,
    /// Where the project is to be; it is created where it is missing.
    pub place: &'a Path,
    /// The whole environment of git.
    pub git_environment: &'a BTreeMap<String, OsString>,
}

/// What was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenReference {
    /// The files, relative to the project.
    pub files: Vec<PathBuf>,
    /// The commit that they are of, where git knows it.
    pub commit: Option<String>,
    /// From where, without secrets.
    pub repository: String,
}

/// Takes a reference project. Nothing of what is there already is changed.
///
/// # Errors
/// [`BuildError::NoReference`] where there is none of that name, [`BuildError::WouldReplace`] where other files
/// are there already; where a link leads out of the reference, and when it cannot be fetched or
/// written. Nothing is left of it then.
pub fn take_reference(
    wish: &ReferenceWish<'_>,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<TakenReference, BuildError> {
    let is_new = !wish.place.exists();
    fs::create_dir_all(wish.place).at("create", wish.place)?;
    let taken = wish.take(cancel, sink);
    if taken.is_err() && is_new {
        // What was made is not worth an error of its own.
        let _ = avocado_fs::remove_tree(wish.place);
    }
    taken
}

impl ReferenceWish<'_> {
    fn take(&self, cancel: &Cancel, sink: &dyn Sink) -> Result<TakenReference, BuildError> {
        match self.source {
            ReferenceSource::Directory(path) => {
                self.copy_from(path, path.display().to_string(), None, sink)
            }
            ReferenceSource::Git { url, reference } => {
                let repository = SourceKind::Git {
                    url: url.clone(),
                    reference: None,
                    sparse_checkout: Vec::new(),
                }
                .to_string();
                sink.emit(Event::info(format!("fetching {repository}")));
                let checkout = new_checkout(self.place)?;
                let made = Checkout {
                    environment: self.git_environment,
                    url,
                    reference: reference.as_deref(),
                    sparse: &[],
                    place: &checkout,
                    sink,
                    cancel,
                }
                .make(None);
                let made = made.map_err(|error| BuildError::References {
                    repository: repository.clone(),
                    source: Box::new(error),
                });
                let taken = made
                    .and_then(|commit| self.copy_from(&checkout, repository, Some(commit), sink));
                trees::clear(&checkout)?;
                taken
            }
        }
    }

    /// Copies the reference of those in `root`.
    fn copy_from(
        &self,
        root: &Path,
        repository: String,
        commit: Option<String>,
        sink: &dyn Sink,
    ) -> Result<TakenReference, BuildError> {
        let from = self.find(root, &repository)?;
        tell_of_submodules(root, self.name, sink);
        let paths = paths_of_reference(&from)?;
        self.check_free(&from, &paths)?;
        let to = Tree::open(&trees::of_project(self.place)?)?;
        let files = copy_whole(&from, &to, &paths)?;
        Ok(TakenReference {
            files,
            commit,
            repository,
        })
    }

    /// The directory of the reference.
    fn find(&self, root: &Path, repository: &str) -> Result<PathBuf, BuildError> {
        let mut available = Vec::new();
        for entry in fs::read_dir(root).at("read", root)? {
            let entry = entry.at("read", root)?;
            let is_project = |name: &str| entry.path().join(name).is_file();
            // A link would have another name, or lead elsewhere.
            let is_directory = entry.file_type().at("look at", root)?.is_dir();
            if is_directory && ["avocado.yaml", "avocado.yml"].into_iter().any(is_project) {
                available.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        if available.iter().any(|name| name == self.name.as_str()) {
            return Ok(root.join(self.name.as_str()));
        }
        available.sort();
        Err(BuildError::NoReference {
            repository: repository.to_owned(),
            name: self.name.to_string(),
            available,
        })
    }

    /// That nothing is at the places of the files, and no other thing at those of directories.
    fn check_free(&self, from: &Path, paths: &[PathBuf]) -> Result<(), BuildError> {
        let is_taken = |path: &&PathBuf| {
            let there = fs::symlink_metadata(self.place.join(path));
            there.is_ok_and(|there| !(there.is_dir() && from.join(path).is_dir()))
        };
        let mut taken: Vec<PathBuf> = paths.iter().filter(is_taken).cloned().collect();
        // A project that is there would become a part of this one.
        for name in ["avocado.yaml", "avocado.yml"] {
            let path = PathBuf::from(name);
            if !taken.contains(&path) && self.place.join(&path).symlink_metadata().is_ok() {
                taken.push(path);
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        let files = taken.into_iter().map(|path| self.place.join(path));
        Err(BuildError::WouldReplace {
            files: files.collect(),
        })
    }
}

/// A new directory for a checkout, in that of the project: on the same disk, and of the same user.
fn new_checkout(place: &Path) -> Result<PathBuf, BuildError> {
    let process = std::process::id();
    let mut number = 0;
    loop {
        let path = place.join(format!(".avocado-reference-{process}-{number}"));
        match fs::create_dir(&path) {
            // Whosever that is, it is not this run's.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => number += 1,
            made => {
                made.at("create", &path)?;
                return Ok(path);
            }
        }
    }
}

/// Copies these paths, for none of which there is a file in `to`: all of them, or nothing stays.
fn copy_whole(from: &Path, to: &Tree, paths: &[PathBuf]) -> Result<Vec<PathBuf>, BuildError> {
    // As they would be in a clone, whose umask nobody knows.
    let modes = CopyModes::Checkout(0o644);
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    let copied = paths.iter().try_for_each(|path| {
        let source = from.join(path);
        if !source.is_dir() || source.is_symlink() {
            // A part of it may be there even where that fails.
            files.push(path.clone());
            return trees::copy(&source, to, path, modes);
        }
        if !to.is_directory(path) {
            directories.push(path);
        }
        to.make_directories(path)
    });
    if let Err(why) = copied {
        // That something cannot be removed is not what went wrong.
        for path in &files {
            let _ = to.clear(path);
        }
        for path in directories.into_iter().rev() {
            to.remove_if_empty(path);
        }
        return Err(why);
    }
    Ok(files)
}

/// Everything of a reference but what git and builds have there, relative to it; each of a kind that can
/// be copied.
fn paths_of_reference(from: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let is_source = |entry: &DirEntry| {
        let name = entry.file_name();
        name != ".git" && !(entry.depth() == 1 && name == ".avocado")
    };
    let root = trees::of_project(from)?;
    let walk = WalkDir::new(from).min_depth(1).sort_by_file_name();
    let mut paths = Vec::new();
    for entry in walk.into_iter().filter_entry(is_source) {
        let entry = entry.map_err(std::io::Error::from).at("read", from)?;
        let path = entry.path().strip_prefix(from).unwrap_or(entry.path());
        trees::refuse_special(entry.path(), entry.file_type())?;
        if entry.path_is_symlink() {
            let target = fs::read_link(entry.path()).at("read", entry.path())?;
            // What it leads to by way of other links counts too, where that is there.
            let found = fs::canonicalize(entry.path());
            let is_inside = found.map_or(true, |found| found.starts_with(&root));
            if !is_inside || !trees::link_stays_inside(path, &target) {
                return Err(BuildError::Invalid(format!(
                    "the reference has a link at {} that leads out of it, to {}",
                    path.display(),
                    target.display()
                )));
            }
        }
        paths.push(path.to_owned());
    }
    Ok(paths)
}

/// git leaves their directories empty.
fn tell_of_submodules(root: &Path, name: &Name, sink: &dyn Sink) {
    let text = fs::read_to_string(root.join(".gitmodules")).unwrap_or_default();
    let paths = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("path"));
    let paths = paths.filter_map(|rest| rest.trim_start().strip_prefix('='));
    for path in paths.map(str::trim) {
        if Path::new(path).starts_with(name.as_str()) {
            sink.emit(Event::warning(format!(
                "{path} is a repository of its own (a submodule), which is not fetched: clone it there"
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_copied_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir_all(at("from/new/deep")).unwrap();
        fs::create_dir_all(at("from/own")).unwrap();
        fs::create_dir_all(at("to/own")).unwrap();
        fs::write(at("from/new/deep/a"), "a").unwrap();
        fs::write(at("from/own/b"), "b").unwrap();
        fs::write(at("to/own/mine"), "mine").unwrap();
        let to = Tree::open(&at("to")).unwrap();
        // The last of them went away since it was looked at.
        let paths = ["new", "new/deep", "new/deep/a", "own", "own/b", "own/gone"];
        let paths: Vec<PathBuf> = paths.map(PathBuf::from).into();
        assert!(copy_whole(&at("from"), &to, &paths).is_err());
        let left = trees::paths_of(&at("to")).unwrap();
        assert_eq!(left, ["", "own", "own/mine"].map(PathBuf::from));

        let copied = copy_whole(&at("from"), &to, &paths[..5]).unwrap();
        assert_eq!(copied, ["new/deep/a", "own/b"].map(PathBuf::from));
        assert_eq!(fs::read(at("to/own/b")).unwrap(), b"b");
    }

    #[test]
    fn what_cannot_be_copied_is_found_before_anything_is() {
        let directory = tempfile::tempdir().unwrap();
        let reference = directory.path().join("refs/hello");
        fs::create_dir_all(&reference).unwrap();
        fs::write(reference.join("avocado.yaml"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(reference.join("z")).unwrap();
        let why = paths_of_reference(&reference).unwrap_err().to_string();
        assert!(why.contains("z is a socket"), "{why}");
    }

    #[test]
    fn a_checkout_is_in_a_directory_that_nobody_had() {
        let place = tempfile::tempdir().unwrap();
        let first = new_checkout(place.path()).unwrap();
        fs::write(first.join("x"), "").unwrap();
        let second = new_checkout(place.path()).unwrap();
        assert_ne!(first, second);
        assert!(first.join("x").exists());
    }
}
