//! Which runtimes were active, oldest first: `<base>/history.json`.
//!
//! It is written before `active` moves, so its last entry may be one that never became active. The
//! runtime that was active before the present one is therefore the entry before the last one that
//! names the present one: whenever a crash comes, that is right.

use std::path::{Path, PathBuf};

use avocado_manifest::RuntimeId;
use serde::{Deserialize, Serialize};

use super::files;
use super::reserve::with_reserve;
use crate::error::FailureReason;

/// How many entries are kept.
const KEPT: usize = 16;

const LIMIT: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct ActivationHistory {
    path: PathBuf,
    entries: Vec<RuntimeId>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    activated: Vec<RuntimeId>,
}

impl ActivationHistory {
    /// The history of the store at `base`. One that cannot be read is none.
    pub(crate) fn load(base: &Path) -> Self {
        let path = base.join("history.json");
        let bytes = files::read(&path, LIMIT).unwrap_or_default();
        let document: Document = serde_json::from_slice(&bytes).unwrap_or_default();
        ActivationHistory {
            path,
            entries: document.activated,
        }
    }

    /// The runtimes that were active before `active`, the last one first, each once.
    pub(crate) fn before(&self, active: Option<&RuntimeId>) -> Vec<&RuntimeId> {
        let end = self
            .entries
            .iter()
            .rposition(|id| Some(id) == active)
            .unwrap_or(self.entries.len());
        let mut found: Vec<&RuntimeId> = Vec::new();
        for id in self.entries.iter().take(end).rev() {
            if Some(id) != active && !found.contains(&id) {
                found.push(id);
            }
        }
        found
    }

    /// Notes that `next` is about to become active in the place of `active`.
    pub(crate) fn enter(
        &mut self,
        active: Option<&RuntimeId>,
        next: &RuntimeId,
    ) -> Result<(), FailureReason> {
        match self.entries.iter().rposition(|id| Some(id) == active) {
            // What comes after it never became active.
            Some(last) => self.entries.truncate(last + 1),
            None => self.entries.extend(active.cloned()),
        }
        if self.entries.last() != Some(next) {
            self.entries.push(next.clone());
        }
        let surplus = self.entries.len().saturating_sub(KEPT);
        self.entries.drain(..surplus);
        let document = Document {
            activated: self.entries.clone(),
        };
        let base = self.path.parent().unwrap_or(&self.path);
        with_reserve(base, || files::write_json(&self.path, &document))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> RuntimeId {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_active_before_is_known_after_any_interruption() {
        let dir = tempfile::tempdir().unwrap();
        let load = || ActivationHistory::load(dir.path());
        let before = |active: &str| {
            let history = load();
            let ids = history.before(Some(&id(active)));
            ids.iter()
                .map(|id| id.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(before("a"), "");
        load().enter(Some(&id("a")), &id("b")).unwrap();
        assert_eq!((before("a").as_str(), before("b").as_str()), ("", "a"));
        load().enter(Some(&id("b")), &id("c")).unwrap();
        // The crash came before `active` moved, or after.
        assert_eq!((before("b").as_str(), before("c").as_str()), ("a", "b a"));
        load().enter(Some(&id("b")), &id("d")).unwrap();
        assert_eq!((before("b").as_str(), before("d").as_str()), ("a", "b a"));
        // There and back.
        load().enter(Some(&id("d")), &id("b")).unwrap();
        assert_eq!(before("b"), "d a");
        // Nothing was active.
        load().enter(None, &id("e")).unwrap();
        assert_eq!(before("e"), "b d a");
        for n in 0..100 {
            load().enter(Some(&id("x")), &id(&format!("r{n}"))).unwrap();
        }
        assert!(load().entries.len() <= KEPT);
        std::fs::write(dir.path().join("history.json"), "{").unwrap();
        assert_eq!(before("b"), "");
    }
}
