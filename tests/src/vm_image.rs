//! The image of the development VM: `examples/vm`, built once and kept in the cache.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, DigestHasher};
use avocado_serve::ServeOptions;
use rustix::fs::{FlockOperation, flock};

use crate::HarnessError;
use crate::error::file;
use crate::feed::SampleFeed;
use crate::project::TestProject;
use crate::tools::{ToolCall, cache_dir, source_root, static_binary};

/// The image of the development VM. While this lives no other test process replaces it.
#[derive(Debug)]
pub struct VmImage {
    directory: PathBuf,
    _lock: File,
}

impl VmImage {
    /// The image that follows from the sample feed, the example and the programs as they are now:
    /// the one in the cache, or else a new one. The first takes minutes, the next no time.
    ///
    /// # Errors
    /// The programs are not built, or a build failed.
    pub fn ensure() -> Result<Self, HarnessError> {
        let cache = cache_dir();
        let feed = cache.join("feed");
        SampleFeed::build(&feed, &static_binary("avocadoctl")?, &cache)?;
        let example = source_root().join("examples/vm");
        let key = key(&feed, &example)?;

        let place = cache.join("vm-image");
        fs::create_dir_all(&place).map_err(file("make", &place))?;
        let path = place.join("lock");
        let lock = File::create(&path).map_err(file("make", &path))?;
        let known = place.join("key");
        let directory = place.join("vm");
        let is_current = || fs::read_to_string(&known).is_ok_and(|text| text == key);

        flock(&lock, FlockOperation::LockShared).map_err(file("lock", &path))?;
        if !is_current() {
            flock(&lock, FlockOperation::Unlock).map_err(file("unlock", &path))?;
            flock(&lock, FlockOperation::LockExclusive).map_err(file("lock", &path))?;
            // Another test process may have been faster.
            if !is_current() {
                build(&place, &example, &feed)?;
                fs::write(&known, &key).map_err(file("write", &known))?;
            }
            flock(&lock, FlockOperation::LockShared).map_err(file("lock", &path))?;
        }
        let _lock = lock;
        Ok(VmImage { directory, _lock })
    }

    /// The directory with `manifest.json` and the files that it names.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Names everything that shapes the image.
fn key(feed: &Path, example: &Path) -> Result<String, HarnessError> {
    let feed = feed.join("feed-id");
    let id = fs::read_to_string(&feed).map_err(file("read", &feed))?;
    let program = static_binary("avocado")?;
    let metadata = program.metadata().map_err(file("read", &program))?;
    let example = digest(example)?;
    Ok(format!(
        "{} {example} {} {}",
        id.trim(),
        metadata.len(),
        metadata.mtime()
    ))
}

/// Digest of the names and contents of the files in `directory` that belong to a project.
fn digest(directory: &Path) -> Result<Digest, HarnessError> {
    let entries = fs::read_dir(directory).map_err(file("read", directory))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut hasher = DigestHasher::default();
    for path in paths {
        if path.ends_with(".avocado") {
            continue;
        }
        let digest = if path.is_dir() {
            digest(&path)?
        } else {
            Digest::of(&fs::read(&path).map_err(file("read", &path))?)
        };
        let name = path.file_name().unwrap_or_default();
        hasher.update(format!("{} {digest}\n", name.display()).as_bytes());
    }
    Ok(hasher.finish())
}

/// Builds the example in `place/project` and puts its image at `place/vm`.
fn build(place: &Path, example: &Path, feed: &Path) -> Result<(), HarnessError> {
    let project = place.join("project");
    for path in [&project, &place.join("vm")] {
        if path.exists() {
            fs::remove_dir_all(path).map_err(file("remove", path))?;
        }
    }
    ToolCall::new("cp")
        .arg("-a")
        .arg(example)
        .arg(&project)
        .ok()?;
    let state = project.join(".avocado");
    if state.exists() {
        fs::remove_dir_all(&state).map_err(file("remove", &state))?;
    }
    let feed = SampleFeed::serve(ServeOptions::new(feed))?;
    let project = TestProject::new(&project, &feed.url(), &place.join("keys"))?;
    project.avocado(&["build"]).ok()?;
    // Of the project nothing but the image is needed any more.
    let image = project.state().join("output/runtimes/vm/vm");
    let to = place.join("vm");
    fs::rename(&image, &to).map_err(file("move", &image))?;
    fs::remove_dir_all(project.directory()).map_err(file("remove", project.directory()))
}
