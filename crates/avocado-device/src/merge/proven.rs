use avocado_events::StepStatus;

use super::ExtensionMerger;
use super::failure::MergeFailure;
use super::state::MergedState;
use super::swap::NewOverlays;

/// What is about to be seen of one class.
pub(super) enum ClassOverlay {
    /// Nothing is merged, and nothing was.
    Nothing,
    /// The overlays are there, and as they should be.
    Made(NewOverlays),
    /// This system shows them to everybody as soon as they are made.
    Unproven,
}

/// A set that can be merged, as far as that can be told before it is.
pub(crate) struct ProvenMerge<'a> {
    pub(super) merger: ExtensionMerger<'a>,
    pub(super) before: MergedState,
    pub(super) now: MergedState,
    /// None where it is merged already.
    pub(super) overlays: Option<Vec<ClassOverlay>>,
}

impl ProvenMerge<'_> {
    /// Merges it. When that fails, what was merged before is merged again.
    pub(crate) fn finish(self) -> Result<(), MergeFailure> {
        let ProvenMerge {
            merger,
            before,
            now,
            overlays,
        } = self;
        let Some(overlays) = overlays else {
            return Ok(());
        };
        merger
            .exchange(&before, &now, overlays)
            .map_err(|failure| merger.fail(failure))?;
        let message = if now.extensions.is_empty() {
            "nothing to merge".to_owned()
        } else {
            let names: Vec<_> = now.extensions.iter().map(|e| e.image.full_name()).collect();
            names.join(", ")
        };
        merger.step(StepStatus::Success, message);
        Ok(())
    }

    /// Leaves everything as it was.
    pub(crate) fn abandon(self) {
        if self.overlays.is_some() {
            // What is seen has not changed, and the next merge puts mounts and links right.
            let _ = self.merger.prepare_again(&self.before);
            for merger in self.merger.mergers() {
                let _ = self.merger.link(&merger, &self.before);
            }
        }
    }
}
