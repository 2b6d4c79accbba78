//! The archive of a bundle: a tar whose first file is the description, compressed with zstd.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use avocado_manifest::os_bundle::{OS_BUNDLE_FILE, OS_BUNDLE_IMAGES};
use tar::{Builder, EntryType, Header};

use super::request::BuiltArtifact;
use crate::error::{At as _, BuildError};

/// As the published writer compresses.
const LEVEL: i32 = 3;

/// Writes the archive to `place`, which is on disk when this returns. `epoch` is the time of each file.
pub(super) fn write(
    place: &Path,
    description: &[u8],
    artifacts: &[BuiltArtifact],
    epoch: u64,
) -> Result<(), BuildError> {
    let file = File::create(place).at("create", place)?;
    let compressed = compress(&file, description, artifacts, epoch);
    compressed.and_then(|()| file.sync_all()).at("write", place)
}

fn compress(
    file: &File,
    description: &[u8],
    artifacts: &[BuiltArtifact],
    epoch: u64,
) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL)?;
    encoder.include_checksum(true)?;
    let mut archive = Builder::new(encoder);
    let header = |size| {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(epoch);
        header.set_size(size);
        header
    };
    let mut described = header(description.len() as u64);
    archive.append_data(&mut described, OS_BUNDLE_FILE, description)?;
    for artifact in artifacts {
        let name = format!("{OS_BUNDLE_IMAGES}/{}", artifact.file.file);
        let source = File::open(&artifact.path)?;
        archive.append_data(&mut header(artifact.file.size), name, source)?;
    }
    archive.into_inner()?.finish()?.flush()
}
