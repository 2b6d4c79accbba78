//! Disks that lose data when the power goes: what was written since the last flush is there, a part of it is,
//! or none of it.
//!
//! To kill QEMU is no cut of the power: what a guest wrote and never flushed is in the disk's file all the
//! same. Here it is in memory ([`VolatileDisk`]) until the guest flushes that disk. A [`CutMoment`] is in terms of
//! what the guest does with its disks; from that operation on nothing is answered any more. Then QEMU is
//! killed, and [`DiskPower::off`] decides what of each disk is lost, by sectors or blocks.

mod nbd;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::HarnessError;
use crate::error::file;

/// The smallest unit that a disk writes as a whole, in bytes.
const SECTOR: usize = 512;

/// The disk on which a guest tells where it is: it writes one block, the number of which says it.
pub const MARKS: &str = "marks";

/// The size of such a block, in bytes.
const MARK: usize = 4096;

/// A disk with a cache of its own, which does not outlive the power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolatileDisk {
    /// What outlives it.
    lasting: Vec<u8>,
    /// What is read.
    cached: Vec<u8>,
    /// What was written since the last flush: where, and what.
    unflushed: Vec<(usize, Vec<u8>)>,
    /// What it writes as a whole, in bytes.
    unit: usize,
}

impl VolatileDisk {
    /// A disk with this content, which writes sectors of 512 bytes as a whole.
    pub fn new(content: Vec<u8>) -> Self {
        VolatileDisk {
            cached: content.clone(),
            lasting: content,
            unflushed: Vec::new(),
            unit: SECTOR,
        }
    }

    /// The same, and it writes units of so many bytes as a whole. File systems rely on that for their blocks: the
    /// superblock of ext4 is more than one sector.
    #[must_use]
    pub fn with_unit(self, unit: usize) -> Self {
        VolatileDisk { unit, ..self }
    }

    /// What is on it for good.
    pub fn lasting(&self) -> &[u8] {
        &self.lasting
    }

    fn read(&self, offset: usize, length: usize) -> Option<&[u8]> {
        self.cached.get(offset..offset.checked_add(length)?)
    }

    fn write(&mut self, offset: usize, bytes: Vec<u8>) -> Option<()> {
        put(&mut self.cached, offset, &bytes)?;
        self.unflushed.push((offset, bytes));
        Some(())
    }

    fn flush(&mut self) {
        for (offset, bytes) in self.unflushed.drain(..) {
            put(&mut self.lasting, offset, &bytes);
        }
    }

    /// The power goes. Each write since the last flush is kept, lost or torn, later ones without regard to
    /// earlier ones; in some cuts all of them are kept, and in more all are lost.
    fn lose(&mut self, random: &mut CutRandom) -> LostWrites {
        let fate = random.below(6);
        let mut lost = LostWrites::default();
        for (offset, bytes) in std::mem::take(&mut self.unflushed) {
            let kept = match fate {
                0 | 1 => WriteFate::Lost,
                2 => WriteFate::Kept,
                _ => [WriteFate::Lost, WriteFate::Kept, WriteFate::Torn][random.index(3)],
            };
            match kept {
                WriteFate::Lost => lost.lost += 1,
                WriteFate::Kept => {
                    lost.kept += 1;
                    put(&mut self.lasting, offset, &bytes);
                }
                WriteFate::Torn => {
                    lost.torn += 1;
                    for (number, part) in bytes.chunks(self.unit).enumerate() {
                        if random.below(2) == 0 {
                            put(&mut self.lasting, offset + number * self.unit, part);
                        }
                    }
                }
            }
        }
        self.cached.clone_from(&self.lasting);
        lost
    }
}

#[derive(Debug, Clone, Copy)]
enum WriteFate {
    Lost,
    Kept,
    Torn,
}

/// Writes bytes in a place that is there.
fn put(content: &mut [u8], offset: usize, bytes: &[u8]) -> Option<()> {
    let end = offset.checked_add(bytes.len())?;
    content.get_mut(offset..end)?.copy_from_slice(bytes);
    Some(())
}

/// What became of the writes that were not flushed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LostWrites {
    /// None of it is there.
    pub lost: u32,
    /// All of it is there.
    pub kept: u32,
    /// Some of its sectors or blocks are there.
    pub torn: u32,
}

/// Something that a guest did with its disks, in the order in which it did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskEvent {
    /// It came to this mark.
    Mark(u8),
    /// It wrote to this disk.
    Write(String),
    /// It flushed this disk.
    Flush(String),
}

/// One of the times that a guest comes to a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkVisit {
    /// The mark.
    pub mark: u8,
    /// How often it came there, from 1.
    pub time: u32,
}

impl MarkVisit {
    /// Where it is among what a guest did.
    pub fn among(self, events: &[DiskEvent]) -> Option<usize> {
        let marks = events.iter().enumerate();
        let marks = marks.filter(|(_, event)| **event == DiskEvent::Mark(self.mark));
        let before = usize::try_from(self.time.checked_sub(1)?).ok()?;
        marks.map(|(at, _)| at).nth(before)
    }
}

/// When the power goes: after so many writes and flushes from one mark on, at the latest at another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutMoment {
    /// From here on operations are counted.
    pub from: MarkVisit,
    /// Where it goes if there were fewer.
    pub until: MarkVisit,
    /// How many operations there are before. A write is in the disk's cache then; a flush is not done.
    pub operations: usize,
}

impl CutMoment {
    /// Whether it has come with the last of the events.
    fn has_come(&self, events: &[DiskEvent]) -> bool {
        let Some(from) = self.from.among(events) else {
            return false;
        };
        let since = events.iter().skip(from);
        let count = since.filter(|event| !matches!(event, DiskEvent::Mark(_)));
        count.count() >= self.operations || self.until.among(events).is_some()
    }
}

/// How many operations there are between two marks. None: one of them was not reached.
pub fn operations_between(
    events: &[DiskEvent],
    from: MarkVisit,
    until: MarkVisit,
) -> Option<usize> {
    let (from, until) = (from.among(events)?, until.among(events)?);
    let between = events.get(from..until)?.iter();
    Some(
        between
            .filter(|event| !matches!(event, DiskEvent::Mark(_)))
            .count(),
    )
}

/// Disks by their names.
pub type NamedDisks = BTreeMap<String, VolatileDisk>;

#[derive(Debug)]
struct PoweredState {
    disks: NamedDisks,
    moment: Option<CutMoment>,
    events: Vec<DiskEvent>,
    /// Nothing is done and answered any more.
    is_cut: bool,
    /// Those that wait for an answer need not wait.
    is_over: bool,
}

#[derive(Debug)]
struct Powered {
    state: Mutex<PoweredState>,
    changed: Condvar,
}

impl Powered {
    fn state(&self) -> MutexGuard<'_, PoweredState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on a disk, unless the power is gone; then this waits for the end. `event`: what that is
    /// for the guest.
    fn with_disk<T>(
        &self,
        name: &str,
        event: Option<DiskEvent>,
        work: impl FnOnce(&mut VolatileDisk) -> T,
    ) -> Option<T> {
        let mut state = self.state();
        let mut done = None;
        if !state.is_cut && !state.is_over {
            // The operation that is the moment is begun; a flush has done nothing yet.
            let is_flush = matches!(event, Some(DiskEvent::Flush(_)));
            if let Some(event) = event {
                state.events.push(event);
                state.is_cut = state
                    .moment
                    .is_some_and(|moment| moment.has_come(&state.events));
            }
            if !(state.is_cut && is_flush) {
                done = state.disks.get_mut(name).map(work);
            }
            if !state.is_cut {
                return done;
            }
        }
        while !state.is_over {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

/// Disks that have power, for a QEMU process.
#[derive(Debug)]
pub struct DiskPower {
    powered: Arc<Powered>,
    socket: PathBuf,
    listener: Option<JoinHandle<()>>,
}

impl DiskPower {
    /// Serves disks at a socket, each as the export of its name, until the moment comes.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn on(
        socket: &Path,
        disks: NamedDisks,
        moment: Option<CutMoment>,
    ) -> Result<Self, HarnessError> {
        match std::fs::remove_file(socket) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(file("remove", socket)(e)),
            _ => {}
        }
        let listener = UnixListener::bind(socket).map_err(file("listen at", socket))?;
        let powered = Arc::new(Powered {
            state: Mutex::new(PoweredState {
                disks,
                moment,
                events: Vec::new(),
                is_cut: false,
                is_over: false,
            }),
            changed: Condvar::new(),
        });
        let shared = powered.clone();
        let listening = std::thread::spawn(move || listen(&listener, &shared));
        Ok(DiskPower {
            powered,
            socket: socket.to_owned(),
            listener: Some(listening),
        })
    }

    /// Whether the power is gone.
    pub fn is_cut(&self) -> bool {
        self.powered.state().is_cut
    }

    /// What the guest did so far.
    pub fn events(&self) -> Vec<DiskEvent> {
        self.powered.state().events.clone()
    }

    /// Takes the disks out, when QEMU has ended. What was not flushed is lost in part.
    pub fn off(mut self, random: &mut CutRandom) -> (NamedDisks, LostWrites) {
        self.end();
        let mut disks = std::mem::take(&mut self.powered.state().disks);
        let mut all = LostWrites::default();
        for (name, disk) in &mut disks {
            let lost = disk.lose(random);
            if name != MARKS {
                all.lost += lost.lost;
                all.kept += lost.kept;
                all.torn += lost.torn;
            }
        }
        (disks, all)
    }

    fn end(&mut self) {
        self.powered.state().is_over = true;
        self.powered.changed.notify_all();
        if let Some(listener) = self.listener.take() {
            // So that it looks.
            let _ = UnixStream::connect(&self.socket);
            let _ = listener.join();
        }
    }
}

impl Drop for DiskPower {
    fn drop(&mut self) {
        self.end();
    }
}

/// Takes connections until all is over, and ends them.
fn listen(listener: &UnixListener, powered: &Arc<Powered>) {
    let mut connections = Vec::new();
    for stream in listener.incoming() {
        if powered.state().is_over {
            break;
        }
        let Ok(stream) = stream else { break };
        let Ok(other_end) = stream.try_clone() else {
            break;
        };
        let powered = powered.clone();
        // A connection that breaks is the end of QEMU.
        let serving = std::thread::spawn(move || nbd::serve(stream, &powered).ok());
        connections.push((other_end, serving));
    }
    for (stream, serving) in connections {
        let _ = stream.shutdown(Shutdown::Both);
        let _ = serving.join();
    }
}

/// Numbers without a pattern, which are the same for the same seed.
#[derive(Debug, Clone)]
pub struct CutRandom(u64);

impl CutRandom {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        CutRandom(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, or 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number().checked_rem(limit).unwrap_or(0)
    }

    /// The same for what is counted.
    pub fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
