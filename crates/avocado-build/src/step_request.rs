//! How the work of a step travels to the child that does it.

use std::path::PathBuf;

use avocado_backend::{MountAccess, Processor};
use avocado_manifest::Name;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::BuildError;
use crate::layout::Layout;
use crate::step_context::StepContext;

/// The work of one kind of step: made by the parent, done by a child in the backend.
pub(crate) trait StepRequest: Serialize + DeserializeOwned {
    /// Tells the kinds apart on the way.
    const KIND: &'static str;
    /// Whether its work may have to mount an image.
    const LOOP_MOUNTS: bool = false;
    /// Whether it installs packages.
    const INSTALLS: bool = false;
    /// Whether it is a command of the user's, which has the standard streams of this process.
    const TERMINAL: bool = false;
    /// Whether it starts programs that are not this host's: scripts of the project, or of packages.
    fn runs_programs(&self) -> bool {
        self.runs_hook()
    }
    /// Whether it runs a hook, which may change the project's sources: where they are, they are
    /// built.
    fn runs_hook(&self) -> bool {
        false
    }
    /// What of the project it sees.
    fn view(&self, _layout: &Layout) -> StepView {
        StepView::Project
    }
    /// What the child answers with.
    type Result: Serialize + DeserializeOwned;

    /// Does the work; the child's whole purpose.
    fn work(self, context: &StepContext<'_>) -> Result<Self::Result, BuildError>;
}

/// What of the project the work of a step sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StepView {
    /// The state, which it changes, and the sources.
    Project,
    /// The sources, which it changes, and the state, which it does not.
    Sources,
    /// These parts of the state of the target and nothing else, and no network.
    Parts(Vec<(PathBuf, MountAccess)>),
}

/// A request on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StepMessage<R> {
    pub(crate) target: Name,
    pub(crate) sdk_processor: Processor,
    /// Where the host has the state: what users are told of is there.
    pub(crate) state: PathBuf,
    /// Seconds since 1970.
    pub(crate) source_date_epoch: u64,
    /// The mode of avocado.yaml; see [`CopyModes::Checkout`](crate::trees::CopyModes::Checkout).
    pub(crate) checkout_mode: u32,
    /// [`StepRequest::KIND`].
    pub(crate) kind: String,
    pub(crate) request: R,
}
