//! The project: avocado.yaml resolved for one target, its diagnostics, its lock file.
//!
//! [`load`] reads avocado.yaml and answers with a [`Project`] in which nothing is left to look
//! up: text is interpolated, overrides for the target are applied, names are checked. What is
//! wrong comes back as [`Diagnostic`]s with file, line and column. [`LockFile`] is `avocado.lock`.
//!
//! [`load`] goes through phases, each a type: [`ReadProject`] → [`SourcedProject`] →
//! [`ComposedProject`] → [`Loaded`]. A build that fetches extensions goes through them itself.
//!
//! The route of the text, a module each: `source` (files and places in them) → `yaml` (tree with
//! places) → `interpolate` (`{{ … }}`) → `phases` (merging) → `overrides` (`target-<name>:`) →
//! `decode` (`raw` structs) → `resolve` (the model). The `raw` structs are the one description of
//! the format; [`json_schema`] and `shape` are made from them.

mod decode;
mod diagnostic;
mod edit;
mod error;
mod interpolate;
mod late;
mod load;
mod lock;
mod model;
mod overrides;
mod path_pattern;
mod phases;
mod place;
mod published;
mod raw;
mod report;
mod resolve;
mod schema;
mod secrets;
mod shape;
mod source;
mod suggest;
mod text;
mod version_spec;
mod yaml;

pub use diagnostic::{Diagnostic, Severity, Snippet};
pub use edit::{PackageEdit, add_packages, check_editable, remove_packages, state_versions};
pub use error::ProjectError;
pub use interpolate::{FilledText, Templates};
pub use late::{Bind, Late, LateValue, LateValues, UnboundLateValue};
pub use load::{load, load_for_every_target};
pub use lock::{
    GitSource, LOCK_VERSION, LockChange, LockFile, LockFileError, LockedThing, PackageHeader,
    PackageHeaders, Snapshot, Sysroot, TargetLock,
};
pub use model::*;
pub use path_pattern::{HiddenNames, PathPattern, PathPatternError};
pub use phases::{
    ComposedProject, ExtensionSource, LoadOptions, Loaded, ReadProject, SourceKind, SourcedProject,
    SourcedSection, read_text,
};
pub use published::check_published;
pub use schema::json_schema;
pub use text::split_arguments;
pub use version_spec::{VersionSpec, VersionSpecError};
