//! What the project compiles with the tools of its SDK.

use std::path::PathBuf;

use serde::Serialize;

use super::packages::Packages;
use crate::late::Late;
use crate::place::Placed;

/// Something that the SDK compiles: an entry of `sdk.compile`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompileSection {
    /// The key.
    pub name: Placed<String>,
    /// The script that compiles, relative to the source directory.
    pub compile: Option<Placed<PathBuf>>,
    /// The script that removes what was compiled.
    pub clean: Option<Placed<PathBuf>>,
    /// What it is compiled against: packages of the target.
    pub packages: Late<Packages>,
    /// How the result becomes a package.
    pub package: Option<CompilePackage>,
}

/// How what was compiled becomes a package of rpm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompilePackage {
    /// The script that installs into the tree of the package.
    pub install: Placed<PathBuf>,
    /// Its name, where it is not that of the section.
    pub name: Option<String>,
    /// What rpm says of it.
    pub rpm: RpmMetadata,
    /// `version`.
    pub version: String,
    /// What it requires.
    pub requires: Vec<String>,
    /// Which files it has, in rpm's patterns; empty for all.
    pub files: Vec<String>,
    /// Parts that are packages of their own.
    pub split: Vec<SplitPackage>,
}

/// A part of a compiled package that is one of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SplitPackage {
    /// The end of its name.
    pub name: String,
    /// Which files it has.
    pub files: Vec<String>,
    /// In one line.
    pub summary: Option<String>,
    /// In many.
    pub description: Option<String>,
    /// What it requires.
    pub requires: Vec<String>,
}

/// What rpm says of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RpmMetadata {
    /// `release`.
    pub release: Option<String>,
    /// `summary`: in one line.
    pub summary: Option<String>,
    /// `description`: in many.
    pub description: Option<String>,
    /// `license`.
    pub license: Option<String>,
    /// `arch`.
    pub arch: Option<String>,
    /// `vendor`.
    pub vendor: Option<String>,
    /// `url`.
    pub url: Option<String>,
}

/// An entry of `packages` that the feed does not have: the project makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProjectPackage {
    /// The key.
    pub name: Placed<String>,
    /// How it is made.
    pub origin: PackageOrigin,
}

impl ProjectPackage {
    /// The section of `sdk.compile` that makes it.
    pub fn section(&self) -> Option<&str> {
        match &self.origin {
            PackageOrigin::Compiled { section, .. } => section.as_ref().map(|s| s.value.as_str()),
            PackageOrigin::Extension { .. } => None,
        }
    }

    /// The script that installs it.
    pub fn install(&self) -> Option<&Placed<PathBuf>> {
        match &self.origin {
            PackageOrigin::Compiled { install, .. } => install.as_ref(),
            PackageOrigin::Extension { .. } => None,
        }
    }
}

/// How the project makes a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageOrigin {
    /// The SDK compiles it.
    Compiled {
        /// A section of `sdk.compile`.
        section: Option<Placed<String>>,
        /// The script that installs it, relative to the files of whoever has it.
        install: Option<Placed<PathBuf>>,
    },
    /// It is an extension of another project; the old form of an extension with a `source`.
    Extension {
        /// Its name there.
        extension: String,
        /// The avocado.yaml of that project.
        config: Option<String>,
    },
}
