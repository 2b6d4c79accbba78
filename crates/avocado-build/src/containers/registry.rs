//! Images of a registry, fetched by skopeo as the user: with what he logged in with, and as his own
//! configuration says which registries may be trusted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;

use avocado_backend::{Tool, ToolError};
use avocado_events::{Cancel, Sink};
use avocado_manifest::Digest;

use crate::error::{BuildError, ToolFailure};
use crate::failure_kind::FailureKind;

const SKOPEO: &str = "skopeo";

/// Where it is said whose signatures an image has to have. Without any, skopeo does nothing unless it is
/// told that none are needed.
const POLICY: &str = "/etc/containers/policy.json";
const POLICY_OF_USER: &str = ".config/containers/policy.json";

/// Where images come from.
pub(crate) struct ContainerRegistry<'a> {
    /// Of the user.
    pub(crate) environment: &'a BTreeMap<String, OsString>,
    pub(crate) cancel: &'a Cancel,
    pub(crate) sink: &'a dyn Sink,
}

impl ContainerRegistry<'_> {
    /// The digest of what the registry has under a tag now: of one image, or of a list of images for
    /// several processors.
    pub(crate) fn digest_of(&self, name: &str, tag: &str) -> Result<Digest, BuildError> {
        let inspect = self.skopeo().args(["inspect", "--raw"]);
        let inspect = inspect.args(insecure(name).then_some("--tls-verify=false"));
        let inspect = inspect.arg(format!("docker://{name}:{tag}"));
        // It is JSON, and the digest is that of its bytes.
        let manifest = self.ended(inspect.read_text(self.sink))?;
        Ok(Digest::of(manifest.as_bytes()))
    }

    /// Writes the image with this digest, the one for a processor (as registries call it) where there are
    /// several, to an archive that docker loads under its name and tag.
    pub(crate) fn fetch(
        &self,
        name: &str,
        tag: &str,
        digest: Digest,
        architecture: &str,
        archive: &Path,
    ) -> Result<(), BuildError> {
        let mut to = OsString::from("docker-archive:");
        to.push(archive);
        to.push(format!(":{name}:{tag}"));
        let copy = self.skopeo().args(["--override-os=linux"]);
        let copy = copy.arg(format!("--override-arch={architecture}"));
        let copy = copy.args(["copy", "--quiet"]);
        let copy = copy.args(insecure(name).then_some("--src-tls-verify=false"));
        let copy = copy.arg(format!("docker://{name}@sha256:{digest}")).arg(to);
        self.ended(copy.run(self.sink))
    }

    fn skopeo(&self) -> Tool {
        let mut skopeo = Tool::new(SKOPEO).clear_environment();
        for (name, value) in self.environment {
            skopeo = skopeo.env(name, value);
        }
        let of_user = self
            .environment
            .get("HOME")
            .map(|home| Path::new(home).join(POLICY_OF_USER));
        let has_policy = Path::new(POLICY).exists() || of_user.is_some_and(|path| path.exists());
        skopeo
            .args((!has_policy).then_some("--insecure-policy"))
            .cancelled_by(self.cancel)
    }

    fn ended<T>(&self, ended: Result<T, ToolError>) -> Result<T, BuildError> {
        ended.map_err(|error| {
            if self.cancel.is_cancelled() {
                return BuildError::Cancelled;
            }
            let kind = |error: &_| match error {
                ToolError::Failed { .. } => Some(FailureKind::ContainerRegistry),
                error => FailureKind::of_tool(error),
            };
            ToolFailure::read_by(error, kind).into()
        })
    }
}

/// Whether a registry is on this machine itself, where docker too asks without TLS.
fn insecure(name: &str) -> bool {
    let host = name.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_registry_of_this_machine_is_asked_without_tls() {
        for (name, expected) in [
            ("127.0.0.1:5000/app", true),
            ("127.0.0.1/app", true),
            ("localhost:5000/a/b", true),
            ("[::1]:5000/app", true),
            ("docker.io/library/redis", false),
            ("redis", false),
            ("127.0.0.1.example.com/app", false),
            ("192.168.1.1:5000/app", false),
        ] {
            assert_eq!(insecure(name), expected, "{name}");
        }
    }
}
