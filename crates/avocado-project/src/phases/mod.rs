//! A project in phases, each with a type of its own. A later one knows more, and needs more.
//!
//! 1. [`ReadProject`]: one file, each value with its place.
//! 2. [`SourcedProject`]: what its extensions have to be fetched from.
//! 3. [`ComposedProject`]: all files merged, each value still with its place.
//! 4. [`Loaded`]: resolved for a target.
//!
//! Between the second and the third something is fetched, which is a task of a build. A mistake
//! ends a phase only where the next one could make no sense of the rest; the others are kept, so
//! that a person hears of as many as possible in one go. [`crate::load`] goes through all of them
//! with what is here already, and fetches nothing.

mod composed;
mod fetched;
mod git_source;
mod merge;
mod options;
mod parse;
mod read;
mod source;
mod sourced;
mod target;
mod text_file;

pub use composed::{ComposedProject, Loaded};
pub use options::LoadOptions;
pub use read::ReadProject;
pub use source::{ExtensionSource, SourceKind, SourcedSection};
pub use sourced::SourcedProject;
pub use text_file::read_text;
