//! A look at the headers of an archive before the library reads them.

use std::io::{self, Read};

use tar::{EntryType, Header};

/// In bytes: a header, and what all else is filled up to.
const BLOCK: usize = 512;

/// More than the names, times and extended attributes of a file take: Linux has 64 KiB of names and as
/// much of a value. The library keeps all of it in memory.
const LONGEST_NOTE: u64 = 1 << 20;

/// Passes an archive on as long as its headers are such as our own archives have. What tells of an entry
/// is of a bounded length, and sparse files, whose parts would be kept in memory, are none of ours.
pub(crate) struct CheckedHeaders<R> {
    from: R,
    block: [u8; BLOCK],
    /// Which part of the header is still to be passed on.
    header: std::ops::Range<usize>,
    /// How many bytes come before the next header.
    body: u64,
}

impl<R: Read> CheckedHeaders<R> {
    pub(crate) fn new(from: R) -> Self {
        CheckedHeaders {
            from,
            block: [0; BLOCK],
            header: 0..0,
            body: 0,
        }
    }

    fn read_header(&mut self) -> io::Result<()> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.from.read(&mut self.block[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.header = 0..filled;
        let is_end = self.block.iter().all(|byte| *byte == 0);
        // A part of one is for the library to complain of.
        if filled == BLOCK && !is_end {
            self.body = check(Header::from_byte_slice(&self.block))?;
        }
        Ok(())
    }
}

/// Returns how many bytes follow, filled up to whole blocks.
fn check(header: &Header) -> io::Result<u64> {
    let size = header.entry_size()?;
    let is_note = match header.entry_type() {
        EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => true,
        EntryType::Regular
        | EntryType::Directory
        | EntryType::Symlink
        | EntryType::Link
        | EntryType::Fifo
        | EntryType::Char
        | EntryType::Block => false,
        _ => return Err(refused("has something in it that no archive of ours has")),
    };
    if is_note && size > LONGEST_NOTE {
        return Err(refused("tells more of an entry than there can be"));
    }
    size.checked_next_multiple_of(BLOCK as u64)
        .ok_or_else(|| refused("has an entry of a length that cannot be"))
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it {what}"))
}

impl<R: Read> Read for CheckedHeaders<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        if self.header.is_empty() && self.body == 0 {
            self.read_header()?;
        }
        if !self.header.is_empty() {
            let length = self.header.len().min(to.len());
            let start = self.header.start;
            to[..length].copy_from_slice(&self.block[start..start + length]);
            self.header.start += length;
            return Ok(length);
        }
        if self.body == 0 {
            return Ok(0);
        }
        let most = usize::try_from(self.body).unwrap_or(usize::MAX);
        let most = most.min(to.len());
        let read = self.from.read(&mut to[..most])?;
        self.body -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(kind: EntryType, size: u64, has: usize) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(BLOCK + has, b'x');
        bytes.resize(bytes.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
        bytes
    }

    #[test]
    fn what_is_good_passes_as_it_is_however_it_is_read() {
        let mut two = archive(EntryType::Regular, 700, 700);
        two.truncate(BLOCK + 2 * BLOCK);
        two.extend(archive(EntryType::XHeader, 3, 3));
        for chunk in [1, 7, 512, 100_000] {
            let mut checked = CheckedHeaders::new(&two[..]);
            let mut read = Vec::new();
            let mut buffer = vec![0; chunk];
            loop {
                match checked.read(&mut buffer).unwrap() {
                    0 => break,
                    length => read.extend_from_slice(&buffer[..length]),
                }
            }
            assert!(read == two, "{chunk}");
        }
    }

    #[test]
    fn what_would_fill_the_memory_is_refused_before_it_is_read() {
        for (kind, size, is_good) in [
            (EntryType::Regular, 1 << 40, true),
            (EntryType::XHeader, LONGEST_NOTE, true),
            (EntryType::XHeader, LONGEST_NOTE + 1, false),
            (EntryType::GNULongName, 1 << 40, false),
            (EntryType::GNULongLink, 1 << 40, false),
            (EntryType::Regular, u64::MAX, false),
            (EntryType::GNUSparse, 0, false),
            (EntryType::XGlobalHeader, 0, false),
            (EntryType::Continuous, 0, false),
        ] {
            let bytes = archive(kind, size, 0);
            let mut first = [0; BLOCK];
            let read = CheckedHeaders::new(&bytes[..]).read_exact(&mut first);
            assert_eq!(read.is_ok(), is_good, "{kind:?} {size}");
        }
    }
}
