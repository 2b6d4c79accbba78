//! What is merged where that which should be cannot: a device must come up with something.
//!
//! `active` stays where it points: it says what is wanted, and the device says that this is not what
//! it has. The runtimes that were active before come first, the last one first, each as a whole;
//! then the wanted one without what is wrong with it; and then nothing.

use std::sync::Arc;

use avocado_events::{Event, Silent, Sink, chain};
use avocado_manifest::{Manifest, RuntimeId};

use crate::context::DeviceContext;
use crate::degraded::DegradedState;
use crate::enabled::enabled;
use crate::error::DeviceError;
use crate::extension_set::{enabled_of, of_enabled, of_runtime};
use crate::merge::state::MergedState;
use crate::merge::{
    ExtensionMerger, ExtensionSet, MergeFailure, MergeMode, ProvenMerge, SetFailure,
};
use crate::store::history::ActivationHistory;
use crate::store::lock::StoreLock;

/// Merges what can be merged in the place of `active`, if nothing is merged, and says what came of
/// it. `active` is none where no runtime is active, or where it cannot be read.
pub(crate) fn come_up(
    context: &DeviceContext,
    active: Option<&Manifest>,
    failure: MergeFailure,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> DeviceError {
    let anything = !failure.leaves_nothing();
    let SetFailure { culprits, reason } = failure.set;
    let wanted = Wanted {
        context,
        active,
        id: context.runtimes().active_id().ok().flatten(),
        why: chain(&reason),
        lock,
        sink,
    };
    let state = if anything {
        let before = MergedState::load(&context.paths.merged());
        if before.runtime == wanted.id && before.degraded.is_none() {
            return DeviceError::Merge {
                restored: failure.restored,
                source: reason,
            };
        }
        wanted.keep(before)
    } else {
        let all = wanted.previous();
        all.or_else(|| wanted.part(culprits))
            .unwrap_or_else(|| wanted.nothing())
    };
    DeviceError::Degraded {
        state: Box::new(state),
        source: reason,
    }
}

/// The runtimes to try in the place of `active`, the best first.
pub(crate) fn ways_back(context: &DeviceContext, active: Option<&RuntimeId>) -> Vec<Arc<Manifest>> {
    let history = ActivationHistory::load(context.base());
    let before = history.before(active).into_iter();
    before
        .filter_map(|id| context.runtimes().read(id).ok())
        .filter(|manifest| !context.is_other_os(manifest))
        .map(Arc::new)
        .collect()
}

/// What should be merged, and cannot be.
struct Wanted<'a> {
    context: &'a DeviceContext,
    active: Option<&'a Manifest>,
    /// Of the active runtime, also where that cannot be read.
    id: Option<RuntimeId>,
    why: String,
    lock: &'a StoreLock,
    sink: &'a dyn Sink,
}

impl Wanted<'_> {
    fn state(&self, merged: Option<RuntimeId>, left_out: &[String]) -> DegradedState {
        DegradedState {
            wanted: self.id.clone(),
            merged,
            left_out: left_out.to_vec(),
            why: self.why.clone(),
        }
    }

    /// Something else than what is wanted is merged already, and stays.
    fn keep(&self, before: MergedState) -> DegradedState {
        let left_out = before.degraded.as_ref().map(|d| d.left_out.clone());
        let state = self.state(before.runtime.clone(), &left_out.unwrap_or_default());
        self.note(before, &state);
        state
    }

    /// The runtime that was active before, whole.
    fn previous(&self) -> Option<DegradedState> {
        if matches!(self.context.runtimes().active_id(), Ok(None)) {
            // That no runtime is active is as it should be.
            return None;
        }
        ways_back(self.context, self.id.as_ref())
            .into_iter()
            .find_map(|manifest| {
                let set = of_runtime(self.context, &manifest, &[]);
                let state = self.state(Some(manifest.id.clone()), &[]);
                self.merge(set, state).ok()
            })
    }

    /// What is wanted, without what is wrong with it.
    fn part(&self, culprits: Vec<String>) -> Option<DegradedState> {
        let names = self.names();
        let mut without = culprits;
        if without.is_empty() {
            without = names
                .iter()
                .filter(|n| !self.works_alone(n, &names))
                .cloned()
                .collect();
        }
        loop {
            let left: Vec<_> = names.iter().filter(|n| !without.contains(n)).collect();
            if left.is_empty() {
                return None;
            }
            let state = self.state(self.id.clone(), &without);
            let failure = match self.merge(self.set(&without), state) {
                Ok(state) => return Some(state),
                Err(failure) => failure,
            };
            let known = without.len();
            let more = failure
                .culprits
                .into_iter()
                .filter(|c| !without.contains(c));
            without.extend(more.collect::<Vec<_>>());
            if without.len() == known {
                // They do not go together. The half that counts least goes.
                without.extend(left.iter().skip(left.len() / 2).map(|name| (*name).clone()));
            }
        }
    }

    /// The extensions that should be merged, the first counts most.
    fn names(&self) -> Vec<String> {
        match self.active {
            Some(manifest) => {
                let enabled = enabled_of(self.context, manifest).into_iter();
                enabled
                    .map(|e| format!("{}-{}", e.name, e.version))
                    .collect()
            }
            // One that cannot be read names none.
            None if self.id.is_some() => Vec::new(),
            None => {
                let enabled = enabled(self.context).unwrap_or_default();
                enabled.into_iter().map(|e| e.name.to_string()).collect()
            }
        }
    }

    fn set(&self, without: &[String]) -> Result<ExtensionSet, SetFailure> {
        match self.active {
            Some(manifest) => of_runtime(self.context, manifest, without),
            None => of_enabled(self.context, without, &Silent),
        }
    }

    fn works_alone(&self, name: &str, names: &[String]) -> bool {
        let others: Vec<_> = names.iter().filter(|n| *n != name).cloned().collect();
        let merger = ExtensionMerger::new(self.context, self.lock, &Silent);
        let proven = self
            .set(&others)
            .and_then(|set| merger.prove(&set, MergeMode::Always).map_err(|f| f.set));
        proven.map(ProvenMerge::abandon).is_ok()
    }

    fn merge(
        &self,
        set: Result<ExtensionSet, SetFailure>,
        state: DegradedState,
    ) -> Result<DegradedState, SetFailure> {
        let set = ExtensionSet {
            degraded: Some(state.clone()),
            ..set?
        };
        let merger = ExtensionMerger::new(self.context, self.lock, self.sink);
        merger.merge(&set, MergeMode::Always).map_err(|f| f.set)?;
        Ok(state)
    }

    fn nothing(&self) -> DegradedState {
        let state = self.state(None, &[]);
        self.note(MergedState::default(), &state);
        state
    }

    /// Writes down that what is merged is not what should be.
    fn note(&self, merged: MergedState, state: &DegradedState) {
        let merged = MergedState {
            degraded: Some(state.clone()),
            ..merged
        };
        if let Err(reason) = merged.save(&self.context.paths.merged()) {
            self.sink.emit(Event::warning(chain(&reason)));
        }
    }
}
