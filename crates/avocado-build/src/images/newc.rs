//! Writing the `newc` format of cpio, which the kernel unpacks. A name is bytes here, as in a file
//! system: no library of the ecosystem takes one that is not UTF-8.

use std::io::{self, Write};

const MAGIC: &[u8] = b"070701";
const HEADER_LENGTH: usize = 110;
/// A file of this name ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// What stands before the content of an entry. Its owner is root.
#[derive(Default)]
pub(super) struct NewcHeader {
    pub(super) inode: u32,
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) modified: u32,
    pub(super) size: u32,
    /// Major and minor number of the device that it is.
    pub(super) device: (u32, u32),
}

/// Writes an entry up to its content, of which [`NewcHeader::size`] bytes have to follow, and then
/// [`pad`].
pub(super) fn begin(to: &mut dyn Write, name: &[u8], header: &NewcHeader) -> io::Result<()> {
    if name == TRAILER {
        return write_header(to, &[b"./", name].concat(), header);
    }
    write_header(to, name, header)
}

fn write_header(to: &mut dyn Write, name: &[u8], header: &NewcHeader) -> io::Result<()> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidFilename);
    let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
    to.write_all(MAGIC)?;
    for number in [
        header.inode,
        header.mode,
        0,
        0,
        header.links,
        header.modified,
        header.size,
        0,
        0,
        header.device.0,
        header.device.1,
        name_size,
        0,
    ] {
        write!(to, "{number:08x}")?;
    }
    to.write_all(name)?;
    to.write_all(b"\0")?;
    pad(to, (HEADER_LENGTH + name.len() + 1) as u64)
}

/// Fills up to a multiple of four bytes what had `length`.
pub(super) fn pad(to: &mut dyn Write, length: u64) -> io::Result<()> {
    let missing = length.next_multiple_of(4) - length;
    to.write_all(&[0; 3][..missing as usize])
}

/// Ends an archive.
pub(super) fn finish(to: &mut dyn Write) -> io::Result<()> {
    let header = NewcHeader {
        links: 1,
        ..NewcHeader::default()
    };
    write_header(to, TRAILER, &header)
}
