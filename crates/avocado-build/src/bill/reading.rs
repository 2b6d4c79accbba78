//! The child's side: images and databases are read where the tools are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, Name};
use avocado_sbom::{ImageInventory, InstalledPackage};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::image_reader::{self, FileHashes};
use super::known_inventories;
use super::package_files;
use crate::error::BuildError;
use crate::layout::Layout;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::steps::install::PackageTree;
use crate::trees::{Tree, is};

/// Images to read, on the way to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageReadingRequest {
    pub(super) images: Vec<WantedImage>,
    /// The trees whose packages count as installed in those of extensions.
    pub(super) base: Vec<PackageTree>,
    /// The digest and the version of the kernel of a runtime.
    pub(super) kernel: Option<(Digest, Option<String>, Name)>,
}

/// An image, and the tree that its packages were installed to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WantedImage {
    pub(super) place: ImagePlace,
    pub(super) tree: PackageTree,
    /// What it has to be.
    pub(super) sha256: Option<Digest>,
}

/// Which image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ImagePlace {
    Os {
        part: String,
        runtime: Name,
        extension: String,
    },
    Extension {
        name: Name,
        version: Name,
    },
}

impl ImagePlace {
    fn path(&self, layout: &Layout) -> PathBuf {
        match self {
            ImagePlace::Os {
                part,
                runtime,
                extension,
            } => layout.os_image(part, runtime, extension),
            ImagePlace::Extension { name, version } => layout.extension_image(name, version),
        }
    }

    pub(super) fn file_name(&self, layout: &Layout) -> String {
        file_name(&self.path(layout))
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What was read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ImageReadings {
    /// In the order of the request.
    pub(super) images: Vec<ImageReading>,
    /// The packages of all base trees.
    pub(super) base: Vec<InstalledPackage>,
    pub(super) kernel: Option<FileReading>,
}

/// An image, and what rpm says of its tree.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImageReading {
    pub(super) file: FileReading,
    pub(super) inventory: ImageInventory,
    pub(super) packages: Vec<InstalledPackage>,
    /// Whether those of the base trees are among `packages`.
    pub(super) has_base: bool,
    /// Those of its files that are in the tree too.
    pub(super) installed: BTreeSet<String>,
}

/// A file as a whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FileReading {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) sha512: String,
}

impl FileReading {
    fn new(path: &Path, hashes: FileHashes) -> Self {
        FileReading {
            name: file_name(path),
            size: hashes.size,
            sha256: hashes.sha256,
            sha512: hashes.sha512,
        }
    }
}

impl StepRequest for ImageReadingRequest {
    const KIND: &'static str = "image_reading";
    type Result = ImageReadings;

    fn work(self, context: &StepContext<'_>) -> Result<ImageReadings, BuildError> {
        let images = self.images.iter().map(|wanted| read(context, wanted));
        let images = images.collect::<Result<_, _>>()?;
        let kernel = match &self.kernel {
            Some((digest, version, runtime)) => {
                kernel(&context.layout, digest, version.as_deref(), runtime)?
            }
            None => None,
        };
        let mut base = Vec::new();
        for tree in &self.base {
            let root = tree.root(&context.layout);
            if root.is_dir() {
                base.extend(package_files::read(context, &root)?);
            }
        }
        Ok(ImageReadings {
            images,
            base,
            kernel,
        })
    }
}

fn read(context: &StepContext<'_>, wanted: &WantedImage) -> Result<ImageReading, BuildError> {
    let layout = &context.layout;
    let path = wanted.place.path(layout);
    let shown = wanted.place.path(&context.host_layout);
    if !path.is_file() {
        return Err(BuildError::Invalid(format!(
            "there is no image {}: run `avocado build`",
            shown.display()
        )));
    }
    let hashes = image_reader::hashes_of(&path)?;
    if let Some(expected) = wanted.sha256
        && expected.to_string() != hashes.sha256
    {
        return Err(BuildError::Invalid(format!(
            "{} is not the image of the runtime's manifest any more: run `avocado build`, and then \
             again what you wanted",
            shown.display()
        )));
    }
    let inventory = known_inventories::read(context, &path, &hashes.sha256)?;
    let root = wanted.tree.root(layout);
    let (packages, installed) = if root.is_dir() {
        let packages = package_files::read(context, &root)?;
        let tree = Tree::open(&root)?;
        (packages, also_in(&tree, &inventory))
    } else {
        Default::default()
    };
    Ok(ImageReading {
        file: FileReading::new(&path, hashes),
        has_base: matches!(wanted.tree, PackageTree::Extension(_)),
        inventory,
        packages,
        installed,
    })
}

/// Where a path leads nowhere in the tree, the file came later.
fn also_in(tree: &Tree, inventory: &ImageInventory) -> BTreeSet<String> {
    let files = inventory.files.iter().map(|file| &file.path);
    let is_there = |path: &&String| match tree.look(path) {
        Ok(Some(stat)) => is(&stat, FileType::RegularFile),
        _ => false,
    };
    files.filter(is_there).cloned().collect()
}

/// The file that has the digest: the rootfs's package brought it, or a script made it.
fn kernel(
    layout: &Layout,
    digest: &Digest,
    version: Option<&str>,
    runtime: &Name,
) -> Result<Option<FileReading>, BuildError> {
    let expected = digest.to_string();
    let mut places = vec![layout.runtime_compiled(runtime)];
    places.extend(version.map(|version| layout.kernel(version)));
    for place in places {
        let entries = WalkDir::new(&place).into_iter().filter_map(Result::ok);
        for entry in entries.filter(|entry| entry.file_type().is_file()) {
            let hashes = image_reader::hashes_of(entry.path())?;
            if hashes.sha256 == expected {
                return Ok(Some(FileReading::new(entry.path(), hashes)));
            }
        }
    }
    Ok(None)
}
