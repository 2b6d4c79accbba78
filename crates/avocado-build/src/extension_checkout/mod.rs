//! Copying something of an extension's built tree back into the sources of its project, to change it
//! there.

#[cfg(test)]
mod tests;

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::{Digest, Name};
use avocado_project::Project;
use rustix::fs::{FileType, Stat};

use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::project_lock::lock_project;
use crate::trees::{self, CopyModes, Tree, is};

/// What is copied, and to where.
#[derive(Debug, Clone, Copy)]
pub struct CheckedOut<'a> {
    /// Whose tree it is of.
    pub extension: &'a Name,
    /// Where it is in that tree.
    pub from: &'a Path,
    /// Where it goes, relative to the source directory.
    pub to: &'a Path,
    /// Whether it takes the place of other files.
    pub replace: bool,
}

/// Copies it, and answers with the paths of what was written. What is in the sources already stays
/// as it is; unless everything can be written nothing is.
///
/// # Errors
/// [`BuildError::WouldReplace`] where other files are in the way; where either path leads elsewhere, and
/// when something cannot be read or written.
pub fn checkout_extension(
    project: &Project,
    wanted: &CheckedOut<'_>,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Vec<PathBuf>, BuildError> {
    let layout = Layout::new(&project.state_dir(), &project.target);
    let _lock = lock_project(&layout, cancel, sink)?;
    let tree = Tree::open(&layout.extension(wanted.extension))?;
    let root = trees::of_project(&project.src_dir)?;
    let copy = SourceCopy {
        owner: owner_of(&root)?,
        sources: Tree::open(&root)?,
    };
    copy.copy(&tree, wanted, &project.src_dir, sink)
}

/// The owner of the project, where root works on it.
fn owner_of(root: &Path) -> Result<Option<Metadata>, BuildError> {
    let found = fs::metadata(root).at("look at", root)?;
    let is_of_another = rustix::process::geteuid().is_root() && found.uid() != 0;
    Ok(is_of_another.then_some(found))
}

/// The sources that something is copied to.
struct SourceCopy {
    sources: Tree,
    /// Whose what is written becomes, where that is not this user's.
    owner: Option<Metadata>,
}

/// Something to write.
enum NewFile {
    Directory,
    File { mode: u32 },
    Link { target: PathBuf },
}

impl SourceCopy {
    fn copy(
        &self,
        tree: &Tree,
        wanted: &CheckedOut<'_>,
        src_dir: &Path,
        sink: &dyn Sink,
    ) -> Result<Vec<PathBuf>, BuildError> {
        if tree.look(wanted.from)?.is_none() {
            return Err(BuildError::Invalid(format!(
                "the extension `{}` has nothing at /{}",
                wanted.extension,
                wanted
                    .from
                    .strip_prefix("/")
                    .unwrap_or(wanted.from)
                    .display()
            )));
        }
        // What a link of the tree leads to, in the tree.
        let from = tree.resolve(wanted.from)?;
        let place = self.place(wanted, &from, src_dir)?;
        let files = self.plan(&from, &place, wanted.replace)?;
        for told in trees::lost_in_clones("what is copied", &from, CopyModes::Keep)? {
            sink.emit(Event::warning(told));
        }
        let mut written = Vec::new();
        for (below, new) in files {
            let to = joined(&place, &below);
            self.write(&joined(&from, &below), &to, &new)?;
            if !matches!(new, NewFile::Directory) {
                written.push(src_dir.join(&to));
            }
        }
        Ok(written)
    }

    /// Where it goes, relative to the sources.
    fn place(
        &self,
        wanted: &CheckedOut<'_>,
        from: &Path,
        src_dir: &Path,
    ) -> Result<PathBuf, BuildError> {
        let refused = |why: &str| {
            BuildError::Invalid(format!(
                "nothing can be copied to `{}`, {why}",
                wanted.to.display()
            ))
        };
        let below = wanted.to.strip_prefix(src_dir).unwrap_or(wanted.to);
        let parts = below.components();
        let mut place: PathBuf = parts.filter(|part| *part != Component::CurDir).collect();
        let is_below = |part: Component<'_>| matches!(part, Component::Normal(_));
        if !place.components().all(is_below) {
            return Err(refused("which is not below the source directory"));
        }
        let is_file = !from.is_dir();
        let names_directory = wanted.to.as_os_str().as_encoded_bytes().ends_with(b"/")
            || place.as_os_str().is_empty()
            || self.is_directory(&place)?;
        if is_file && names_directory {
            place.push(wanted.from.file_name().unwrap_or_default());
        }
        for above in place.ancestors().skip(1) {
            if let Some(found) = self.sources.look(above)?
                && !is(&found, FileType::Directory)
            {
                let what = format!("for `{}` is no directory", above.display());
                return Err(refused(&what));
            }
        }
        Ok(place)
    }

    fn is_directory(&self, place: &Path) -> Result<bool, BuildError> {
        let found = self.sources.look(place)?;
        Ok(found.is_some_and(|found| is(&found, FileType::Directory)))
    }

    /// What is to be written, each before what is in it. Nothing is written yet.
    fn plan(
        &self,
        from: &Path,
        place: &Path,
        replace: bool,
    ) -> Result<Vec<(PathBuf, NewFile)>, BuildError> {
        let mut files = Vec::new();
        let mut others = Vec::new();
        for below in trees::paths_of(from)? {
            let (source, to) = (joined(from, &below), joined(place, &below));
            if is_no_source(&to) {
                return Err(BuildError::Invalid(format!(
                    "nothing can be copied to `{}`, which is no source of the project: it belongs \
                     to git, or to builds",
                    to.display()
                )));
            }
            let metadata = fs::symlink_metadata(&source).at("look at", &source)?;
            // The root of the sources is there.
            if to.as_os_str().is_empty() {
                continue;
            }
            let there = self.sources.look(&to)?;
            let is_directory = |found: &Stat| is(found, FileType::Directory);
            if metadata.is_dir() {
                match there {
                    Some(found) if is_directory(&found) => {}
                    Some(_) => return Err(in_the_way(&to)),
                    None => files.push((below, NewFile::Directory)),
                }
                continue;
            }
            let new = if metadata.is_symlink() {
                let target = fs::read_link(&source).at("read", &source)?;
                NewFile::Link { target }
            } else if metadata.is_file() {
                // Of its own user, who is to change it; whose file it was it may not act for.
                let mode = metadata.mode() & 0o777 | 0o600;
                NewFile::File { mode }
            } else {
                return Err(BuildError::Invalid(format!(
                    "{} is a socket, a pipe or a device, which no file of a project can be",
                    source.display()
                )));
            };
            match there {
                Some(found) if is_directory(&found) => return Err(in_the_way(&to)),
                Some(found) if self.is_same(&source, &to, &new, &found)? => continue,
                Some(_) if !replace => others.push(to),
                _ => {}
            }
            files.push((below, new));
        }
        if others.is_empty() {
            Ok(files)
        } else {
            Err(BuildError::WouldReplace { files: others })
        }
    }

    /// Whether the sources have the same at `to`, of which version control keeps no more than whether it
    /// can be executed.
    fn is_same(
        &self,
        source: &Path,
        to: &Path,
        new: &NewFile,
        found: &Stat,
    ) -> Result<bool, BuildError> {
        match new {
            NewFile::Link { target } if is(found, FileType::Symlink) => {
                let link = self.sources.shown(to);
                Ok(fs::read_link(&link).at("read", &link)? == *target)
            }
            NewFile::File { mode } if is(found, FileType::RegularFile) => {
                let Some(there) = self.sources.file(to)? else {
                    return Ok(false);
                };
                let digest = |file: File, path: &Path| Digest::of_reader(file).at("read", path);
                let file = File::open(source).at("open", source)?;
                let is_executable = |mode: u32| mode & 0o100 != 0;
                Ok(is_executable(*mode) == is_executable(found.st_mode)
                    && digest(file, source)? == digest(there, to)?)
            }
            _ => Ok(false),
        }
    }

    fn write(&self, from: &Path, to: &Path, new: &NewFile) -> Result<(), BuildError> {
        let mut made: Vec<&Path> = Vec::new();
        for above in to.ancestors().skip(1) {
            if self.sources.look(above)?.is_none() {
                made.push(above);
            }
        }
        made.push(to);
        match new {
            NewFile::Directory => self.sources.make_directories(to)?,
            NewFile::Link { target } => self.sources.symlink(target, to)?,
            NewFile::File { mode } => {
                let bytes = fs::read(from).at("read", from)?;
                self.sources.write(to, bytes, *mode)?;
            }
        }
        if let Some(owner) = &self.owner {
            for path in made {
                self.sources.set_owner(path, owner)?;
            }
        }
        Ok(())
    }
}

/// Joining nothing would leave a slash at the end.
fn joined(path: &Path, below: &Path) -> PathBuf {
    path.join(below).components().collect()
}

/// What git and builds have among the sources. git runs hooks from its own, wherever it has one, and
/// takes a file `.git` for the path of it; some file systems take any case for that name.
fn is_no_source(to: &Path) -> bool {
    let mut parts = to.components();
    let is_of_git = |part: Component<'_>| part.as_os_str().eq_ignore_ascii_case(".git");
    to.starts_with(".avocado") || parts.any(is_of_git)
}

fn in_the_way(to: &Path) -> BuildError {
    BuildError::Invalid(format!(
        "`{}` of the project is in the way: one of the two is a directory, and the other is none",
        to.display()
    ))
}
