//! The digests of directories of the project that are looked at in every run and seldom change:
//! overlays. Of one that the file system says is the same as before no file is looked up, and none
//! is read.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use avocado_fs::{Durability, WriteOptions};
use avocado_manifest::Digest;

/// How many are remembered of earlier runs that this one did not look at: each change of an overlay
/// adds one.
const MOST_OTHERS: usize = 1000;
/// The first line of the file.
const FORMAT: &str = "avocado known trees 1";

/// The digest of what the file system says of a tree, and of how it is digested.
pub(crate) type TreeState = Digest;

#[derive(Debug, Default)]
struct Known {
    /// Of earlier runs, the latest first. `None`: not read yet.
    earlier: Option<Vec<(TreeState, Digest)>>,
    /// What this run asked for.
    seen: Vec<(TreeState, Digest)>,
    /// This run found out something.
    is_new: bool,
}

/// The digests of trees, remembered over runs.
#[derive(Debug)]
pub(crate) struct KnownTrees {
    place: PathBuf,
    known: Mutex<Known>,
}

impl KnownTrees {
    /// Remembered in the file `place`, which may be removed at any time.
    pub(crate) fn new(place: PathBuf) -> Self {
        KnownTrees {
            place,
            known: Mutex::default(),
        }
    }

    /// The digest of the tree that has this state.
    pub(crate) fn find(&self, state: TreeState) -> Option<Digest> {
        let mut known = self.lock();
        let Known { earlier, seen, .. } = &mut *known;
        let of_state = |trees: &[(TreeState, Digest)]| {
            let found = trees.iter().find(|(of, _)| *of == state);
            found.map(|(_, digest)| *digest)
        };
        if let Some(digest) = of_state(seen) {
            return Some(digest);
        }
        let earlier = earlier.get_or_insert_with(|| self.read());
        let digest = of_state(earlier)?;
        seen.push((state, digest));
        Some(digest)
    }

    /// Notes the digest of a tree that had this state before it was read.
    pub(crate) fn add(&self, state: TreeState, digest: Digest) {
        let mut known = self.lock();
        // Else they would be lost.
        known.earlier.get_or_insert_with(|| self.read());
        known.seen.push((state, digest));
        known.is_new = true;
    }

    /// Keeps what is known for the next run. That it cannot be kept costs time and nothing else.
    pub(crate) fn save(&self) {
        let known = self.lock();
        if !known.is_new {
            return;
        }
        let earlier = known.earlier.iter().flatten();
        let others = earlier.filter(|(state, _)| known.seen.iter().all(|(of, _)| of != state));
        let mut text = format!("{FORMAT}\n");
        for (state, digest) in known.seen.iter().chain(others.take(MOST_OTHERS)) {
            text += &format!("{state} {digest}\n");
        }
        // As the known files are: what a power cut takes is read again.
        let options = WriteOptions::new().durability(Durability::None);
        let _ = options.write(&self.place, text.as_bytes());
    }

    /// Of a file that is damaged in any way nothing is known.
    fn read(&self) -> Vec<(TreeState, Digest)> {
        let text = fs::read_to_string(&self.place).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() != Some(FORMAT) {
            return Vec::new();
        }
        let trees = lines.map(|line| {
            let (state, digest) = line.split_once(' ')?;
            Some((state.parse().ok()?, digest.parse().ok()?))
        });
        trees.collect::<Option<_>>().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_known_in_later_runs_too() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("known");
        let [a, b, c] = [b"a", b"b", b"c"].map(|state| Digest::of(state));
        let first = KnownTrees::new(place.clone());
        assert_eq!(first.find(a), None);
        first.save();
        assert!(!place.exists());
        first.add(a, c);
        assert_eq!(first.find(a), Some(c));
        first.save();
        let second = KnownTrees::new(place.clone());
        second.add(b, a);
        second.save();
        let third = KnownTrees::new(place.clone());
        assert_eq!(
            (third.find(b), third.find(a), third.find(c)),
            (Some(a), Some(c), None)
        );
        third.save();
        let text = fs::read_to_string(&place).unwrap();
        for damaged in [
            text.replace(FORMAT, "avocado known trees 2"),
            text.clone() + "1 2\n",
            text[..text.len() - 3].to_owned(),
            String::new(),
        ] {
            fs::write(&place, &damaged).unwrap();
            assert_eq!(KnownTrees::new(place.clone()).find(b), None, "{damaged}");
        }
    }

    #[test]
    fn what_a_run_did_not_ask_for_stays_known() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("known");
        let states: Vec<Digest> = (0..10_u8).map(|n| Digest::of(&[n])).collect();
        for state in &states {
            let run = KnownTrees::new(place.clone());
            assert_eq!(run.find(*state), None);
            run.add(*state, states[0]);
            run.save();
        }
        let last = KnownTrees::new(place);
        let known = states.iter().filter(|state| last.find(**state).is_some());
        assert_eq!(known.count(), states.len());
    }
}
