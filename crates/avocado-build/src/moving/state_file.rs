//! Reading the file of a saved state: once, from its beginning to its end, as it comes from a pipe.
//! Nothing of it is believed before it is verified.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::{Digest, DigestHasher};
use tar::{Archive, Entries, Entry};

use super::PROGRESS_STEP;
use super::manifest::{LARGEST_MANIFEST, MANIFEST_FILE, SavedTarget, StateManifest};
use crate::error::{At as _, BuildError};
use crate::file_digest::FileDigest;
use crate::trees::archive::{self, CheckedHeaders};

/// More zeroes than any writer of archives puts behind the last file.
const LONGEST_END: u64 = 1 << 20;

/// The step in which the file is read.
pub(super) const READ_STAGE: &str = "load file";

/// Passes on what is read, and knows its digest and length.
pub(super) struct MeasuredReader<'r> {
    from: &'r mut dyn Read,
    cancel: &'r Cancel,
    sink: &'r dyn Sink,
    hasher: DigestHasher,
    size: u64,
}

impl<'r> MeasuredReader<'r> {
    pub(super) fn new(from: &'r mut dyn Read, cancel: &'r Cancel, sink: &'r dyn Sink) -> Self {
        MeasuredReader {
            from,
            cancel,
            sink,
            hasher: DigestHasher::default(),
            size: 0,
        }
    }

    /// What was read, with all that comes behind it.
    pub(super) fn finish(mut self) -> Result<(Digest, u64), BuildError> {
        let end = io::copy(&mut (&mut self).take(LONGEST_END + 1), &mut io::sink());
        if end.map_err(|e| self.failed(e))? > LONGEST_END {
            return Err(wrong("it goes on after its end"));
        }
        Ok((self.hasher.finish(), self.size))
    }

    fn failed(&self, source: io::Error) -> BuildError {
        if self.cancel.is_cancelled() {
            return BuildError::Cancelled;
        }
        wrong(&format!("it cannot be read: {source}"))
    }
}

impl Read for MeasuredReader<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        let read = self.from.read(to)?;
        self.hasher.update(&to[..read]);
        let before = self.size / PROGRESS_STEP;
        self.size += read as u64;
        if self.size / PROGRESS_STEP > before {
            self.sink
                .emit(Event::bytes(READ_STAGE, "", self.size, None));
        }
        Ok(read)
    }
}

/// The files of the archive, in their order.
pub(super) struct StateFile<'a, R: Read> {
    entries: Entries<'a, CheckedHeaders<R>>,
    cancel: &'a Cancel,
}

/// The archive that is read.
pub(super) fn open_archive<R: Read>(from: R) -> Archive<CheckedHeaders<R>> {
    Archive::new(CheckedHeaders::new(from))
}

impl<'a, R: Read> StateFile<'a, R> {
    pub(super) fn new(
        archive: &'a mut Archive<CheckedHeaders<R>>,
        cancel: &'a Cancel,
    ) -> Result<Self, BuildError> {
        let entries = archive.entries().map_err(|e| unreadable(cancel, e))?;
        Ok(StateFile { entries, cancel })
    }

    /// The next file, which has this name.
    fn next(&mut self, name: &str) -> Result<Entry<'a, CheckedHeaders<R>>, BuildError> {
        let Some(entry) = self.entries.next() else {
            let what = format!("it has no {name}: it is cut off, or something else");
            return Err(wrong(&what));
        };
        let mut entry = entry.map_err(|e| unreadable(self.cancel, e))?;
        let is_strange = archive::states_size(&mut entry);
        if is_strange.map_err(|e| unreadable(self.cancel, e))? {
            return Err(wrong("it states a length beside a header"));
        }
        let is_file = entry.header().entry_type().is_file();
        if !is_file || *entry.path_bytes() != *name.as_bytes() {
            let found = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(wrong(&format!(
                "it has {} where {name} belongs",
                found.escape_default()
            )));
        }
        Ok(entry)
    }

    pub(super) fn manifest(&mut self) -> Result<StateManifest, BuildError> {
        let cancel = self.cancel;
        let entry = self.next(MANIFEST_FILE)?;
        if entry.size() > LARGEST_MANIFEST {
            return Err(wrong(&format!("its {MANIFEST_FILE} is too large")));
        }
        let mut json = Vec::new();
        let mut limited = entry.take(LARGEST_MANIFEST);
        let read = limited.read_to_end(&mut json);
        read.map_err(|e| unreadable(cancel, e))?;
        StateManifest::from_json(&json)
    }

    /// Copies the file of a target to `to`, or nowhere, and makes sure that it is what the manifest says.
    pub(super) fn target(
        &mut self,
        target: &SavedTarget,
        to: Option<&Path>,
    ) -> Result<(), BuildError> {
        let cancel = self.cancel;
        let name = target.file();
        let entry = self.next(&name)?;
        let damaged = || {
            wrong(&format!(
                "{name} is damaged: it is not what {MANIFEST_FILE} says"
            ))
        };
        if entry.size() != target.archive.size {
            return Err(damaged());
        }
        let mut copied = CopyingReader {
            from: entry,
            to: match to {
                Some(path) => Some((File::create_new(path).at("create", path)?, path)),
                None => None,
            },
            failed: None,
        };
        let read = Digest::of_reader(&mut copied);
        if let Some(error) = copied.failed {
            return Err(error);
        }
        let (sha256, size) = read.map_err(|e| unreadable(cancel, e))?;
        if (FileDigest { sha256, size }) != target.archive {
            return Err(damaged());
        }
        Ok(())
    }

    /// Makes sure that nothing else is in it.
    pub(super) fn finish(mut self) -> Result<(), BuildError> {
        match self.entries.next() {
            None => Ok(()),
            Some(Err(e)) => Err(unreadable(self.cancel, e)),
            Some(Ok(_)) => Err(wrong(&format!(
                "it has more in it than {MANIFEST_FILE} says"
            ))),
        }
    }
}

/// Writes what is read to a file as well.
struct CopyingReader<'c, R> {
    from: R,
    to: Option<(File, &'c Path)>,
    /// Why it cannot be written.
    failed: Option<BuildError>,
}

impl<R: Read> Read for CopyingReader<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(to)?;
        if let Some((file, path)) = &mut self.to
            && let Err(source) = io::Write::write_all(file, &to[..read])
        {
            let kind = source.kind();
            self.failed = Some(BuildError::Io {
                action: "write",
                path: path.to_owned(),
                source,
            });
            return Err(kind.into());
        }
        Ok(read)
    }
}

fn unreadable(cancel: &Cancel, source: io::Error) -> BuildError {
    if cancel.is_cancelled() {
        return BuildError::Cancelled;
    }
    wrong(&format!("it cannot be read: {source}"))
}

fn wrong(what: &str) -> BuildError {
    BuildError::SavedState {
        what: what.to_owned(),
    }
}
