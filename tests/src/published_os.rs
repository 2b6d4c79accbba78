//! A repository with one runtime of nothing but an OS, made without a build.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use avocado_manifest::os_bundle::{
    BundleChunk, ChunkedArchive, ChunkedArtifact, OS_BUNDLE_CHUNK, OsBundleChunks,
};
use avocado_manifest::{Digest, DigestHasher, ImageId, MANIFEST_VERSION, Manifest};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::HarnessError;
use crate::error::file as failed;
use crate::published::{PublishedRepository, publish};

/// An OS of one artifact.
#[derive(Debug)]
pub struct PublishedOs<'a> {
    /// The version of its runtime.
    pub version: &'a str,
    /// Its build.
    pub build: &'a str,
    /// `bundle.json`. Its only artifact has the file [`ROOTFS`].
    pub description: Value,
    /// What is in [`ROOTFS`].
    pub rootfs: &'a [u8],
    /// When it is published. Repositories that are made at the same time have the same root.
    pub now: Timestamp,
}

/// The file of the artifact, below `images` of the bundle.
pub const ROOTFS: &str = "rootfs";

/// The unit of a tar, in bytes.
const BLOCK: usize = 512;

/// The level of zstd: for speed.
const LEVEL: i32 = 1;

impl PublishedOs<'_> {
    /// Makes the repository in a directory, and in it `bundle` with the archive: one that can be streamed.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn publish(&self, directory: &Path) -> Result<PublishedRepository, HarnessError> {
        let archive = bundle_of(directory);
        let index = directory.join("chunks");
        let chunks = self
            .write_archive(&archive)
            .map_err(failed("write", &archive))?;
        let document = chunks.to_json().map_err(publish)?;
        fs::write(&index, &document).map_err(failed("write", &index))?;
        let id = ImageId::from_digest(chunks.bundle.sha256);
        let manifest = json!({
            "manifest_version": MANIFEST_VERSION, "id": "none", "built_at": "2026-01-01T00:00:00Z",
            "runtime": {"name": "dev", "version": self.version},
            "extensions": [],
            "os_bundle": {
                "image_id": id, "sha256": chunks.bundle.sha256, "os_build_id": self.build,
                "chunks_sha256": Digest::of(&document),
            },
        });
        let mut manifest = Manifest::parse(manifest.to_string().as_bytes()).map_err(publish)?;
        manifest.id = manifest.content_id().map_err(publish)?;
        let files = [
            (id.file_name(), archive.as_path()),
            (OsBundleChunks::file_name(&id), index.as_path()),
        ];
        PublishedRepository::of_targets(directory, manifest, &files, self.now)
    }

    /// A tar of frames as a build makes them: what stands between files is in frames of its own.
    fn write_archive(&self, place: &Path) -> io::Result<OsBundleChunks> {
        let mut file = File::create(place)?;
        let mut hasher = DigestHasher::default();
        let mut length = 0;
        let mut frame = |content: &[u8]| -> io::Result<BundleChunk> {
            let frame = zstd::bulk::compress(content, LEVEL)?;
            file.write_all(&frame)?;
            hasher.update(&frame);
            let offset = length;
            length += frame.len() as u64;
            Ok(BundleChunk {
                offset,
                length: frame.len() as u64,
                sha256: Digest::of(&frame),
                content_sha256: Digest::of(content),
            })
        };
        let description = self.description.to_string();
        let mut begin = header("bundle.json", description.len());
        begin.extend_from_slice(description.as_bytes());
        begin.resize(begin.len().next_multiple_of(BLOCK), 0);
        begin.extend(header(&format!("images/{ROOTFS}"), self.rootfs.len()));
        frame(&begin)?;
        let chunks = self.rootfs.chunks(OS_BUNDLE_CHUNK).map(&mut frame);
        let chunks = chunks.collect::<io::Result<_>>()?;
        let padding = self.rootfs.len().next_multiple_of(BLOCK) - self.rootfs.len();
        frame(&vec![0; padding + 2 * BLOCK])?;
        file.sync_all()?;
        let archive = ChunkedArchive {
            length,
            sha256: hasher.finish(),
        };
        let artifact = ChunkedArtifact {
            file: ROOTFS.parse().map_err(io::Error::other)?,
            size: self.rootfs.len() as u64,
            chunks,
        };
        Ok(OsBundleChunks::new(archive, description, vec![artifact]))
    }
}

/// The archive of an OS that was published in a directory.
pub fn bundle_of(directory: &Path) -> PathBuf {
    directory.join("bundle")
}

fn header(name: &str, size: usize) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let name = header.set_path(name);
    debug_assert!(name.is_ok(), "a short name");
    header.set_size(size as u64);
    header.set_cksum();
    header.as_bytes().to_vec()
}
