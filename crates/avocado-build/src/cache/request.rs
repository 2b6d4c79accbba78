//! The child's side: results are packed and put at their places where they are made, for only there
//! everything of a tree can be read and written.

use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use avocado_cache::{BlobId, CachedFile, CachedForm};
use avocado_engine::FileContent;
use avocado_fs::{LockPlace, leads_below};
use serde::{Deserialize, Serialize};

use crate::error::{At as _, BuildError};
use crate::file_digest::FileDigest;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::archive::{self, ArchivedDevices};
use crate::trees::{self, Tree};

/// How hard zstd tries: a tree is on its way sooner than with more.
const LEVEL: i32 = 3;

/// Packs what a step left.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PackRequest {
    /// Relative to the prefix.
    pub(super) paths: Vec<PathBuf>,
    /// Where what is packed goes, relative to the prefix.
    pub(super) to: PathBuf,
    /// What is known of the content of some of them.
    pub(super) contents: Vec<FileContent>,
}

/// What was packed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PackedResult {
    pub(super) files: Vec<PackedFile>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PackedFile {
    pub(super) file: CachedFile,
    /// Where its bytes are, relative to the prefix.
    pub(super) bytes: PathBuf,
}

impl StepRequest for PackRequest {
    const KIND: &'static str = "pack_result";
    type Result = PackedResult;

    fn work(self, context: &StepContext<'_>) -> Result<PackedResult, BuildError> {
        let prefix = context.layout.prefix();
        let to = prefix.join(&self.to);
        fs::create_dir_all(&to).at("create", &to)?;
        let mut files = Vec::new();
        for (nth, path) in self.paths.iter().enumerate() {
            let place = prefix.join(path);
            check_content(&self.contents, path, &place)?;
            let metadata = place.symlink_metadata().at("look at", &place)?;
            let shown = path.to_str().ok_or_else(|| {
                BuildError::Invalid(format!("{} has no name in UTF-8", place.display()))
            })?;
            let is_sparse = metadata.blocks() * 512 < metadata.len();
            let form = if metadata.is_dir() {
                CachedForm::Tree
            } else if !metadata.is_file() {
                let what = format!("{} is neither a file nor a directory", place.display());
                return Err(BuildError::Invalid(what));
            } else if is_sparse {
                CachedForm::SparseFile
            } else {
                CachedForm::File
            };
            let (bytes, unpacked) = match form {
                CachedForm::File => (path.clone(), metadata.len()),
                CachedForm::SparseFile | CachedForm::Tree => {
                    let packed = self.to.join(nth.to_string());
                    let unpacked = compress(&place, form, &prefix.join(&packed))?;
                    (packed, unpacked)
                }
            };
            let blob = FileDigest::of(&prefix.join(&bytes))?;
            let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
            files.push(PackedFile {
                file: CachedFile {
                    path: shown.to_owned(),
                    form,
                    blob: BlobId {
                        sha256: blob.sha256,
                        size: blob.size,
                    },
                    unpacked,
                    mode: metadata.mode() & 0o7777,
                    modified: (metadata.mtime(), nanoseconds),
                },
                bytes,
            });
        }
        Ok(PackedResult { files })
    }
}

/// Makes sure that a file has the content that the output of its step says: what carries a signature is
/// what was made.
fn check_content(contents: &[FileContent], path: &Path, place: &Path) -> Result<(), BuildError> {
    let mut stated = contents.iter().filter(|content| content.path == *path);
    let Some(stated) = stated.next() else {
        return Ok(());
    };
    if FileDigest::of(place)?.sha256 == stated.sha256 {
        return Ok(());
    }
    let what = format!("{} is not the file that the step made", path.display());
    Err(BuildError::Invalid(what))
}

/// Compresses a file or a tree. Returns how many bytes it has.
fn compress(place: &Path, form: CachedForm, to: &Path) -> Result<u64, BuildError> {
    let file = File::create(to).at("create", to)?;
    let encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL);
    let mut encoder = encoder.at("write", to)?;
    let length = match form {
        CachedForm::Tree => archive::pack(place, &[], ArchivedDevices::Kept, &mut encoder)?.bytes,
        CachedForm::File | CachedForm::SparseFile => {
            let mut file = File::open(place).at("open", place)?;
            io::copy(&mut file, &mut encoder).at("pack", place)?
        }
    };
    let written = encoder.finish().and_then(|mut writer| writer.flush());
    written.at("write", to)?;
    Ok(length)
}

/// Puts what was fetched where a step would have left it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PlaceRequest {
    pub(super) files: Vec<PackedFile>,
    /// What the output says of the content of some of them.
    pub(super) contents: Vec<FileContent>,
}

impl StepRequest for PlaceRequest {
    const KIND: &'static str = "place_result";
    type Result = ();

    fn work(self, context: &StepContext<'_>) -> Result<(), BuildError> {
        // All of it is made, and looked at, before the first has its place.
        for packed in &self.files {
            packed.place(context)?;
            packed.unpack(context)?;
            let path = Path::new(&packed.file.path);
            check_content(&self.contents, path, &packed.unfinished(context))?;
        }
        for packed in &self.files {
            packed.replace(context)?;
        }
        Ok(())
    }
}

impl PackedFile {
    fn place(&self, context: &StepContext<'_>) -> Result<PathBuf, BuildError> {
        if !leads_below(Path::new(&self.file.path)) {
            let what = format!("{} leads out of the state of the target", self.file.path);
            return Err(BuildError::Invalid(what));
        }
        Ok(context.layout.prefix().join(&self.file.path))
    }

    /// Made in the directory of the blobs: that of its place may be shared with other steps.
    fn unfinished(&self, context: &StepContext<'_>) -> PathBuf {
        let bytes = context.layout.prefix().join(&self.bytes);
        trees::unfinished(&bytes)
    }

    fn unpack(&self, context: &StepContext<'_>) -> Result<(), BuildError> {
        let bytes = context.layout.prefix().join(&self.bytes);
        let new = self.unfinished(context);
        trees::clear(&new)?;
        let CachedFile { form, unpacked, .. } = self.file;
        if form == CachedForm::Tree {
            let file = File::open(&bytes).at("open", &bytes)?;
            let decoder = zstd::Decoder::new(file).at("read", &bytes)?;
            let tree = Tree::fresh(&new)?;
            let devices = ArchivedDevices::Kept;
            return archive::unpack(BufReader::new(decoder), &tree, unpacked, devices);
        }
        if form == CachedForm::File {
            fs::rename(&bytes, &new).at("move", &bytes)?;
        } else {
            let file = File::open(&bytes).at("open", &bytes)?;
            let decoder = zstd::Decoder::new(file).at("read", &bytes)?;
            let to = File::create_new(&new).at("create", &new)?;
            let mut limited = decoder.take(unpacked.saturating_add(1));
            let length = archive::copy_with_holes(&mut limited, &to).at("write", &new)?;
            if length != unpacked {
                let what = format!("{} is not what its entry says", self.file.path);
                return Err(BuildError::Invalid(what));
            }
        }
        let file = File::open(&new).at("open", &new)?;
        let mode = Permissions::from_mode(self.file.mode & 0o7777);
        file.set_permissions(mode).at("set the mode of", &new)?;
        let times = FileTimes::new().set_modified(time(self.file.modified));
        file.set_times(times).at("set the time of", &new)
    }

    fn replace(&self, context: &StepContext<'_>) -> Result<(), BuildError> {
        let place = self.place(context)?;
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).at("create", parent)?;
        }
        // Two installs may bring the same kernel.
        let lock = context.layout.kernel_lock();
        let is_kernel = Path::new(&self.file.path).starts_with("kernel");
        let _lock = is_kernel
            .then(|| LockPlace::file(&lock).lock())
            .transpose()?;
        trees::replace(&self.unfinished(context), &place)
    }
}

fn time((seconds, nanoseconds): (i64, u32)) -> SystemTime {
    let fraction = Duration::from_nanos(nanoseconds.into());
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    let time = base.and_then(|base| base.checked_add(fraction));
    time.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use avocado_events::Silent;
    use avocado_manifest::Digest;

    use super::*;
    use crate::layout::Layout;
    use crate::trees::CopyModes;

    struct Place {
        directory: tempfile::TempDir,
        layout: Layout,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let state = directory.path().join("project/.avocado/state");
            let layout = Layout::new(&state, &"t".parse().unwrap());
            fs::create_dir_all(layout.prefix().join("output")).unwrap();
            fs::create_dir_all(layout.cache_work().join("0")).unwrap();
            Place { directory, layout }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.layout.prefix().join(path)
        }

        fn work<R: StepRequest>(&self, request: R) -> Result<R::Result, BuildError> {
            let context = StepContext {
                search_path: "/usr/bin:/bin".into(),
                target: "t".parse().unwrap(),
                layout: self.layout.clone(),
                host_layout: self.layout.clone(),
                epoch: 1,
                modes: CopyModes::Keep,
                sink: &Silent,
                loop_mounts: None,
            };
            request.work(&context)
        }

        /// Packs a file that its step is said to have made of `content`.
        fn pack(&self, path: &str, content: &[u8]) -> Result<Vec<PackedFile>, BuildError> {
            let request = PackRequest {
                paths: vec![path.into()],
                to: ".work/cache/0".into(),
                contents: contents(path, content),
            };
            Ok(self.work(request)?.files)
        }

        /// What is in `content` arrived as the file `path`.
        fn arrived(&self, path: &str, content: &[u8]) -> PackedFile {
            let bytes = PathBuf::from(".work/cache/0/0");
            fs::write(self.layout.prefix().join(&bytes), content).unwrap();
            let blob = BlobId {
                sha256: Digest::of(content),
                size: content.len() as u64,
            };
            PackedFile {
                file: CachedFile {
                    path: path.to_owned(),
                    form: CachedForm::File,
                    blob,
                    unpacked: blob.size,
                    mode: 0o644,
                    modified: (1, 0),
                },
                bytes,
            }
        }

        fn put(&self, packed: PackedFile, contents: Vec<FileContent>) -> Result<(), BuildError> {
            let files = vec![packed];
            self.work(PlaceRequest { files, contents })
        }
    }

    fn contents(path: &str, content: &[u8]) -> Vec<FileContent> {
        vec![FileContent {
            path: path.into(),
            sha256: Digest::of(content),
        }]
    }

    #[test]
    fn nothing_has_its_place_outside_of_the_state_of_the_target() {
        let place = Place::new();
        let absolute = place.directory.path().join("absolute");
        for path in [
            "../x",
            "../../../../x",
            "output/../../x",
            "..",
            ".",
            "",
            absolute.to_str().unwrap(),
        ] {
            let error = place.put(place.arrived(path, b"x"), Vec::new());
            let error = error.unwrap_err().to_string();
            assert!(error.contains("leads out of the state"), "{path}: {error}");
        }
        assert!(!absolute.exists() && !place.path("../x").exists());
        assert!(!place.directory.path().join("x").exists());
        place
            .put(place.arrived("output/x", b"x"), Vec::new())
            .unwrap();
        assert_eq!(fs::read(place.path("output/x")).unwrap(), b"x");
    }

    /// Another process may have changed it since, and a signature would be over that.
    #[test]
    fn what_is_not_what_the_step_made_goes_to_nobody() {
        let place = Place::new();
        fs::write(place.path("output/x"), "made").unwrap();
        place.pack("output/x", b"made").unwrap();
        fs::write(place.path("output/x"), "hidden").unwrap();
        let error = place.pack("output/x", b"made").unwrap_err();
        assert!(error.to_string().contains("output/x is not the file"));
    }

    #[test]
    fn what_is_not_what_the_output_says_has_no_place() {
        let place = Place::new();
        fs::write(place.path("output/x"), "earlier").unwrap();
        let other = place.arrived("output/x", b"other");
        let error = place.put(other, contents("output/x", b"made")).unwrap_err();
        assert!(error.to_string().contains("output/x is not the file"));
        assert_eq!(fs::read(place.path("output/x")).unwrap(), b"earlier");

        // A file with holes has another blob than its bytes, and is held against the same digest.
        let file = File::create(place.path("output/x")).unwrap();
        file.set_len(1 << 20).unwrap();
        let content = vec![0; 1 << 20];
        let packed = place.pack("output/x", &content).unwrap().remove(0);
        assert_eq!(packed.file.form, CachedForm::SparseFile);
        fs::write(place.path("output/x"), "earlier").unwrap();
        let wrong = place.put(packed.clone(), contents("output/x", b"made"));
        wrong.unwrap_err();
        assert_eq!(fs::read(place.path("output/x")).unwrap(), b"earlier");
        place.put(packed, contents("output/x", &content)).unwrap();
        assert!(fs::read(place.path("output/x")).unwrap() == content);
    }
}
