use std::path::PathBuf;

use serde::Serialize;

use crate::place::{Placed, SourcePlace};
use crate::version_spec::VersionSpec;

/// The kernel of a runtime, as the project wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelConfig {
    /// Where it comes from.
    pub origin: KernelOrigin,
    /// `image: {type: kab}`: it goes into a container of that format.
    pub kab: Option<SourcePlace>,
    /// `source`: it is stated in another project, which is not here.
    pub not_fetched: Option<SourcePlace>,
}

/// Where a kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelOrigin {
    /// From the feed.
    Feed {
        /// `package`, where the project states it.
        package: Option<Placed<String>>,
        /// `version`: which ones are meant; of those the highest is taken.
        version: Option<Placed<VersionSpec>>,
    },
    /// The project compiles it.
    Compiled {
        /// A section of `sdk.compile`.
        section: Placed<String>,
        /// The script that installs it, relative to the source directory.
        install: Placed<PathBuf>,
    },
}
