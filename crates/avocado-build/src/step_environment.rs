//! The environment of a step: what the published tool gives to scripts, and nothing else of the
//! user's.
//!
//! Two published variables are missing on purpose. `AVOCADO_VERBOSE` would make the result of a
//! script hang on how much its user wants to read; `AVOCADO_SIGNING_*` would lead to keys, which no
//! step sees.

use std::collections::BTreeMap;
use std::ffi::OsString;

use avocado_backend::{Processor, SOURCE_MOUNT};
use avocado_manifest::{Digest, Name};
use avocado_project::{Project, SourceKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::layout::Layout;
use crate::options::Options;

/// The longest variable that is set, its name included. Linux starts no program with a string of
/// more than 128 KiB in its environment; a script may want to pass one on, in a longer argument.
const LONGEST: usize = 96 << 10;

/// Those of who may be the feed.
pub(crate) const CERTIFICATES: &str = "AVOCADO_REPO_CA_B64";

/// What a step is told of the project and its feed. What scripts make may follow from it.
#[derive(Debug, Default)]
pub(crate) struct StepVariables {
    values: BTreeMap<&'static str, OsString>,
    /// Those that are too long.
    pub(crate) left_out: Vec<&'static str>,
}

impl StepVariables {
    /// Those that are the same for every project of a target.
    pub(crate) fn of_target(target: &Name, sdk: Processor) -> Self {
        let layout = Layout::in_step(target).with_sdk_for(sdk);
        let target = target.as_str();
        let mut variables = StepVariables::default();
        let mut set = |name, value: OsString| variables.set(name, value);
        set("AVOCADO_TARGET", target.into());
        set("AVOCADO_SDK_TARGET", target.into());
        set("AVOCADO_SRC_DIR", SOURCE_MOUNT.into());
        set("AVOCADO_HOST_PLATFORM", "linux".into());
        // Whoever the user is, in a step the files of the project are root's: the same script does
        // the same for everybody.
        set("AVOCADO_HOST_UID", "0".into());
        set("AVOCADO_HOST_GID", "0".into());
        set("AVOCADO_PREFIX", layout.prefix().into());
        set("AVOCADO_SDK_PREFIX", layout.sdk().into());
        set("AVOCADO_EXT_SYSROOTS", layout.extensions().into());
        set("DNF_SDK_TARGET_PREFIX", layout.target_repoconf().into());
        variables
    }

    /// Those of every step that sees the project; a script has [those of its own](crate::steps)
    /// besides.
    pub(crate) fn new(options: &Options, project: &Project, releasever: String) -> Self {
        let mut variables = Self::of_target(&project.target, options.sdk_processor);
        let mut set = |name, value: OsString| variables.set(name, value);
        set(
            "AVOCADO_SDK_REPO_URL",
            project.distro.repo_url.clone().into(),
        );
        set("AVOCADO_SDK_REPO_RELEASE", releasever.into());
        if let Some(image) = &project.sdk.image {
            set("AVOCADO_SDK_IMAGE", image.into());
        }
        if !options.dnf_args.is_empty() {
            set("AVOCADO_DNF_ARGS", options.dnf_args.join(" ").into());
        }
        if !project.distro.tls_verify {
            set("AVOCADO_REPO_INSECURE", "1".into());
        }
        let in_directories = project.sources.iter().filter_map(|source| {
            let is_path = matches!(source.kind, SourceKind::Path { .. });
            is_path.then(|| source.extension.as_str())
        });
        let in_directories: Vec<&str> = in_directories.collect();
        if !in_directories.is_empty() {
            set("AVOCADO_EXT_PATH_MOUNTS", in_directories.join(" ").into());
        }
        variables
    }

    /// The same with those that only the scripts of a project have.
    pub(crate) fn of_scripts(mut self, project: &Project) -> Self {
        // One that cannot be read is told by what uses the feed.
        let certificates = project.distro.ca.as_ref().map(std::fs::read);
        if let Some(Ok(pem)) = certificates {
            self.set(CERTIFICATES, BASE64.encode(pem).into());
        }
        self
    }

    fn set(&mut self, name: &'static str, value: OsString) {
        // An equals sign and a final zero are part of the string.
        if name.len() + value.len() + 2 > LONGEST {
            self.left_out.push(name);
        } else {
            self.values.insert(name, value);
        }
    }

    /// As inputs of a script, which nobody wants to read at length.
    pub(crate) fn inputs(&self) -> BTreeMap<&'static str, String> {
        let input = |value: &OsString| match value.to_str() {
            Some(text) if text.len() <= 200 => text.to_owned(),
            _ => Digest::of(value.as_encoded_bytes()).to_string(),
        };
        let values = self.values.iter();
        values.map(|(name, value)| (*name, input(value))).collect()
    }

    /// The environment of a step. The way to a network, which is no input, is in it besides; the way
    /// to tools is for the backend to add.
    pub(crate) fn environment(self, options: &Options) -> BTreeMap<String, OsString> {
        let mut environment = options.proxy_environment.clone();
        let mut set = |name: &str, value: OsString| environment.insert(name.to_owned(), value);
        set("LC_ALL", "C.UTF-8".into());
        set("TZ", "UTC".into());
        for (name, value) in self.values {
            set(name, value);
        }
        environment
    }
}
