//! What a person is told of a failure, and what to do about it.

use std::fmt;
use std::io;

use avocado_text::escape;
use avocado_varlink::client::ClientError;

use super::{Failure, chain};

/// What failed, on what, and why.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::RuntimeNotFound { id } => {
                write!(f, "there is no runtime `{}` on this device", escape(id))
            }
            Failure::AmbiguousRuntimeId { id, .. } => write!(
                f,
                "`{}` is the beginning of more than one runtime id",
                escape(id)
            ),
            Failure::RemoveActiveRuntime {} => f.write_str("the active runtime cannot be removed"),
            Failure::RemovePinnedRuntime { id } => {
                write!(f, "runtime {} is pinned and cannot be removed", escape(id))
            }
            Failure::MetadataKeyNotFound { id, key } => write!(
                f,
                "there is no `{}` among the metadata of runtime {}",
                escape(key),
                escape(id)
            ),
            Failure::NoPreviousRuntime {} => f.write_str(
                "there is no runtime to go back to: no other one was active before, or it was \
                 removed",
            ),
            Failure::StagingFailed { what, .. }
            | Failure::UpdateFailed(what)
            | Failure::MergeFailed(what)
            | Failure::UnmergeFailed(what) => f.write_str(&what.reason),
            Failure::ExtensionNotFound { name } => {
                write!(f, "there is no extension `{}` on this device", escape(name))
            }
            Failure::ConfigurationError { message } | Failure::CommandFailed { message, .. } => {
                f.write_str(message)
            }
            Failure::HitlMountFailed { extension, reason } => {
                write!(f, "{} was not mounted: {reason}", escape(extension))
            }
            Failure::HitlUnmountFailed { extension, reason } => {
                write!(f, "{} was not unmounted: {reason}", escape(extension))
            }
            Failure::NoRootAuthority {} => f.write_str("this device has no trust anchor"),
            Failure::ParseFailed { reason } => {
                write!(f, "the trust anchor cannot be read: {reason}")
            }
            Failure::ForgetFailed { reason } => write!(f, "not forgotten: {reason}"),
            Failure::Configuration(message) | Failure::Usage(message) | Failure::Serve(message) => {
                f.write_str(message)
            }
            Failure::NoAccess {
                verb,
                base,
                service,
            } => {
                if let Some(address) = service {
                    write!(f, "no service listens at {address}, and this user ")?;
                }
                write!(f, "may not {verb} {}", base.display())
            }
            Failure::ServiceDenied => {
                f.write_str("this takes protection away, so the service does it for root alone")
            }
            Failure::NoActiveRuntime => f.write_str("no runtime is active on this device"),
            Failure::Connection(error @ ClientError::Service { .. }) => {
                write!(f, "the service refused the call: {error}")
            }
            Failure::Connection(error) => f.write_str(&chain(error)),
            Failure::NoResult { method } => write!(
                f,
                "the service did not say what {} came to",
                method.as_deref().unwrap_or("it")
            ),
            Failure::NotUtf8(path) => {
                write!(f, "{} is not UTF-8, as varlink needs it", path.display())
            }
            Failure::VerificationFailed { message, .. } => f.write_str(message.trim_end()),
            Failure::Output(error) => write!(f, "cannot write to stdout: {error}"),
        }
    }
}

impl Failure {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Failure::RuntimeNotFound { .. } | Failure::NoPreviousRuntime {} => {
                "`avocadoctl runtime list` shows what there is"
            }
            Failure::AmbiguousRuntimeId { candidates, .. } => {
                let list = candidates.iter().map(|c| format!("\n  {}", escape(c)));
                let list: String = list.collect();
                return Some(format!("give more of one of these:{list}"));
            }
            Failure::RemoveActiveRuntime {} => {
                "activate another one first: `avocadoctl runtime activate ID`"
            }
            Failure::RemovePinnedRuntime { id } => {
                let id = escape(id);
                return Some(format!("unpin it first: `avocadoctl runtime unpin {id}`"));
            }
            Failure::MetadataKeyNotFound { id, .. } => {
                let id = escape(id);
                return Some(format!(
                    "`avocadoctl runtime metadata list {id}` shows what there is"
                ));
            }
            Failure::StagingFailed { what, .. }
            | Failure::UpdateFailed(what)
            | Failure::MergeFailed(what)
            | Failure::UnmergeFailed(what) => return what.hint.clone(),
            Failure::ExtensionNotFound { .. } => "`avocadoctl ext list` shows what there is",
            Failure::NoAccess { service: None, .. } | Failure::ServiceDenied => "run it as root",
            Failure::NoAccess {
                service: Some(_), ..
            } => "`systemctl start avocadoctl.socket` starts the service; root can do without",
            Failure::NoActiveRuntime => "`avocadoctl runtime activate ID` makes one active",
            Failure::Connection(ClientError::Service { .. }) => {
                "the service may be of another version: restart it"
            }
            Failure::Connection(ClientError::Connect { source, .. }) => {
                if source.kind() == io::ErrorKind::PermissionDenied {
                    "run it as root, or as a member of the group `avocado`"
                } else {
                    "`systemctl start avocadoctl.socket` starts the service"
                }
            }
            Failure::HitlMountFailed { .. } => {
                "`avocado hitl server` has to run, with this extension, on a machine that the device \
                 reaches at that port"
            }
            Failure::HitlUnmountFailed { .. } => {
                "`avocadoctl ext status` shows what is mounted: its origin is HITL"
            }
            Failure::VerificationFailed { .. } => "adding a runtime again repairs it",
            Failure::ConfigurationError { .. }
            | Failure::CommandFailed { .. }
            | Failure::NoRootAuthority {}
            | Failure::ParseFailed { .. }
            | Failure::ForgetFailed { .. }
            | Failure::Configuration(_)
            | Failure::Usage(_)
            | Failure::Connection(_)
            | Failure::NoResult { .. }
            | Failure::NotUtf8(_)
            | Failure::Serve(_)
            | Failure::Output(_) => return None,
        };
        Some(hint.to_owned())
    }
}
