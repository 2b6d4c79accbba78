//! Files with holes.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};

/// As much of zeroes becomes a hole.
const BLOCK: usize = 4096;

/// Passes on what is read, and knows how much of it [`copy_with_holes`] writes: what is no hole.
pub(super) struct KeptBytes<R> {
    from: R,
    /// How much of it there may be.
    most: u64,
    bytes: u64,
    /// How much of the current block was read, and whether it is zeroes so far.
    in_block: usize,
    is_zero: bool,
}

impl<R: Read> KeptBytes<R> {
    pub(super) fn new(from: R, most: u64) -> Self {
        KeptBytes {
            from,
            most,
            bytes: 0,
            in_block: 0,
            is_zero: true,
        }
    }

    /// How much it was, when all is read.
    pub(super) fn kept(&self) -> u64 {
        self.bytes
    }

    pub(super) fn into_inner(self) -> R {
        self.from
    }

    fn keep(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.bytes > self.most {
            let what = "the archive of a tree has more in it than it should";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(())
    }
}

impl<R: Read> Read for KeptBytes<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(to)?;
        if read == 0 && !to.is_empty() {
            // A block that is not whole becomes no hole.
            let rest = std::mem::take(&mut self.in_block);
            self.keep(rest)?;
        }
        let mut left = &to[..read];
        while !left.is_empty() {
            let (part, rest) = left.split_at(left.len().min(BLOCK - self.in_block));
            self.is_zero &= part.iter().all(|byte| *byte == 0);
            self.in_block += part.len();
            if self.in_block == BLOCK {
                if !self.is_zero {
                    self.keep(BLOCK)?;
                }
                (self.in_block, self.is_zero) = (0, true);
            }
            left = rest;
        }
        Ok(read)
    }
}

/// Writes what is read to a file that is empty, with a hole wherever a block is zeroes.
pub(crate) fn copy_with_holes(from: &mut impl Read, mut file: &File) -> io::Result<u64> {
    let mut buffer = vec![0; 64 * BLOCK];
    let mut length = 0;
    let mut ends_with_hole = false;
    loop {
        // Whole buffers, so that blocks of the file are those that are looked at.
        let mut filled = 0;
        while filled < buffer.len() {
            match from.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        for block in buffer[..filled].chunks(BLOCK) {
            ends_with_hole = block.len() == BLOCK && block.iter().all(|byte| *byte == 0);
            if ends_with_hole {
                file.seek(SeekFrom::Current(BLOCK as i64))?;
            } else {
                file.write_all(block)?;
            }
        }
        length += filled as u64;
        if filled < buffer.len() {
            break;
        }
    }
    if ends_with_hole {
        file.set_len(length)?;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes at once, and no more.
    struct Slowly<'b>(&'b [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(to.len());
            (&mut self.0).take(most as u64).read(&mut to[..most])
        }
    }

    #[test]
    fn what_is_no_hole_is_counted_however_it_is_read() {
        let zeroes = |length| vec![0; length];
        for (bytes, kept) in [
            (Vec::new(), 0),
            (zeroes(BLOCK), 0),
            (zeroes(BLOCK + 1), 1),
            ([zeroes(3 * BLOCK), b"x".to_vec()].concat(), 1),
            ([b"x".to_vec(), zeroes(3 * BLOCK)].concat(), BLOCK + 1),
            ([zeroes(BLOCK - 1), b"xx".to_vec()].concat(), BLOCK + 1),
        ] {
            for chunk in [1, 7, BLOCK, 10 * BLOCK] {
                let file = tempfile::tempfile().unwrap();
                let mut counted = KeptBytes::new(Slowly(&bytes, chunk), kept as u64);
                let length = copy_with_holes(&mut counted, &file).unwrap();
                assert_eq!(length, bytes.len() as u64);
                assert_eq!(counted.kept(), kept as u64);
                if let Some(less) = (kept as u64).checked_sub(1) {
                    let mut counted = KeptBytes::new(&bytes[..], less);
                    copy_with_holes(&mut counted, &file).unwrap_err();
                }
            }
        }
    }
}
