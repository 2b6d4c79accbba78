//! What a build consists of. Each kind of step has one file with both of its sides: the *task*
//! in the parent, which knows what the step consumes, and the *work* in the child, which has the
//! published mounts and may start tools.

pub(crate) mod extension_build;
pub(crate) mod extension_image;
pub(crate) mod hook;
pub(crate) mod install;
pub(crate) mod os_image;
pub(crate) mod repository;
pub(crate) mod runtime_build;
pub(crate) mod vm_image;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Mutex;

use avocado_events::{Cancel, Sink};
use avocado_manifest::Name;
use avocado_project::LockFile;
use avocado_project::Project;
use avocado_sdk::{HostSdk, Job, SOURCE_MOUNT};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::feed::{Access, Feed};
use crate::layout::Layout;
use crate::tree::Modes;
use crate::{Error, Options};

/// What every task can see.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a Options,
    pub(crate) project: &'a Project,
    pub(crate) layout: Layout,
    pub(crate) sdk: HostSdk,
    pub(crate) lock: Mutex<LockFile>,
    pub(crate) feed: Feed<'a>,
    pub(crate) cancel: &'a Cancel,
    /// The mode of avocado.yaml; see [`Modes::Checkout`].
    pub(crate) checkout_mode: u32,
}

/// A step as it travels to the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    target: Name,
    source_date_epoch: u64,
    checkout_mode: u32,
    access: Option<Access>,
    step: Step,
}

/// Every kind of step that runs in a child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Install(install::Install),
    ExtensionBuild(extension_build::ExtensionBuild),
    ExtensionImage(extension_image::ExtensionImage),
    OsImage(os_image::OsImageStep),
    RuntimeBuild(runtime_build::RuntimeBuild),
}

/// What a step has to work with inside the child.
pub(crate) struct Bench<'a> {
    pub(crate) target: Name,
    pub(crate) layout: Layout,
    /// Seconds since 1970 for every time stamp.
    pub(crate) epoch: u64,
    /// How files of the project are copied.
    pub(crate) modes: Modes,
    pub(crate) sink: &'a dyn Sink,
}

impl Context<'_> {
    /// How files of the project are copied and digested.
    pub(crate) fn modes(&self) -> Modes {
        Modes::Checkout(self.checkout_mode)
    }

    /// Runs a step in a child and returns what it made.
    pub(crate) fn step<R: DeserializeOwned>(
        &self,
        name: &str,
        step: Step,
        access: Option<Access>,
        sink: &dyn Sink,
    ) -> Result<R, Error> {
        let work = Work {
            target: self.project.target.clone(),
            source_date_epoch: self.project.source_date_epoch,
            checkout_mode: self.checkout_mode,
            access,
            step,
        };
        let environment = self.environment();
        let job = Job {
            name,
            environment: &environment,
            work: &work,
        };
        Ok(self.sdk.run(&job, self.cancel, sink)?)
    }

    /// The whole environment of a step: nothing of the user's leaks in but what is listed here.
    fn environment(&self) -> BTreeMap<String, OsString> {
        let layout = Layout::in_step(&self.project.target);
        let target = self.project.target.as_str();
        let mut environment = self.options.proxy_environment.clone();
        let fixed: [(&str, OsString); 9] = [
            ("PATH", self.options.search_path.clone()),
            ("LC_ALL", "C.UTF-8".into()),
            ("TZ", "UTC".into()),
            ("AVOCADO_TARGET", target.into()),
            ("AVOCADO_SDK_TARGET", target.into()),
            ("AVOCADO_SRC_DIR", SOURCE_MOUNT.into()),
            ("AVOCADO_PREFIX", layout.prefix().into()),
            ("AVOCADO_SDK_PREFIX", layout.sdk(HOST_ARCH).into()),
            (
                "AVOCADO_EXT_SYSROOTS",
                layout.prefix().join("extensions").into(),
            ),
        ];
        environment.extend(fixed.map(|(key, value)| (key.to_owned(), value)));
        environment
    }

    /// Identifies the version of a tool on PATH without starting it. Part of the inputs of every
    /// step whose bytes it shapes.
    pub(crate) fn tool(&self, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        std::env::split_paths(&self.options.search_path)
            .map(|directory| directory.join(name))
            .find_map(|path| fs::metadata(path).ok())
            .map_or_else(String::new, |m| format!("{name} {} {}", m.len(), m.mtime()))
    }
}

/// The architecture that the SDK's tools run on, as in the feed and in the lock.
pub(crate) const HOST_ARCH: &str = std::env::consts::ARCH;

/// Runs one step; the child's whole purpose.
pub(crate) fn work(work: Work, sink: &dyn Sink) -> Result<serde_json::Value, Error> {
    let bench = Bench {
        layout: Layout::in_step(&work.target),
        target: work.target,
        epoch: work.source_date_epoch,
        modes: Modes::Checkout(work.checkout_mode),
        sink,
    };
    let value = match work.step {
        Step::Install(step) => {
            let access = work
                .access
                .ok_or_else(|| Error::Invalid("an install step needs a feed".into()))?;
            serde_json::to_value(step.work(&bench, &access)?)
        }
        Step::ExtensionBuild(step) => serde_json::to_value(step.work(&bench)?),
        Step::ExtensionImage(step) => serde_json::to_value(step.work(&bench)?),
        Step::OsImage(step) => serde_json::to_value(step.work(&bench)?),
        Step::RuntimeBuild(step) => serde_json::to_value(step.work(&bench)?),
    };
    value.map_err(|e| Error::Invalid(format!("the step's result has no JSON form: {e}")))
}

/// A file that a step made, as it is reported and published.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) sha256: avocado_manifest::Digest,
    pub(crate) size: u64,
}

impl Made {
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        use crate::error::At as _;
        let file = fs::File::open(path).at("open", path)?;
        let (sha256, size) = avocado_manifest::Digest::of_reader(file).at("read", path)?;
        Ok(Made { sha256, size })
    }

    /// Makes sure that the file is still what it was when it was made: what goes to devices
    /// carries the digest from then.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Error> {
        let now = Made::of(path)?;
        if (now.sha256, now.size) == (self.sha256, self.size) {
            return Ok(());
        }
        Err(Error::Changed {
            path: path.to_owned(),
        })
    }
}

/// Package managers' state that no image carries.
pub(crate) const PACKAGE_STATE: [&str; 4] =
    ["var/lib/rpm", "var/lib/dnf", "var/cache/dnf", "var/log/dnf"];

/// Reads back what a task stored in its outcome.
pub(crate) fn detail<R: DeserializeOwned>(outcome: &crate::stamp::Outcome) -> Result<R, Error> {
    serde_json::from_value(outcome.detail.clone())
        .map_err(|e| Error::Invalid(format!("a stamp holds something unexpected: {e}")))
}
