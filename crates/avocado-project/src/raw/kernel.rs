use schemars::JsonSchema;
use serde::Deserialize;

use super::{RawImageType, RawSource, Text};
use crate::decode::{NotDecoded, Spanned};

/// A kernel.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Kernel")]
pub(crate) struct RawKernel {
    /// The package that has it.
    pub(crate) package: Option<Text>,
    /// Which versions are meant: `6.12.69`, `6.12.*`, or `>=6.6, <6.12`. The highest is taken.
    pub(crate) version: Option<Text>,
    /// The section of `sdk.compile` that makes it.
    pub(crate) compile: Option<Text>,
    /// The script that installs what was compiled.
    pub(crate) install: Option<Text>,
    /// The container format of the image.
    pub(crate) image: Option<RawImageType>,
    /// Where the section is fetched from.
    pub(crate) source: Option<Spanned<NotDecoded<RawSource>>>,
}
