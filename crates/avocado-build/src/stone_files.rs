//! The board of a runtime: its stone manifest, and the files that this names.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use avocado_engine::InputsHash;
use avocado_manifest::{Digest, Name};
use avocado_project::Runtime;
use avocado_stone::{StoneImage, StoneManifest};
use serde::{Deserialize, Serialize};

use crate::build_context::{BuildContext, FilesOfProject};
use crate::error::{At as _, BuildError};
use crate::images;
use crate::trees::Tree;

/// Where the SDK of a target has its stone manifest and what belongs to it.
const IN_SDK: &str = "stone";

/// The end of the name of a var partition's image.
const VAR_EXTENSION: &str = "btrfs";

/// The largest stone manifest that is read, in bytes.
const LARGEST_MANIFEST: u64 = 4 << 20;

/// What a kernel is called where a manifest means that of the runtime.
const KERNEL_NAMES: [&str; 7] = [
    "Image", "Image.gz", "bzImage", "zImage", "uImage", "vmlinux", "vmlinuz",
];

/// The stone manifest of a runtime, and where the files may be that it names.
pub(crate) struct StoneFiles<'a> {
    context: &'a BuildContext<'a>,
    runtime: &'a Runtime,
    /// As it is written.
    pub(crate) text: String,
    pub(crate) manifest: StoneManifest,
    /// In which files are looked for, in this order.
    directories: Vec<StoneDirectory>,
}

/// A directory in which files are looked for.
struct StoneDirectory {
    /// On this machine.
    path: PathBuf,
    /// What leads out of it is refused.
    is_foreign: bool,
    /// The same as a step sees it.
    place: StonePlace,
}

/// Where a file of a board is, as a step sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StonePlace {
    /// Of the project, or of an extension that was fetched.
    Project(PathBuf),
    /// Of the SDK, relative to it.
    Sdk(PathBuf),
    /// The root file system of the runtime.
    Rootfs,
    /// Its initial RAM file system.
    Initramfs,
    /// Its kernel.
    Kernel,
    /// Its var partition.
    Var,
}

/// A file that a stone manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoneFile {
    /// As the manifest names it.
    pub(crate) name: String,
    pub(crate) place: StonePlace,
    /// Its content; of an image of the runtime the step that made it knows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Digest>,
}

impl<'a> StoneFiles<'a> {
    /// The stone manifest of a runtime: the one that it states, else the one that the SDK of the target
    /// has; none where there is neither. The SDK has to be installed.
    pub(crate) fn of(
        context: &'a BuildContext<'a>,
        runtime: &'a Runtime,
    ) -> Result<Option<Self>, BuildError> {
        let mut directories = include_directories(context, runtime)?;
        let (path, own) = match &runtime.stone_manifest {
            Some(stated) => {
                let files = context.files_at(&stated.place.file);
                let parent = stated.parent().unwrap_or(Path::new(""));
                let own = StoneDirectory::of_project(&files, parent)?;
                (files.find(stated)?, own)
            }
            None => {
                let sdk = context.layout.sdk();
                let name = format!("stone-{}.json", context.project.target);
                let place = Path::new(IN_SDK).join(name);
                if !sdk.is_dir() || !Tree::open(&sdk)?.has(&place) {
                    return Ok(None);
                }
                (
                    Tree::open(&sdk)?.resolve(&place)?,
                    StoneDirectory::of_sdk(sdk.join(IN_SDK)),
                )
            }
        };
        directories.push(own);
        let text = read(&path)?;
        let manifest =
            StoneManifest::parse(text.as_bytes()).map_err(|source| BuildError::StoneFile {
                path: path.clone(),
                source,
            })?;
        Ok(Some(StoneFiles {
            context,
            runtime,
            text,
            manifest,
            directories,
        }))
    }

    /// A file that the manifest names.
    pub(crate) fn find(&self, name: &str) -> Result<StoneFile, BuildError> {
        let found = |place, content| StoneFile {
            name: name.to_owned(),
            place,
            content,
        };
        for directory in &self.directories {
            if let Some((path, place)) = directory.find(name)? {
                let content = self.content(&path)?;
                return Ok(found(place, Some(content)));
            }
        }
        match self.of_runtime(name)? {
            Some(place) => Ok(found(place, None)),
            None => Err(self.missing(name)),
        }
    }

    /// What an update of the target brings beside its images: what the manifest says of it, and the files
    /// that this names. None where the target cannot be updated.
    pub(crate) fn update_hash(&self) -> Result<Option<InputsHash>, BuildError> {
        match self.manifest.update_content()? {
            Some(content) => Ok(Some(InputsHash::of(&(content, self.of_update()?))?)),
            None => Ok(None),
        }
    }

    /// The images that an update brings.
    pub(crate) fn images_of_update(&self) -> impl Iterator<Item = &StoneImage> {
        let update = self.manifest.update.iter();
        let artifacts = update.flat_map(|update| update.artifacts());
        artifacts.filter_map(|(_, image, _)| self.manifest.image(image))
    }

    /// The files of which these are made.
    pub(crate) fn of_update(&self) -> Result<Vec<StoneFile>, BuildError> {
        let files = self.sources_of(self.images_of_update())?;
        match files.iter().find(|file| file.place == StonePlace::Var) {
            // The bundle is in that partition itself, and what a device has there is its own.
            Some(var) => Err(BuildError::Invalid(format!(
                "the stone manifest of `{}` has `{}` in an image that updates bring: updates leave /var as \
                 it is",
                self.runtime.name,
                var.name.escape_debug()
            ))),
            None => Ok(files),
        }
    }

    /// The files of which images are made.
    pub(crate) fn sources_of<'i>(
        &self,
        images: impl Iterator<Item = &'i StoneImage>,
    ) -> Result<Vec<StoneFile>, BuildError> {
        let names: BTreeSet<&str> = images.flat_map(StoneImage::sources).collect();
        names.into_iter().map(|name| self.find(name)).collect()
    }

    /// Which image of the runtime a name means. What the name says of its format has to be so: boot
    /// loaders and mount units that go with the manifest rely on it.
    fn of_runtime(&self, name: &str) -> Result<Option<StonePlace>, BuildError> {
        if KERNEL_NAMES.contains(&name) {
            return Ok(Some(StonePlace::Kernel));
        }
        let Some((place, extension)) = part_of_name(name, self.context.project.target.as_str())
        else {
            return Ok(None);
        };
        let os = |kind: &'static str, os: &Name| {
            let filesystem = self.context.os_image(kind, os)?.filesystem;
            let is_meant = images::is_family(filesystem, extension);
            Ok::<_, BuildError>((images::extension(filesystem), is_meant))
        };
        let (is, is_meant) = match place {
            StonePlace::Rootfs => os("rootfs", &self.runtime.rootfs)?,
            StonePlace::Initramfs => os("initramfs", &self.runtime.initramfs)?,
            _ => (VAR_EXTENSION, extension == VAR_EXTENSION),
        };
        if is_meant {
            return Ok(Some(place));
        }
        Err(BuildError::Invalid(format!(
            "the stone manifest of `{}` names `{}`, and that image is `{is}`: {}",
            self.runtime.name,
            name.escape_debug(),
            match place {
                StonePlace::Rootfs => "state the same `rootfs.filesystem`, or change the manifest",
                StonePlace::Initramfs =>
                    "state the same `initramfs.filesystem`, or change the manifest",
                _ => "change the manifest",
            }
        )))
    }

    fn content(&self, path: &Path) -> Result<Digest, BuildError> {
        let known = &self.context.known_files;
        let metadata = fs::metadata(path).at("look at", path)?;
        let mut budget = u64::MAX;
        let digest = known
            .digest(path, &metadata, &mut budget)
            .at("read", path)?;
        // There is no limit that it could be over.
        digest.ok_or_else(|| BuildError::Changed {
            path: path.to_owned(),
        })
    }

    fn missing(&self, name: &str) -> BuildError {
        let looked = self
            .directories
            .iter()
            .map(|d| d.path.display().to_string());
        let looked: Vec<String> = looked.collect();
        BuildError::Invalid(format!(
            "the stone manifest of `{}` names `{}`, which is in none of {}; add the directory to \
             `stone_include_paths`, or name an image of the runtime: \
             avocado-image-rootfs-{target}.<type>, avocado-image-initramfs-{target}.<type>, \
             avocado-image-var-{target}.btrfs, or Image",
            self.runtime.name,
            name.escape_debug(),
            looked.join(", "),
            target = self.context.project.target
        ))
    }
}

impl StoneDirectory {
    fn of_project(files: &FilesOfProject, path: &Path) -> Result<Self, BuildError> {
        Ok(StoneDirectory {
            path: files.find(path)?,
            is_foreign: files.is_foreign,
            place: StonePlace::Project(files.in_step.join(path)),
        })
    }

    fn of_sdk(path: PathBuf) -> Self {
        StoneDirectory {
            path,
            is_foreign: true,
            place: StonePlace::Sdk(IN_SDK.into()),
        }
    }

    /// The file of this name, if it is here.
    fn find(&self, name: &str) -> Result<Option<(PathBuf, StonePlace)>, BuildError> {
        let path = if self.is_foreign {
            let tree = Tree::open(&self.path)?;
            if tree.file(name)?.is_none() {
                return Ok(None);
            }
            tree.resolve(name)?
        } else {
            let path = self.path.join(name);
            if !path.is_file() {
                return Ok(None);
            }
            path
        };
        let place = match &self.place {
            StonePlace::Project(directory) => StonePlace::Project(directory.join(name)),
            StonePlace::Sdk(directory) => StonePlace::Sdk(directory.join(name)),
            other => other.clone(),
        };
        Ok(Some((path, place)))
    }
}

/// The directories that a runtime and then each of its extensions state.
fn include_directories(
    context: &BuildContext<'_>,
    runtime: &Runtime,
) -> Result<Vec<StoneDirectory>, BuildError> {
    let mut directories = Vec::new();
    for path in &runtime.stone_include_paths {
        let files = context.files_at(&path.place.file);
        directories.push(StoneDirectory::of_project(&files, path)?);
    }
    for member in &runtime.extensions {
        let extension = context.extension(&member.name)?;
        let files = context.files_of(extension);
        for path in &extension.stone_include_paths {
            directories.push(StoneDirectory::of_project(&files, path)?);
        }
    }
    Ok(directories)
}

/// The same as a step sees them, in that order.
pub(crate) fn include_paths_in_step(
    context: &BuildContext<'_>,
    runtime: &Runtime,
) -> Result<Vec<PathBuf>, BuildError> {
    let directories = include_directories(context, runtime)?.into_iter();
    let in_step = directories.filter_map(|directory| match directory.place {
        StonePlace::Project(path) => Some(path),
        _ => None,
    });
    Ok(in_step.collect())
}

/// The stone manifest that a runtime states, as a step sees it.
pub(crate) fn stated_manifest_in_step(
    context: &BuildContext<'_>,
    runtime: &Runtime,
) -> Option<PathBuf> {
    let stated = runtime.stone_manifest.as_ref()?;
    Some(context.files_at(&stated.place.file).in_step.join(&**stated))
}

/// Which image of a runtime for `target` has this name, and with which extension.
fn part_of_name<'n>(name: &'n str, target: &str) -> Option<(StonePlace, &'n str)> {
    let parts = [
        ("rootfs", StonePlace::Rootfs),
        ("initramfs", StonePlace::Initramfs),
        ("var", StonePlace::Var),
    ];
    parts.into_iter().find_map(|(part, place)| {
        let rest = name.strip_prefix(&format!("avocado-image-{part}-{target}"))?;
        Some((place, rest.strip_prefix('.')?))
    })
}

fn read(path: &Path) -> Result<String, BuildError> {
    let size = fs::metadata(path).at("look at", path)?.len();
    if size > LARGEST_MANIFEST {
        let error = io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it has {size} bytes: a stone manifest has {LARGEST_MANIFEST} at most"),
        );
        return Err(error).at("read", path);
    }
    fs::read_to_string(path).at("read", path)
}

#[cfg(test)]
mod tests {
    use avocado_project::Filesystem;

    use super::*;

    #[test]
    fn the_name_of_an_image_says_its_part_and_its_format() {
        for (name, expected) in [
            (
                "avocado-image-rootfs-board.erofs-lz4",
                Some((StonePlace::Rootfs, "erofs-lz4")),
            ),
            (
                "avocado-image-initramfs-board.cpio.zst",
                Some((StonePlace::Initramfs, "cpio.zst")),
            ),
            (
                "avocado-image-var-board.ext4",
                Some((StonePlace::Var, "ext4")),
            ),
            ("avocado-image-rootfs-board2.erofs", None),
            ("avocado-image-rootfs-board", None),
            ("rootfs.erofs", None),
        ] {
            assert_eq!(part_of_name(name, "board"), expected, "{name}");
        }
    }

    #[test]
    fn a_format_is_of_its_family_only() {
        use Filesystem::{Cpio, CpioZst, Erofs, ErofsLz4, Squashfs};
        for (filesystem, extension, expected) in [
            (Erofs, "erofs-lz4", true),
            (ErofsLz4, "erofs-zst", true),
            (Squashfs, "squashfs", true),
            (CpioZst, "cpio.gz", true),
            (Squashfs, "erofs-lz4", false),
            (Erofs, "squashfs", false),
            (Erofs, "erofs-lz4.verity", false),
            (Cpio, "erofs", false),
        ] {
            let found = images::is_family(filesystem, extension);
            assert_eq!(found, expected, "{filesystem:?} {extension}");
        }
    }
}
