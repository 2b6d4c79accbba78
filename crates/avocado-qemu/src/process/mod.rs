//! The process: started as a child or adopted, watched until its end, and always reaped.

mod handle;
mod identity;
mod kill_on_drop;
mod log_tail;
mod usage;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod none;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod unix;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
use none as system;

pub use identity::ProcessIdentity;
pub use kill_on_drop::KillOnDrop;
pub use usage::ProcessUsage;

pub(crate) use handle::Process;
pub(crate) use log_tail::log_tail;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) use none::{adopt, spawn};
pub(crate) use system::usage;
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) use unix::{adopt, spawn};
