//! What is known of files since they were copied.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use avocado_manifest::Digest;

/// A time at which nothing is written and which no package gives, as seconds and nanoseconds. A copied
/// file has it until its tree is settled: whatever is written to a file in between gives it another one.
const UNTOUCHED: (i64, i64) = (-2, 1);

/// The content of files of a tree that were copied there, for as long as nothing but this program
/// writes in the tree: what a script runs can give a file any time.
#[derive(Debug, Default)]
pub(crate) struct CopiedFiles {
    /// By device and inode. Those whose time says that they are as they were copied.
    files: HashMap<(u64, u64), CopiedFile>,
}

#[derive(Debug)]
struct CopiedFile {
    content: (Digest, u64),
    /// What it has as long as nobody wrote to it.
    time: (i64, i64),
}

impl CopiedFiles {
    /// Notes the content of a file that was just written.
    pub(super) fn add(&mut self, file: &File, content: (Digest, u64)) -> io::Result<()> {
        let seconds = Duration::from_secs(UNTOUCHED.0.unsigned_abs());
        let time = UNIX_EPOCH - seconds + Duration::from_nanos(UNTOUCHED.1.unsigned_abs());
        file.set_modified(time)?;
        let found = file.metadata()?;
        if time_of(&found) != UNTOUCHED || found.len() != content.1 {
            // Not every file system has such a time.
            return file.set_modified(SystemTime::now());
        }
        let time = UNTOUCHED;
        let copied = CopiedFile { content, time };
        self.files.insert(inode_of(&found), copied);
        Ok(())
    }

    /// Follows a file whose time, which was `before`, becomes `seconds`. What was written to until then
    /// is not known any more.
    pub(super) fn settle(&mut self, before: &Metadata, seconds: i64) {
        if self.content(before).is_none() {
            self.forget(before);
        } else if let Some(copied) = self.files.get_mut(&inode_of(before)) {
            copied.time = (seconds, 0);
        }
    }

    pub(super) fn forget(&mut self, found: &Metadata) {
        self.files.remove(&inode_of(found));
    }

    /// The digest and the length of a file that is as it was copied.
    pub(super) fn content(&self, found: &Metadata) -> Option<(Digest, u64)> {
        let copied = self.files.get(&inode_of(found))?;
        let is_same = copied.time == time_of(found) && copied.content.1 == found.len();
        is_same.then_some(copied.content)
    }

    #[cfg(test)]
    pub(super) fn set_content(&mut self, found: &Metadata, digest: Digest) {
        let copied = self.files.get_mut(&inode_of(found)).unwrap();
        copied.content.0 = digest;
    }
}

fn inode_of(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn time_of(found: &Metadata) -> (i64, i64) {
    (found.mtime(), found.mtime_nsec())
}
