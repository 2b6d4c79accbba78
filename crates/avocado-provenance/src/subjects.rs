//! What a statement about a runtime has to be about.

use std::collections::BTreeMap;

use avocado_manifest::os_bundle::OsBundleChunks;
use avocado_manifest::{Digest, Manifest, ManifestError};

/// In what the subjects of a statement are not what is there.
#[derive(Debug, thiserror::Error)]
pub enum SubjectsError {
    /// The manifest says nothing.
    #[error("the manifest of the runtime cannot be read")]
    Manifest(#[from] ManifestError),
    /// The manifest, of version 1, knows an image by its name alone.
    #[error("the manifest of the runtime has no sha256 of {0}")]
    NoDigest(String),
    /// Something is there that the statement does not know.
    #[error("`{0}` is no subject of the statement: nothing says how it was made")]
    Missing(String),
    /// The statement is about something else too.
    #[error("the statement has the subject `{0}`, which the runtime does not have")]
    Unexpected(String),
    /// The bytes are others.
    #[error("`{name}` has the digest {found}, and {stated} is stated")]
    Differs {
        /// The name of the subject.
        name: String,
        /// What is there.
        found: Digest,
        /// What was made.
        stated: Digest,
    },
}

/// The files of the runtime that this manifest describes: itself, and every image that it names, the
/// OS's too, which no device fetches from a repository. By the names that a repository has for them:
/// those that a device asks for are [`Manifest::required_files`].
///
/// # Errors
/// [`SubjectsError::Manifest`] and [`SubjectsError::NoDigest`]; [`SubjectsError::Differs`] where one
/// name stands for two images.
pub fn runtime_subjects(manifest: &[u8]) -> Result<BTreeMap<String, Digest>, SubjectsError> {
    let parsed = Manifest::parse(manifest)?;
    let mut subjects = BTreeMap::from([("manifest.json".to_owned(), Digest::of(manifest))]);
    let os = [
        ("its rootfs", &parsed.rootfs),
        ("its initramfs", &parsed.initramfs),
        ("its kernel", &parsed.kernel),
    ];
    let os = os.into_iter().filter_map(|(what, image)| {
        let image = image.as_ref()?;
        Some((what.to_owned(), image.image_id.file_name(), image.sha256))
    });
    let extensions = parsed.extensions.iter().map(|extension| {
        let what = format!("the extension `{}`", extension.name);
        (what, extension.file_name(), extension.sha256)
    });
    let bundle = parsed.os_bundle.iter().map(|bundle| {
        let what = "its OS bundle".to_owned();
        (what, bundle.image_id.file_name(), bundle.sha256)
    });
    let chunks = parsed.os_bundle.iter().filter_map(|bundle| {
        let what = "the chunks of its OS bundle".to_owned();
        let name = OsBundleChunks::file_name(&bundle.image_id);
        Some((what, name, Some(bundle.chunks_sha256?)))
    });
    for (what, name, digest) in os.chain(extensions).chain(bundle).chain(chunks) {
        let Some(digest) = digest else {
            return Err(SubjectsError::NoDigest(what));
        };
        match subjects.insert(name.clone(), digest) {
            Some(stated) if stated != digest => {
                return Err(SubjectsError::Differs {
                    name,
                    found: digest,
                    stated,
                });
            }
            _ => {}
        }
    }
    Ok(subjects)
}
