use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What files take on the disk, and whether they have other names.
#[derive(Debug, Default)]
pub(super) struct DiskSpace {
    /// By device and inode: how many names a file has, how many were seen, and its bytes.
    files: BTreeMap<(u64, u64), (u64, u64, u64)>,
}

impl DiskSpace {
    /// Counts what is at `path`, with everything in it.
    pub(super) fn add(&mut self, path: &Path) {
        for entry in walkdir::WalkDir::new(path).into_iter().flatten() {
            let Ok(found) = entry.metadata() else {
                continue;
            };
            // A directory has as many links as it has directories in it.
            let names = if found.is_dir() { 1 } else { found.nlink() };
            let file = self.files.entry((found.dev(), found.ino()));
            let (_, seen, _) = file.or_insert((names, 0, found.blocks() * 512));
            *seen += 1;
        }
    }

    /// What is free when all names that were counted are gone.
    pub(super) fn freed(&self) -> u64 {
        let files = self.files.values();
        let last = files.filter(|(names, seen, _)| seen >= names);
        last.map(|(_, _, bytes)| bytes).sum()
    }
}
