use schemars::JsonSchema;
use serde::Deserialize;

use super::{RawPackages, Text, Texts};
use crate::decode::{NameMap, Spanned};

/// A package with more than a version.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Package")]
pub(crate) struct RawPackage {
    /// `*`, or an exact `version-release`.
    pub(crate) version: Option<Text>,
    /// The section of `sdk.compile` that makes it.
    pub(crate) compile: Option<Text>,
    /// The script that installs what was compiled.
    pub(crate) install: Option<Text>,
    /// Old: it is this extension of another project.
    pub(crate) extensions: Option<Text>,
    /// The avocado.yaml of that project.
    pub(crate) config: Option<Text>,
}

/// Something that the SDK compiles.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "SdkCompile")]
pub(crate) struct RawSdkCompile {
    /// The script that compiles, relative to the source directory.
    pub(crate) compile: Option<Text>,
    /// The script that removes what was compiled.
    pub(crate) clean: Option<Text>,
    /// What it is compiled against.
    #[schemars(extend("x-old-name" = "dependencies"))]
    pub(crate) packages: Option<RawPackages>,
    /// How the result becomes a package.
    pub(crate) package: Option<Spanned<RawCompilePackage>>,
}

/// How what was compiled becomes a package of rpm.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "CompilePackage")]
pub(crate) struct RawCompilePackage {
    /// The script that installs into the tree of the package.
    pub(crate) install: Option<Text>,
    /// Its version.
    pub(crate) version: Option<Text>,
    /// Its name, where it is not that of the section.
    pub(crate) name: Option<Text>,
    /// Its release.
    pub(crate) release: Option<Text>,
    /// Its license.
    pub(crate) license: Option<Text>,
    /// What it is, in a line.
    pub(crate) summary: Option<Text>,
    /// What it is, in full.
    pub(crate) description: Option<Text>,
    /// Who makes it.
    pub(crate) vendor: Option<Text>,
    /// Where more of it is found.
    pub(crate) url: Option<Text>,
    /// What it runs on; the target where absent.
    pub(crate) arch: Option<Text>,
    /// The packages that it needs.
    pub(crate) requires: Option<Texts>,
    /// Which files it has.
    pub(crate) files: Option<Texts>,
    /// Parts that are packages of their own.
    pub(crate) split: Option<NameMap<RawSplitPackage>>,
}

/// A part of a compiled package that is one of its own.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "SplitPackage")]
pub(crate) struct RawSplitPackage {
    /// Which files it has.
    pub(crate) files: Option<Texts>,
    /// What it is, in a line.
    pub(crate) summary: Option<Text>,
    /// What it is, in full.
    pub(crate) description: Option<Text>,
    /// The packages that it needs.
    pub(crate) requires: Option<Texts>,
}
