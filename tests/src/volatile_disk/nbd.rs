//! The server side of NBD, as much of it as QEMU asks for: the fixed newstyle handshake, then reads, writes and
//! flushes, one after the other
//! (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>). It does not offer `FUA`: QEMU then
//! sends a write and a flush.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use super::{DiskEvent, MARK, MARKS, Powered, SECTOR};

const GREETING: u64 = 0x4e42_444d_4147_4943;
const OPTION: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;

/// Fixed newstyle, and no zeroes after an export's description.
const HANDSHAKE: u16 = 0b11;
/// There are flags, and flushes are understood.
const TRANSMISSION: u16 = 0b101;

const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const INFO: u32 = 6;
const GO: u32 = 7;

const ACKNOWLEDGED: u32 = 1;
const INFORMATION: u32 = 3;
const UNSUPPORTED: u32 = (1 << 31) | 1;
const UNKNOWN_EXPORT: u32 = (1 << 31) | 6;

/// Kinds of information: the export, and the sizes of blocks.
const ABOUT_EXPORT: u16 = 0;
const ABOUT_BLOCKS: u16 = 3;

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;

/// The error `EINVAL`.
const INVALID: u32 = 22;

/// The largest request, and the largest option, in bytes.
const LARGEST: usize = 32 << 20;

/// Talks to one client until it goes.
pub(super) fn serve(mut stream: UnixStream, powered: &Powered) -> io::Result<()> {
    let Some(export) = negotiate(&mut stream, powered)? else {
        return Ok(());
    };
    loop {
        if number::<4>(&mut stream).map(u32::from_be_bytes)? != REQUEST {
            return Err(garbled());
        }
        let _flags = number::<2>(&mut stream)?;
        let kind = u16::from_be_bytes(number(&mut stream)?);
        let cookie = number::<8>(&mut stream)?;
        let offset = u64::from_be_bytes(number(&mut stream)?);
        let length = u32::from_be_bytes(number(&mut stream)?);
        let (Ok(offset), Ok(length)) = (usize::try_from(offset), usize::try_from(length)) else {
            return Err(garbled());
        };
        let answer = match kind {
            READ => {
                let read =
                    |disk: &mut super::VolatileDisk| disk.read(offset, length).map(<[u8]>::to_vec);
                powered.with_disk(&export, None, read)
            }
            WRITE => {
                if length > LARGEST {
                    return Err(garbled());
                }
                let mut bytes = vec![0; length];
                stream.read_exact(&mut bytes)?;
                let event = if export == MARKS {
                    DiskEvent::Mark(u8::try_from(offset / MARK).unwrap_or(u8::MAX))
                } else {
                    DiskEvent::Write(export.clone())
                };
                let write = |disk: &mut super::VolatileDisk| {
                    disk.write(offset, bytes)?;
                    Some(Vec::new())
                };
                powered.with_disk(&export, Some(event), write)
            }
            FLUSH => {
                let event = (export != MARKS).then(|| DiskEvent::Flush(export.clone()));
                let flush = |disk: &mut super::VolatileDisk| {
                    disk.flush();
                    Some(Vec::new())
                };
                powered.with_disk(&export, event, flush)
            }
            DISCONNECT => return Ok(()),
            _ => Some(None),
        };
        // Without power nothing is answered.
        let Some(answer) = answer else {
            return Ok(());
        };
        let error: u32 = if answer.is_some() { 0 } else { INVALID };
        let mut reply = REPLY.to_be_bytes().to_vec();
        reply.extend(error.to_be_bytes());
        reply.extend(cookie);
        reply.extend(answer.unwrap_or_default());
        stream.write_all(&reply)?;
    }
}

/// The name of the export that the client wants. None: it wants none.
fn negotiate(stream: &mut UnixStream, powered: &Powered) -> io::Result<Option<String>> {
    let mut greeting = GREETING.to_be_bytes().to_vec();
    greeting.extend(OPTION.to_be_bytes());
    greeting.extend(HANDSHAKE.to_be_bytes());
    stream.write_all(&greeting)?;
    let has_zeroes = u32::from_be_bytes(number(stream)?) & 0b10 == 0;
    loop {
        if number::<8>(stream).map(u64::from_be_bytes)? != OPTION {
            return Err(garbled());
        }
        let option = u32::from_be_bytes(number(stream)?);
        let length = usize::try_from(u32::from_be_bytes(number(stream)?)).map_err(|_| garbled())?;
        if length > LARGEST {
            return Err(garbled());
        }
        let mut data = vec![0; length];
        stream.read_exact(&mut data)?;
        let reply = |stream: &mut UnixStream, kind: u32, bytes: &[u8]| {
            let mut reply = OPTION_REPLY.to_be_bytes().to_vec();
            reply.extend(option.to_be_bytes());
            reply.extend(kind.to_be_bytes());
            reply.extend(u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
            reply.extend(bytes);
            stream.write_all(&reply)
        };
        let size = |name: &[u8]| {
            let name = String::from_utf8_lossy(name).into_owned();
            let size = powered.state().disks.get(&name)?.cached.len();
            Some((name, size as u64))
        };
        match option {
            EXPORT_NAME => {
                let (name, size) = size(&data).ok_or_else(garbled)?;
                let mut about = size.to_be_bytes().to_vec();
                about.extend(TRANSMISSION.to_be_bytes());
                if has_zeroes {
                    about.extend([0; 124]);
                }
                stream.write_all(&about)?;
                return Ok(Some(name));
            }
            ABORT => {
                reply(stream, ACKNOWLEDGED, &[])?;
                return Ok(None);
            }
            INFO | GO => {
                let Some((name, size)) = wanted(&data).and_then(size) else {
                    reply(stream, UNKNOWN_EXPORT, &[])?;
                    continue;
                };
                let mut about = ABOUT_EXPORT.to_be_bytes().to_vec();
                about.extend(size.to_be_bytes());
                about.extend(TRANSMISSION.to_be_bytes());
                reply(stream, INFORMATION, &about)?;
                let mut blocks = ABOUT_BLOCKS.to_be_bytes().to_vec();
                for size in [SECTOR, 4096, LARGEST] {
                    blocks.extend(u32::try_from(size).unwrap_or(0).to_be_bytes());
                }
                reply(stream, INFORMATION, &blocks)?;
                reply(stream, ACKNOWLEDGED, &[])?;
                if option == GO {
                    return Ok(Some(name));
                }
            }
            _ => reply(stream, UNSUPPORTED, &[])?,
        }
    }
}

/// The name in the data of an option that asks for an export.
fn wanted(data: &[u8]) -> Option<&[u8]> {
    let (length, rest) = data.split_first_chunk()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn number<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is not NBD")
}
