//! The initramfs archive, written in process rather than by a tool: names in byte order, numbered
//! inodes, no time stamp after `source_date_epoch`, root as the owner, no hard links.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_project::Filesystem;
use walkdir::WalkDir;

use super::newc::{self, NewcHeader};
use crate::error::{At as _, BuildError};
use crate::step_context::StepContext;

/// The kernel reads the legacy frame of lz4 only: a magic number, then blocks of at most 8 MiB,
/// each behind its compressed size.
const LZ4_LEGACY_MAGIC: u32 = 0x184C_2102;
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

pub(super) fn write(
    context: &StepContext<'_>,
    filesystem: Filesystem,
    root: &Path,
    image: &Path,
    left_out: &[PathBuf],
) -> Result<(), BuildError> {
    let file = File::create(image).at("create", image)?;
    let mut file = io::BufWriter::new(file);
    let archive = |to: &mut dyn Write| archive(root, left_out, context.epoch, to);
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

fn archive(
    root: &Path,
    left_out: &[PathBuf],
    epoch: u64,
    to: &mut dyn Write,
) -> Result<(), BuildError> {
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let walk = WalkDir::new(root).sort_by_file_name().into_iter();
    let kept = walk.filter_entry(|entry| {
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        !left_out.iter().any(|path| path == relative)
    });
    for (inode, entry) in (1_u32..).zip(kept) {
        let entry = entry.map_err(io::Error::from).at("read", root)?;
        let path = entry.path();
        let metadata = entry
            .metadata()
            .map_err(io::Error::from)
            .at("look at", path)?;
        let relative = path.strip_prefix(root).unwrap_or(path);
        let name = match relative.as_os_str().as_bytes() {
            b"" => b".",
            bytes => bytes,
        };
        let link = if metadata.is_symlink() {
            fs::read_link(path).at("read", path)?
        } else {
            PathBuf::new()
        };
        let size = if metadata.is_file() {
            metadata.len()
        } else {
            link.as_os_str().len() as u64
        };
        let device = metadata.rdev();
        let header = NewcHeader {
            inode,
            mode: metadata.mode(),
            links: if metadata.is_dir() { 2 } else { 1 },
            modified: u32::try_from(metadata.mtime().min(epoch)).unwrap_or(u32::MAX),
            size: u32::try_from(size).map_err(|_| {
                BuildError::Invalid(format!("{} is too large for cpio", path.display()))
            })?,
            device: (rustix::fs::major(device), rustix::fs::minor(device)),
        };
        newc::begin(to, name, &header).at("archive", path)?;
        if metadata.is_file() {
            let from = File::open(path).at("open", path)?;
            let copied = io::copy(&mut from.take(size), to).at("archive", path)?;
            if copied != size {
                let path = root.to_owned();
                return Err(BuildError::Changed { path });
            }
        } else {
            to.write_all(link.as_os_str().as_bytes())
                .at("archive", path)?;
        }
        newc::pad(to, size).at("archive", path)?;
    }
    newc::finish(to).at("archive", root)
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
    use crate::trees::CopyModes;
    use avocado_events::Silent;
    use cpio::newc;
    use std::io::Cursor;

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
        let context = StepContext {
            search_path: "/usr/bin:/bin".into(),
            target: "t".parse().unwrap(),
            layout: Layout::new(dir.path(), &"t".parse().unwrap()),
            host_layout: Layout::new(dir.path(), &"t".parse().unwrap()),
            epoch: 1_234_567,
            modes: CopyModes::Keep,
            sink: &Silent,
            loop_mounts: None,
        };
        for filesystem in [
            Filesystem::Cpio,
            Filesystem::CpioZst,
            Filesystem::CpioLz4,
            Filesystem::CpioGz,
        ] {
            let image = dir.path().join("image");
            write(&context, filesystem, &root, &image, &["left-out".into()]).unwrap();
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
