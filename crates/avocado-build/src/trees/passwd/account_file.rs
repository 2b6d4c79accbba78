//! A file of accounts: `/etc/passwd`, `/etc/shadow` or `/etc/group`.

use std::collections::BTreeSet;

use crate::error::BuildError;
use crate::trees::Tree;

/// One of the three files: lines of fields between colons.
pub(crate) struct AccountFile {
    pub(crate) lines: Vec<Vec<String>>,
}

impl AccountFile {
    pub(crate) fn read(root: &Tree, name: &str) -> Result<Self, BuildError> {
        let text = root.read(format!("etc/{name}"))?.unwrap_or_default();
        let lines = text.lines().filter(|line| !line.is_empty());
        Ok(AccountFile {
            lines: lines
                .map(|line| line.split(':').map(ToOwned::to_owned).collect())
                .collect(),
        })
    }

    pub(crate) fn find(&mut self, name: &str) -> Option<&mut Vec<String>> {
        self.lines
            .iter_mut()
            .find(|fields| fields.first().is_some_and(|f| f == name))
    }

    pub(crate) fn field(&mut self, name: &str, index: usize) -> Option<&mut String> {
        self.find(name)?.get_mut(index)
    }

    /// Replaces the line of that name, or adds one.
    pub(crate) fn put(&mut self, fields: Vec<String>) {
        match fields.first().cloned().and_then(|name| self.find(&name)) {
            Some(line) => *line = fields,
            None => self.lines.push(fields),
        }
    }

    pub(crate) fn ids(&self) -> BTreeSet<u32> {
        let ids = self
            .lines
            .iter()
            .filter_map(|fields| fields.get(2)?.parse().ok());
        ids.collect()
    }

    pub(crate) fn write(&self, root: &Tree, name: &str, mode: u32) -> Result<(), BuildError> {
        let lines: Vec<String> = self.lines.iter().map(|fields| fields.join(":")).collect();
        root.write(format!("etc/{name}"), lines.join("\n") + "\n", mode)
    }
}
