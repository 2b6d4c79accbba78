//! An initramfs archive, read in process: the files of `newc`, whatever it is compressed with.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use avocado_sbom::{ImageInventory, InventoryFile};

use super::image_reader::hashes;
use super::path_text;
use crate::error::{At as _, BuildError};

const MAGIC: &[u8] = b"070701";
/// The fields behind the magic number: 13 of eight digits.
const FIELDS: usize = 13;
const TRAILER: &[u8] = b"TRAILER!!!";
/// The longest name of a file that Linux takes.
const LONGEST_NAME: u32 = 4096;
/// The kind of a file in its mode.
const KIND: u32 = 0o17_0000;
const REGULAR: u32 = 0o10_0000;
const LINK: u32 = 0o12_0000;

/// What legacy frames of lz4 begin with, and how much a block of theirs holds at most.
const LZ4_LEGACY_MAGIC: [u8; 4] = 0x184C_2102_u32.to_le_bytes();
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

pub(super) fn read(path: &Path) -> Result<ImageInventory, BuildError> {
    let mut magic = Vec::new();
    let open = || File::open(path).at("open", path);
    open()?.take(4).read_to_end(&mut magic).at("read", path)?;
    let file = BufReader::new(open()?);
    let entries = match magic.as_slice() {
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let decoder = zstd::Decoder::new(file).at("decompress", path)?;
            read_entries(BufReader::new(decoder))
        }
        [0x1f, 0x8b, ..] => read_entries(BufReader::new(flate2::read::GzDecoder::new(file))),
        magic if *magic == LZ4_LEGACY_MAGIC => {
            let archive = lz4_legacy(file).at("decompress", path)?;
            read_entries(Cursor::new(archive))
        }
        _ => read_entries(file),
    };
    entries.at("read the archive", path)
}

fn lz4_legacy(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut number = [0; 4];
    from.read_exact(&mut number)?;
    let mut archive = Vec::new();
    loop {
        match from.read_exact(&mut number) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(archive),
            Err(e) => return Err(e),
        }
        let mut block = Vec::new();
        let length = u64::from(u32::from_le_bytes(number));
        (&mut from).take(length).read_to_end(&mut block)?;
        let block = lz4_flex::block::decompress(&block, LZ4_LEGACY_BLOCK);
        archive.extend(block.map_err(invalid)?);
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn read_entries(mut from: impl Read) -> io::Result<ImageInventory> {
    let mut inventory = ImageInventory::default();
    loop {
        let mut header = [0; 6 + FIELDS * 8];
        from.read_exact(&mut header)?;
        if !header.starts_with(MAGIC) {
            return Err(invalid("an entry has another magic number than 070701"));
        }
        let field = |index: usize| {
            let digits = header
                .get(6 + index * 8..14 + index * 8)
                .unwrap_or_default();
            let digits = std::str::from_utf8(digits).map_err(invalid)?;
            u32::from_str_radix(digits, 16).map_err(invalid)
        };
        let (mode, size, name_size) = (field(1)?, field(6)?, field(11)?);
        if name_size == 0 || name_size > LONGEST_NAME {
            return Err(invalid("an entry has a name of an impossible length"));
        }
        let mut name = vec![0; name_size as usize];
        from.read_exact(&mut name)?;
        skip(
            &mut from,
            padding(header.len() as u64 + u64::from(name_size)),
        )?;
        // The zero at its end.
        name.pop();
        if name == TRAILER {
            break;
        }
        let name = path_text(Path::new(OsStr::from_bytes(&name)));
        let name = name
            .trim_start_matches("./")
            .trim_start_matches('/')
            .to_owned();
        let mut content = (&mut from).take(u64::from(size));
        match mode & KIND {
            REGULAR => {
                let hashes = hashes(&mut content)?;
                if hashes.size != u64::from(size) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                inventory.files.push(InventoryFile {
                    path: name,
                    size: hashes.size,
                    mode: mode & 0o7777,
                    sha256: hashes.sha256,
                    sha512: hashes.sha512,
                });
            }
            LINK => {
                let mut target = Vec::new();
                content.read_to_end(&mut target)?;
                let target = path_text(Path::new(OsStr::from_bytes(&target)));
                inventory.links.insert(name, target);
            }
            _ => skip(&mut from, u64::from(size))?,
        }
        skip(&mut from, padding(u64::from(size)))?;
    }
    inventory.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(inventory)
}

fn padding(length: u64) -> u64 {
    length.next_multiple_of(4) - length
}

fn skip(from: &mut impl Read, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut from.take(length), &mut io::sink())?;
    if skipped < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use avocado_project::Filesystem;

    use super::*;
    use crate::images;
    use crate::layout::Layout;
    use crate::step_context::StepContext;
    use crate::trees::{CopyModes, TreeFeatures};

    #[test]
    fn what_is_written_is_read_in_every_format() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/empty"), "").unwrap();
        fs::write(root.join("init"), "x".repeat(100_001)).unwrap();
        fs::write(root.join(OsStr::from_bytes(b"odd\xff")), "abc").unwrap();
        symlink("etc", root.join("link")).unwrap();
        let layout = Layout::new(&directory.path().join("state"), &"t".parse().unwrap());
        let context = StepContext {
            search_path: "/usr/bin:/bin".into(),
            target: "t".parse().unwrap(),
            layout: layout.clone(),
            host_layout: layout,
            epoch: 0,
            modes: CopyModes::Checkout(0o644),
            sink: &avocado_events::Silent,
            loop_mounts: None,
        };
        let image = directory.path().join("image");
        for filesystem in [
            Filesystem::Cpio,
            Filesystem::CpioZst,
            Filesystem::CpioLz4,
            Filesystem::CpioGz,
        ] {
            let features = TreeFeatures::default();
            images::write(&context, filesystem, &root, &features, &image, &[]).unwrap();
            let read = read(&image).unwrap();
            let files: Vec<_> = read
                .files
                .iter()
                .map(|f| (f.path.as_str(), f.size))
                .collect();
            let expected = [("etc/empty", 0), ("init", 100_001), ("odd%FF", 3)];
            assert_eq!(files, expected, "{filesystem:?}");
            assert_eq!(read.links["link"], "etc");
            let digest = avocado_manifest::Digest::of(b"abc").to_string();
            assert_eq!(read.files[2].sha256, digest);
            assert!(read.files[2].sha512.starts_with("ddaf35a1"));
            // What is cut off is no archive.
            let bytes = fs::read(&image).unwrap();
            fs::write(&image, &bytes[..bytes.len() / 2]).unwrap();
            super::read(&image).unwrap_err();
        }
        fs::write(&image, "no image at all").unwrap();
        super::read(&image).unwrap_err();
    }
}
