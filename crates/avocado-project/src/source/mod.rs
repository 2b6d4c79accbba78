//! The files that a project is made of, and the places in them that values come from.

pub(crate) mod line;

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One file of a [`SourceMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct FileId(u32);

impl FileId {
    /// The avocado.yaml that the project was started from.
    pub(crate) const MAIN: FileId = FileId(0);

    /// For carrying a span through serde.
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn from_number(number: u32) -> Self {
        FileId(number)
    }
}

/// Where something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) file: FileId,
    /// From 1.
    pub(crate) line: u32,
    /// From 1, in characters.
    pub(crate) column: u32,
    /// First byte.
    pub(crate) start: usize,
    /// First byte after it.
    pub(crate) end: usize,
}

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// As it was named to whoever reads the messages.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Every file that was read for a project. Never empty: the first is [`FileId::MAIN`].
///
/// Copies are cheap and share the texts.
#[derive(Debug, Clone)]
pub(crate) struct SourceMap {
    files: Vec<Arc<SourceFile>>,
}

impl SourceMap {
    pub(crate) fn new(path: &Path, text: impl Into<String>) -> Self {
        let mut sources = SourceMap { files: Vec::new() };
        sources.add(path, text);
        sources
    }

    pub(crate) fn add(&mut self, path: &Path, text: impl Into<String>) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(Arc::new(SourceFile {
            path: path.to_owned(),
            text: text.into(),
        }));
        id
    }

    /// An id of another map answers with the main file: a wrong place is better than a crash while
    /// a mistake is reported.
    pub(crate) fn file(&self, id: FileId) -> Arc<SourceFile> {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        let file = self.files.get(index).unwrap_or(&self.files[0]);
        Arc::clone(file)
    }
}
