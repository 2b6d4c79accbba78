//! What of the project itself goes into images: overlays, and the scripts that change trees.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use avocado_manifest::{Digest, DigestHasher};
use avocado_project::{Overlay, Runtime, SourceKind, Sysroot};
use avocado_provenance::{DigestSet, ResourceDescriptor};
use walkdir::WalkDir;

use super::sources;
use crate::build_context::{BuildContext, FilesOfProject};
use crate::error::{At as _, BuildError};

/// The overlays and the scripts of the trees of a runtime, each by the tree and the key that avocado.yaml
/// has for it, and the project files of the extensions that are directories of this machine. What a
/// script reads besides is known to no one.
pub(super) fn of_project(
    context: &BuildContext<'_>,
    runtime: &Runtime,
) -> Result<Vec<ResourceDescriptor>, BuildError> {
    let mut found = Vec::new();
    for (kind, name, tree) in [
        ("rootfs", &runtime.rootfs, Sysroot::rootfs(&runtime.rootfs)),
        (
            "initramfs",
            &runtime.initramfs,
            Sysroot::initramfs(&runtime.initramfs),
        ),
    ] {
        let os = context.os_image(kind, name)?;
        if let Some(overlay) = &os.overlay {
            let files = context.files_at(&overlay.place.file);
            found.push(directory(&files, overlay, &tree)?);
        }
        if let Some(script) = &os.post_install {
            let files = context.files_at(&script.place.file);
            found.push(file(&files, script, &tree, "post_install")?);
        }
    }
    for member in &runtime.extensions {
        let extension = context.extension(&member.name)?;
        let files = context.files_of(extension);
        let tree = Sysroot::Extension(member.name.clone());
        if let Some(overlay) = &extension.overlay {
            found.push(directory(&files, overlay, &tree)?);
        }
        if let Some(script) = &extension.post_build {
            found.push(file(&files, script, &tree, "post_build")?);
        }
    }
    if let Some(script) = &runtime.post_build {
        let tree = Sysroot::Runtime(runtime.name.clone());
        found.push(file(&context.files(), script, &tree, "post_build")?);
    }
    for source in sources::used(context.project, runtime) {
        if let (SourceKind::Path { .. }, Some(place)) = (&source.kind, &source.fetched_to) {
            let path = place.join("avocado.yaml");
            let name = format!("{}/avocado.yaml", source.extension);
            found.push(described(name, DigestSet::sha256(of_file(&path)?)));
        }
    }
    Ok(found)
}

fn described(name: String, digest: DigestSet) -> ResourceDescriptor {
    ResourceDescriptor {
        name: Some(name),
        digest,
        ..ResourceDescriptor::default()
    }
}

fn file(
    files: &FilesOfProject,
    path: &Path,
    tree: &Sysroot,
    key: &str,
) -> Result<ResourceDescriptor, BuildError> {
    let digest = of_file(&files.find(path)?)?;
    let name = format!("{}/{key}", tree.key());
    Ok(described(name, DigestSet::sha256(digest)))
}

fn directory(
    files: &FilesOfProject,
    overlay: &Overlay,
    tree: &Sysroot,
) -> Result<ResourceDescriptor, BuildError> {
    let digest = directory_hash(&files.find(&overlay.dir)?)?;
    let name = format!("{}/overlay", tree.key());
    Ok(described(
        name,
        DigestSet::other("dirHash", &digest.to_string()),
    ))
}

fn of_file(path: &Path) -> Result<Digest, BuildError> {
    let digest = File::open(path).and_then(Digest::of_reader);
    Ok(digest.at("read", path)?.0)
}

/// in-toto's `dirHash`: the SHA-256 of a list, in the order of the names' bytes, of the digest and the
/// name of each regular file.
fn directory_hash(directory: &Path) -> Result<Digest, BuildError> {
    let mut digests = BTreeMap::new();
    for entry in WalkDir::new(directory) {
        let entry = entry.map_err(io::Error::from).at("read", directory)?;
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(directory);
            let name = name.unwrap_or(entry.path()).as_os_str().as_bytes();
            digests.insert(name.to_owned(), of_file(entry.path())?);
        }
    }
    let mut hasher = DigestHasher::default();
    for (name, digest) in digests {
        hasher.update(digest.to_string().as_bytes());
        hasher.update(b"  ");
        hasher.update(&name);
        hasher.update(b"\n");
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_has_the_hash_that_published_tools_compute() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("a")).unwrap();
        fs::write(at("a/c"), "1\n").unwrap();
        fs::write(at("a.b"), "2\n").unwrap();
        symlink("a.b", at("link")).unwrap();
        // find . -type f | cut -c3- | LC_ALL=C sort | xargs -r sha256sum | sha256sum
        assert_eq!(
            directory_hash(directory.path()).unwrap().to_string(),
            "f7e5d17f5ed1b25a1cdb7ea69a443e501eb9ec0cc7bea0756f22004430c8ad1a"
        );
    }
}
