use std::sync::{Arc, OnceLock};

#[cfg(unix)]
use avocado_vm::named::VmName;

use crate::environment::Environment;
use crate::global_args::GlobalArgs;
use crate::output::Output;

/// What every command works with.
pub(crate) struct Session {
    pub(crate) environment: Environment,
    pub(crate) global: GlobalArgs,
    pub(crate) output: Arc<Output>,
    /// What avocado.yaml says, where it is not written yet.
    pub(crate) edited: OnceLock<String>,
    /// The VM that `avocado vm --name` names.
    #[cfg(unix)]
    pub(crate) vm_name: OnceLock<VmName>,
}
