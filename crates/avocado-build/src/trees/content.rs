//! Copying what is in a file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::SeekFrom;
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
        from.seek(io::SeekFrom::Start(start))?;
        to.seek(io::SeekFrom::Start(start))?;
        let copied = io::copy(&mut from.take(end - start), to)?;
        if copied == 0 {
            break;
        }
        done = start + copied;
    }
    to.set_len(metadata.len().max(done))
}

/// Where the next data are, at `from` or after it; none where only a hole is left.
fn data_after(file: &File, from: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Err(Errno::NXIO) => return Ok(None),
        // This file system tells of no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((from, u64::MAX))),
        start => start?,
    };
    Ok(Some((
        start,
        rustix::fs::seek(file, SeekFrom::Hole(start))?,
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
        copy_content(&mut from, &mut to).unwrap();
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
    }
}
