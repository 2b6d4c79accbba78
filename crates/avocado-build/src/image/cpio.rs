//! The initramfs archive, written by a library rather than by a tool: names in byte order,
//! numbered inodes, one time stamp, root as the owner.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_project::Filesystem;
use cpio::newc;
use walkdir::WalkDir;

use crate::Error;
use crate::error::At as _;
use crate::steps::Bench;

/// The kernel reads the legacy frame of lz4 only: a magic number, then blocks of at most 8 MiB,
/// each behind its compressed size.
const LZ4_LEGACY_MAGIC: u32 = 0x184C_2102;
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

pub(super) fn write(
    bench: &Bench<'_>,
    filesystem: Filesystem,
    root: &Path,
    image: &Path,
    left_out: &[PathBuf],
) -> Result<(), Error> {
    let file = File::create(image).at("create", image)?;
    let mut file = io::BufWriter::new(file);
    let archive = |to: &mut dyn Write| archive(root, left_out, bench.epoch, to);
    match filesystem {
        Filesystem::CpioZst => {
            let mut to = zstd::Encoder::new(&mut file, 3).at("compress", image)?;
            archive(&mut to)?;
            to.finish().at("compress", image)?;
        }
        Filesystem::CpioGz => {
            // The builder writes neither name nor time into the header.
            let mut to = flate2::GzBuilder::new().write(&mut file, flate2::Compression::best());
            archive(&mut to)?;
            to.finish().at("compress", image)?;
        }
        Filesystem::CpioLz4 => {
            let mut to = Lz4Legacy::new(&mut file).at("compress", image)?;
            archive(&mut to)?;
            to.finish().at("compress", image)?;
        }
        _ => archive(&mut file)?,
    }
    file.flush().at("write", image)
}

fn archive(root: &Path, left_out: &[PathBuf], epoch: u64, to: &mut dyn Write) -> Result<(), Error> {
    let mut to = to;
    let mut inode = 0;
    let walk = WalkDir::new(root).sort_by_file_name().into_iter();
    let kept = walk.filter_entry(|entry| {
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        !left_out.iter().any(|path| path == relative)
    });
    for entry in kept {
        let entry = entry.map_err(io::Error::from).at("read", root)?;
        let path = entry.path();
        let metadata = entry
            .metadata()
            .map_err(io::Error::from)
            .at("look at", path)?;
        let relative = path.strip_prefix(root).unwrap_or(path);
        let name = match relative.as_os_str().as_bytes() {
            b"" => ".".to_owned(),
            bytes => String::from_utf8(bytes.to_vec()).map_err(|_| {
                Error::Invalid(format!("the name of {} is not UTF-8", path.display()))
            })?,
        };
        inode += 1;
        let builder = newc::Builder::new(&name)
            .ino(inode)
            .mode(metadata.mode())
            .mtime(u32::try_from(epoch).unwrap_or(u32::MAX))
            .nlink(if metadata.is_dir() { 2 } else { 1 })
            .rdev_major(rustix::fs::major(metadata.rdev()))
            .rdev_minor(rustix::fs::minor(metadata.rdev()));
        let too_large = || Error::Invalid(format!("{} is too large for cpio", path.display()));
        if metadata.is_symlink() {
            let link = fs::read_link(path).at("read", path)?;
            let bytes = link.as_os_str().as_bytes();
            let mut out = builder.write(to, bytes.len() as u32);
            out.write_all(bytes).at("archive", path)?;
            to = out.finish().at("archive", path)?;
        } else if metadata.is_file() {
            let length = u32::try_from(metadata.len()).map_err(|_| too_large())?;
            let mut from = BufReader::new(File::open(path).at("open", path)?);
            let mut out = builder.write(to, length);
            io::copy(&mut from, &mut out).at("archive", path)?;
            to = out.finish().at("archive", path)?;
        } else {
            to = builder.write(to, 0).finish().at("archive", path)?;
        }
    }
    newc::trailer(to).at("archive", root)?;
    Ok(())
}

struct Lz4Legacy<W: Write> {
    to: W,
    block: Vec<u8>,
}

impl<W: Write> Lz4Legacy<W> {
    fn new(mut to: W) -> io::Result<Self> {
        to.write_all(&LZ4_LEGACY_MAGIC.to_le_bytes())?;
        Ok(Lz4Legacy {
            to,
            block: Vec::with_capacity(LZ4_LEGACY_BLOCK),
        })
    }

    fn put_block(&mut self) -> io::Result<()> {
        let bytes = lz4_flex::block::compress(&self.block);
        self.block.clear();
        self.to.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.to.write_all(&bytes)
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.put_block()?;
        }
        self.to.flush()
    }
}

impl<W: Write> Write for Lz4Legacy<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LZ4_LEGACY_BLOCK - self.block.len();
        let taken = bytes.len().min(room);
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == LZ4_LEGACY_BLOCK {
            self.put_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::tree::Modes;
    use avocado_events::Silent;
    use std::io::{Cursor, Read};

    /// The archive in `image`, unpacked by other code than that which packed it.
    fn unpacked(filesystem: Filesystem, image: &Path) -> Vec<u8> {
        let bytes = fs::read(image).unwrap();
        match filesystem {
            Filesystem::CpioZst => zstd::decode_all(&bytes[..]).unwrap(),
            Filesystem::CpioGz => {
                let mut text = Vec::new();
                let mut from = flate2::read::GzDecoder::new(&bytes[..]);
                from.read_to_end(&mut text).unwrap();
                text
            }
            Filesystem::CpioLz4 => {
                assert_eq!(bytes[..4], LZ4_LEGACY_MAGIC.to_le_bytes());
                let (mut text, mut rest) = (Vec::new(), &bytes[4..]);
                while let Some((size, tail)) = rest.split_first_chunk::<4>() {
                    let (block, tail) = tail.split_at(u32::from_le_bytes(*size) as usize);
                    text.extend(lz4_flex::block::decompress(block, LZ4_LEGACY_BLOCK).unwrap());
                    rest = tail;
                }
                text
            }
            _ => bytes,
        }
    }

    #[test]
    fn every_format_holds_the_same_sorted_archive() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir_all(root.join("b/empty")).unwrap();
        fs::write(root.join("b/file"), "content").unwrap();
        // More than one block of the legacy frame.
        fs::write(root.join("big"), vec![b'x'; LZ4_LEGACY_BLOCK + 5]).unwrap();
        fs::write(root.join("left-out"), "secret").unwrap();
        std::os::unix::fs::symlink("b/file", root.join("a")).unwrap();
        let bench = Bench {
            target: "t".parse().unwrap(),
            layout: Layout::new(dir.path(), &"t".parse().unwrap()),
            epoch: 1_234_567,
            modes: Modes::Keep,
            sink: &Silent,
        };
        for filesystem in [
            Filesystem::Cpio,
            Filesystem::CpioZst,
            Filesystem::CpioLz4,
            Filesystem::CpioGz,
        ] {
            let image = dir.path().join("image");
            write(&bench, filesystem, &root, &image, &["left-out".into()]).unwrap();
            let mut from = Cursor::new(unpacked(filesystem, &image));
            let mut names = Vec::new();
            loop {
                let mut reader = newc::Reader::new(&mut from).unwrap();
                let entry = reader.entry();
                if entry.is_trailer() {
                    break;
                }
                assert_eq!((entry.uid(), entry.gid(), entry.mtime()), (0, 0, 1_234_567));
                names.push(entry.name().to_owned());
                let mut content = String::new();
                if names
                    .last()
                    .is_some_and(|name| name == "b/file" || name == "a")
                {
                    reader.read_to_string(&mut content).unwrap();
                    assert!(["content", "b/file"].contains(&content.as_str()));
                }
                reader.finish().unwrap();
            }
            assert_eq!(
                names,
                [".", "a", "b", "b/empty", "b/file", "big"],
                "{filesystem:?}"
            );
        }
    }
}
