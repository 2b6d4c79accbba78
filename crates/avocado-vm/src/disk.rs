//! The guest's `/var`: a disk image that starts as a copy of the image's seed and then is the
//! user's. It is never half there, never shrunk, and replaced only on request.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use avocado_events::{Event, Sink, StepStatus};
use avocado_fs::PendingFile;
use avocado_manifest::VmRole;

use crate::dir::{self, StateDir};
use crate::error::VmError;
use crate::files;
use crate::image::{self, ImageDir};

/// The size that a new `/var` can grow to, unless told otherwise.
pub const DEFAULT_VAR_SIZE: u64 = 50 << 30;

/// The step that is reported.
const STEP: &str = "prepare /var";

/// How much is read at once.
const BUFFER: usize = 1 << 20;
/// What is all zeros in this unit becomes a hole.
const BLOCK: usize = 64 << 10;

/// Sees to it that there is a `/var` of at least `size` bytes. The caller holds the lock.
/// Answers whether it is a new one.
///
/// # Errors
/// When the seed is missing or the disk cannot be written; what was there is still there then.
pub fn prepare_var(
    dir: &StateDir,
    image: &ImageDir,
    size: u64,
    sink: &dyn Sink,
) -> Result<bool, VmError> {
    let path = dir.file(dir::StateFile::Var);
    if !path.exists() {
        reset_var(dir, image, size, sink)?;
        return Ok(true);
    }
    grow(&path, size)?;
    Ok(false)
}

/// Replaces `/var` by a fresh copy of the image's seed. The caller holds the lock.
///
/// # Errors
/// As [`prepare_var`].
pub fn reset_var(
    dir: &StateDir,
    image: &ImageDir,
    size: u64,
    sink: &dyn Sink,
) -> Result<(), VmError> {
    let seed = image.path(VmRole::Var)?;
    remove_leftovers(dir)?;
    sink.emit(Event::step(STEP, StepStatus::Running, ""));
    let result = check_seed(image, &seed, sink).and_then(|()| {
        copy(
            &seed,
            &dir.file(dir::StateFile::Var),
            size,
            |done, total| {
                sink.emit(Event::bytes(STEP, "var", done, Some(total)));
            },
        )
    });
    sink.emit(match &result {
        Ok(()) => Event::step(STEP, StepStatus::Success, ""),
        Err(e) => Event::step(STEP, StepStatus::Failed, e.to_string()),
    });
    result
}

/// A seed of another version is no error: an update leaves the one that is there.
fn check_seed(image: &ImageDir, seed: &Path, sink: &dyn Sink) -> Result<(), VmError> {
    let found = image::digest(seed, |_, _| {})?;
    let expected = image.manifest().artifact(VmRole::Var);
    if expected.is_ok_and(|artifact| artifact.sha256 != found) {
        sink.emit(Event::warning(format!(
            "{} is not the /var that came with this version of the image",
            seed.display()
        )));
    }
    Ok(())
}

fn grow(path: &Path, size: u64) -> Result<(), VmError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(VmError::file("open", path))?;
    let found = file.metadata().map_err(VmError::file("look at", path))?;
    if !found.is_file() {
        let source = io::Error::other("it is no regular file");
        return Err(VmError::file("use", path)(source));
    }
    if found.len() < size {
        let grown = file.set_len(size).and_then(|()| file.sync_all());
        grown.map_err(|e| files::write_error(path, size, e))?;
    }
    Ok(())
}

/// Copies a disk image, with at least `size` bytes. Nothing is at `to` before all of it is.
fn copy(from: &Path, to: &Path, size: u64, progress: impl Fn(u64, u64)) -> Result<(), VmError> {
    let mut source = File::open(from).map_err(VmError::file("read", from))?;
    let found = source.metadata().map_err(VmError::file("look at", from))?;
    let length = found.len();
    let mut write = || -> io::Result<PendingFile> {
        let target = files::PRIVATE.create(to).map_err(|error| error.source)?;
        if !reflink(&source, target.file()) {
            copy_bytes(&mut source, target.file(), |done| progress(done, length))?;
        }
        target.file().set_len(length.max(size))?;
        Ok(target)
    };
    let written = write().and_then(|target| target.commit().map_err(|error| error.source));
    written.map_err(|error| files::write_error(to, length, error))
}

/// Shares the blocks of the source where the file system can.
fn reflink(source: &File, target: &File) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return rustix::fs::ioctl_ficlone(target, source).is_ok();
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        _ = (source, target);
        false
    }
}

/// Copies everything but zeros: the target is new, and reads as zeros where nothing was written.
fn copy_bytes(source: &mut File, mut target: &File, progress: impl Fn(u64)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut done = 0;
    loop {
        let n = match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let mut at = done;
        for block in buffer.get(..n).unwrap_or_default().chunks(BLOCK) {
            if block.iter().any(|byte| *byte != 0) {
                target.seek(SeekFrom::Start(at))?;
                target.write_all(block)?;
            }
            at += block.len() as u64;
        }
        done = at;
        progress(done);
    }
}

/// Removes what a copy that was killed left behind. The caller holds the lock.
fn remove_leftovers(dir: &StateDir) -> Result<(), VmError> {
    let prefix = format!(".{}.", dir::StateFile::Var.name());
    let Ok(entries) = fs::read_dir(dir.root()) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(&prefix) {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use avocado_events::Silent;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Place(tempfile::tempdir().unwrap());
            image::tests::make(&place.image(), "1");
            place.dir().create().unwrap();
            place
        }

        fn dir(&self) -> StateDir {
            StateDir::new(self.0.path().join("vm"))
        }

        fn image(&self) -> std::path::PathBuf {
            self.0.path().join("image")
        }

        fn load(&self) -> ImageDir {
            ImageDir::load(&self.image()).unwrap()
        }

        fn var(&self) -> std::path::PathBuf {
            self.dir().file(dir::StateFile::Var)
        }
    }

    #[test]
    fn it_is_seeded_once_and_only_grows() {
        let place = Place::new();
        assert!(prepare_var(&place.dir(), &place.load(), 1 << 20, &Silent).unwrap());
        let bytes = fs::read(place.var()).unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        assert!(bytes.starts_with(b"var of 1"));
        fs::write(place.var(), "the user's").unwrap();
        for (size, length) in [(4096, 4096), (1000, 4096), (8192, 8192)] {
            assert!(!prepare_var(&place.dir(), &place.load(), size, &Silent).unwrap());
            let bytes = fs::read(place.var()).unwrap();
            assert!(bytes.starts_with(b"the user's") && bytes.len() == length);
        }
        reset_var(&place.dir(), &place.load(), 4096, &Silent).unwrap();
        assert!(fs::read(place.var()).unwrap().starts_with(b"var of 1"));
        assert_eq!(fs::read_dir(place.dir().root()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn holes_stay_holes_and_the_disk_is_private() {
        use std::os::unix::fs::{FileExt, MetadataExt};
        let place = Place::new();
        let seed = place.image().join("var.img");
        let file = File::create(&seed).unwrap();
        file.set_len(64 << 20).unwrap();
        for at in [0_u64, 5 << 20, (64 << 20) - 7] {
            file.write_all_at(b"seven !", at).unwrap();
        }
        reset_var(&place.dir(), &place.load(), 0, &Silent).unwrap();
        assert_eq!(fs::read(place.var()).unwrap(), fs::read(&seed).unwrap());
        let found = fs::metadata(place.var()).unwrap();
        assert!(found.blocks() * 512 < 4 << 20, "{} blocks", found.blocks());
        assert_eq!(found.mode() & 0o777, 0o600);
    }

    #[test]
    fn a_failed_copy_leaves_what_was_there() {
        let place = Place::new();
        fs::write(place.var(), "the user's").unwrap();
        fs::remove_file(place.image().join("var.img")).unwrap();
        assert!(reset_var(&place.dir(), &place.load(), 0, &Silent).is_err());
        assert_eq!(fs::read(place.var()).unwrap(), b"the user's");
        assert_eq!(fs::read_dir(place.dir().root()).unwrap().count(), 1);
    }

    /// A file system that is too small, where we may make one.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_named_and_nothing_is_half() {
        let place = Place::new();
        let full = place.0.path().join("small");
        fs::create_dir(&full).unwrap();
        let options = c"size=1m,mode=0700";
        let mounted = rustix::mount::mount(
            "tmpfs",
            &full,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            options,
        );
        if let Err(e) = mounted {
            avocado_test_support::skip("a_full_disk_is_named_and_nothing_is_half", e);
            return;
        }
        fs::write(place.image().join("var.img"), vec![1; 4 << 20]).unwrap();
        let dir = StateDir::new(&full);
        let error = prepare_var(&dir, &place.load(), 0, &Silent).unwrap_err();
        let left = fs::read_dir(&full).unwrap().count();
        rustix::mount::unmount(&full, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert!(matches!(error, VmError::NoSpace { .. }), "{error}");
        assert_eq!(left, 0);
    }

    #[test]
    fn another_seed_is_told() {
        let place = Place::new();
        fs::write(place.image().join("var.img"), "var of 0").unwrap();
        let said = std::sync::Mutex::new(Vec::new());
        let sink = |event: Event| said.lock().unwrap().push(event);
        reset_var(&place.dir(), &place.load(), 0, &sink).unwrap();
        let said = said.into_inner().unwrap();
        let warned = |e: &Event| e.kind == avocado_events::EventKind::Warning;
        assert_eq!(said.iter().filter(|e| warned(e)).count(), 1);
    }

    #[test]
    fn leftovers_go() {
        let place = Place::new();
        prepare_var(&place.dir(), &place.load(), 0, &Silent).unwrap();
        fs::write(place.dir().root().join(".var.btrfs.abc"), "half").unwrap();
        reset_var(&place.dir(), &place.load(), 0, &Silent).unwrap();
        assert_eq!(fs::read_dir(place.dir().root()).unwrap().count(), 1);
    }
}
