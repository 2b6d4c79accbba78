//! A repository with one runtime of one image, of any size, made without a build.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use avocado_manifest::{Digest, DigestHasher, ImageId, MANIFEST_VERSION, Manifest};
use avocado_tuf::SigningKey;
use avocado_tuf::writer::{self, Publication, PublicationTarget, RoleSigners};
use jiff::Timestamp;

use crate::HarnessError;
use crate::error::file as failed;

/// A repository on disk, and what a device has to know of it.
#[derive(Debug)]
pub struct PublishedRepository {
    /// What is to be served.
    pub directory: PathBuf,
    /// The root that its devices trust.
    pub anchor: Vec<u8>,
    /// The runtime.
    pub manifest: Manifest,
    /// The digest of its image.
    pub digest: Digest,
    /// The length of its image in bytes.
    pub length: u64,
}

impl PublishedRepository {
    /// Makes the repository in `directory`, with an image of `length` bytes that nothing can
    /// compress into less than a MiB.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create(directory: &Path, length: u64) -> Result<Self, HarnessError> {
        fs::create_dir_all(directory).map_err(failed("make", directory))?;
        let image = directory.join("image.raw");
        let digest = fill(&image, length)?;
        let manifest = manifest("big", digest)?;
        PublishedRepository::of(directory, manifest, &image, digest, Timestamp::now())
    }

    /// Makes the repository in `directory`, with a runtime that needs one file. Repositories that are made at the
    /// same time have the same root.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn of(
        directory: &Path,
        manifest: Manifest,
        image: &Path,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Self, HarnessError> {
        let name = ImageId::from_digest(digest).file_name();
        PublishedRepository::of_targets(directory, manifest, &[(name, image)], now)
    }

    /// Makes the repository in `directory`, with a runtime that needs these files; the first is its image.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn of_targets(
        directory: &Path,
        manifest: Manifest,
        files: &[(String, &Path)],
        now: Timestamp,
    ) -> Result<Self, HarnessError> {
        let description = directory.join("manifest.json");
        let bytes = manifest.to_json().unwrap();
        fs::write(&description, &bytes).map_err(failed("write", &description))?;

        let repository = directory.join("repository");
        // A key for nothing else than such repositories.
        let key = SigningKey::from_seed(&[7; 32]).map_err(publish)?;
        let anchor = writer::anchor(&repository, &key, now).map_err(publish)?;
        let mut targets = vec![target("manifest.json".to_owned(), &description)?];
        for (name, source) in files {
            targets.push(target(name.clone(), source)?);
        }
        let image = targets.get(1).map(|image| (image.digest, image.length));
        let (digest, length) = image.unwrap_or((Digest::of(b""), 0));
        let role = format!("runtime-{}", manifest.runtime.name);
        let publication = Publication {
            directory: &repository,
            signers: RoleSigners::one(&key),
            role: &role,
            targets: &targets,
            now,
        };
        writer::publish(&publication).map_err(publish)?;
        Ok(PublishedRepository {
            directory: repository,
            anchor,
            manifest,
            digest,
            length,
        })
    }

    /// Where the image is below the repository's URL.
    pub fn image_path(&self) -> String {
        let name = ImageId::from_digest(self.digest).file_name();
        format!("targets/{}.{name}", self.digest)
    }
}

fn target(name: String, source: &Path) -> Result<PublicationTarget<'_>, HarnessError> {
    let read = File::open(source).and_then(Digest::of_reader);
    let (digest, length) = read.map_err(failed("read", source))?;
    Ok(PublicationTarget {
        name,
        source,
        digest,
        length,
    })
}

/// A runtime of this name with one extension, whose image has this digest.
///
/// # Errors
/// The name cannot be one.
pub fn manifest(name: &str, digest: Digest) -> Result<Manifest, HarnessError> {
    let text = serde_json::json!({
        "manifest_version": MANIFEST_VERSION,
        "id": "none",
        "built_at": "2024-01-01T00:00:00Z",
        "runtime": {"name": name, "version": "1.0.0"},
        "extensions": [{
            "name": "app",
            "version": "1.0.0",
            "image_id": ImageId::from_digest(digest),
            "sha256": digest,
        }],
    });
    let mut manifest = Manifest::parse(text.to_string().as_bytes()).map_err(publish)?;
    manifest.id = manifest.content_id().unwrap();
    Ok(manifest)
}

/// Writes `length` bytes of which no MiB is like another, and takes their digest.
fn fill(path: &Path, length: u64) -> Result<Digest, HarnessError> {
    const MIB: usize = 1 << 20;
    let mut state = 0u64;
    let mut block: Vec<u8> = std::iter::repeat_with(|| splitmix(&mut state).to_le_bytes())
        .take(MIB / 8)
        .flatten()
        .collect();
    let mut hasher = DigestHasher::default();
    let mut file = File::create(path).map_err(failed("make", path))?;
    let mut left = length;
    while left > 0 {
        let number = splitmix(&mut state).to_le_bytes();
        for (byte, number) in block.iter_mut().zip(number) {
            *byte = number;
        }
        let part = usize::try_from(left).unwrap_or(MIB).min(MIB);
        let bytes = block.get(..part).unwrap_or_default();
        file.write_all(bytes).map_err(failed("write", path))?;
        hasher.update(bytes);
        left -= part as u64;
    }
    // A measurement afterwards must not pay for it.
    file.sync_all().map_err(failed("sync", path))?;
    Ok(hasher.finish())
}

/// The next number of a sequence without a pattern.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn publish(error: impl std::error::Error + Send + Sync + 'static) -> HarnessError {
    HarnessError::Publish(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let published = PublishedRepository::create(dir.path(), (3 << 20) + 5).unwrap();
        let image = published.directory.join(published.image_path());
        let (digest, length) = Digest::of_reader(File::open(image).unwrap()).unwrap();
        assert_eq!((digest, length), (published.digest, published.length));
        assert_eq!(
            published.manifest.id,
            published.manifest.content_id().unwrap()
        );
    }
}
