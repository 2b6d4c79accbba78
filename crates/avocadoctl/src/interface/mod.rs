//! What the command line and the service both give out: the types of the
//! varlink interfaces. They are also what `--output json` prints.

mod authority;
mod extensions;
mod hitl;
mod runtimes;
mod upkeep;

pub(crate) use authority::{
    ForgetParameters, ForgetReply, RootAuthority, ShowReply, TrustedKey, TrustedRepository,
    forget_word,
};
pub(crate) use extensions::{
    Degraded, DeviceStatus, DisableParameters, DisableReply, EnableParameters, EnableReply,
    Extension, ExtensionListReply, ExtensionStatus, OsUpdate, OsUpdateState, SetEnabledParameters,
    SetEnabledReply, StatusReply,
};
pub(crate) use hitl::{HitlMountParameters, HitlReply, HitlUnmountParameters};
pub(crate) use runtimes::{
    AddFromUrlParameters, InspectReply, ListReply, ManifestExtension, Progress, ProgressReply,
    Runtime,
};
pub(crate) use upkeep::{
    GarbageCollectReply, MetadataGetReply, MetadataListReply, Plan, PlanReply, Problem,
    PruneParameters, PruneReply, Verification,
};
