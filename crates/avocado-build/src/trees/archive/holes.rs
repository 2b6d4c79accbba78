//! Files with holes.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};

/// As much of zeroes becomes a hole.
const BLOCK: usize = 4096;

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
