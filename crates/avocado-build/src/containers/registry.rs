//! Images of a registry, fetched by skopeo as the user: with what he logged in with, and as his own
//! configuration says which registries may be trusted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use avocado_backend::{Processor, Tool, ToolError};
use avocado_events::{Cancel, Sink};
use avocado_manifest::Digest;
use serde::Deserialize;

use crate::error::{BuildError, ToolFailure};
use crate::failure_kind::FailureKind;

const SKOPEO: &str = "skopeo";

/// Where it is said whose signatures an image has to have. Without any, skopeo does nothing unless it is
/// told that none are needed.
const POLICY: &str = "/etc/containers/policy.json";
const POLICY_OF_USER: &str = ".config/containers/policy.json";

/// The system whose programs an image has.
const SYSTEM: &str = "linux";

/// What the programs of an image are for, as its own configuration says; nothing where it does not.
#[derive(Debug, Deserialize)]
pub(crate) struct ContainerPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl ContainerPlatform {
    /// That of programs for this processor.
    pub(crate) fn of(processor: Processor) -> Self {
        ContainerPlatform {
            os: SYSTEM.to_owned(),
            architecture: processor.in_containers().to_owned(),
        }
    }

    /// Whether a device with this processor runs them.
    pub(crate) fn runs_on(&self, processor: Processor) -> bool {
        self.os == SYSTEM && processor.is_called(&self.architecture)
    }
}

impl fmt::Display for ContainerPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |text: &str| if text.is_empty() { "?" } else { text }.to_owned();
        write!(f, "{}/{}", said(&self.os), said(&self.architecture))
    }
}

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

    /// Writes the image with this digest, the one for a processor where there are several, to an archive that
    /// docker loads under its name and tag. Where there is one alone, it is that one whatever it is for:
    /// [`Self::platform_of`] tells.
    pub(crate) fn fetch(
        &self,
        name: &str,
        tag: &str,
        digest: Digest,
        processor: Processor,
        archive: &Path,
    ) -> Result<(), BuildError> {
        let mut to = OsString::from("docker-archive:");
        to.push(archive);
        to.push(format!(":{name}:{tag}"));
        let copy = self.skopeo().arg(format!("--override-os={SYSTEM}"));
        let copy = copy.arg(format!("--override-arch={}", processor.in_containers()));
        let copy = copy.args(["copy", "--quiet"]);
        let copy = copy.args(insecure(name).then_some("--src-tls-verify=false"));
        let copy = copy.arg(format!("docker://{name}@sha256:{digest}")).arg(to);
        self.ended(copy.run(self.sink))
    }

    /// What the image in an archive is for.
    pub(crate) fn platform_of(&self, archive: &Path) -> Result<ContainerPlatform, BuildError> {
        let mut from = OsString::from("docker-archive:");
        from.push(archive);
        let inspect = self.skopeo().args(["inspect", "--config", "--raw"]);
        let configuration = self.ended(inspect.arg(from).read_text(self.sink))?;
        serde_json::from_str(&configuration).map_err(|error| {
            let what = format!("the configuration of the image is not readable: {error}");
            BuildError::Invalid(what)
        })
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
    fn an_image_runs_where_its_configuration_says() {
        for (configuration, said, on) in [
            (
                r#"{"os": "linux", "architecture": "amd64", "config": {}}"#,
                "linux/amd64",
                Some(Processor::X86_64),
            ),
            (
                r#"{"os": "linux", "architecture": "arm64", "variant": "v8"}"#,
                "linux/arm64",
                Some(Processor::Aarch64),
            ),
            (
                r#"{"os": "linux", "architecture": "aarch64"}"#,
                "linux/aarch64",
                Some(Processor::Aarch64),
            ),
            (
                r#"{"os": "windows", "architecture": "amd64"}"#,
                "windows/amd64",
                None,
            ),
            (
                r#"{"os": "linux", "architecture": "arm"}"#,
                "linux/arm",
                None,
            ),
            ("{}", "?/?", None),
        ] {
            let platform: ContainerPlatform = serde_json::from_str(configuration).unwrap();
            assert_eq!(platform.to_string(), said);
            for processor in Processor::ALL {
                assert_eq!(platform.runs_on(processor), on == Some(processor), "{said}");
            }
        }
        for processor in Processor::ALL {
            assert!(ContainerPlatform::of(processor).runs_on(processor));
        }
    }

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
