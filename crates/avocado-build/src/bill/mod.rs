//! What is in the images of a runtime: read from the images themselves, and told apart by what rpm
//! knows of the trees that they were made of. `reading` is the child's side, which has the tools.

mod cpio_reader;
mod image_reader;
mod known_inventories;
mod package_files;
mod reading;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use avocado_backend::Backend;
use avocado_engine::OutdatedTask;
use avocado_events::{Cancel, Sink};
use avocado_manifest::{Digest, Manifest, Name};
use avocado_project::{Extension, Overlay, Placed, ProjectPackage, Runtime};
use avocado_sbom::{
    BillOfMaterials, BillSubject, ImageComponent, ImageContents, ImageInventory, ImageLayers,
    ImageRole, InstalledPackage, InventoryFile, attribute,
};
use walkdir::WalkDir;

pub(crate) use self::image_reader::read as read_image;
pub(crate) use self::reading::ImageReadingRequest;
use self::reading::{FileReading, ImagePlace, ImageReading, WantedImage};
use crate::build_context::{BuildContext, FilesOfProject};
use crate::error::{At as _, BuildError};
use crate::images;
use crate::options::Options;
use crate::run::{backend_asking_no_tools, first_outdated, in_project};
use crate::steps::install::PackageTree;
use crate::steps::os_image::OsPart;
use crate::steps::{extension_image, runtime_build};

/// What a bill is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BillScope {
    /// A runtime, as it was built last.
    Runtime(Name),
    /// The image of one extension, as it was built last.
    Extension(Name),
}

/// The bill of materials of what was built: it reads the images, and builds nothing.
///
/// # Errors
/// Where it is not built, its images are not those of its manifest any more, or a build would make
/// others by now.
pub fn bill_of_materials(
    options: &Options,
    scope: &BillScope,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<BillOfMaterials, BuildError> {
    let asks = backend_asking_no_tools(options, cancel)?;
    in_project(options, cancel, sink, |context| {
        bill_of(context, asks, scope, sink)
    })
}

/// What a bill is made with.
#[cfg(test)]
pub(crate) struct BillBackends<'a> {
    /// Reads images.
    pub(crate) reads: Box<dyn Backend + 'a>,
    /// Says what tools the images were made with.
    pub(crate) asks: Box<dyn Backend + 'a>,
}

/// As [`bill_of_materials`], with these backends.
#[cfg(test)]
pub(crate) fn bill_on(
    options: &Options,
    backends: BillBackends<'_>,
    scope: &BillScope,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<BillOfMaterials, BuildError> {
    let BillBackends { reads, asks } = backends;
    crate::run::in_context(
        options,
        || Ok(reads),
        cancel,
        sink,
        |context| bill_of(context, asks, scope, sink),
    )
}

/// Made in a project that nobody works in; `asks` says what tools the images were made with.
fn bill_of(
    context: &BuildContext<'_>,
    asks: Box<dyn Backend + '_>,
    scope: &BillScope,
    sink: &dyn Sink,
) -> Result<BillOfMaterials, BuildError> {
    match scope {
        BillScope::Runtime(name) => {
            let runtime = context.runtime(name)?;
            let manifest = built_manifest(context, runtime)?;
            refuse_outdated(context.options, asks, scope)?;
            of_runtime(context, runtime, manifest, sink)
        }
        BillScope::Extension(name) => {
            let extension = context.extension(name)?;
            refuse_outdated(context.options, asks, scope)?;
            of_extension(context, extension, sink)
        }
    }
}

/// What an image has is told apart by trees, overlays and scripts, which are those of the image only
/// as long as a build would make the same one.
fn refuse_outdated(
    options: &Options,
    asks: Box<dyn Backend + '_>,
    scope: &BillScope,
) -> Result<(), BuildError> {
    let (kind, name) = match scope {
        BillScope::Runtime(name) => ("runtime", name),
        BillScope::Extension(name) => ("extension", name),
    };
    let outdated = first_outdated(options, asks, |plan| match scope {
        BillScope::Runtime(name) => runtime_build::plan(plan, name).map(drop),
        BillScope::Extension(name) => extension_image::plan(plan, name).map(drop),
    })?;
    match outdated {
        None => Ok(()),
        Some(OutdatedTask { stage, reason }) => Err(BuildError::BillOfOutdated {
            kind,
            name: name.to_string(),
            stage,
            reason,
        }),
    }
}

fn built_manifest(context: &BuildContext<'_>, runtime: &Runtime) -> Result<Manifest, BuildError> {
    let place = context.layout.manifest(&runtime.name);
    if !place.is_file() {
        let name = &runtime.name;
        return Err(BuildError::Invalid(format!(
            "the runtime {name} is not built yet: run `avocado build -r {name}`"
        )));
    }
    let bytes = fs::read(&place).at("read", &place)?;
    Manifest::parse(&bytes).map_err(|e| BuildError::Invalid(format!("{}: {e}", place.display())))
}

fn of_runtime(
    context: &BuildContext<'_>,
    runtime: &Runtime,
    manifest: Manifest,
    sink: &dyn Sink,
) -> Result<BillOfMaterials, BuildError> {
    let mut parts = vec![os_part(context, runtime, OsPart::Rootfs, &manifest)?];
    parts.push(os_part(context, runtime, OsPart::Initramfs, &manifest)?);
    for member in &manifest.extensions {
        let extension = context.extension(&member.name)?;
        let version = &member.version;
        parts.push(extension_part(context, extension, version, member.sha256)?);
    }
    let kernel = manifest.kernel.as_ref();
    let request = ImageReadingRequest {
        images: parts.iter().map(|part| part.wanted.clone()).collect(),
        base: vec![PackageTree::Rootfs(runtime.rootfs.clone())],
        kernel: kernel.and_then(|kernel| {
            let version = kernel.version.clone();
            Some((kernel.sha256?, version, runtime.name.clone()))
        }),
    };
    let read = context.run_step("sbom", request, sink)?;
    let mut readings = own_packages_alone(read.images, &read.base);
    let kernel = kernel
        .zip(read.kernel)
        .map(|(kernel, file)| kernel_contents(kernel.version.clone(), file, &mut readings));
    let mut images = contents(&parts, readings, &read.base);
    // After the parts of the OS.
    images.splice(2..2, kernel);
    let label = manifest.runtime;
    Ok(bill(context, label.name, label.version, images))
}

fn of_extension(
    context: &BuildContext<'_>,
    extension: &Extension,
    sink: &dyn Sink,
) -> Result<BillOfMaterials, BuildError> {
    let version = context.version_of(extension)?;
    let part = extension_part(context, extension, version, None)?;
    let rootfs = context.project.rootfs.iter();
    let request = ImageReadingRequest {
        images: vec![part.wanted.clone()],
        base: rootfs
            .map(|(name, _)| PackageTree::Rootfs(name.clone()))
            .collect(),
        kernel: None,
    };
    let read = context.run_step("sbom", request, sink)?;
    let readings = own_packages_alone(read.images, &read.base);
    let images = contents(&[part], readings, &read.base);
    let (name, version) = (extension.name.to_string(), version.to_string());
    Ok(bill(context, name, version, images))
}

fn bill(
    context: &BuildContext<'_>,
    name: String,
    version: String,
    images: Vec<ImageContents>,
) -> BillOfMaterials {
    BillOfMaterials {
        subject: BillSubject {
            name,
            version,
            target: context.project.target.to_string(),
        },
        created: i64::try_from(context.project.source_date_epoch).unwrap_or(i64::MAX),
        images,
    }
}

/// An image that is wanted, and what it was made of.
struct BillPart {
    wanted: WantedImage,
    role: ImageRole,
    name: String,
    version: Option<String>,
    file_name: String,
    layers: ImageLayers,
}

fn os_part(
    context: &BuildContext<'_>,
    runtime: &Runtime,
    part: OsPart,
    manifest: &Manifest,
) -> Result<BillPart, BuildError> {
    let (name, tree, described, role) = match part {
        OsPart::Rootfs => {
            let name = &runtime.rootfs;
            let tree = PackageTree::Rootfs(name.clone());
            (name, tree, &manifest.rootfs, ImageRole::Rootfs)
        }
        OsPart::Initramfs => {
            let name = &runtime.initramfs;
            let tree = PackageTree::Initramfs(name.clone());
            (name, tree, &manifest.initramfs, ImageRole::Initramfs)
        }
    };
    let os = context.os_image(part.as_str(), name)?;
    let place = ImagePlace::Os {
        part: part.as_str().to_owned(),
        runtime: runtime.name.clone(),
        extension: images::extension(os.filesystem).to_owned(),
    };
    let mut scripts = installing_scripts(&os.project_packages);
    scripts.extend(script("post_install", os.post_install.as_ref()));
    let accounts = ["etc/passwd", "etc/shadow", "etc/group", "etc/gshadow"];
    let releases = part.releases().iter().copied();
    let built = releases.chain(["etc/machine-id", "etc/ld.so.cache"]);
    let built = built.chain(accounts).map(ToOwned::to_owned).collect();
    let overlay = os.overlay.as_ref();
    Ok(BillPart {
        role,
        name: part.as_str().to_owned(),
        version: described.as_ref().and_then(|image| image.version.clone()),
        file_name: place.file_name(&context.layout),
        layers: ImageLayers {
            overlay: overlay.map_or(Ok(BTreeSet::new()), |overlay| {
                overlay_files(&context.files_at(&overlay.place.file), overlay)
            })?,
            scripts,
            built,
            ..ImageLayers::default()
        },
        wanted: WantedImage {
            place,
            tree,
            sha256: described.as_ref().and_then(|image| image.sha256),
        },
    })
}

fn extension_part(
    context: &BuildContext<'_>,
    extension: &Extension,
    version: &Name,
    sha256: Option<Digest>,
) -> Result<BillPart, BuildError> {
    let place = ImagePlace::Extension {
        name: extension.name.clone(),
        version: version.clone(),
    };
    let mut scripts = installing_scripts(&extension.project_packages);
    scripts.extend(script("post_build", extension.post_build.as_ref()));
    let directories = ["usr/lib/extension-release.d/", "etc/extension-release.d/"];
    let accounts = ["etc/passwd", "etc/shadow", "etc/group", "etc/gshadow"];
    let built = directories.into_iter().chain(accounts);
    let overlay = extension.overlay.as_ref();
    Ok(BillPart {
        role: ImageRole::Extension,
        name: extension.name.to_string(),
        version: Some(version.to_string()),
        file_name: place.file_name(&context.layout),
        layers: ImageLayers {
            overlay: overlay.map_or(Ok(BTreeSet::new()), |overlay| {
                overlay_files(&context.files_of(extension), overlay)
            })?,
            scripts,
            built: built.map(ToOwned::to_owned).collect(),
            ..ImageLayers::default()
        },
        wanted: WantedImage {
            place,
            tree: PackageTree::Extension(extension.name.clone()),
            sha256,
        },
    })
}

fn installing_scripts(packages: &[ProjectPackage]) -> Vec<String> {
    let packages = packages.iter();
    let scripts = packages.filter_map(|package| script(&package.name.value, package.install()));
    scripts.collect()
}

fn script(of: &str, path: Option<&Placed<std::path::PathBuf>>) -> Option<String> {
    path.map(|path| format!("{of} {}", path.value.display()))
}

/// The files and links of an overlay, by their path in it.
fn overlay_files(
    files: &FilesOfProject,
    overlay: &Overlay,
) -> Result<BTreeSet<String>, BuildError> {
    let root = files.find(&overlay.dir)?;
    let mut found = BTreeSet::new();
    for entry in WalkDir::new(&root).min_depth(1) {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(&root).to_owned();
            BuildError::Io {
                action: "read",
                path,
                source: e.into(),
            }
        })?;
        if !entry.file_type().is_dir()
            && let Ok(path) = entry.path().strip_prefix(&root)
        {
            found.insert(path_text(path));
        }
    }
    Ok(found)
}

/// A path as bills have it: what is not UTF-8 of it as `%` and two digits.
fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text += chunk.valid();
        for byte in chunk.invalid() {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

/// An extension is installed with the packages of the rootfs counted as present: those are not its own.
fn own_packages_alone(
    mut readings: Vec<ImageReading>,
    base: &[InstalledPackage],
) -> Vec<ImageReading> {
    for reading in readings.iter_mut().filter(|reading| reading.has_base) {
        let is_base = |package: &InstalledPackage| base.iter().any(|b| b.is_same(package));
        reading.packages.retain(|package| !is_base(package));
    }
    readings
}

/// The kernel travels beside the rootfs whose package brought it, or a script of the project made it.
fn kernel_contents(
    version: Option<String>,
    file: FileReading,
    readings: &mut [ImageReading],
) -> ImageContents {
    let image = ImageComponent {
        role: ImageRole::Kernel,
        name: "kernel".to_owned(),
        version,
        file_name: file.name.clone(),
        size: file.size,
        sha256: file.sha256.clone(),
        sha512: file.sha512.clone(),
    };
    let mut inventory = ImageInventory::default();
    let mut path = file.name;
    let mut layers = ImageLayers::default();
    let mut packages = Vec::new();
    if let Some(rootfs) = readings.first_mut() {
        let digest = Some(file.sha256.as_str());
        let has = |package: &InstalledPackage| {
            let mut files = package.files.iter();
            files.find(|file| file.sha256.as_deref() == digest).cloned()
        };
        let found = rootfs
            .packages
            .iter()
            .find_map(|p| Some((p.clone(), has(p)?)));
        if let Some((package, file)) = found {
            path = file.path.trim_start_matches('/').to_owned();
            let in_rootfs: BTreeSet<&str> = rootfs
                .inventory
                .files
                .iter()
                .map(|f| f.path.as_str())
                .collect();
            let is_there = |file: &avocado_sbom::InstalledFile| {
                let resolved = rootfs.inventory.resolve(&file.path);
                resolved.is_some_and(|path| in_rootfs.contains(path.as_str()))
            };
            // A package of modules too is in both.
            if !package.files.iter().any(is_there) {
                rootfs.packages.retain(|other| !other.is_same(&package));
            }
            packages.push(package);
        } else {
            layers.scripts.push("kernel".to_owned());
        }
    }
    inventory.files.push(InventoryFile {
        path,
        size: file.size,
        mode: 0o644,
        sha256: file.sha256,
        sha512: file.sha512,
    });
    attribute(image, &inventory, &packages, &[], &layers)
}

fn contents(
    parts: &[BillPart],
    readings: Vec<ImageReading>,
    base: &[InstalledPackage],
) -> Vec<ImageContents> {
    let parts = parts.iter().zip(readings);
    let images = parts.map(|(part, reading)| {
        let image = ImageComponent {
            role: part.role,
            name: part.name.clone(),
            version: part.version.clone(),
            file_name: part.file_name.clone(),
            size: reading.file.size,
            sha256: reading.file.sha256.clone(),
            sha512: reading.file.sha512.clone(),
        };
        let layers = ImageLayers {
            installed: reading.installed.clone(),
            ..part.layers.clone()
        };
        let base = match part.role {
            ImageRole::Extension => vec![("rootfs", base)],
            _ => Vec::new(),
        };
        attribute(image, &reading.inventory, &reading.packages, &base, &layers)
    });
    images.collect()
}
