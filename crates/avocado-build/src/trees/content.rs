//! Copying what is in a file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;

use avocado_manifest::{Digest, DigestHasher};
use rustix::io::Errno;

/// Copies the content of a file to a new one: as the same blocks where the file system can share
/// them, and with its holes, which take no place on the disk.
pub(super) fn copy_content(from: &mut File, to: &mut File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(&*to, &*from).is_ok() {
        return Ok(());
    }
    let metadata = from.metadata()?;
    if metadata.blocks() * 512 >= metadata.len() {
        io::copy(from, to)?;
        return Ok(());
    }
    let mut done = 0;
    while let Some((start, end)) = data_after(from, done)? {
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        let copied = io::copy(&mut from.take(end - start), to)?;
        if copied == 0 {
            break;
        }
        done = start + copied;
    }
    to.set_len(metadata.len().max(done))
}

/// In a file with holes as much of zeroes becomes one again.
const BLOCK: usize = 4096;

/// The same, and the digest and the length of what was copied: each byte is read once. The buffer is
/// that of all files that are copied.
pub(super) fn copy_and_digest(
    from: &mut File,
    to: &mut File,
    buffer: &mut [u8],
) -> io::Result<(Digest, u64)> {
    if rustix::fs::ioctl_ficlone(&*to, &*from).is_ok() {
        // Not the original, which may be another one by now.
        to.rewind()?;
        return Digest::of_reader_by(buffer, to);
    }
    let metadata = from.metadata()?;
    let has_holes = metadata.blocks() * 512 < metadata.len();
    let mut hasher = DigestHasher::default();
    let mut length = 0;
    loop {
        let read = match from.read(buffer) {
            Ok(0) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => &buffer[..read?],
        };
        hasher.update(read);
        length += read.len() as u64;
        if !has_holes {
            to.write_all(read)?;
            continue;
        }
        for block in read.chunks(BLOCK) {
            if block.iter().all(|byte| *byte == 0) {
                to.seek(SeekFrom::Current(block.len() as i64))?;
            } else {
                to.write_all(block)?;
            }
        }
    }
    if has_holes {
        to.set_len(length)?;
    }
    Ok((hasher.finish(), length))
}

/// Where the next data are, at `from` or after it; none where only a hole is left.
fn data_after(file: &File, from: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(from)) {
        Err(Errno::NXIO) => return Ok(None),
        // This file system tells of no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((from, u64::MAX))),
        start => start?,
    };
    Ok(Some((
        start,
        rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start))?,
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn copied(fill: impl FnOnce(&File)) -> (File, File) {
        let [mut from, mut to] = [0; 2].map(|_| tempfile::tempfile().unwrap());
        fill(&from);
        from.rewind().unwrap();
        copy_content(&mut from, &mut to).unwrap();
        from.rewind().unwrap();
        if from.metadata().unwrap().len() < 100 * MIB {
            let mut other = tempfile::tempfile().unwrap();
            let digested = copy_and_digest(&mut from, &mut other, &mut vec![0; 1 << 16]).unwrap();
            for (file, what) in [(&mut from, "from"), (&mut other, "other"), (&mut to, "to")] {
                file.rewind().unwrap();
                assert_eq!(Digest::of_reader(file).unwrap(), digested, "{what}");
            }
            let [from, other] = [&from, &other].map(|file| file.metadata().unwrap().blocks());
            assert!(other <= from.max(8), "{other} blocks of {from}");
        }
        assert_eq!(from.metadata().unwrap().len(), to.metadata().unwrap().len());
        (from, to)
    }

    fn at(file: &File, offset: u64) -> [u8; 4] {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    #[test]
    fn holes_stay_holes() {
        let (_, to) = copied(|file| {
            for (offset, bytes) in [
                (0, b"head"),
                (700 * MIB + 3, b"body"),
                (2000 * MIB, b"tail"),
            ] {
                file.write_all_at(bytes, offset).unwrap();
            }
            file.set_len(3000 * MIB).unwrap();
        });
        assert_eq!(&at(&to, 0), b"head");
        assert_eq!(&at(&to, 700 * MIB + 3), b"body");
        assert_eq!(&at(&to, 2000 * MIB), b"tail");
        for hole in [4, 700 * MIB - 4096, 1500 * MIB, 3000 * MIB - 4] {
            assert_eq!(at(&to, hole), [0; 4]);
        }
        let disk = to.metadata().unwrap().blocks() * 512;
        assert!(disk <= MIB, "{disk} bytes on the disk");
    }

    #[test]
    fn files_without_holes_and_with_nothing_else_arrive() {
        let (_, to) = copied(|file| file.write_all_at(b"0123", 0).unwrap());
        assert_eq!(&at(&to, 0), b"0123");
        let (_, to) = copied(|file| file.set_len(5 * MIB).unwrap());
        assert_eq!(at(&to, 4 * MIB), [0; 4]);
        copied(|_| {});
        copied(|mut file| file.write_all(&vec![7; 300_000]).unwrap());
        copied(|file| {
            file.set_len(5 * MIB).unwrap();
            file.write_all_at(b"body", 3 * MIB - 2).unwrap();
        });
    }
}
