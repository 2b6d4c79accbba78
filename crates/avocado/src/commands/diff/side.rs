//! One of the two that are compared, by what its name means.

use std::ffi::OsStr;
use std::path::Path;

use avocado_manifest::Manifest;
use avocado_sbom::{BillContents, ListedFile};

use super::{DiffArgs, device, of_runtime, published, read_bill};
use crate::failure::{Failure, Result};
use crate::session::Session;

/// One of the two.
pub(super) struct DiffSide {
    pub(super) contents: BillContents,
    /// Whether it tells packages and files: a repository and a device have images alone.
    pub(super) is_whole: bool,
}

impl DiffSide {
    fn whole(contents: BillContents) -> Self {
        DiffSide {
            contents,
            is_whole: true,
        }
    }

    fn of_images(contents: BillContents) -> Self {
        DiffSide {
            contents,
            is_whole: false,
        }
    }
}

/// What is meant by a name: a device or a server by its scheme; a file or a directory goes before a
/// runtime of the project.
pub(super) fn read(session: &Session, name: &OsStr, args: &DiffArgs) -> Result<DiffSide> {
    let text = name.to_str();
    if let Some(address) = text.and_then(|text| text.strip_prefix("ssh://")) {
        return device::contents(address, &args.ssh_args).map(DiffSide::of_images);
    }
    if let Some(url) = text.filter(|text| text.contains("://")) {
        return published::of_url(session, url).map(DiffSide::of_images);
    }
    let place = Path::new(name);
    if place.is_dir() {
        return published::of_directory(place).map(DiffSide::of_images);
    }
    if place.is_file() {
        return read_bill(place).map(DiffSide::whole);
    }
    let Some(name) = text.and_then(|text| text.parse().ok()) else {
        return Err(Failure::usage(format!("there is no {}", place.display())).hint(
            "name a bill that `avocado sbom` wrote, the directory or the URL of a repository, a device as ssh://HOST, or a runtime of the project",
        ));
    };
    of_runtime(session, &name, &args.built_with).map(DiffSide::whole)
}

/// Leaves of a bill what a repository tells too.
pub(super) fn images_alone(contents: &mut BillContents) {
    contents.packages.clear();
    contents.files.retain(|(_, path), _| path.is_empty());
}

/// The images that a manifest names, with the sizes that `size` knows of files of a repository or a pool.
pub(super) fn of_manifest(
    manifest: &Manifest,
    mut size: impl FnMut(&str) -> Option<u64>,
) -> BillContents {
    let mut contents = BillContents::default();
    let os = [
        ("rootfs", &manifest.rootfs),
        ("initramfs", &manifest.initramfs),
        ("kernel", &manifest.kernel),
    ];
    for (name, image) in os {
        if let Some(image) = image {
            let listed = ListedFile {
                // No device fetches them from a repository.
                size: None,
                sha256: image.sha256.map(|digest| digest.to_string()),
                version: image.version.clone(),
                role: Some(name.to_owned()),
            };
            let key = (name.to_owned(), String::new());
            contents.files.insert(key, listed);
        }
    }
    for extension in &manifest.extensions {
        let (name, version) = (&extension.name, &extension.version);
        let file = match &extension.image_id {
            Some(id) => id.file_name(),
            None => format!("{name}-{version}.raw"),
        };
        let listed = ListedFile {
            size: size(&file),
            sha256: extension.sha256.map(|digest| digest.to_string()),
            version: Some(version.to_string()),
            role: Some("extension".to_owned()),
        };
        let key = (name.to_string(), String::new());
        contents.files.insert(key, listed);
    }
    contents
}
