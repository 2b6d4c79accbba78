use std::path::{Path, PathBuf};

/// Which stamp: `<directory>[/<name>]/<command>.stamp` below the directory of all stamps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StampKey {
    /// The kind of thing that the task works on, as the stamp says it.
    pub component: &'static str,
    /// The directory of the stamps of that kind.
    pub directory: &'static str,
    /// Which thing of that kind, where there are several: a file name.
    pub name: Option<String>,
    /// What the task does with the thing.
    pub command: &'static str,
}

impl StampKey {
    pub(crate) fn path(&self, stamps: &Path) -> PathBuf {
        let mut path = stamps.join(self.directory);
        if let Some(name) = &self.name {
            path.push(name);
        }
        path.join(format!("{}.stamp", self.command))
    }

    /// The file that has the inputs which the stamp has the hash of.
    pub(crate) fn inputs_path(&self, stamps: &Path) -> PathBuf {
        self.path(stamps).with_extension("inputs.json")
    }
}
