//! What the interfaces declare for an error of the device.

use std::path::Path;

use avocado_device::{
    CertificateProblem, DeviceError, FailureReason, ForgetLevel, ServerCertificateError,
    TransportError,
};

use super::{FailedWork, Failure, chain};
use crate::interface::forget_word;

impl Failure {
    /// What org.avocado.Runtimes declares for `error`. What it has no name for is a failed
    /// activation or a failed staging, by what was attempted.
    pub(crate) fn of_runtimes(error: &DeviceError, activating: bool) -> Self {
        match error {
            DeviceError::RuntimeNotFound { id } => Failure::RuntimeNotFound { id: id.clone() },
            DeviceError::AmbiguousRuntimeId { id, candidates } => Failure::AmbiguousRuntimeId {
                id: id.clone(),
                candidates: candidates.clone(),
            },
            DeviceError::RemoveActiveRuntime => Failure::RemoveActiveRuntime {},
            DeviceError::RemovePinnedRuntime { id } => {
                Failure::RemovePinnedRuntime { id: id.to_string() }
            }
            DeviceError::MetadataKeyNotFound { id, key } => Failure::MetadataKeyNotFound {
                id: id.to_string(),
                key: key.clone(),
            },
            DeviceError::NoPreviousRuntime => Failure::NoPreviousRuntime {},
            DeviceError::Update { .. }
            | DeviceError::Merge { .. }
            | DeviceError::Degraded { .. }
            | DeviceError::Unmerge(_) => Failure::UpdateFailed(FailedWork::of(error)),
            error if activating => Failure::UpdateFailed(FailedWork::of(error)),
            error => Failure::StagingFailed {
                what: FailedWork::of(error),
                cause: cause(error).map(str::to_owned),
            },
        }
    }

    /// What org.avocado.Extensions declares for `error`, which ended `command`.
    pub(crate) fn of_extensions(error: &DeviceError, command: &str) -> Self {
        match error {
            DeviceError::Merge { .. } | DeviceError::Degraded { .. } => {
                Failure::MergeFailed(FailedWork::of(error))
            }
            DeviceError::Unmerge(_) => Failure::UnmergeFailed(FailedWork::of(error)),
            DeviceError::ExtensionNotFound { name } => {
                Failure::ExtensionNotFound { name: name.clone() }
            }
            DeviceError::Configuration(_) | DeviceError::Release(_) => {
                Failure::ConfigurationError {
                    message: chain(error),
                }
            }
            error => Failure::CommandFailed {
                command: command.to_owned(),
                message: chain(error),
            },
        }
    }
}

impl Failure {
    /// What org.avocado.Hitl declares for `error`. What is about no extension is a failed mount.
    pub(crate) fn of_hitl(error: &DeviceError) -> Self {
        let source = |source: &FailureReason| chain(source);
        match error {
            DeviceError::HitlUnmount {
                extension,
                source: why,
            } => Failure::HitlUnmountFailed {
                extension: extension.clone(),
                reason: source(why),
            },
            DeviceError::HitlMount {
                extension,
                source: why,
            } => Failure::HitlMountFailed {
                extension: extension.clone(),
                reason: source(why),
            },
            error => Failure::HitlMountFailed {
                extension: "unknown".to_owned(),
                reason: chain(error),
            },
        }
    }
}

impl FailedWork {
    fn of(error: &DeviceError) -> Self {
        FailedWork {
            reason: chain(error),
            hint: work_hint(error),
        }
    }
}

/// What to do about work that failed, where that is known.
fn work_hint(error: &DeviceError) -> Option<String> {
    Some(match error {
        DeviceError::NoTrustAnchor { path, .. } => no_trust_anchor_hint(path),
        DeviceError::Degraded { .. } => {
            "add the runtime again and `avocadoctl refresh`, or make another one active: `avocadoctl \
             runtime rollback`"
                .to_owned()
        }
        DeviceError::Staging(FailureReason::NoSpace { .. }) => {
            "`avocadoctl runtime prune` removes what no runtime needs".to_owned()
        }
        error if is_of_an_image(error) => "adding the runtime again repairs its images".to_owned(),
        error => {
            if let Some(hint) = server_hint(error) {
                return Some(hint.to_owned());
            }
            let (url, what) = error.forgettable()?;
            let command = format!(
                "`avocadoctl root-authority forget --what {} --url {url}`",
                forget_word(what)
            );
            match what {
                ForgetLevel::Time => format!(
                    "publish again with a clock that is right; if this device's was ahead once: \
                     {command}"
                ),
                _ => format!(
                    "a cache between may be behind: wait, and try again. If it stays, this may be an \
                     attack; if you have set the repository up anew: {command} (with `time`, if a \
                     clock was ahead as well)"
                ),
            }
        }
    })
}

/// Whether an image of the pool is missing or has other bytes than it should.
fn is_of_an_image(error: &DeviceError) -> bool {
    let of = |reason: &FailureReason| {
        use FailureReason::{ImageMissing, ImageWrong, Merge};
        match reason {
            ImageMissing { .. } | ImageWrong { .. } => true,
            Merge(error) => is_of_an_image(error),
            _ => false,
        }
    };
    match error {
        DeviceError::Merge { source, .. } => of(source),
        DeviceError::Update { source, .. } => of(source),
        _ => false,
    }
}

/// What to do about a server that does not let us in, or that TLS does not accept.
fn server_hint(error: &DeviceError) -> Option<&'static str> {
    if let Some(certificate) = ServerCertificateError::find(error) {
        return Some(match certificate.problem {
            CertificateProblem::UnknownCa => {
                "where the server's certificate is from a CA of your own: name that CA's \
                 certificate, in PEM, with `avocado.update.ca_file` in the configuration"
            }
            CertificateProblem::IsCa => {
                "the server shows the certificate of a CA: give it one of its own that this CA has \
                 signed, and name the CA's with `avocado.update.ca_file` in the configuration"
            }
            CertificateProblem::Time => {
                "look at the clock of this device (`date`), and at the dates of the certificate"
            }
            CertificateProblem::Name => "use a name of the server that its certificate is for",
            _ => return None,
        });
    }
    match TransportError::find(error)? {
        TransportError::Forbidden(_) | TransportError::Status(401) => {
            Some("a token for the server is taken from AVOCADO_TUF_AUTH_TOKEN")
        }
        TransportError::Status(407) => {
            Some("the proxy's user and password belong into `avocado.update.proxy`")
        }
        _ => None,
    }
}

fn no_trust_anchor_hint(path: &Path) -> String {
    format!(
        "the trust anchor comes with provisioning or claiming; a project's own is put there by \
         hand: copy its root.json to {}",
        path.display()
    )
}

/// The name of what kept a runtime from being staged, for programs that decide on it: what
/// org.avocado.Runtimes lists for `cause`.
fn cause(error: &DeviceError) -> Option<&'static str> {
    match error {
        DeviceError::NoTrustAnchor { .. } => Some("NoTrustAnchor"),
        DeviceError::Staging(FailureReason::NoSpace { .. }) => Some("NoSpace"),
        error if error.is_untrusted_signature() => Some("UntrustedSignature"),
        _ => None,
    }
}
