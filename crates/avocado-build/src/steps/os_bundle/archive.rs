//! The archive of a bundle: a tar whose first file is the description, compressed with zstd.
//!
//! It is a row of frames. Each holds the headers before a file, or a chunk of an artifact and nothing else, so
//! that a device can fetch, check and unpack any of them alone; a reader of zstd takes them for one file.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use avocado_manifest::os_bundle::{
    BundleChunk, ChunkedArchive, ChunkedArtifact, OS_BUNDLE_CHUNK, OS_BUNDLE_FILE,
    OS_BUNDLE_IMAGES, OsBundleChunks,
};
use avocado_manifest::{Digest, DigestHasher};
use tar::{Builder, EntryType, Header};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::request::BuiltArtifact;
use crate::error::{At as _, BuildError};

/// As the published writer compresses.
const LEVEL: i32 = 3;

/// The unit of a tar, in bytes.
const BLOCK: usize = 512;

/// Writes the archive to `place`, which is on disk when this returns; where its chunks are.
/// `epoch` is the time of each file.
pub(super) fn write(
    place: &Path,
    description: &str,
    artifacts: &[BuiltArtifact],
    epoch: u64,
) -> Result<OsBundleChunks, BuildError> {
    let file = File::create(place).at("create", place)?;
    let written = compress(&file, description, artifacts, epoch);
    let written = written.and_then(|chunks| file.sync_all().map(|()| chunks));
    written.at("write", place)
}

fn compress(
    file: &File,
    description: &str,
    artifacts: &[BuiltArtifact],
    epoch: u64,
) -> io::Result<OsBundleChunks> {
    let mut frames = FrameWriter::new(BufWriter::new(file))?;
    // What stands between two artifacts: the end of a file, and the header of the next.
    let mut between = header(OS_BUNDLE_FILE, description.len() as u64, epoch)?;
    between.extend_from_slice(description.as_bytes());
    pad(&mut between, description.len() as u64);
    let mut chunked = Vec::new();
    let mut buffer = vec![0; OS_BUNDLE_CHUNK];
    for BuiltArtifact { path, file } in artifacts {
        let name = format!("{OS_BUNDLE_IMAGES}/{}", file.file);
        between.append(&mut header(&name, file.size, epoch)?);
        frames.write(&between)?;
        between.clear();
        let mut source = File::open(path)?;
        let mut chunks = Vec::new();
        let mut left = file.size;
        while left > 0 {
            let bytes = usize::try_from(left).map_or(OS_BUNDLE_CHUNK, |l| l.min(OS_BUNDLE_CHUNK));
            let chunk = buffer.get_mut(..bytes).unwrap_or_default();
            source.read_exact(chunk)?;
            chunks.push(frames.write(chunk)?);
            left -= bytes as u64;
        }
        pad(&mut between, file.size);
        chunked.push(ChunkedArtifact {
            file: file.file.clone(),
            size: file.size,
            chunks,
        });
    }
    // Two blocks of zeros are the end.
    between.resize(between.len() + 2 * BLOCK, 0);
    frames.write(&between)?;
    Ok(OsBundleChunks::new(
        frames.finish()?,
        description.to_owned(),
        chunked,
    ))
}

/// What stands before a file in a tar, with an entry of its own for a name that is too long for a header.
fn header(name: &str, size: u64, epoch: u64) -> io::Result<Vec<u8>> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(epoch);
    header.set_size(size);
    let mut archive = Builder::new(Vec::new());
    // The bytes of the file follow in frames of their own.
    archive.append_data(&mut header, name, io::empty())?;
    Ok(archive.get_ref().clone())
}

/// Fills up the last block of a file of `size` bytes.
fn pad(bytes: &mut Vec<u8>, size: u64) {
    let over = (size % BLOCK as u64) as usize;
    if over > 0 {
        bytes.resize(bytes.len() + BLOCK - over, 0);
    }
}

/// Writes frames of zstd one after another.
struct FrameWriter<W> {
    target: W,
    compressor: Compressor<'static>,
    hasher: DigestHasher,
    length: u64,
}

impl<W: Write> FrameWriter<W> {
    fn new(target: W) -> io::Result<Self> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(FrameWriter {
            target,
            compressor,
            hasher: DigestHasher::default(),
            length: 0,
        })
    }

    fn write(&mut self, content: &[u8]) -> io::Result<BundleChunk> {
        let frame = self.compressor.compress(content)?;
        self.target.write_all(&frame)?;
        self.hasher.update(&frame);
        let offset = self.length;
        let length = frame.len() as u64;
        self.length += length;
        Ok(BundleChunk {
            offset,
            length,
            sha256: Digest::of(&frame),
            content_sha256: Digest::of(content),
        })
    }

    fn finish(mut self) -> io::Result<ChunkedArchive> {
        self.target.flush()?;
        Ok(ChunkedArchive {
            length: self.length,
            sha256: self.hasher.finish(),
        })
    }
}
