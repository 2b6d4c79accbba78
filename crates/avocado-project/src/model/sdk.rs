use serde::Serialize;

use super::compile::{CompileSection, ProjectPackage};
use super::packages::Packages;
use crate::late::Late;

/// Tools that run on the build host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sdk {
    /// `sdk.image`: the container image, for the container backend.
    pub image: Option<String>,
    /// `sdk.container_args`, split into arguments, for the container backend.
    pub container_args: Vec<String>,
    /// `sdk.packages`.
    pub packages: Late<Packages>,
    /// Those of them that are not of the feed.
    pub project_packages: Vec<ProjectPackage>,
    /// `sdk.compile`: what the SDK can compile.
    pub compile: Vec<CompileSection>,
    /// `sdk.disable_weak_dependencies`.
    pub disable_weak_dependencies: bool,
}

/// How a kind of provisioning runs: an entry of `provision_profiles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProvisionProfile {
    /// The key.
    pub name: String,
    /// `container_args`, split into arguments.
    pub container_args: Vec<String>,
    /// `state_file`, relative to the source directory.
    pub state_file: String,
}
