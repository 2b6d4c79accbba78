//! What is in an image: known by its first bytes, unpacked by the tool for its format, or read in
//! process where it is an archive.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use avocado_backend::Tool;
use avocado_sbom::{ImageInventory, InventoryFile};
use ring::digest::{Context, SHA256, SHA512};
use std::os::unix::fs::MetadataExt as _;
use walkdir::WalkDir;

use super::cpio_reader;
use super::path_text;
use crate::error::{At as _, BuildError};
use crate::step_context::StepContext;
use crate::trees;

/// The digests of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileHashes {
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) sha512: String,
}

pub(super) fn hashes_of(path: &Path) -> Result<FileHashes, BuildError> {
    let file = File::open(path).at("open", path)?;
    hashes(file).at("read", path)
}

/// Those of everything that a reader still has.
pub(super) fn hashes(mut reader: impl Read) -> io::Result<FileHashes> {
    let (mut sha256, mut sha512) = (Context::new(&SHA256), Context::new(&SHA512));
    let mut buffer = vec![0; avocado_manifest::Digest::BUFFER_LENGTH];
    let mut size = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                sha256.update(&buffer[..n]);
                sha512.update(&buffer[..n]);
                size += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(FileHashes {
        size,
        sha256: hexadecimal(sha256.finish().as_ref()),
        sha512: hexadecimal(sha512.finish().as_ref()),
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The formats of images, by what they begin with.
enum ImageFormat {
    Erofs,
    Squashfs,
    Archive,
}

impl ImageFormat {
    fn of(path: &Path) -> Result<Self, BuildError> {
        let mut begin = Vec::new();
        let file = File::open(path).at("open", path)?;
        file.take(1028).read_to_end(&mut begin).at("read", path)?;
        if begin.get(1024..1028) == Some(&[0xe2, 0xe1, 0xf5, 0xe0]) {
            Ok(ImageFormat::Erofs)
        } else if begin.starts_with(b"hsqs") {
            Ok(ImageFormat::Squashfs)
        } else {
            // Whose reader says what is wrong with it.
            Ok(ImageFormat::Archive)
        }
    }
}

/// Where an image is unpacked.
const PLACE: &str = "sbom-image";

/// Everything that is in an image.
pub(crate) fn read(context: &StepContext<'_>, path: &Path) -> Result<ImageInventory, BuildError> {
    let format = ImageFormat::of(path)?;
    let place = context.layout.work(PLACE);
    let tool = match format {
        ImageFormat::Archive => return cpio_reader::read(path),
        ImageFormat::Erofs => {
            let mut extract = std::ffi::OsString::from("--extract=");
            extract.push(&place);
            Tool::new("fsck.erofs").arg(extract).arg(path)
        }
        ImageFormat::Squashfs => Tool::new("unsquashfs")
            .args(["-no-progress", "-no-xattrs", "-quiet", "-dest"])
            .arg(&place)
            .arg(path),
    };
    trees::clear(&place)?;
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    tool.run(context.sink)?;
    let inventory = of_tree(&place)?;
    trees::clear(&place)?;
    Ok(inventory)
}

fn of_tree(root: &Path) -> Result<ImageInventory, BuildError> {
    let mut inventory = ImageInventory::default();
    let mut files: Vec<(PathBuf, u32)> = Vec::new();
    for entry in WalkDir::new(root).min_depth(1) {
        let entry = entry.map_err(|e| BuildError::Io {
            action: "read",
            path: e.path().unwrap_or(root).to_owned(),
            source: e.into(),
        })?;
        let path = entry.path();
        if entry.file_type().is_symlink() {
            let target = fs::read_link(path).at("read", path)?;
            let name = path_text(path.strip_prefix(root).unwrap_or(path));
            inventory.links.insert(name, path_text(&target));
        } else if entry.file_type().is_file() {
            let metadata = path.symlink_metadata().at("read", path)?;
            files.push((path.to_owned(), metadata.mode() & 0o7777));
        }
    }
    inventory.files = hash_all(root, &files)?;
    Ok(inventory)
}

/// The files, read by all processors.
fn hash_all(root: &Path, files: &[(PathBuf, u32)]) -> Result<Vec<InventoryFile>, BuildError> {
    let left = Mutex::new(files.iter());
    let next = || left.lock().ok().and_then(|mut left| left.next());
    let work = || {
        let mut done = Vec::new();
        while let Some((path, mode)) = next() {
            let hashes = hashes_of(path)?;
            done.push(InventoryFile {
                path: path_text(path.strip_prefix(root).unwrap_or(path)),
                size: hashes.size,
                mode: *mode,
                sha256: hashes.sha256,
                sha512: hashes.sha512,
            });
        }
        Ok::<_, BuildError>(done)
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut all = Vec::new();
    thread::scope(|scope| {
        let started: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in started {
            let done = worker.join().map_err(|_| {
                BuildError::Invalid(format!("a reader of {} failed", root.display()))
            })?;
            all.extend(done?);
        }
        Ok::<_, BuildError>(())
    })?;
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}
