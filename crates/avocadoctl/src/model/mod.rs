//! What both doors of the agent, the command line and the service, give out: the types of the
//! varlink interfaces. They are also what `--output json` prints.

mod authority;
mod extensions;
mod runtimes;
mod upkeep;

pub(crate) use authority::{
    Forget, Forgotten, RootAuthority, Shown, TrustedKey, TrustedRepository, word,
};
pub(crate) use extensions::{
    DeviceStatus, Disable, Disabled, Enable, Enabled, Extension, ExtensionList, ExtensionStatus,
    Statuses,
};
pub(crate) use runtimes::{AddFromUrl, Inspected, Listed, Progress, Progressed, Runtime};
pub(crate) use upkeep::{Plan, Planned, Problem, Prune, Pruned, Verification};
