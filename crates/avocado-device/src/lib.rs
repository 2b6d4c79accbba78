//! The device: its store, staging, activation and merging.
//!
//! [`Device`] is the one entry: the varlink service and the command line call the same functions,
//! and each of them is one line that leads to the module where the work is done.
//! The store is a small database on a file system (see `store`): what is in it is whole and
//! verified, and `active` moves by one rename. Whatever changes it does so under one lock, which
//! is held for short; a download holds another one, so that everything else works meanwhile.
//! Every state in which a crash can leave the store is one that the tests have seen (see `crash`).
//! Merging (see `merge`) leaves the work on `/usr`, `/opt` and `/etc` to systemd, and shows its
//! result at once.
// Devices run Linux.
#![cfg(target_os = "linux")]

mod activation;
mod cancel;
mod commit;
mod config;
mod context;
#[cfg(test)]
mod crash;
mod degraded;
mod device;
mod enabled;
mod error;
mod extension_set;
mod extensions;
mod fallback;
mod hitl;
mod merge;
mod merging;
mod metadata;
mod os_release;
mod os_update;
mod paths;
mod reboot_policy;
mod runtime_list;
mod stage;
mod status;
mod store;
mod tool;
mod trust;
mod upkeep;

pub use activation::Activation;
pub use avocado_events::Cancel;
pub use avocado_http::{
    CertificateProblem, RepositoryUrl, RepositoryUrlError, ServerCertificateError, TransportError,
    without_secrets,
};
pub use avocado_tuf::ForgetLevel;
pub use avocado_tuf::client::KnownMetadata;
pub use config::{DeviceConfig, DeviceConfigError, MutableMode};
pub use degraded::DegradedState;
pub use device::{Added, Device};
pub use enabled::ExtensionSelection;
pub use error::{DeviceError, FailureReason};
pub use extensions::InstalledExtension;
pub use hitl::{HitlRequest, HitlServer, HitlWatchEnd};
pub use merge::release_misfit::ReleaseMisfit;
pub use os_update::error::OsUpdateError;
pub use os_update::failed_update::FailedUpdate;
pub use os_update::pending_update::{OsTrial, PendingUpdate};
pub use os_update::plan::{OsUpdatePlan, PlannedArtifact};
pub use os_update::trial::TrialEnd;
pub use paths::{DevicePaths, DeviceTools, OsPlaces};
pub use reboot_policy::{CalendarEvent, RebootPolicy, RebootPolicyError};
pub use runtime_list::{RuntimeEntry, RuntimeList, UnreadableRuntime};
pub use stage::{AddPlan, AddRequest, PlannedImage, RuntimeSource};
pub use status::{DeviceStatus, ExtensionStatus};
pub use trust::TrustedRepository;
pub use upkeep::{
    PruneOptions, PruneReport, PrunedImage, PrunedRuntime, StoreProblem, VerificationReport,
};
