//! The child's side of a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use avocado_events::Event;
use avocado_manifest::Name;
use avocado_stone::{BundleParts, BundledFile, FatImage, StoneError, StoneImage, StoneManifest};
use serde::{Deserialize, Serialize};

use super::super::os_image::OsImageOutput;
use super::super::runtime_kernel::RuntimeKernel;
use super::{BuiltOsBundle, OsBundleOutput, archive};
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::images::fat::{self, FatSpec};
use crate::layout::Layout;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::stone_files::{StoneFile, StonePlace};
use crate::trees::{self, Tree};

/// A bundle, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OsBundleRequest {
    pub(super) name: Name,
    /// The stone manifest.
    pub(super) stone: String,
    /// The files that it names.
    pub(super) files: Vec<StoneFile>,
    pub(super) images: RuntimeImages,
}

/// The images of the runtime.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RuntimeImages {
    pub(super) rootfs: OsImageOutput,
    /// The end of its file's name.
    pub(super) rootfs_kind: String,
    pub(super) initramfs: OsImageOutput,
    /// The end of its file's name.
    pub(super) initramfs_kind: String,
    pub(super) kernel: Option<RuntimeKernel>,
}

/// A file of a bundle, and where it is.
pub(super) struct BuiltArtifact {
    pub(super) path: PathBuf,
    pub(super) file: BundledFile,
}

impl StepRequest for OsBundleRequest {
    const KIND: &'static str = "os_bundle";
    type Result = OsBundleOutput;

    fn work(self, context: &StepContext<'_>) -> Result<OsBundleOutput, BuildError> {
        let layout = &context.layout;
        let stone = StoneManifest::parse(self.stone.as_bytes())?;
        let work = layout.work(&format!("os-bundle-{}", self.name));
        trees::fresh(&work)?;
        let mut artifacts = Vec::new();
        let mut named = BTreeMap::new();
        for (name, image, _) in stone.update.iter().flat_map(|update| update.artifacts()) {
            let Some(image) = stone.image(image) else {
                continue;
            };
            let path = match image {
                StoneImage::File(file) => self.find(layout, file)?,
                StoneImage::Made(fat) => self.make(context, fat, &work.join(name))?,
            };
            let content = FileDigest::of(&path)?;
            let file = BundledFile {
                file: file_name(image.file())?,
                sha256: content.sha256,
                size: content.size,
            };
            named.insert(name.to_owned(), file.clone());
            artifacts.push(BuiltArtifact { path, file });
        }
        let initramfs_build_id = self.images.initramfs.stated_build_id();
        if initramfs_build_id.is_none() {
            context.sink.emit(Event::warning(format!(
                "the initramfs of `{}` has no usr/lib/initrd-release, in which it could say what build it \
                 is: devices do not notice an update in which it alone is another one",
                self.name
            )));
        }
        let parts = BundleParts {
            os_build_id: self.os_build_id()?,
            initramfs_build_id,
            artifacts: named,
        };
        let description = stone.bundle(&parts)?;
        let place = layout.os_bundle(&self.name);
        let new = trees::unfinished(&place);
        let description = description.to_json().map_err(StoneError::from)?;
        archive::write(&new, &description, &artifacts, context.epoch)?;
        let file = FileDigest::of(&new)?;
        trees::replace(&new, &place)?;
        trees::clear(&work)?;
        Ok(OsBundleOutput {
            bundle: Some(BuiltOsBundle {
                file,
                os_build_id: parts.os_build_id,
                initramfs_build_id: parts.initramfs_build_id,
            }),
        })
    }
}

impl OsBundleRequest {
    /// Without one no device could tell that an update has come up.
    fn os_build_id(&self) -> Result<String, BuildError> {
        self.images.rootfs.stated_build_id().ok_or_else(|| {
            BuildError::Invalid(format!(
                "the rootfs of `{}` has no usr/lib/os-release, by which a device would know that an \
                 update of its OS has come up; add the package that brings it",
                self.name
            ))
        })
    }

    /// Where a file is, with what it was when the step began.
    fn find(&self, layout: &Layout, name: &str) -> Result<PathBuf, BuildError> {
        let images = &self.images;
        let image = |part, kind: &str, output: &OsImageOutput| {
            let path = layout.os_image(part, &self.name, kind);
            output.image.check(&path)?;
            Ok::<_, BuildError>(path)
        };
        let file = self.files.iter().find(|file| file.name == name);
        let Some(file) = file else {
            return Err(BuildError::Invalid(format!(
                "`{}` was not looked for",
                name.escape_debug()
            )));
        };
        match &file.place {
            StonePlace::Rootfs => image("rootfs", &images.rootfs_kind, &images.rootfs),
            StonePlace::Initramfs => image("initramfs", &images.initramfs_kind, &images.initramfs),
            StonePlace::Kernel => match &images.kernel {
                Some(kernel) => kernel.path(layout, &self.name),
                None => Err(BuildError::Invalid(format!(
                    "the stone manifest names the kernel (`{}`), and the runtime `{}` has none: add \
                     `kernel-image: \"*\"` to the packages of its rootfs, or `kernel:` to the runtime",
                    name.escape_debug(),
                    self.name
                ))),
            },
            StonePlace::Project(path) => unchanged(file, trees::of_project(path)?),
            StonePlace::Sdk(path) => unchanged(file, Tree::open(&layout.sdk())?.resolve(path)?),
        }
    }

    fn make(
        &self,
        context: &StepContext<'_>,
        image: &FatImage,
        place: &Path,
    ) -> Result<PathBuf, BuildError> {
        let mut files = Vec::new();
        for file in image.files() {
            files.push((
                file.destination(),
                self.find(&context.layout, file.source())?,
            ));
        }
        let spec = FatSpec {
            bits: image.build_args.variant.bits(),
            size: image.size(&image.out)?,
            label: image.build_args.label.as_deref(),
            files,
        };
        fat::write(context, &spec, place)?;
        Ok(place.to_owned())
    }
}

/// The file at `path`, if it is still what was found.
fn unchanged(file: &StoneFile, path: PathBuf) -> Result<PathBuf, BuildError> {
    let content = FileDigest::of(&path)?.sha256;
    if file.content == Some(content) {
        return Ok(path);
    }
    Err(BuildError::Changed { path })
}

fn file_name(path: &str) -> Result<Name, BuildError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.parse().map_err(|e| {
        BuildError::Invalid(format!(
            "`{}` cannot be a file of a bundle: {e}",
            path.escape_debug()
        ))
    })
}
