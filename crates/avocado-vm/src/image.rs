//! The image that a VM boots: a directory with `manifest.json` and the files that it names.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink, StepStatus};
use avocado_manifest::{Digest, DigestHasher, UpdatePolicy, VmImage, VmRole};

use crate::error::VmError;
use crate::files;

/// The name of the manifest in the directory.
pub const MANIFEST: &str = "manifest.json";

/// Where downloads wait, below the managed image.
pub(crate) const STAGING: &str = "staging";

/// The step that [`ImageDir::verify`] reports.
const STEP: &str = "verify image";

/// An image whose manifest was read.
#[derive(Debug, Clone)]
pub struct ImageDir {
    dir: PathBuf,
    manifest: VmImage,
    bytes: Vec<u8>,
}

impl ImageDir {
    /// Reads the manifest of the image in `dir`. Its files are not looked at yet.
    ///
    /// # Errors
    /// When there is none, or it is not usable.
    pub fn load(dir: &Path) -> Result<Self, VmError> {
        let path = dir.join(MANIFEST);
        let Some(bytes) = files::read(&path)? else {
            return Err(VmError::NoImage {
                dir: dir.to_owned(),
            });
        };
        let manifest = parse(&bytes).map_err(|source| VmError::Manifest {
            path: path.display().to_string(),
            source,
        })?;
        Ok(ImageDir {
            dir: dir.to_owned(),
            manifest,
            bytes,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the manifest says.
    pub fn manifest(&self) -> &VmImage {
        &self.manifest
    }

    /// The manifest's own bytes.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The file of a role.
    ///
    /// # Errors
    /// When the image has none.
    pub fn path(&self, role: VmRole) -> Result<PathBuf, VmError> {
        match self.manifest.artifact(role) {
            Ok(artifact) => Ok(self.dir.join(&artifact.file)),
            Err(source) => Err(VmError::Manifest {
                path: self.dir.join(MANIFEST).display().to_string(),
                source: source.into(),
            }),
        }
    }

    /// Reads every file and compares it with the manifest, but for those that only are what a disk
    /// starts from.
    ///
    /// # Errors
    /// When a file is missing, cannot be read, or has other bytes.
    pub fn verify(&self, sink: &dyn Sink) -> Result<(), VmError> {
        sink.emit(Event::step(STEP, StepStatus::Running, ""));
        let result = self.verify_files(sink);
        sink.emit(match &result {
            Ok(()) => Event::step(STEP, StepStatus::Success, ""),
            Err(e) => Event::step(STEP, StepStatus::Failed, e.to_string()),
        });
        result
    }

    fn verify_files(&self, sink: &dyn Sink) -> Result<(), VmError> {
        let all = self.manifest.artifacts.values();
        for artifact in all.filter(|a| a.update_policy != UpdatePolicy::SeedOnly) {
            let path = self.dir.join(&artifact.file);
            let found = digest(&path, |done, total| {
                sink.emit(Event::bytes(
                    STEP,
                    artifact.file.as_str(),
                    done,
                    Some(total),
                ));
            })?;
            if found != artifact.sha256 {
                return Err(VmError::Damaged {
                    path,
                    expected: artifact.sha256.to_string(),
                    found: found.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// Reads a manifest, whose files must be told apart from each other and from our own.
pub(crate) fn parse(bytes: &[u8]) -> Result<VmImage, Box<dyn std::error::Error + Send + Sync>> {
    let manifest = VmImage::parse(bytes)?;
    let mut seen = BTreeSet::from([MANIFEST, STAGING]);
    for artifact in manifest.artifacts.values() {
        if !seen.insert(artifact.file.as_str()) {
            return Err(format!("two things would be named `{}`", artifact.file).into());
        }
    }
    Ok(manifest)
}

/// The digest of a file. `progress` hears of bytes done and in all.
pub(crate) fn digest(path: &Path, progress: impl Fn(u64, u64)) -> Result<Digest, VmError> {
    copy(path, |_| Ok(()), progress)
}

/// Hands everything that a file has to `write`, and gives its digest. `progress` hears of bytes done
/// and in all.
pub(crate) fn copy(
    path: &Path,
    mut write: impl FnMut(&[u8]) -> Result<(), VmError>,
    progress: impl Fn(u64, u64),
) -> Result<Digest, VmError> {
    use std::io::Read;
    let mut file = File::open(path).map_err(VmError::file("read", path))?;
    let total = file
        .metadata()
        .map_err(VmError::file("look at", path))?
        .len();
    let mut hasher = DigestHasher::default();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => {
                let read = buffer.get(..n).unwrap_or_default();
                hasher.update(read);
                write(read)?;
                done += n as u64;
                progress(done, total);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(VmError::file("read", path)(e)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use avocado_events::Silent;
    use avocado_manifest::VmArtifact;

    /// Writes an image whose files hold `<role> of <version>`.
    pub(crate) fn make(dir: &Path, version: &str) -> VmImage {
        std::fs::create_dir_all(dir).unwrap();
        let mut image = VmImage::new("avocado-qemux86-64".into(), "x86_64", "quiet".into());
        image.version = Some(version.into());
        for role in VmRole::ALL {
            let bytes = format!("{role} of {version}").into_bytes();
            let file = format!("{role}.img");
            std::fs::write(dir.join(&file), &bytes).unwrap();
            let artifact = VmArtifact {
                file: file.parse().unwrap(),
                sha256: Digest::of(&bytes),
                size: Some(bytes.len() as u64),
                update_policy: match role {
                    VmRole::Var => UpdatePolicy::SeedOnly,
                    _ => UpdatePolicy::Replace,
                },
                kind: None,
                role_link: None,
            };
            image.artifacts.insert(role.as_str().into(), artifact);
        }
        std::fs::write(dir.join(MANIFEST), image.to_json().unwrap()).unwrap();
        image
    }

    #[test]
    fn a_whole_image_is_accepted() {
        let place = tempfile::tempdir().unwrap();
        make(place.path(), "1");
        let image = ImageDir::load(place.path()).unwrap();
        image.verify(&Silent).unwrap();
        // What a disk started from may have changed since.
        std::fs::write(image.path(VmRole::Var).unwrap(), "other").unwrap();
        image.verify(&Silent).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let place = tempfile::tempdir().unwrap();
        let error = ImageDir::load(place.path()).unwrap_err();
        assert!(matches!(error, VmError::NoImage { .. }));

        let manifest = make(place.path(), "1");
        let image = ImageDir::load(place.path()).unwrap();
        let rootfs = image.path(VmRole::Rootfs).unwrap();
        std::fs::write(&rootfs, "rootfs of 2").unwrap();
        let error = image.verify(&Silent).unwrap_err().to_string();
        let damaged = format!("{} is damaged: its SHA-256 is ", rootfs.display());
        assert!(error.starts_with(&damaged), "{error}");
        std::fs::remove_file(&rootfs).unwrap();
        let error = image.verify(&Silent).unwrap_err().to_string();
        assert_eq!(error, format!("cannot read {}", rootfs.display()));

        for name in ["manifest.json", "staging", "kernel.img"] {
            let mut bad = manifest.clone();
            let artifact = bad.artifacts.get_mut("initramfs").unwrap();
            artifact.file = name.parse().unwrap();
            std::fs::write(place.path().join(MANIFEST), bad.to_json().unwrap()).unwrap();
            let error = ImageDir::load(place.path()).unwrap_err();
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(source, format!("two things would be named `{name}`"));
        }
    }
}
