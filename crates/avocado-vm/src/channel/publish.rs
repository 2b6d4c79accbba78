//! The other side of a channel: a directory that any web server can serve.
//!
//! ```text
//! <channel>.json                          what the channel has, by platform
//! <channel>/<platform>/<version>/         an image: manifest.json and the files that it names
//! <channel>/<platform>/{metadata,targets} the TUF repository that signs the newest manifest
//! ```
//!
//! The images come first, then the signatures, then the index. Nobody gets anything that is not whole
//! and signed: a client that asks between the last two, or after a crash there, is refused (the index
//! names a manifest that is not the signed one any more) until the index is written. Publishing the
//! same image again finishes what a crash cut off.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink, StepStatus};
use avocado_fs::{
    Durability, LockPlace, TemporaryName, WriteOptions, create_directories, sync_directory,
};
use avocado_manifest::{Digest, Name, VmArtifact};
use avocado_tuf::writer::{self, Publication, PublicationTarget, RoleSigners};
use jiff::Timestamp;

use super::client::{ChannelIndex, ChannelPlatform};
use super::error::ChannelError;
use super::version::is_newer;
use crate::error::VmError;
use crate::files;
use crate::image::{self, ImageDir, MANIFEST};

/// The step that [`publish`] reports.
const STEP: &str = "publish image";
/// The role in the repository that signs the manifest.
const ROLE: &str = "vm";
/// What the repository has beside the images.
const REPOSITORY: [&str; 2] = ["metadata", "targets"];
/// How the files of a channel are written: for everybody to read.
const PUBLIC: WriteOptions = WriteOptions::new().mode(0o644);
/// How large ones are: what a killed process leaves of one is removed by the next, and their names
/// are brought to disk together.
const IMAGE: WriteOptions = PUBLIC
    .temporary(TemporaryName::Shared(".new"))
    .durability(Durability::Content);

/// An image, and the channel that it goes into.
#[derive(Debug)]
pub struct ChannelPublication<'a> {
    /// The directory that is served as the base of channels. Created where it is missing.
    pub directory: &'a Path,
    /// The name of the channel.
    pub channel: &'a str,
    /// The image. It has to say its version.
    pub image: &'a ImageDir,
    /// Who signs.
    pub signers: RoleSigners<'a>,
    /// The time of publication.
    pub now: Timestamp,
}

/// What a publication made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedImage {
    /// What the channel says now.
    pub index: ChannelIndex,
    /// The root that users can pin: it verifies everything that the channel has for this platform.
    pub root: PathBuf,
}

/// Makes `image` the one of its platform in a channel, and signs it. Doing it again is no harm.
///
/// # Errors
/// When the image has no version or is damaged, when that version was published with other bytes,
/// or the channel has images that are not signed; when a file cannot be written or signed.
pub fn publish(
    publication: &ChannelPublication<'_>,
    sink: &dyn Sink,
) -> Result<PublishedImage, VmError> {
    let version = publication.image.manifest().version.as_deref();
    let version = version.unwrap_or_default();
    sink.emit(Event::step(STEP, StepStatus::Running, version));
    let result = publish_image(publication, sink);
    sink.emit(match &result {
        Ok(_) => Event::step(STEP, StepStatus::Success, version),
        Err(e) => Event::step(STEP, StepStatus::Failed, e.to_string()),
    });
    result
}

fn publish_image(
    publication: &ChannelPublication<'_>,
    sink: &dyn Sink,
) -> Result<PublishedImage, VmError> {
    let ChannelPublication {
        directory,
        image,
        signers,
        now,
        ..
    } = *publication;
    let manifest = image.manifest();
    let channel = name(publication.channel)?;
    let platform = name(&manifest.platform)?;
    let version = manifest.version.as_deref();
    let version = version.ok_or_else(|| ChannelError::NoVersion(image.dir().to_owned()))?;
    let version = name(version)?;
    if REPOSITORY.contains(&version.as_str()) {
        return Err(ChannelError::Name(version.to_string()).into());
    }

    create_directories(directory, 0o755)?;
    let _lock = LockPlace::file(&directory.join(format!(".{channel}.lock"))).lock()?;
    let index_path = directory.join(format!("{channel}.json"));
    let before = read_index(&index_path)?;
    let there = before
        .as_ref()
        .and_then(|index| index.version_for(platform.as_str()));
    if let Some(there) = there.filter(|there| is_newer(there, version.as_str())) {
        sink.emit(Event::warning(format!(
            "version {version} is older than {there}, which the channel has now: who has that \
             installed keeps it"
        )));
    }
    let index = next_index(before, &index_path, &channel, &platform, &version, now)?;

    let repository = directory.join(channel.as_str()).join(platform.as_str());
    let place = repository.join(version.as_str());
    copy(image, &place, sink)?;
    let target = PublicationTarget {
        name: MANIFEST.to_owned(),
        source: &place.join(MANIFEST),
        digest: Digest::of(image.manifest_bytes()),
        length: image.manifest_bytes().len() as u64,
    };
    writer::publish(&Publication {
        directory: &repository,
        signers,
        role: ROLE,
        targets: &[target],
        now,
    })
    .map_err(|source| ChannelError::Signing {
        repository: repository.clone(),
        source: Box::new(source),
    })?;
    PUBLIC.write(&index_path, &files::to_json(&index_path, &index)?)?;
    Ok(PublishedImage {
        index,
        root: repository.join("metadata/1.root.json"),
    })
}

/// What becomes a part of a path and of a URL.
fn name(text: &str) -> Result<Name, ChannelError> {
    text.parse()
        .map_err(|_| ChannelError::Name(text.chars().take(80).collect()))
}

/// What the channel says before this publication.
fn read_index(path: &Path) -> Result<Option<ChannelIndex>, VmError> {
    let Some(bytes) = files::read(path)? else {
        return Ok(None);
    };
    let index = serde_json::from_slice(&bytes).map_err(|e| ChannelError::Index {
        url: path.display().to_string(),
        detail: e.to_string(),
    })?;
    Ok(Some(index))
}

/// What the channel says after this publication.
fn next_index(
    before: Option<ChannelIndex>,
    path: &Path,
    channel: &Name,
    platform: &Name,
    version: &Name,
    now: Timestamp,
) -> Result<ChannelIndex, ChannelError> {
    let mut index = before.unwrap_or_else(|| ChannelIndex {
        channel: channel.to_string(),
        version: version.to_string(),
        released_at: None,
        platforms: BTreeMap::new(),
        min_cli_version: None,
        signed: true,
    });
    let others = index.platforms.keys().find(|p| *p != platform.as_str());
    if let (false, Some(other)) = (index.signed, others) {
        // From the moment that it says so, all of them have to be.
        return Err(ChannelError::Unsigned {
            path: path.to_owned(),
            platform: other.clone(),
        });
    }
    let base = format!("{channel}/{platform}/{version}");
    let offer = ChannelPlatform {
        manifest_url: format!("{base}/{MANIFEST}"),
        base_url: base,
        version: Some(version.to_string()),
    };
    index.signed = true;
    index.released_at = Some(now.to_string());
    index.platforms.insert(platform.to_string(), offer);
    // Other platforms may be ahead.
    let versions = index.platforms.keys().filter_map(|p| index.version_for(p));
    let newest = versions.reduce(|a, b| if is_newer(b, a) { b } else { a });
    index.version = newest.unwrap_or(version.as_str()).to_owned();
    Ok(index)
}

/// Brings the files of `image` to `place`, the manifest last.
fn copy(image: &ImageDir, place: &Path, sink: &dyn Sink) -> Result<(), VmError> {
    let path = place.join(MANIFEST);
    let there = files::read(&path)?;
    if there.is_some_and(|bytes| bytes != image.manifest_bytes()) {
        return Err(ChannelError::Published(place.to_owned()).into());
    }
    create_directories(place, 0o755)?;
    for artifact in image.manifest().artifacts.values() {
        copy_file(image, artifact, place, sink)?;
    }
    sync_directory(place)?;
    PUBLIC.write(&path, image.manifest_bytes())?;
    Ok(())
}

/// Brings one file there. It gets its name when its bytes are those of the manifest. It is never
/// another name of the source, which its owner may change, or keep from others.
fn copy_file(
    image: &ImageDir,
    artifact: &VmArtifact,
    place: &Path,
    sink: &dyn Sink,
) -> Result<(), VmError> {
    let (from, to) = (image.dir().join(&artifact.file), place.join(&artifact.file));
    let progress = |done, total| {
        let file = artifact.file.as_str();
        sink.emit(Event::bytes(STEP, file, done, Some(total)));
    };
    // Signing anew brings nothing new.
    if to.is_file() && image::digest(&to, progress)? == artifact.sha256 {
        return Ok(());
    }
    let mut new = IMAGE.create(&to)?;
    let needed = artifact.size.unwrap_or(0);
    let write = |bytes: &[u8]| {
        let written = new.write_all(bytes);
        written.map_err(|e| files::write_error(&to, needed, e))
    };
    let found = image::copy(&from, write, progress)?;
    if found != artifact.sha256 {
        return Err(VmError::Damaged {
            path: from,
            expected: artifact.sha256.to_string(),
            found: found.to_string(),
        });
    }
    Ok(new.commit()?)
}
