//! Where there are none: every build is refused.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use avocado_manifest::Name;

use crate::commands::only_on_linux;
use crate::commands::tools::ToolArgs;
use crate::failure::Result;
use crate::session::Session;

/// What could be built on Linux.
#[allow(dead_code, reason = "nothing is built here")]
pub(in crate::commands) enum Goal {
    Install,
    SdkInstall,
    ExtInstall(Option<Name>),
    RuntimeInstall(Option<Name>),
    RootfsInstall,
    InitramfsInstall,
    SdkCompile(Vec<String>),
    SdkPackage(String),
    ExtBuild(Option<Name>),
    ExtImage(Option<Name>),
    RootfsImage,
    InitramfsImage,
    KernelImage,
}

/// There is none: it cannot be made.
pub(in crate::commands) struct BuildRun(Infallible);

impl BuildRun {
    pub(in crate::commands) fn new(
        _session: &Session,
        action: &'static str,
        _tools: &ToolArgs,
    ) -> Result<Self> {
        Err(only_on_linux(action))
    }

    pub(in crate::commands) fn copy_to(self, _out_dir: Option<&Path>) -> Self {
        match self.0 {}
    }

    pub(in crate::commands) fn without_var(self, _no_var: bool) -> Self {
        match self.0 {}
    }

    pub(in crate::commands) fn strict(self, _strict: bool) -> Self {
        match self.0 {}
    }

    pub(in crate::commands) fn run_runtime(self, _named: Option<&Name>) -> Result<()> {
        match self.0 {}
    }

    pub(in crate::commands) fn run_fetch(
        self,
        _extension: Option<&Name>,
        _runtime: Option<&Name>,
    ) -> Result<()> {
        match self.0 {}
    }

    pub(in crate::commands) fn unsaved(self, _unsaved: bool) -> Self {
        match self.0 {}
    }

    pub(in crate::commands) fn run_and(
        self,
        _goal: Goal,
        _last: impl FnOnce(&Infallible, &Infallible) -> Result<Vec<PathBuf>>,
    ) -> Result<()> {
        match self.0 {}
    }

    pub(in crate::commands) fn run(self, _goal: Goal) -> Result<()> {
        match self.0 {}
    }
}
