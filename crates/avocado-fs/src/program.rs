//! Programs that are looked for in a list of directories, as on PATH.

use std::path::{Path, PathBuf};

/// The first program of that name that this user may run.
#[must_use]
pub fn find_program(name: &str, directories: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let mut paths = directories
        .into_iter()
        .map(|directory| directory.join(name));
    paths.find(|path| is_program(path))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}
